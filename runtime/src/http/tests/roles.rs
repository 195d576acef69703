//! Each role mounts its own routes and no others.

use axum::http::Method;
use tower::ServiceExt as _;

use super::{World, without_body};
use crate::http::{HttpRole, openapi, router};

/// The router's response to an unknown path, which differs from a handler's 404.
const NO_SUCH_PATH: &str = "dispatch/no-such-path";

#[tokio::test]
async fn a_role_serves_its_routes_and_no_others() {
    let world = World::new();
    let document = serde_json::to_value(openapi()).unwrap();
    let tag = |role| match role {
        HttpRole::SaveDispatch => "save-dispatch",
        HttpRole::DriverResponse => "driver-response",
        HttpRole::StatusUpdate => "status-update",
    };
    let mut seen = 0;
    for role in HttpRole::ALL {
        let api = router(world.state.clone(), &[role].into());
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                // A query that no route takes keeps the event stream from opening.
                let uri = path.replace(['{', '}'], "") + "?strange=1";
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let request = without_body(method.as_str(), &uri);
                let response = api.clone().oneshot(request).await.unwrap();
                let status = response.status().as_u16();
                let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
                let mounted = !String::from_utf8_lossy(&body).contains(NO_SUCH_PATH) && status != 405;
                assert_eq!(mounted, operation["tags"][0] == tag(role), "{role:?} {path} {status}");
                seen += usize::from(mounted);
            }
        }
    }
    assert_eq!(seen, 28);
}

#[tokio::test]
async fn a_process_without_http_roles_has_no_routes() {
    let world = World::new();
    let api = router(world.state.clone(), &[].into());
    let request = without_body("GET", "/v1/dispatches/00001");
    assert_eq!(api.oneshot(request).await.unwrap().status(), 404);
}
