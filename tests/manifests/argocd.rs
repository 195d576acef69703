//! Runs Argo CD's health script on its test data with Lua 5.1, the version that Argo CD embeds.

use std::process::Command;

use serde_json::json;

use crate::objects::{documents, files, output_of, python, root, text};

/// Runs the script in the first argument with the JSON object in the second as the global `obj`, without Lua's
/// libraries for files and processes.
const RUN: &str = r#"
import json, sys
from lupa import lua51

lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
lua.execute("os, io, package, require, dofile, loadfile = nil")

def table(value):
    if isinstance(value, dict):
        return lua.table_from({key: table(item) for key, item in value.items()})
    if isinstance(value, list):
        return lua.table_from([table(item) for item in value])
    return value

lua.globals().obj = table(json.loads(sys.argv[2]))
print(json.dumps(dict(lua.execute(sys.argv[1]))))
"#;

fn health(object: &serde_json::Value) -> serde_json::Value {
    let script = text("manifests/argocd/health.lua");
    let output = output_of(Command::new(python()).args(["-c", RUN, &script, &object.to_string()]));
    serde_json::from_str(&output).expect("JSON")
}

#[test]
fn every_state_has_the_documented_health() {
    let tests = documents(&text("manifests/argocd/health_test.yaml")).remove(0);
    let tests = tests["tests"].as_array().expect("tests");
    for test in tests {
        let input = test["inputPath"].as_str().expect("a path");
        let object = documents(&text(&format!("manifests/argocd/{input}"))).remove(0);
        assert_eq!(health(&object), test["healthStatus"], "{input}");
    }
    let covered: Vec<_> = tests.iter().filter_map(|test| test["healthStatus"]["status"].as_str()).collect();
    for state in ["Healthy", "Progressing", "Degraded", "Suspended"] {
        assert!(covered.contains(&state), "no test expects {state}");
    }
    let data = files("manifests/argocd/testdata");
    assert_eq!(data.len(), tests.len(), "every file below {} is used once", root().display());
}

#[test]
fn an_object_without_status_is_in_progress() {
    let object = json!({ "metadata": { "name": "seoul", "generation": 1 }, "spec": {} });
    assert_eq!(health(&object)["status"], "Progressing");
}
