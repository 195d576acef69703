//! Evaluates network policies, for tests: no network plugin runs in a test cluster.
//!
//! The rules are those of the Kubernetes documentation. Where plugins differ, the stricter reading counts: an address
//! range contains no Pod. A field that is not known here stops the test.

use std::net::IpAddr;

use serde_json::Value;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Peer<'a> {
    /// An address outside the cluster, or one of a node.
    Address(&'a str),
    /// A Pod: the name of its namespace, and its labels.
    Pod(&'a str, &'a [(&'a str, &'a str)]),
}

/// Where a connection goes, seen from the Pod of the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    pub direction: Direction,
    pub peer: Peer<'a>,
    /// `TCP` or `UDP`.
    pub protocol: &'a str,
    /// The port of the Pod for ingress, that of the peer for egress.
    pub port: u16,
}

/// Whether the policies allow a connection of a Pod with these labels. `ports` are its named ports.
pub fn allowed(policies: &[&Value], labels: &Value, ports: &[(&str, u16)], flow: Flow<'_>) -> bool {
    let (kind, rules, peers) = match flow.direction {
        Direction::Ingress => ("Ingress", "ingress", "from"),
        Direction::Egress => ("Egress", "egress", "to"),
    };
    let mut selecting = policies.iter().map(|policy| &policy["spec"]).filter(|spec| {
        known(spec, &["podSelector", "policyTypes", "ingress", "egress"]);
        let types = spec["policyTypes"].as_array().expect("policyTypes");
        selects(&spec["podSelector"], &|label| labels[label].as_str()) && types.iter().any(|named| named == kind)
    });
    let mut isolated = false;
    let open = selecting.any(|spec| {
        isolated = true;
        let rules = spec[rules].as_array().map(Vec::as_slice).unwrap_or_default();
        rules.iter().any(|rule| {
            known(rule, &[peers, "ports"]);
            port_matches(&rule["ports"], ports, flow) && peer_matches(&rule[peers], flow.peer)
        })
    });
    open || !isolated
}

fn port_matches(listed: &Value, named: &[(&str, u16)], flow: Flow<'_>) -> bool {
    let Some(listed) = listed.as_array().filter(|listed| !listed.is_empty()) else { return true };
    listed.iter().any(|entry| {
        known(entry, &["port", "protocol"]);
        let number = match &entry["port"] {
            Value::Null => Some(flow.port),
            Value::String(name) => named.iter().find(|(known, _)| known == name).map(|(_, port)| *port),
            number => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        };
        number == Some(flow.port) && entry["protocol"].as_str().unwrap_or("TCP") == flow.protocol
    })
}

fn peer_matches(listed: &Value, peer: Peer<'_>) -> bool {
    let Some(listed) = listed.as_array().filter(|listed| !listed.is_empty()) else { return true };
    listed.iter().any(|entry| {
        known(entry, &["ipBlock", "namespaceSelector", "podSelector"]);
        match peer {
            Peer::Address(address) => {
                let block = &entry["ipBlock"];
                let except = block["except"].as_array().into_iter().flatten();
                let address = address.parse().expect("an address");
                block.is_object()
                    && contains(&block["cidr"], address)
                    && !except.into_iter().any(|x| contains(x, address))
            }
            // A selector of Pods alone means the namespace of the policy, which no test needs.
            Peer::Pod(namespace, labels) => {
                let of_namespace = |label: &str| (label == "kubernetes.io/metadata.name").then_some(namespace);
                let of_pod = |label: &str| labels.iter().find(|(name, _)| *name == label).map(|(_, value)| *value);
                entry["namespaceSelector"].is_object()
                    && selects(&entry["namespaceSelector"], &of_namespace)
                    && (entry["podSelector"].is_null() || selects(&entry["podSelector"], &of_pod))
            }
        }
    })
}

fn selects<'a>(selector: &Value, label: &dyn Fn(&str) -> Option<&'a str>) -> bool {
    known(selector, &["matchLabels", "matchExpressions"]);
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let mut expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    equal.into_iter().all(|(name, value)| label(name) == value.as_str())
        && expressions.all(|expression| {
            assert_eq!(expression["operator"], "In");
            let values = expression["values"].as_array().expect("values");
            label(expression["key"].as_str().expect("a key")).is_some_and(|own| values.iter().any(|value| value == own))
        })
}

/// Whether a range such as `169.254.0.0/16` contains an address.
fn contains(range: &Value, address: IpAddr) -> bool {
    let (network, length) = range.as_str().and_then(|text| text.split_once('/')).expect("a range");
    let length: u32 = length.parse().expect("a length");
    let (network, address, bits) = match (network.parse().expect("a network"), address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => (u32::from(network).into(), u32::from(address).into(), 32),
        (IpAddr::V6(network), IpAddr::V6(address)) => (u128::from(network), u128::from(address), 128),
        _ => return false,
    };
    let shift = bits - length;
    length == 0 || (network >> shift) == (address >> shift)
}

fn known(object: &Value, fields: &[&str]) {
    let unknown = object.as_object().into_iter().flatten().find(|(name, _)| !fields.contains(&name.as_str()));
    assert!(unknown.is_none(), "{unknown:?} is not evaluated");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_add_up_and_without_one_everything_is_allowed() {
        let to = |cidr: &str, port: u16| {
            json!({ "spec": { "podSelector": { "matchLabels": { "app": "a" } }, "policyTypes": ["Egress"],
                "egress": [{ "to": [{ "ipBlock": { "cidr": cidr, "except": ["10.1.0.0/16"] } }],
                    "ports": [{ "port": port, "protocol": "TCP" }] }] } })
        };
        let (one, other) = (to("10.0.0.0/8", 443), to("0.0.0.0/0", 80));
        let flow =
            |address, port| Flow { direction: Direction::Egress, peer: Peer::Address(address), protocol: "TCP", port };
        let labels = json!({ "app": "a", "other": "x" });
        let of_a = |address, port| allowed(&[&one, &other], &labels, &[], flow(address, port));
        assert!(of_a("10.2.3.4", 443) && of_a("8.8.8.8", 80) && of_a("10.2.3.4", 80));
        for (address, port) in [("8.8.8.8", 443), ("10.1.0.1", 443), ("10.1.0.1", 80), ("::1", 443), ("10.2.3.4", 22)] {
            assert!(!of_a(address, port), "{address} {port}");
        }
        assert!(allowed(&[&one], &json!({ "app": "b" }), &[], flow("8.8.8.8", 22)), "another Pod");
        let pod = Flow { peer: Peer::Pod("a", &[]), ..flow("10.2.3.4", 443) };
        assert!(!allowed(&[&one], &labels, &[], pod), "an address range contains no Pod");
        let in_ = Flow { direction: Direction::Ingress, ..pod };
        assert!(allowed(&[&one], &labels, &[], in_), "another direction");
    }

    #[test]
    fn ranges_of_both_families_are_compared_bit_by_bit() {
        for (range, address, inside) in [
            ("169.254.0.0/16", "169.254.169.254", true),
            ("169.254.0.0/16", "169.253.255.255", false),
            ("fd00:ec2::/32", "fd00:ec2::254", true),
            ("fe80::/10", "febf::1", true),
            ("fe80::/10", "fec0::1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("::/0", "::ffff:1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("169.254.170.23/32", "169.254.170.24", false),
        ] {
            assert_eq!(contains(&json!(range), address.parse().unwrap()), inside, "{range} {address}");
        }
    }
}
