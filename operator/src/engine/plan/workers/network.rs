//! Services and network policies.
//!
//! A policy lists the flows of one role. What a cluster needs besides, for example a router whose Service has another
//! target port, is a policy of its own in the namespace: policies add up.

use std::collections::{BTreeMap, BTreeSet};

use dispatch_api::dispatch_system::WorkersLayout;
use dispatch_api::names;
use dispatch_api::validate::ValidatedSystem;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::allow_list::AllowList;
use crate::engine::plan::workers::layout::roles_of;
use crate::engine::plan::workers::pods::{ADMIN_PORT, HTTP_PORT};
use crate::engine::plan::workers::{MANAGED_BY, Pool, Role, metadata, role_name, selector, selector_labels};

const HTTPS: u16 = 443;
const DNS: u16 = 53;
/// Addresses and port of the EKS Pod Identity agent, which runs on every node and provides the credentials of a worker.
const POD_IDENTITY: ([&str; 2], u16) = (["169.254.170.23/32", "fd00:ec2::23/128"], 80);
/// All addresses without the link-local ones: the instance metadata service would provide the credentials of the node.
const ANYWHERE: [(&str, &[&str]); 2] = [("0.0.0.0/0", &["169.254.0.0/16"]), ("::/0", &["fd00:ec2::/32", "fe80::/10"])];
/// Label that Kubernetes sets on each namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Default ports of the schemes of addresses.
const DEFAULT_PORTS: [(&str, u16); 4] = [("http", 80), ("https", HTTPS), ("redis", 6379), ("rediss", 6379)];

/// Who may connect to the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerClients {
    /// Namespaces whose Pods may call the HTTP API. `Any` includes clients outside the cluster, such as load balancers.
    pub api: AllowList,
    /// Namespaces whose Pods may read the metrics. The probes of the kubelet come from the node, which policies do not
    /// restrict.
    pub metrics: AllowList,
    /// Namespace of the operator, which asks workers that are not ready what they wait for; `None` outside a cluster.
    pub operator: Option<String>,
}

impl Default for WorkerClients {
    fn default() -> Self {
        Self { api: AllowList::Any, metrics: AllowList::Only(vec!["monitoring".to_owned()]), operator: None }
    }
}

/// A Service for each HTTP role, with the same name in both layouts, and in the layout `Combined` one for all routes.
/// They select the workers of the layout that serves.
pub(super) fn services(system: &ValidatedSystem, serving: WorkersLayout) -> Vec<Service> {
    let served_by = |role: &'static str| match serving {
        WorkersLayout::Split => role,
        WorkersLayout::Combined => names::COMBINED,
    };
    let of_roles = roles_of(system, WorkersLayout::Split).into_iter().map(|(role, _)| role).filter(|role| role.http);
    let mut all: Vec<Service> =
        of_roles.map(|role| service(system, role_name(system, role), Some(role.name), served_by(role.name))).collect();
    let is_combined = [serving, system.spec.workers.layout].contains(&WorkersLayout::Combined);
    all.extend(is_combined.then(|| service(system, names::api_object(&system.name), None, names::COMBINED)));
    all
}

/// A Service of the workers with the label `component`.
fn service(system: &ValidatedSystem, name: String, label: Option<&str>, component: &str) -> Service {
    Service {
        metadata: metadata(system, name, label),
        spec: Some(ServiceSpec {
            selector: Some(selector_labels(system, Some(component))),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: 80,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String("http".to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The flows of a role: its clients; DNS, AWS, the cache, and of what else it calls the ports in the spec's addresses.
pub(super) fn policy(pool: &Pool<'_>, role: Role) -> NetworkPolicy {
    let system = pool.system;
    let mut ingress = Vec::new();
    if role.http {
        ingress.extend(from(&pool.clients.api, HTTP_PORT));
    }
    ingress.extend(from(&pool.clients.metrics, ADMIN_PORT.into()));
    ingress.extend(pool.clients.operator.as_deref().map(from_operator));
    // Caches of DNS run at a link-local address of the node, so that port is open everywhere.
    let dns = NetworkPolicyEgressRule { ports: Some(vec![port("UDP", DNS.into()), tcp(DNS)]), to: None };
    let calls = calls(pool, role).into_iter().map(tcp).collect();
    let (agent, agent_port) = POD_IDENTITY;
    let egress = vec![
        dns,
        NetworkPolicyEgressRule { ports: Some(calls), to: Some(anywhere()) },
        NetworkPolicyEgressRule {
            ports: Some(vec![tcp(agent_port)]),
            to: Some(agent.map(|address| block(address, &[])).to_vec()),
        },
    ];
    NetworkPolicy {
        metadata: metadata(system, role_name(system, role), Some(role.name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(system, Some(role.name))),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: (!ingress.is_empty()).then_some(ingress),
            egress: Some(egress),
        }),
    }
}

/// Ports that a role calls. Every role uses AWS and the cache, the HTTP roles the keys of the token issuer, and the
/// role that searches for drivers the router.
fn calls(pool: &Pool<'_>, role: Role) -> BTreeSet<u16> {
    let spec = &pool.system.spec;
    let keys = crate::engine::worker_config::auth(&spec.api).and_then(|auth| auth.jwks_url);
    let keys = keys.as_deref().filter(|_| role.http);
    let router = spec.dispatch.eta.url.as_deref().filter(|_| role.searches);
    let addresses = [Some(pool.outputs.cache_url.as_str()), pool.endpoint_url, keys, router];
    addresses.into_iter().flatten().filter_map(port_of).chain([HTTPS]).collect()
}

/// The rule for the clients of a port; none where nothing may connect.
fn from(clients: &AllowList, number: i32) -> Option<NetworkPolicyIngressRule> {
    let from = match clients {
        AllowList::Any => None,
        AllowList::Only(namespaces) if namespaces.is_empty() => return None,
        AllowList::Only(namespaces) => {
            let named = LabelSelectorRequirement {
                key: NAMESPACE_NAME.to_owned(),
                operator: "In".to_owned(),
                values: Some(namespaces.clone()),
            };
            let selector = LabelSelector { match_expressions: Some(vec![named]), ..LabelSelector::default() };
            Some(vec![NetworkPolicyPeer { namespace_selector: Some(selector), ..NetworkPolicyPeer::default() }])
        }
    };
    Some(NetworkPolicyIngressRule { from, ports: Some(vec![port("TCP", number)]) })
}

/// The rule for the operator: it reads the admin port.
fn from_operator(namespace: &str) -> NetworkPolicyIngressRule {
    let labels = |name: &str, value: &str| LabelSelector {
        match_labels: Some(BTreeMap::from([(name.to_owned(), value.to_owned())])),
        ..LabelSelector::default()
    };
    let peer = NetworkPolicyPeer {
        namespace_selector: Some(labels(NAMESPACE_NAME, namespace)),
        pod_selector: Some(labels("app.kubernetes.io/name", MANAGED_BY)),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicyIngressRule { from: Some(vec![peer]), ports: Some(vec![tcp(ADMIN_PORT)]) }
}

/// All addresses and all Pods: some network plugins apply address ranges to what is outside the cluster only.
fn anywhere() -> Vec<NetworkPolicyPeer> {
    let pods = NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() };
    ANYWHERE.iter().map(|(cidr, except)| block(cidr, except)).chain([pods]).collect()
}

fn block(cidr: &str, except: &[&str]) -> NetworkPolicyPeer {
    let except = (!except.is_empty()).then(|| except.iter().map(|cidr| (*cidr).to_owned()).collect());
    NetworkPolicyPeer { ip_block: Some(IPBlock { cidr: cidr.to_owned(), except }), ..NetworkPolicyPeer::default() }
}

fn tcp(number: u16) -> NetworkPolicyPort {
    port("TCP", number.into())
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort { protocol: Some(protocol.to_owned()), port: Some(IntOrString::Int(number)), end_port: None }
}

/// Port of an address: the number after the last colon of its host, else the default of its scheme.
fn port_of(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next().unwrap_or_default();
    // The colons within brackets belong to an IPv6 address.
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    let named = after_host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    named.or_else(|| DEFAULT_PORTS.iter().find(|(known, _)| *known == scheme).map(|(_, port)| *port))
}

#[cfg(test)]
mod tests {
    use super::port_of;

    #[test]
    fn the_port_of_an_address_is_its_own_or_that_of_its_scheme() {
        for (url, port) in [
            ("rediss://master.example:6380", 6380),
            ("redis://[::1]:7000", 7000),
            ("redis://[fd00::1]", 6379),
            ("redis://host", 6379),
            ("rediss://host", 6379),
            ("http://127.0.0.1:4566/path", 4566),
            ("http://osrm.mobility.svc/", 80),
            ("https://login.example.com:8443/keys", 8443),
            ("https://login.example.com/a:b", 443),
        ] {
            assert_eq!(port_of(url), Some(port), "{url}");
        }
        assert_eq!(port_of("host:80"), None);
    }
}
