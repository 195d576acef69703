//! Every shipped example is valid.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use dispatch_api::dispatch_system::{DeletionPolicy, WorkersLayout};
use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use dispatch_api::worker_config::{DispatchConfig, RouterKind};
use serde_json::Value;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn system(file: &str) -> Outcome<ValidatedSystem> {
    let systems = read_manifests(&fs::read_to_string(examples().join(file))?)?;
    let [system] = systems.as_slice() else { return Err(format!("{file} has {} systems", systems.len()).into()) };
    Ok(ValidatedSystem::try_from_raw(system)?)
}

#[test]
fn every_example_is_valid() -> Outcome {
    let mut names = Vec::new();
    for entry in fs::read_dir(examples())? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("yaml")) {
            let name = path.file_name().and_then(OsStr::to_str).ok_or("an example without a name")?.to_owned();
            system(&name).map_err(|error| format!("{name}: {error}"))?;
            names.push(name);
        }
    }
    for shipped in ["external-cache.yaml", "minimal.yaml", "production.yaml", "seoul.yaml"] {
        assert!(names.iter().any(|name| name == shipped), "{shipped} is missing among {names:?}");
    }
    Ok(())
}

#[test]
fn seoul_has_the_defaults_except_where_its_comments_say_so() -> Outcome {
    let seoul = system("seoul.yaml")?;
    let mut plain = system("minimal.yaml")?.spec;
    assert_eq!((seoul.namespace.as_str(), seoul.name.as_str()), ("default", "seoul"));
    assert_eq!(seoul.policy.offer_timeout_ms, 15_000);
    plain.city = "seoul".to_owned();
    plain.aws.tags.clone_from(&seoul.spec.aws.tags);
    plain.export.schedule = Some("0 4 * * *".to_owned());
    plain.dispatch.offer_timeout_seconds = 15;
    plain.dispatch.search_rings_meters = vec![500, 1000, 1500, 2500];
    plain.deletion_policy = Some(DeletionPolicy::Retain);
    plain.workers.layout = WorkersLayout::Split;
    assert_eq!(seoul.spec, plain);
    Ok(())
}

#[test]
fn the_worker_settings_match_the_manifest() -> Outcome {
    let seoul = system("seoul.yaml")?;
    let config = DispatchConfig::from_validated(&seoul);
    assert_eq!(config.policy()?, seoul.policy);
    assert_eq!(config.fare_table()?, seoul.fare);
    assert_eq!(config.fare.night_surcharges[0].from_minute, 22 * 60);
    Ok(())
}

#[test]
fn the_worker_settings_name_the_router() -> Outcome {
    let router = DispatchConfig::from_validated(&system("production.yaml")?).eta.router.ok_or("a router")?;
    assert_eq!((router.kind, router.url.as_str()), (RouterKind::Osrm, "http://osrm.mobility.svc:5000"));
    Ok(())
}

/// `cache.external`, `upstream.url`, `multiPolygon` and `combined` exclude fields of the production example;
/// `external-cache.yaml` and `cluster.yaml` show them and `envFrom`.
#[test]
fn the_production_example_uses_every_other_field() -> Outcome {
    let crd = serde_json::to_value(dispatch_api::crd::crd())?;
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let text = fs::read_to_string(examples().join("production.yaml"))?;
    let manifest: Value = serde_json::to_value(serde_yaml::from_str::<serde_yaml::Value>(&text)?)?;
    let mut unused = Vec::new();
    unused_fields(schema, &manifest["spec"], "spec", &mut unused);
    let elsewhere = [
        "spec.api.gateway.upstream.url",
        "spec.api.httpRoute",
        "spec.api.ingress",
        "spec.aws.oidcProviderArn",
        "spec.aws.workerPrincipalArn",
        "spec.cache.external",
        "spec.dispatch.serviceArea.multiPolygon",
        "spec.workers.combined",
        "spec.workers.envFrom",
        "spec.workers.roles.dispatchAlgorithm.autoscaling",
        "spec.workers.roles.driverResponse.replicas",
        "spec.workers.roles.saveDispatch.replicas",
        "spec.workers.roles.statusUpdate.replicas",
    ];
    unused.sort();
    assert_eq!(unused, elsewhere);
    Ok(())
}

fn unused_fields(schema: &Value, value: &Value, path: &str, unused: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match value.get(name) {
            Some(value) => unused_fields(field, value, &path, unused),
            None => unused.push(path),
        }
    }
}
