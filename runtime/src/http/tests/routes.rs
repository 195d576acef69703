//! The router, the document and the list of routes agree.

use std::collections::BTreeSet;

use dispatch_http_types::{Method, ROUTES};
use tower::ServiceExt as _;

use super::{World, without_body};
use crate::http::{HttpRole, openapi, router};

#[test]
fn the_document_has_exactly_the_routes_of_the_list() {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let scopes: BTreeSet<String> = operation["security"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["bearer"][0].as_str().unwrap().to_owned())
                .collect();
            let takes_key = operation["parameters"]
                .as_array()
                .is_some_and(|all| all.iter().any(|parameter| parameter["name"] == "Idempotency-Key"));
            let id = operation["operationId"].as_str().unwrap().to_owned();
            documented.insert((method.to_uppercase(), path.clone(), id, scopes, takes_key));
        }
    }
    let listed: BTreeSet<_> = ROUTES
        .iter()
        .map(|route| {
            let scopes = route.scopes.iter().map(ToString::to_string).collect();
            let (method, path) = (route.method.to_string(), route.path.to_owned());
            (method, path, route.operation_id.to_owned(), scopes, route.idempotency_key)
        })
        .collect();
    assert_eq!(listed.len(), ROUTES.len(), "a route is listed twice");
    assert_eq!(documented, listed);
}

/// Whether the router serves a method of a path. The request is not valid for any handler, so it has no effect.
async fn is_served(method: &str, path: &str) -> bool {
    let world = World::new();
    let api = router(world.state.clone(), &HttpRole::ALL.into());
    // A query that no route takes keeps the event stream from opening.
    let uri = path.replace(['{', '}'], "") + "?strange=1";
    let response = api.oneshot(without_body(method, &uri)).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    !String::from_utf8_lossy(&body).contains("dispatch/no-such-path") && status != 405
}

#[tokio::test]
async fn the_router_serves_exactly_the_routes_of_the_list() {
    let paths: BTreeSet<&str> = ROUTES.iter().map(|route| route.path).collect();
    for path in paths {
        for method in [Method::Get, Method::Post, Method::Put, Method::Delete] {
            let listed = ROUTES.iter().any(|route| route.path == path && route.method == method);
            assert_eq!(is_served(method.as_str(), path).await, listed, "{method} {path}");
        }
        assert!(!is_served("PATCH", path).await, "PATCH {path}");
    }
}
