//! The invariants of ARCHITECTURE.md that can be read off the sources and the dependency graph.

#![cfg(test)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this package").to_owned()
}

/// The workspace's members as cargo describes them.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// Normal (not dev, not build) dependencies of a workspace member.
fn dependencies(member: &str) -> BTreeSet<String> {
    normal_dependencies(member, |_| true)
}

/// Those of them that are there whatever features are on.
fn required_dependencies(member: &str) -> BTreeSet<String> {
    normal_dependencies(member, |dependency| dependency["optional"] == false)
}

fn normal_dependencies(member: &str, wanted: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let packages = packages();
    let package = packages.iter().find(|package| package["name"] == member).expect("a member of that name");
    let list = package["dependencies"].as_array().expect("dependencies");
    list.iter()
        .filter(|dependency| dependency["kind"].is_null() && wanted(dependency))
        .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
        .collect()
}

fn is_unit_tests(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.ends_with("tests/mod.rs")
}

/// All Rust files below a folder except unit tests (`tests.rs`, `tests/mod.rs`, or the end of a file).
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_unit_tests(&path) {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root().join(folder), &mut files);
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let production = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            (path, production)
        })
        .collect()
}

/// Files below `folder` whose code (not comments) has `needle`, except those whose path has one of `allowed`.
fn offenders(folder: &str, needle: &str, allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources(folder) {
        let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        if allowed.iter().any(|part| shown.contains(part)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if !code.starts_with("//") && code.contains(needle) {
                found.push(format!("{shown}:{}: {code}", number + 1));
            }
        }
    }
    found
}

#[test]
fn core_depends_on_thiserror_alone() {
    assert_eq!(required_dependencies("dispatch-core"), BTreeSet::from(["thiserror".to_owned()]));
    // How the enumerations of the table and the API are spelled, for who asks for it.
    let all = ["serde", "thiserror", "utoipa"].map(str::to_owned);
    assert_eq!(dependencies("dispatch-core"), BTreeSet::from(all));
    let packages = packages();
    let core = packages.iter().find(|package| package["name"] == "dispatch-core").expect("core");
    assert!(core["features"].get("default").is_none(), "core has no features on by default");
}

/// The feature that takes core's guards away is turned on by core's own tests only: no member asks for it, none passes it on.
#[test]
fn no_program_can_be_built_without_its_guards() {
    for package in packages() {
        let name = &package["name"];
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        let asks = dependencies.iter().any(|dependency| dependency["features"].to_string().contains("mutants"));
        assert!(!asks, "{name} asks for it");
        for (feature, means) in package["features"].as_object().expect("features") {
            assert!(!means.to_string().contains("mutants"), "{name}/{feature} turns it on");
        }
    }
}

#[test]
fn core_touches_no_world() {
    for needle in
        ["std::fs", "std::net", "std::process", "std::thread", "Instant::now", "SystemTime", "async fn", "std::env"]
    {
        assert_eq!(offenders("runtime/core/src", needle, &[]), Vec::<String>::new());
    }
}

#[test]
fn the_programs_do_not_link_each_other() {
    let operator = dependencies("dispatch-operator");
    let runtime = dependencies("dispatch-runtime");
    assert!(!operator.contains("dispatch-runtime") && !runtime.contains("dispatch-operator"));
    assert!(!runtime.contains("dispatch-dev-keys"), "no worker can sign a token");
    for tool in ["dispatch-simulator", "dispatch-dev-keys", "dispatch-http-types"] {
        assert!(!dependencies(tool).contains("dispatch-runtime"), "{tool}");
    }
    for light in ["dispatch-api", "dispatch-core", "dispatch-http-types"] {
        assert!(
            !dependencies(light).iter().any(|name| matches!(name.as_str(), "axum" | "reqwest" | "tokio")),
            "{light}"
        );
    }
    assert!(!runtime.contains("kube") && !runtime.contains("k8s-openapi"), "workers never read the resource");
    assert!(!dependencies("dispatch-api").iter().any(|name| name.starts_with("aws-") || name == "tokio"));
}

#[test]
fn the_planning_half_of_the_operator_holds_no_client() {
    for folder in ["operator/src/plan", "operator/api/src"] {
        for needle in ["aws_sdk_", "aws_config", "tokio::", "reqwest", "std::fs", "async fn"] {
            assert_eq!(offenders(folder, needle, &[]), Vec::<String>::new());
        }
    }
}

#[test]
fn only_adapters_of_the_operator_name_an_aws_sdk() {
    assert_eq!(offenders("operator/src", "aws_sdk_", &["operator/src/aws"]), Vec::<String>::new());
}

#[test]
fn only_status_writes_conditions() {
    assert_eq!(offenders("operator/src", "Condition {", &["operator/src/status"]), Vec::<String>::new());
}

#[test]
fn table_keys_are_spelled_in_one_module() {
    for needle in
        ["\"DRIVER#", "\"USER#", "\"DISPATCH#", "\"REGION#", "\"ROUTE#", "\"COMPLETED#", "\"PROFILE\"", "\"METADATA\""]
    {
        assert_eq!(offenders("runtime/src", needle, &["store/keys.rs"]), Vec::<String>::new());
    }
}

#[test]
fn redis_keys_are_spelled_in_one_module() {
    for needle in ["\"geo:", "\"drv:", "\"hold:", "\"seen:", "\"rest:", "\"acc:", "\"route:", "\"warm:", "\"events:"] {
        assert_eq!(offenders("runtime/src", needle, &["fleet/keys.rs"]), Vec::<String>::new());
    }
}

#[test]
fn fakes_are_behind_the_testing_feature() {
    for folder in ["runtime/src", "operator/src"] {
        for (path, text) in sources(folder) {
            for (number, line) in text.lines().enumerate() {
                let module = line.trim();
                if module.ends_with("mod fake;") || module.ends_with("mod failing;") {
                    let before = text.lines().nth(number.wrapping_sub(1)).unwrap_or_default();
                    assert!(before.contains("feature = \"testing\""), "{}:{}", path.display(), number + 1);
                }
            }
        }
    }
}
