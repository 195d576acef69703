//! The objects through which a proxy of the cluster leads clients to the API: an `Ingress`, an `HTTPRoute`.
//!
//! One rule sends everything below `/v1` to the Service of all routes, which exists in the layout `Combined`. Workers
//! mark event streams as not to be buffered (`X-Accel-Buffering`); the `HTTPRoute` has no request timeout, which would
//! end them.

use dispatch_api::dispatch_system::{GatewayRef, HttpRouteSpec, IngressSpec};
use dispatch_api::names;
use dispatch_api::validate::ValidatedSystem;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec as Rules, IngressTLS, ServiceBackendPort,
};
use serde_json::{Value, json};

use crate::engine::plan::workers::{ChildKind, metadata};

/// Path of every route of the API.
const PATH: &str = "/v1";
/// Port of the Service.
const PORT: i32 = 80;

/// Kinds of the objects that the spec asks for.
pub fn wanted(system: &ValidatedSystem) -> Vec<ChildKind> {
    let api = &system.spec.api;
    let ingress = api.ingress.as_ref().map(|_| ChildKind::Ingress);
    ingress.into_iter().chain(api.http_route.as_ref().map(|_| ChildKind::HttpRoute)).collect()
}

pub(super) fn ingress(system: &ValidatedSystem, spec: &IngressSpec) -> Ingress {
    let path = HTTPIngressPath {
        path: Some(PATH.to_owned()),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: names::api_object(&system.name),
                port: Some(ServiceBackendPort { number: Some(PORT), ..ServiceBackendPort::default() }),
            }),
            ..IngressBackend::default()
        },
    };
    let tls = spec
        .tls_secret_name
        .as_ref()
        .map(|secret| vec![IngressTLS { hosts: Some(vec![spec.host.clone()]), secret_name: Some(secret.clone()) }]);
    Ingress {
        metadata: metadata(system, names::api_object(&system.name), None),
        spec: Some(Rules {
            ingress_class_name: spec.class_name.clone(),
            rules: Some(vec![IngressRule {
                host: Some(spec.host.clone()),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            tls,
            ..Rules::default()
        }),
        ..Ingress::default()
    }
}

pub(super) fn http_route(system: &ValidatedSystem, spec: &HttpRouteSpec) -> Value {
    let parent = |GatewayRef { name, namespace, listener }: &GatewayRef| {
        let mut parent = json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name });
        for (field, value) in [("namespace", namespace), ("sectionName", listener)] {
            if let Some(value) = value {
                parent[field] = json!(value);
            }
        }
        parent
    };
    let resource = ChildKind::HttpRoute.resource();
    json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata(system, names::api_object(&system.name), None),
        "spec": {
            "parentRefs": spec.gateways.iter().map(parent).collect::<Vec<_>>(),
            "hostnames": spec.hosts,
            "rules": [{
                "matches": [{ "path": { "type": "PathPrefix", "value": PATH } }],
                "backendRefs": [
                    { "group": "", "kind": "Service", "name": names::api_object(&system.name), "port": PORT, "weight": 1 },
                ],
                "timeouts": { "request": "0s" },
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::system;

    fn routed() -> ValidatedSystem {
        let mut system = system();
        let api = &mut system.spec.api;
        let host = "seoul.example.com".to_owned();
        api.ingress = Some(IngressSpec {
            class_name: Some("nginx".to_owned()),
            host: host.clone(),
            tls_secret_name: Some("seoul-tls".to_owned()),
        });
        let gateway = GatewayRef { name: "public".to_owned(), namespace: Some("edge".to_owned()), listener: None };
        api.http_route = Some(HttpRouteSpec { gateways: vec![gateway], hosts: vec![host] });
        system
    }

    #[test]
    fn one_rule_leads_everything_to_the_service_of_all_routes() {
        let system = routed();
        assert_eq!(wanted(&system), [ChildKind::Ingress, ChildKind::HttpRoute]);
        let api = &system.spec.api;
        let ingress = serde_json::to_value(super::ingress(&system, api.ingress.as_ref().unwrap())).unwrap();
        assert_eq!(ingress["spec"]["ingressClassName"], "nginx");
        assert_eq!(ingress["spec"]["tls"][0], json!({ "hosts": ["seoul.example.com"], "secretName": "seoul-tls" }));
        let path = &ingress["spec"]["rules"][0]["http"]["paths"][0];
        assert_eq!((path["path"].as_str(), path["pathType"].as_str()), (Some("/v1"), Some("Prefix")));
        assert_eq!(path["backend"]["service"], json!({ "name": "seoul-api", "port": { "number": 80 } }));
        let route = http_route(&system, api.http_route.as_ref().unwrap());
        assert_eq!(route["apiVersion"], "gateway.networking.k8s.io/v1");
        assert_eq!(route["spec"]["parentRefs"][0]["namespace"], "edge");
        assert!(route["spec"]["parentRefs"][0]["sectionName"].is_null());
        assert_eq!(route["spec"]["rules"][0]["timeouts"]["request"], "0s", "event streams are not ended");
    }
}
