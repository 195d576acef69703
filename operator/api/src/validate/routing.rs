//! Formats and rules of `spec.api.ingress` and `spec.api.httpRoute`.

use super::errors::Findings;
use super::text;
use super::workers::object_name;
use crate::dispatch_system::{COMBINED_MESSAGE, DispatchSystemSpec, WorkersLayout};

/// Gateways and hosts of one route.
const ENTRIES_MAX: usize = 8;

/// Checks the objects that lead to the API from outside the cluster.
pub(super) fn check(spec: &DispatchSystemSpec, found: &mut Findings) {
    let (ingress, route) = (&spec.api.ingress, &spec.api.http_route);
    if (ingress.is_some() || route.is_some()) && spec.workers.layout != WorkersLayout::Combined {
        found.say("spec.workers.layout", COMBINED_MESSAGE);
    }
    if let Some(ingress) = ingress {
        host("spec.api.ingress.host", &ingress.host, found);
        for (field, name) in [("className", &ingress.class_name), ("tlsSecretName", &ingress.tls_secret_name)] {
            if let Some(name) = name {
                object_name(&format!("spec.api.ingress.{field}"), name, found);
            }
        }
    }
    let Some(route) = route else { return };
    for (field, entries) in [("gateways", route.gateways.len()), ("hosts", route.hosts.len())] {
        let is_in_range = (1..=ENTRIES_MAX).contains(&entries);
        found.at(&format!("spec.api.httpRoute.{field}")).require(is_in_range, entries, "1 to 8 entries");
    }
    for (at, name) in route.hosts.iter().enumerate() {
        host(&format!("spec.api.httpRoute.hosts[{at}]"), name, found);
    }
    for (at, gateway) in route.gateways.iter().enumerate() {
        let path = format!("spec.api.httpRoute.gateways[{at}]");
        object_name(&format!("{path}.name"), &gateway.name, found);
        if let Some(listener) = &gateway.listener {
            object_name(&format!("{path}.listener"), listener, found);
        }
        if let Some(namespace) = &gateway.namespace {
            let is_name = text::is_dns_label(namespace, 63);
            found.at(&format!("{path}.namespace")).require(is_name, namespace, "a namespace name");
        }
    }
}

fn host(path: &str, name: &str, found: &mut Findings) {
    let allowed = "a host name in lower case, without a wildcard";
    found.at(path).require(text::is_dns_subdomain(name), name, allowed);
}
