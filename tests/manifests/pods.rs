//! The Pods of the operator: restricted security, resource limits and network access.

use dispatch_operator::testing::flows::{self, Direction, Flow, Peer};
use serde_json::{Value, json};

use crate::objects::{OVERLAYS, documents, has, kustomize, text};

/// Checks the level "restricted" of the Kubernetes Pod Security Standards, and additional rules of this project.
pub(crate) fn assert_restricted(pod: &Value) {
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[field].is_null(), "{field}");
    }
    let security = &pod["securityContext"];
    assert_eq!(security["runAsNonRoot"], true);
    assert!(security["runAsUser"].as_u64().is_some_and(|user| user > 0), "{security}");
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        assert!(volume["hostPath"].is_null(), "{volume}");
    }
    assert!(pod["initContainers"].is_null(), "init containers are not checked here");
    for container in pod["containers"].as_array().expect("containers") {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
        assert!(security["privileged"].is_null());
        // Not required by the standard.
        assert_eq!(security["readOnlyRootFilesystem"], true);
        let resources = &container["resources"];
        assert!(resources["requests"]["cpu"].is_string() && resources["requests"]["memory"].is_string(), "{resources}");
        assert!(resources["limits"]["memory"].is_string(), "{resources}");
        assert!(container["livenessProbe"].is_object() && container["readinessProbe"].is_object());
        for port in container["ports"].as_array().into_iter().flatten() {
            assert!(port["hostPort"].is_null(), "{port}");
        }
    }
}

#[test]
fn the_operator_runs_restricted() {
    let deployments = documents(&text("manifests/base/deployment.yaml"));
    let [deployment] = deployments.as_slice() else { panic!("one deployment") };
    assert_restricted(&deployment["spec"]["template"]["spec"]);
}

/// Checks which addresses the operator may connect to, and who may read its metrics.
pub(crate) fn assert_closed(policy: &Value) {
    let spec = &policy["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]), "everything else must be denied");
    let ingress = spec["ingress"].as_array().expect("ingress");
    assert_eq!(ingress.len(), 1);
    assert!(ingress[0]["from"][0]["namespaceSelector"]["matchLabels"].is_object());
    for rule in spec["egress"].as_array().expect("egress") {
        assert!(!rule["ports"].is_null() && !rule["to"].is_null(), "{rule}");
        for block in rule["to"].as_array().expect("to").iter().filter_map(|to| to.get("ipBlock")) {
            match block["cidr"].as_str().expect("a CIDR") {
                "0.0.0.0/0" => {
                    assert_eq!(
                        block["except"],
                        json!(["169.254.0.0/16"]),
                        "the instance metadata service must be blocked"
                    );
                }
                "::/0" => assert_eq!(block["except"], json!(["fd00:ec2::/32", "fe80::/10"])),
                agent => assert!(["169.254.170.23/32", "fd00:ec2::23/128"].contains(&agent), "{agent}"),
            }
        }
    }
}

#[test]
fn the_network_policy_allows_only_the_listed_peers() {
    let policies = documents(&text("manifests/base/network-policy.yaml"));
    let [policy] = policies.as_slice() else { panic!("one policy") };
    assert_closed(policy);
}

/// The same policy as a table of connections.
pub(crate) fn assert_flows(policy: &Value) {
    let labels = &policy["spec"]["podSelector"]["matchLabels"];
    let may = |direction, peer, protocol, port| {
        flows::allowed(&[policy], labels, &[("admin", 9090)], Flow { direction, peer, protocol, port })
    };
    let to = |address, port| may(Direction::Egress, Peer::Address(address), "TCP", port);
    for address in ["52.95.0.1", "10.0.0.1", "2600:1f14::1"] {
        assert!(to(address, 443) && to(address, 6443), "AWS and the API server at {address}");
        for port in [80, 22, 53, 6379, 10_250] {
            assert!(!to(address, port), "{address}:{port}");
        }
    }
    for address in ["169.254.169.254", "fd00:ec2::254", "169.254.170.2", "fe80::1"] {
        for port in [80, 443, 6443] {
            assert!(!to(address, port), "{address}:{port}");
        }
    }
    for agent in ["169.254.170.23", "fd00:ec2::23"] {
        assert!(to(agent, 80) && !to(agent, 443), "{agent}");
    }
    let dns = Peer::Pod("kube-system", &[("k8s-app", "kube-dns")]);
    for protocol in ["TCP", "UDP"] {
        assert!(may(Direction::Egress, dns, protocol, 53), "{protocol}");
        assert!(!may(Direction::Egress, Peer::Pod("kube-system", &[]), protocol, 53), "{protocol}");
    }
    let worker = Peer::Pod("mobility", &[("app.kubernetes.io/managed-by", "dispatch-operator")]);
    assert!(may(Direction::Egress, worker, "TCP", 9090) && !may(Direction::Egress, worker, "TCP", 8080));
    assert!(!may(Direction::Egress, Peer::Pod("mobility", &[]), "TCP", 9090));
    let from = |peer, port| may(Direction::Ingress, peer, "TCP", port);
    assert!(from(Peer::Pod("monitoring", &[]), 9090));
    assert!(!from(Peer::Pod("monitoring", &[]), 8080) && !from(Peer::Pod("team", &[]), 9090));
    assert!(!from(Peer::Address("10.0.0.1"), 9090));
}

#[test]
fn the_operator_has_the_connections_of_the_table_and_no_other() {
    let policies = documents(&text("manifests/base/network-policy.yaml"));
    let [policy] = policies.as_slice() else { panic!("one policy") };
    assert_flows(policy);
}

#[test]
fn every_selector_matches_the_operator() {
    if !has("kubectl", "every_selector_matches_the_operator") {
        return;
    }
    for overlay in OVERLAYS {
        assert_selectors(&documents(&kustomize(overlay)));
    }
}

pub(crate) fn assert_selectors(objects: &[Value]) {
    let of = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("a {kind}"));
    let deployment = of("Deployment");
    let pod = &deployment["spec"]["template"]["metadata"]["labels"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &of("Service")["spec"]["selector"],
        &of("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        &of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ] {
        let selector = selector.as_object().expect("labels");
        assert!(!selector.is_empty());
        for (label, value) in selector {
            assert_eq!(&pod[label], value, "{label}");
        }
    }
    let port = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"];
    assert_eq!(&of("Service")["spec"]["ports"][0]["targetPort"], port);
    assert_eq!(&of("NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"], port);
    let account = &of("ServiceAccount")["metadata"]["name"];
    assert_eq!(&deployment["spec"]["template"]["spec"]["serviceAccountName"], account);
}
