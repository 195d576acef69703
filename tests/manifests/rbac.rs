//! The operator's permissions in the cluster.

use serde_json::{Value, json};

use crate::objects::{OVERLAYS, documents, has, kustomize, root, strings, text};

/// Verbs with which a workload could extend its own permissions or impersonate another identity.
const NEVER: [&str; 5] = ["*", "escalate", "bind", "impersonate", "approve"];
const NEVER_ON: [&str; 8] = [
    "*",
    "pods/exec",
    "pods/attach",
    "pods/ephemeralcontainers",
    "serviceaccounts/token",
    "roles",
    "clusterroles",
    "customresourcedefinitions",
];

pub(crate) fn assert_minimal(role: &Value) {
    for rule in role["rules"].as_array().expect("rules") {
        let shown = rule.to_string();
        assert!(strings(&rule["verbs"]).iter().all(|verb| !NEVER.contains(verb)), "{shown}");
        assert!(strings(&rule["resources"]).iter().all(|resource| !NEVER_ON.contains(resource)), "{shown}");
        assert!(!strings(&rule["apiGroups"]).contains(&"*") && rule["nonResourceURLs"].is_null(), "{shown}");
        let of_systems = strings(&rule["resources"]).contains(&"dispatchsystems");
        let forbidden: &[&str] =
            if of_systems { &["create", "delete", "deletecollection"] } else { &["deletecollection"] };
        assert!(strings(&rule["verbs"]).iter().all(|verb| !forbidden.contains(verb)), "{shown}");
        if strings(&rule["resources"]).contains(&"secrets") {
            assert_eq!(strings(&rule["verbs"]), ["get"], "Secrets may only be read by name");
        }
    }
}

/// Verbs of every rule that allows more than reading Secrets by name.
pub(crate) fn writes_secrets(objects: &[Value]) -> Vec<Value> {
    let rules = objects.iter().flat_map(|object| object["rules"].as_array().into_iter().flatten());
    let of_secrets = rules.filter(|rule| strings(&rule["resources"]).contains(&"secrets"));
    of_secrets.map(|rule| rule["verbs"].clone()).filter(|verbs| *verbs != json!(["get"])).collect()
}

/// The component works with both overlays and adds one rule to the operator's role only, without `list`.
#[test]
fn the_permission_to_write_secrets_is_optional() {
    if !has("kubectl", "the_permission_to_write_secrets_is_optional") {
        return;
    }
    let here = root().join("target/tmp/connection-secrets");
    std::fs::create_dir_all(&here).expect("a folder");
    for overlay in OVERLAYS {
        let plain = documents(&kustomize(overlay));
        assert_eq!(writes_secrets(&plain), Vec::<Value>::new(), "{overlay}");
        let up = "../../..";
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{up}/{overlay}]\n\
             components: [{up}/manifests/components/connection-secrets]\n"
        );
        std::fs::write(here.join("kustomization.yaml"), text).expect("a file");
        let mut with = documents(&kustomize("target/tmp/connection-secrets"));
        assert_eq!(writes_secrets(&with), [json!(["create", "patch", "delete"])], "{overlay}");
        for role in &mut with {
            if let Some(rules) = role.get_mut("rules").and_then(Value::as_array_mut) {
                rules.retain(|rule| rule["verbs"] != json!(["create", "patch", "delete"]));
            }
        }
        assert!(with == plain, "{overlay}: the component changes something else");
    }
}

/// Rules that allow to read Pods.
pub(crate) fn reads_pods(objects: &[Value]) -> usize {
    let rules = objects.iter().flat_map(|object| object["rules"].as_array().into_iter().flatten());
    rules.filter(|rule| strings(&rule["resources"]).contains(&"pods")).count()
}

#[test]
fn the_permission_to_read_pods_can_be_left_out() {
    if !has("kubectl", "the_permission_to_read_pods_can_be_left_out") {
        return;
    }
    let here = root().join("target/tmp/no-pod-reading");
    std::fs::create_dir_all(&here).expect("a folder");
    for overlay in OVERLAYS {
        let mut plain = documents(&kustomize(overlay));
        assert_eq!(reads_pods(&plain), 1, "{overlay}");
        let up = "../../..";
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{up}/{overlay}]\n\
             components: [{up}/manifests/components/no-pod-reading]\n"
        );
        std::fs::write(here.join("kustomization.yaml"), text).expect("a file");
        let without = documents(&kustomize("target/tmp/no-pod-reading"));
        for role in &mut plain {
            if let Some(rules) = role.get_mut("rules").and_then(Value::as_array_mut) {
                rules.retain(|rule| !strings(&rule["resources"]).contains(&"pods"));
            }
        }
        assert!(without == plain, "{overlay}: the component changes something else");
    }
}

#[test]
fn permissions_are_minimal() {
    for overlay in OVERLAYS {
        for file in crate::objects::files(overlay).into_iter().chain(crate::objects::files("manifests/base")) {
            let text = std::fs::read_to_string(&file).expect("a manifest");
            for role in documents(&text)
                .iter()
                .filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Role")))
            {
                assert_minimal(role);
            }
        }
    }
}

/// A change of the operator's permissions shows up as a change of this snapshot.
#[test]
fn the_permissions_are_the_reviewed_ones() {
    let mut lines = Vec::new();
    for file in ["manifests/overlays/cluster-wide/cluster-role.yaml", "manifests/base/lease.yaml"] {
        for role in documents(&text(file)).iter().filter(|object| object["rules"].is_array()) {
            for rule in role["rules"].as_array().expect("rules") {
                let words = |field: &str| strings(&rule[field]).join(",");
                let named = words("resourceNames");
                lines.push(format!(
                    "{}/{}{}: {}",
                    if words("apiGroups").is_empty() { "core".to_owned() } else { words("apiGroups") },
                    words("resources"),
                    if named.is_empty() { String::new() } else { format!("[{named}]") },
                    words("verbs")
                ));
            }
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn one_namespace_has_the_same_rules_as_the_cluster() {
    let rules = |file: &str| documents(&text(file)).remove(0)["rules"].clone();
    assert_eq!(
        rules("manifests/overlays/cluster-wide/cluster-role.yaml"),
        rules("manifests/overlays/namespaced/role.yaml")
    );
}

#[test]
fn the_namespaced_overlay_needs_nothing_outside_its_namespace() {
    if !has("kubectl", "the_namespaced_overlay_needs_nothing_outside_its_namespace") {
        return;
    }
    for overlay in OVERLAYS {
        let objects = documents(&kustomize(overlay));
        let cluster: Vec<_> = objects
            .iter()
            .filter(|object| object["metadata"]["namespace"].is_null())
            .map(|object| object["kind"].clone())
            .collect();
        if overlay.ends_with("namespaced") {
            assert_eq!(cluster, Vec::<Value>::new(), "{overlay}");
        } else {
            assert_eq!(cluster, ["ClusterRole", "ClusterRoleBinding"], "{overlay}");
        }
        for binding in objects.iter().filter(|object| object["subjects"].is_array()) {
            assert_eq!(binding["subjects"][0]["namespace"], "coactus-system", "{overlay}");
        }
    }
}

#[test]
fn kustomize_creates_neither_namespaces_nor_definitions() {
    for file in crate::objects::files("manifests/base").into_iter().chain(crate::objects::files("manifests/overlays")) {
        let text = std::fs::read_to_string(&file).expect("a manifest");
        for object in documents(&text) {
            let kind = object["kind"].as_str().expect("a kind");
            let shown = file.strip_prefix(root()).expect("below the root").display();
            assert!(!["Namespace", "CustomResourceDefinition"].contains(&kind), "{shown} creates a {kind}");
        }
    }
}
