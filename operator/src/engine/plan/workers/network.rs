//! Services and the network policy.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::engine::plan::workers::pods::{ADMIN_PORT, HTTP_PORT};
use crate::engine::plan::workers::{Pool, Role, metadata, role_name, selector, selector_labels, workers_name};
use dispatch_api::validate::ValidatedSystem;

const HTTPS: u16 = 443;
/// Port of the credentials endpoint of EKS Pod Identity.
const POD_IDENTITY: u16 = 80;
const DNS: u16 = 53;
/// Default port of Redis.
const REDIS: u16 = 6379;

pub(super) fn service(system: &ValidatedSystem, role: Role) -> Service {
    Service {
        metadata: metadata(system, role_name(system, role), Some(role.name)),
        spec: Some(ServiceSpec {
            selector: Some(selector_labels(system, Some(role.name))),
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

/// Workers are reached on their two ports, and reach DNS, AWS, Redis, the keys of the token issuer and the router.
pub(super) fn policy(pool: &Pool<'_>) -> NetworkPolicy {
    let system = pool.system;
    let port = |protocol: &str, number: i32| NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        end_port: None,
    };
    let tcp = |number: u16| port("TCP", number.into());
    let mut calls: Vec<u16> = vec![HTTPS, POD_IDENTITY, port_of(&pool.outputs.cache_url).unwrap_or(REDIS)];
    calls.extend(pool.endpoint_url.and_then(port_of));
    // Keys of the token issuer.
    calls.extend(crate::engine::worker_config::auth(&system.spec.api).and_then(|auth| port_of(&auth.jwks_url?)));
    // The router. Port 80 is already allowed for Pod Identity.
    calls.extend(system.spec.dispatch.eta.url.as_deref().and_then(port_of));
    calls.sort_unstable();
    calls.dedup();
    let mut egress = vec![tcp(DNS), port("UDP", DNS.into())];
    egress.extend(calls.into_iter().map(tcp));
    NetworkPolicy {
        metadata: metadata(system, workers_name(system), None),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(system, None)),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                ports: Some(vec![port("TCP", HTTP_PORT), port("TCP", ADMIN_PORT)]),
                from: None,
            }]),
            egress: Some(vec![NetworkPolicyEgressRule { ports: Some(egress), to: None }]),
        }),
    }
}

/// Port in an address: the number after its last colon.
fn port_of(url: &str) -> Option<u16> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::port_of;

    #[test]
    fn the_port_of_an_address_is_read_or_absent() {
        assert_eq!(port_of("rediss://master.example:6380"), Some(6380));
        assert_eq!(port_of("redis://[::1]:7000"), Some(7000));
        assert_eq!(port_of("http://127.0.0.1:4566/path"), Some(4566));
        assert_eq!(port_of("redis://host"), None);
    }
}
