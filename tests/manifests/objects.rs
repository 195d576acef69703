//! Helpers for reading the shipped files.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize as _;
use serde_json::Value;

/// The two kustomize overlays of the operator.
pub(crate) const OVERLAYS: [&str; 2] = ["manifests/overlays/cluster-wide", "manifests/overlays/namespaced"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this package").to_owned()
}

pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All documents of a YAML text except empty ones.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

/// The Python of the workspace's virtual environment, which contains the tools of the tests.
pub(crate) fn python() -> PathBuf {
    root().join(".venv/bin/python")
}

/// Standard output of a program that must succeed.
pub(crate) fn output_of(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Whether a program can be started. If not, reports that the test is skipped.
pub(crate) fn has(program: &str, test: &str) -> bool {
    let found = Command::new(program).arg("help").output().is_ok();
    if !found {
        println!("skipped: {test} needs {program} on PATH");
    }
    found
}

/// The output of kustomize for a folder.
pub(crate) fn kustomize(folder: &str) -> String {
    output_of(Command::new("kubectl").args(["kustomize", folder]))
}

/// All files in a folder, recursively.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Compares a generated file with its expected content, or writes it if `UPDATE_GENERATED` is set.
pub(crate) fn assert_generated(path: &str, made: &Value) {
    let made = format!("{made:#}\n");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(root().join(path), &made).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    assert!(made == text(path), "{path} is stale: run `make generate`");
}

pub(crate) fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
