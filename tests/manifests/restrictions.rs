//! What specs may ask for: the options of the overlays, the admission policy and the documentation have every field of
//! the operator's table.

use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::allow_list::AllowList;
use dispatch_operator::kubernetes::policy::restrictions::{self, RULES, Restrictions};
use serde_json::Value;

use crate::objects::{OVERLAYS, documents, has, kustomize, text};

/// Arguments of the operator in an overlay.
fn arguments(overlay: &str) -> Vec<String> {
    let objects = documents(&kustomize(overlay));
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
    let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().expect("arguments");
    args.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Lists that allow nothing but regions, as those of the cluster-wide overlay.
fn strict() -> Restrictions {
    let none = || AllowList::parse("None");
    Restrictions {
        role_arns: none(),
        images: none(),
        service_account_annotations: none(),
        priority_classes: none(),
        hosts: none(),
        ..Restrictions::default()
    }
}

#[test]
fn the_cluster_wide_overlay_limits_every_field_but_regions() {
    if !has("kubectl", "the_cluster_wide_overlay_limits_every_field_but_regions") {
        return;
    }
    let [cluster_wide, namespaced] = OVERLAYS.map(arguments);
    for rule in &RULES {
        let none = format!("{}=None", rule.flag);
        assert_eq!(cluster_wide.contains(&none), rule.field != "spec.region", "{}", rule.flag);
        assert!(!namespaced.iter().any(|arg| arg.starts_with(rule.flag)), "{}", rule.flag);
    }
    for flag in ["--require-secret-label", "--external-ids=Derived"] {
        assert!(cluster_wide.iter().any(|arg| arg == flag) && !namespaced.iter().any(|arg| arg == flag), "{flag}");
    }
}

#[test]
fn the_admission_policy_has_a_rule_for_every_list() {
    let file = text("manifests/components/admission-policy/policy.yaml");
    let policies = documents(&file);
    let [policy, binding] = policies.as_slice() else { panic!("a policy and its binding") };
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
    assert_eq!(policy["spec"]["failurePolicy"], "Fail", "what cannot be judged is refused");
    let validations = policy["spec"]["validations"].as_array().expect("validations");
    assert_eq!(validations.len(), RULES.len());
    for (rule, validation) in RULES.iter().zip(validations) {
        let message = validation["messageExpression"].as_str().expect("a message");
        assert!(message.starts_with(&format!("'{}: ", rule.field)), "{message}");
        assert!(message.contains(rule.annotation), "{message}");
        let default = if rule.field == "spec.region" { "Any" } else { "None" };
        assert!(file.contains(&format!("[?'{}'].orValue('{default}').trim()", rule.annotation)), "{}", rule.field);
    }
    if has("kubectl", "the_admission_policy_has_a_rule_for_every_list") {
        let component = documents(&text("manifests/components/admission-policy/kustomization.yaml")).remove(0);
        assert_eq!(component["resources"][0], "policy.yaml");
    }
}

#[test]
fn the_documentation_has_every_list() {
    let documentation = text("docs/security.md");
    for rule in &RULES {
        let name = rule.annotation.trim_start_matches("dispatch.coactus.io/");
        let row = format!("| `{}` | `{}` | `{name}` |", rule.field.trim_start_matches("spec."), rule.flag);
        assert!(documentation.contains(&row), "{row}");
    }
}

/// The annotations that the documentation gives for it, and no others.
#[test]
fn the_production_example_is_allowed_by_the_documented_annotations() {
    let raw = read_manifests(&text("examples/production.yaml")).expect("a manifest");
    let system = ValidatedSystem::try_from_raw(&raw[0]).expect("valid");
    let documentation = text("docs/security.md");
    let command = documentation.split("kubectl annotate namespace production").nth(1).expect("a command");
    let pairs = command.lines().map(|line| line.trim().trim_end_matches(" \\"));
    let annotations = pairs
        .filter_map(|line| line.strip_prefix("dispatch.coactus.io/")?.split_once('='))
        .take_while(|(name, _)| name.starts_with("allowed-"))
        .map(|(name, list)| (format!("dispatch.coactus.io/{name}"), list.to_owned()))
        .collect();
    assert!(restrictions::denial(&system, Some(&std::collections::BTreeMap::new()), &strict()).is_some());
    assert_eq!(restrictions::denial(&system, Some(&annotations), &strict()), None);
    for (_, reference) in system.spec.secret_refs() {
        assert!(documentation.contains(&reference.name), "{}", reference.name);
    }
}

/// What needs no administrator: the first city of the documentation works in every installation.
#[test]
fn the_minimal_example_needs_no_annotation() {
    let raw = read_manifests(&text("examples/minimal.yaml")).expect("a manifest");
    let system = ValidatedSystem::try_from_raw(&raw[0]).expect("valid");
    assert_eq!(restrictions::denial(&system, Some(&std::collections::BTreeMap::new()), &strict()), None);
    assert!(system.spec.secret_refs().is_empty());
}
