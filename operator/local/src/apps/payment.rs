//! `POST /payment`: the stand-in of a payment service. This is a city to play with, so no money is taken.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_dev_keys::Claims;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::{Apps, end_to_end, sign_in};

/// Validity of the token of one payment.
const LIFETIME: Duration = Duration::from_mins(10);

/// Largest body: two ids have at most 150 bytes.
const BODY_MAX: usize = 512;

/// Time for the body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    /// `dispatch#…`.
    dispatch: String,
    /// The driver of the ride, `driver#…`.
    driver: String,
}

/// Reports the payment of a ride to the API, with a token of the scope `payments`.
pub(super) async fn pay(State(apps): State<Apps>, request: Request) -> Response {
    let _slot = match sign_in::admit(&apps, request.headers()) {
        Ok(slot) => slot,
        Err(refused) => return *refused,
    };
    let Ok(body) = timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_MAX)).await else {
        return StatusCode::REQUEST_TIMEOUT.into_response();
    };
    let Ok(body) = body else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    let given = serde_json::from_slice(&body).ok();
    let Some((dispatch, driver)) = given.and_then(|Payment { dispatch, driver }| {
        Some((DispatchId::parse(dispatch.as_str()).ok()?, DriverId::parse(driver.as_str()).ok()?))
    }) else {
        return (StatusCode::BAD_REQUEST, "expected {\"dispatch\": \"dispatch#…\", \"driver\": \"driver#…\"}\n")
            .into_response();
    };
    let claims = Claims { subject: "payments", scopes: &["payments"], lifetime: LIFETIME };
    let token = match dispatch_dev_keys::token(&apps.signing_key, &claims) {
        Ok(token) => token,
        Err(error) => {
            tracing::warn!(%error, "no token");
            return (StatusCode::INTERNAL_SERVER_ERROR, "the token cannot be signed\n").into_response();
        }
    };
    let report = json!({ "driverId": driver.as_str(), "type": "PAYMENT_COMPLETED" }).to_string();
    let request = apps.client.post(format!("{}/v1/dispatches/{}/events", apps.api, dispatch.suffix()));
    let request = request.bearer_auth(token).header(header::CONTENT_TYPE, "application/json").body(report);
    match request.send().await {
        Ok(answer) => {
            let (status, headers) = (answer.status(), end_to_end(answer.headers()));
            (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
        }
        Err(_) => (StatusCode::BAD_GATEWAY, "the workers do not answer\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::routing::post;
    use parking_lot::Mutex;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::apps::router;

    /// The requests that reached the API: path, token and body.
    type Calls = Arc<Mutex<Vec<(String, String, Value)>>>;

    async fn api() -> (String, Calls) {
        let calls = Calls::default();
        let noted = Arc::clone(&calls);
        let note = async move |request: Request| {
            let path = request.uri().path().to_owned();
            let token = request.headers()["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
            let body = to_bytes(request.into_body(), 4096).await.unwrap();
            noted.lock().push((path, token, serde_json::from_slice(&body).unwrap()));
            "{}"
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/{*path}", post(note));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (address, calls)
    }

    #[tokio::test]
    async fn a_page_of_this_server_pays_a_ride() {
        let dir = tempfile::tempdir().unwrap();
        dispatch_dev_keys::make(dir.path()).unwrap();
        let (address, calls) = api().await;
        let signing_key = dir.path().join(dispatch_dev_keys::SIGNING_KEY);
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let server = router(Apps::new(8000, address, signing_key, client));
        let send = async |origin: &str, body: Value| {
            let request = Request::post("/payment").header("host", "127.0.0.1:8000").header("origin", origin);
            server.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap().status()
        };
        let ride = json!({ "dispatch": "dispatch#1", "driver": "driver#2" });
        assert_eq!(send("http://evil.example", ride.clone()).await, StatusCode::FORBIDDEN);
        for wrong in [json!({}), json!({ "dispatch": "dispatch#1", "driver": "user#2" })] {
            assert_eq!(send("http://127.0.0.1:8000", wrong).await, StatusCode::BAD_REQUEST);
        }
        assert!(calls.lock().is_empty());
        assert_eq!(send("http://127.0.0.1:8000", ride).await, StatusCode::OK);
        let (path, token, body) = calls.lock().pop().unwrap();
        assert_eq!(path, "/v1/dispatches/1/events");
        assert_eq!(body, json!({ "driverId": "driver#2", "type": "PAYMENT_COMPLETED" }));
        assert_eq!(token.split('.').count(), 3);
    }
}
