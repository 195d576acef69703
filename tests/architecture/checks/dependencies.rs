//! What the packages are built from.

use std::collections::BTreeSet;

use dispatch_architecture::workspace::{self, Package};

fn packages() -> Vec<Package> {
    workspace::packages(&workspace::root()).expect("cargo describes the workspace")
}

fn package(name: &str) -> Package {
    packages().into_iter().find(|package| package.name == name).unwrap_or_else(|| panic!("there is no {name}"))
}

/// Fails if one of `forbidden` is part of a production build of `member`.
fn assert_not_linked(member: &str, forbidden: &[&str]) {
    let linked = workspace::linked(&workspace::root(), member).expect("cargo knows what it links");
    assert!(linked.contains(member), "{linked:?}");
    let found: Vec<&&str> = forbidden.iter().filter(|name| linked.contains(**name)).collect();
    assert!(found.is_empty(), "{member} is built with {found:?}");
}

/// Invariant 1. The optional ones spell the enumerations of the table and the API, for those who ask for it.
#[test]
fn core_depends_on_thiserror_alone() {
    let core = package("dispatch-core");
    let list = core.metadata["dependencies"].as_array().expect("dependencies");
    let mandatory = list.iter().filter(|dependency| dependency["kind"].is_null() && dependency["optional"] == false);
    let names: Vec<&str> = mandatory.filter_map(|dependency| dependency["name"].as_str()).collect();
    assert_eq!(names, ["thiserror"]);
    assert_eq!(core.dependencies, BTreeSet::from(["serde", "thiserror", "utoipa"].map(str::to_owned)));
    assert!(!core.has_feature("default"), "core has no features on by default");
}

/// Invariant 2. What belongs to one of them alone is not built into the other.
#[test]
fn the_programs_do_not_link_each_other() {
    assert_not_linked("dispatch-operator", &["dispatch-runtime"]);
    assert_not_linked("dispatch-runtime", &["dispatch-operator"]);
}

/// Tools for a developer's machine are programs of their own.
#[test]
fn the_programs_contain_no_tools() {
    assert_not_linked("dispatch-operator", &["dispatch-local", "dispatch-simulator", "dispatch-dev-keys", "reqwest"]);
    assert_not_linked("dispatch-runtime", &["dispatch-local", "dispatch-simulator", "dispatch-dev-keys"]);
    let operator = package("dispatch-operator").dependencies;
    assert!(!operator.contains("rustix"), "signals and terminals are for local runs");
    for tool in ["dispatch-simulator", "dispatch-dev-keys"] {
        assert_not_linked(tool, &["dispatch-runtime", "dispatch-operator"]);
    }
}

#[test]
fn the_types_of_the_contract_are_light() {
    for light in ["dispatch-api", "dispatch-core", "dispatch-http-types"] {
        assert_not_linked(light, &["axum", "tokio", "reqwest", "hyper", "dispatch-runtime", "dispatch-operator"]);
    }
    let api = package("dispatch-api").dependencies;
    assert!(!api.iter().any(|name| name.starts_with("aws-") || name == "tokio"), "{api:?}");
}

/// Invariant 6.
#[test]
fn workers_never_read_the_resource() {
    assert_not_linked("dispatch-runtime", &["kube", "k8s-openapi"]);
    let runtime = package("dispatch-runtime");
    let list = runtime.metadata["dependencies"].as_array().expect("dependencies");
    let api = list.iter().find(|dependency| dependency["name"] == "dispatch-api" && dependency["kind"].is_null());
    let features = &api.expect("the runtime reads its configuration")["features"];
    assert!(!features.to_string().contains("crd"), "{features}");
}

/// Invariant 7: nothing in a program is built with the fakes.
#[test]
fn only_suites_ask_for_the_feature_testing() {
    let packages = packages();
    let programs = packages.iter().filter(|package| package.targets.iter().any(|target| target.kind == "bin"));
    let suites: BTreeSet<&str> = ["dispatch-tests", "dispatch-bench"].into();
    for program in programs.filter(|package| !suites.contains(package.name.as_str())) {
        let linked = workspace::linked(&workspace::root(), &program.name).expect("cargo knows what it links");
        let asking = packages.iter().filter(|package| linked.contains(&package.name) && package.is_for_tests());
        assert_eq!(asking.map(|package| &package.name).collect::<Vec<_>>(), Vec::<&String>::new(), "{}", program.name);
    }
    for package in &packages {
        let default = &package.metadata["features"]["default"];
        assert!(!default.to_string().contains("testing"), "{} is built with it by default", package.name);
    }
}

/// Invariant 10: only core's own tests turn on the feature that takes its guards away. No member asks for it, and no
/// other feature turns it on.
#[test]
fn no_program_can_be_built_without_its_guards() {
    for package in packages() {
        let name = &package.name;
        let dependencies = package.metadata["dependencies"].as_array().expect("dependencies");
        let asks = dependencies.iter().any(|dependency| dependency["features"].to_string().contains("mutants"));
        assert!(!asks, "{name} asks for it");
        for (feature, means) in package.metadata["features"].as_object().expect("features") {
            assert!(!means.to_string().contains("mutants"), "{name}/{feature} turns it on");
        }
    }
}
