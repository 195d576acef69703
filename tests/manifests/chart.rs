//! The Helm chart, rendered by `helm` if it is on PATH. Checks that do not need it always run.

use std::process::Command;

use serde_json::{Value, json};

use crate::objects::{documents, has, kustomize, output_of, python, root, text};
use crate::{pods, rbac};

fn render(settings: &[&str]) -> Vec<Value> {
    let mut helm = Command::new("helm");
    helm.args(["template", "dispatch", "manifests/chart", "--namespace", "coactus-system"]);
    for setting in settings {
        helm.args(["--set", setting]);
    }
    documents(&output_of(&mut helm))
}

fn of<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("a {kind}"))
}

/// Symbolic links, so that there are no copies to keep in sync.
#[test]
fn the_chart_shares_its_files_with_kustomize() {
    for (file, of) in [
        ("crd.yaml", "manifests/crd.yaml"),
        ("cluster-role.yaml", "manifests/overlays/cluster-wide/cluster-role.yaml"),
        ("connection-secrets.yaml", "manifests/components/connection-secrets/rule.yaml"),
        ("admission-policy.yaml", "manifests/components/admission-policy/policy.yaml"),
        ("rules.yaml", "manifests/monitoring/rules.yaml"),
        ("dashboard.json", "manifests/monitoring/dashboard.json"),
    ] {
        let link = root().join("manifests/chart/files").join(file);
        assert!(link.is_symlink(), "{file}");
        assert_eq!(link.canonicalize().expect("a target"), root().join(of).canonicalize().expect("a file"));
    }
}

/// Uses the JSON schema library that the template linter depends on.
#[test]
fn the_schema_accepts_the_defaults_and_rejects_mistakes() {
    let check = "import json, sys, jsonschema; s = json.load(open(sys.argv[1])); \
                 v = jsonschema.Draft7Validator(s); jsonschema.Draft7Validator.check_schema(s); \
                 print(sum(1 for _ in v.iter_errors(json.loads(sys.argv[2]))))";
    let errors = |values: &Value| {
        let schema = "manifests/chart/values.schema.json";
        let printed = output_of(Command::new(python()).args(["-c", check, schema, &values.to_string()]));
        printed.trim().parse::<u32>().expect("a number")
    };
    let defaults = documents(&text("manifests/chart/values.yaml")).remove(0);
    assert_eq!(errors(&defaults), 0);
    for mistake in [
        json!({ "replica": 2 }),
        json!({ "replicas": 0 }),
        json!({ "replicas": "2" }),
        json!({ "image": { "repository": "" } }),
        json!({ "image": { "repository": "r", "digest": "sha256:abc" } }),
        json!({ "networkPolicy": { "enabled": "yes" } }),
        json!({ "restrictions": { "images": "None" } }),
        json!({ "restrictions": { "mode": "Off" } }),
        json!({ "restrictions": { "requireSecretLabel": "yes" } }),
        json!({ "monitoring": { "rules": true } }),
    ] {
        assert!(errors(&mistake) > 0, "{mistake}");
    }
    let schema: Value = serde_json::from_str(&text("manifests/chart/values.schema.json")).expect("JSON");
    for value in defaults.as_object().expect("values").keys() {
        assert!(schema["properties"][value].is_object(), "{value} has no schema");
    }
}

#[test]
fn the_chart_installs_what_kustomize_installs() {
    if !has("helm", "the_chart_installs_what_kustomize_installs") {
        return;
    }
    for (namespaced, overlay) in
        [("false", "manifests/overlays/cluster-wide"), ("true", "manifests/overlays/namespaced")]
    {
        let chart = render(&[&format!("namespaced={namespaced}"), "crds.install=false"]);
        let overlay = documents(&kustomize(overlay));
        let mut kinds = [&chart, &overlay]
            .map(|objects| objects.iter().map(|object| object["kind"].to_string()).collect::<Vec<_>>());
        for kinds in &mut kinds {
            kinds.sort();
        }
        assert_eq!(kinds[0], kinds[1]);
        // The chart sets other labels and other names of cluster-wide objects; the rest must be equal.
        let pod = |objects: &[Value]| {
            let mut pod = of(objects, "Deployment")["spec"]["template"]["spec"].clone();
            pod.as_object_mut().expect("a Pod").remove("topologySpreadConstraints");
            pod["containers"][0].as_object_mut().expect("a container").remove("imagePullPolicy");
            pod
        };
        assert_eq!(pod(&chart), pod(&overlay));
        for part in ["ingress", "egress", "policyTypes"] {
            assert_eq!(of(&chart, "NetworkPolicy")["spec"][part], of(&overlay, "NetworkPolicy")["spec"][part]);
        }
        let rules = |objects: &[Value]| {
            let mut rules: Vec<_> = objects
                .iter()
                .filter(|object| object["rules"].is_array())
                .map(|role| role["rules"].to_string())
                .collect();
            rules.sort();
            rules
        };
        assert_eq!(rules(&chart), rules(&overlay));
        for role in chart.iter().filter(|object| object["rules"].is_array()) {
            rbac::assert_minimal(role);
        }
        pods::assert_restricted(&of(&chart, "Deployment")["spec"]["template"]["spec"]);
        pods::assert_closed(of(&chart, "NetworkPolicy"));
        pods::assert_flows(of(&chart, "NetworkPolicy"));
        pods::assert_selectors(&chart);
    }
}

#[test]
fn the_chart_grants_the_permission_to_write_secrets_only_on_request() {
    if !has("helm", "the_chart_grants_the_permission_to_write_secrets_only_on_request") {
        return;
    }
    for namespaced in ["namespaced=true", "namespaced=false"] {
        let writes = |setting: &str| rbac::writes_secrets(&render(&[namespaced, setting, "crds.install=false"]));
        assert_eq!(writes("connectionSecrets=false"), Vec::<Value>::new());
        assert_eq!(writes("connectionSecrets=true"), [json!(["create", "patch", "delete"])]);
    }
}

#[test]
fn the_chart_passes_the_lists_of_what_specs_may_ask_for() {
    if !has("helm", "the_chart_passes_the_lists_of_what_specs_may_ask_for") {
        return;
    }
    let given = |settings: &[&str]| {
        let objects = render(settings);
        let args = &of(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"];
        args.as_array().expect("arguments").iter().skip(3).map(|arg| arg.as_str().expect("a text").to_owned()).collect()
    };
    let chosen: Vec<String> = given(&[
        "restrictions.allowedImages=registry.example.com/a\\,registry.example.com/b",
        "restrictions.allowedPriorityClasses=Any",
        "restrictions.allowedRegions=ap-northeast-2",
        "restrictions.requireSecretLabel=false",
        "restrictions.externalIds=Spec",
        "restrictions.mode=Warn",
    ]);
    assert_eq!(
        chosen,
        [
            "--allowed-role-arns=None",
            "--allowed-regions=ap-northeast-2",
            "--allowed-images=registry.example.com/a,registry.example.com/b",
            "--allowed-service-account-annotations=None",
            "--allowed-hosts=None",
            "--restrictions=Warn"
        ]
    );
    let one: Vec<String> = given(&["namespaced=true", "restrictions.allowedImages=None", "restrictions.clusterId=c1"]);
    assert_eq!(one, ["--watch-namespace=$(POD_NAMESPACE)", "--allowed-images=None", "--cluster-id=c1"]);
    let policies = |settings: &[&str]| {
        render(settings).iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicy").count()
    };
    assert_eq!((policies(&[]), policies(&["admissionPolicy=true"])), (0, 1));
}

#[test]
fn the_definition_is_installed_unchanged_and_kept() {
    if !has("helm", "the_definition_is_installed_unchanged_and_kept") {
        return;
    }
    let mut installed = of(&render(&[]), "CustomResourceDefinition").clone();
    let annotations = installed["metadata"].as_object_mut().expect("metadata").remove("annotations");
    assert_eq!(annotations, Some(json!({ "helm.sh/resource-policy": "keep" })));
    assert_eq!(installed, documents(&text("manifests/crd.yaml")).remove(0));
    assert!(render(&["crds.install=false"]).iter().all(|object| object["kind"] != "CustomResourceDefinition"));
}

#[test]
fn optional_objects_are_well_formed() {
    if !has("helm", "optional_objects_are_well_formed") {
        return;
    }
    let digest = format!("image.digest=sha256:{}", "a".repeat(64));
    let objects = render(&[
        "monitoring.serviceMonitor=true",
        "monitoring.podMonitor=true",
        "monitoring.prometheusRule=true",
        "monitoring.dashboard=true",
        "networkPolicy.enabled=false",
        "serviceAccount.annotations.eks\\.amazonaws\\.com/role-arn=arn:aws:iam::111122223333:role/coactus-operator",
        "nodeSelector.kubernetes\\.io/arch=arm64",
        "priorityClassName=system-cluster-critical",
        "runtimeImage=r/w:1",
        "extraArgs={--log=debug}",
        &digest,
    ]);
    assert_eq!(of(&objects, "PrometheusRule")["spec"], documents(&text("manifests/monitoring/rules.yaml"))[0]);
    let shown: Value =
        serde_json::from_str(of(&objects, "ConfigMap")["data"]["dispatch.json"].as_str().expect("a text"))
            .expect("JSON");
    assert_eq!(shown["uid"], "coactus-dispatch");
    assert!(objects.iter().all(|object| object["kind"] != "NetworkPolicy"));
    let pod = &of(&objects, "Deployment")["spec"]["template"]["spec"];
    let args = pod["containers"][0]["args"].as_array().expect("arguments");
    assert_eq!(args[..3], ["run", "--leader-elect", "--metrics-addr=0.0.0.0:9090"]);
    assert_eq!(args[args.len() - 2..], ["--runtime-image=r/w:1", "--log=debug"], "those of the user are last");
    assert!(pod["containers"][0]["image"].as_str().is_some_and(|image| image.contains("@sha256:aaaa")));
    assert_eq!(of(&objects, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["relabelings"][0]["targetLabel"], "system");
    assert!(of(&objects, "ServiceMonitor")["spec"]["endpoints"][0]["port"] == "admin");
}

/// `scripts/env.sh` has the versions on which the suites run.
#[test]
fn the_supported_versions_of_kubernetes_are_the_tested_ones() {
    let scripts = text("scripts/env.sh");
    let minor = |name: &str| {
        let version = scripts.split(name).nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a version");
        version.rsplit_once('.').expect("three numbers").0.to_owned()
    };
    let (oldest, newest) = (minor("kubernetes_oldest="), minor("kubernetes_newest="));
    let range = format!("Kubernetes {oldest} to {newest}");
    for file in ["README.md", "manifests/README.md", "docs/versioning.md"] {
        let words = text(file).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&range), "{file}");
    }
    assert!(text("manifests/chart/Chart.yaml").contains(&format!("kubeVersion: \">={oldest}.0-0\"")));
}

/// Many tools, for example in Python, read YAML 1.1.
#[test]
fn readers_of_yaml_1_1_and_1_2_see_the_same_definition() {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let printed = output_of(Command::new(python()).args(["-c", script, "manifests/crd.yaml"]));
    let read: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(vec![read], documents(&text("manifests/crd.yaml")));
}
