//! Every shipped example is read and validated as it is.

use std::fs;
use std::path::{Path, PathBuf};

use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use dispatch_api::worker_config::DispatchConfig;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn system(file: &str) -> ValidatedSystem {
    let text = fs::read_to_string(examples().join(file)).unwrap();
    let systems = read_manifests(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(systems.len(), 1, "{file}");
    ValidatedSystem::try_from_raw(&systems[0]).unwrap_or_else(|errors| panic!("{file}: {errors}"))
}

#[test]
fn every_example_is_valid() {
    let mut seen = 0;
    for entry in fs::read_dir(examples()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".yaml") {
            system(&name);
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen} examples");
}

#[test]
fn seoul_is_the_default_but_for_what_its_comments_say() {
    let seoul = system("seoul.yaml");
    let mut plain = system("minimal.yaml").spec;
    assert_eq!((seoul.namespace.as_str(), seoul.name.as_str()), ("default", "seoul"));
    assert_eq!(seoul.policy.offer_timeout_ms, 15_000);
    plain.city = "seoul".to_owned();
    plain.aws.tags.clone_from(&seoul.spec.aws.tags);
    plain.export.schedule = Some("0 4 * * *".to_owned());
    plain.dispatch.offer_timeout_seconds = 15;
    assert_eq!(seoul.spec, plain);
}

#[test]
fn the_worker_configuration_says_what_the_manifest_says() {
    let seoul = system("seoul.yaml");
    let config = DispatchConfig::from_validated(&seoul);
    assert_eq!(config.policy().unwrap(), seoul.policy);
    assert_eq!(config.fare_table().unwrap(), seoul.fare);
    assert_eq!(config.fare.night_surcharges[0].from_minute, 22 * 60);
}
