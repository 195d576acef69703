//! `POST /session`: a token for any user or driver, without a login. This is a city to play with.
//!
//! Only the pages of this server may ask. Browsers send `Origin` with every POST, so a request without it is not from a
//! page; programs use `dispatch-local token`. `Sec-Fetch-Site` is checked too where a browser sends it.

use parking_lot::Mutex;
use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dispatch_core::ids::{DriverId, UserId};
use dispatch_dev_keys::Claims;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::{Apps, header_text};

/// Validity of a token: a day's work.
const LIFETIME: Duration = Duration::from_hours(12);

/// Largest body: a person's id has at most 71 bytes.
const BODY_MAX: usize = 256;

/// Time for the body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests handled at once.
const CONCURRENT_MAX: usize = 4;

/// Sustained rate of requests, per second, and how many may come at once. The two pages need one each.
const RATE_PER_SECOND: f64 = 5.0;
const BURST: f64 = 20.0;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Bounds the requests of all pages together.
pub(super) struct SignInLimiter {
    slots: Semaphore,
    /// Requests that may come at once, and since when.
    bucket: Mutex<(f64, Instant)>,
}

impl SignInLimiter {
    pub(super) fn new() -> Self {
        Self { slots: Semaphore::new(CONCURRENT_MAX), bucket: Mutex::new((BURST, Instant::now())) }
    }

    /// Counts a request. Returns false if it exceeds the rate.
    fn try_acquire(&self) -> bool {
        let mut bucket = self.bucket.lock();
        let (tokens, since) = *bucket;
        let now = Instant::now();
        let tokens = (tokens + (now - since).as_secs_f64() * RATE_PER_SECOND).min(BURST);
        let allowed = tokens >= 1.0;
        *bucket = (if allowed { tokens - 1.0 } else { tokens }, now);
        allowed
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInRequest {
    /// `user#…` or `driver#…`.
    person: String,
}

pub(super) async fn sign_in(State(apps): State<Apps>, request: Request) -> Response {
    let _slot = match admit(&apps, request.headers()) {
        Ok(slot) => slot,
        Err(refused) => return *refused,
    };
    let Ok(body) = timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_MAX)).await else {
        return StatusCode::REQUEST_TIMEOUT.into_response();
    };
    let Ok(body) = body else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    let Ok(SignInRequest { person }) = serde_json::from_slice(&body) else {
        return (StatusCode::BAD_REQUEST, "expected {\"person\": \"user#…\"}\n").into_response();
    };
    let scope = match person.as_str() {
        user if UserId::parse(user).is_ok() => "user",
        driver if DriverId::parse(driver).is_ok() => "driver",
        _ => return (StatusCode::BAD_REQUEST, "person must be user#… or driver#…\n").into_response(),
    };
    let claims = Claims { subject: &person, scopes: &[scope], lifetime: LIFETIME };
    match dispatch_dev_keys::token(&apps.signing_key, &claims) {
        Ok(token) => ([(header::CACHE_CONTROL, "no-store")], Json(json!({ "token": token }))).into_response(),
        Err(error) => {
            tracing::warn!(%error, "no token");
            (StatusCode::INTERNAL_SERVER_ERROR, "the token cannot be signed\n").into_response()
        }
    }
}

/// Admits a request of a page of this server, within the bounds of all pages together.
pub(super) fn admit<'a>(apps: &'a Apps, headers: &HeaderMap) -> Result<SemaphorePermit<'a>, Box<Response>> {
    if !is_own_page(headers, apps.port) {
        let refused = (StatusCode::FORBIDDEN, "only the pages of this server may sign in or pay\n");
        return Err(Box::new(refused.into_response()));
    }
    match apps.sign_ins.slots.try_acquire() {
        Ok(slot) if apps.sign_ins.try_acquire() => Ok(slot),
        _ => {
            let refused = (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], "too many requests\n");
            Err(Box::new(refused.into_response()))
        }
    }
}

/// Whether a page of this server sent the request.
fn is_own_page(headers: &HeaderMap, port: u16) -> bool {
    let own_origin = header_text(headers, &header::ORIGIN)
        .and_then(|origin| origin.strip_prefix("http://"))
        .is_some_and(|host| super::is_own_host(host, port));
    let same_site = headers.get(&SEC_FETCH_SITE).is_none_or(|site| site == "same-origin");
    own_origin && same_site
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::apps::router;

    const OWN: (&str, &str) = ("origin", "http://127.0.0.1:8000");

    fn server() -> (tempfile::TempDir, Router) {
        let dir = tempfile::tempdir().unwrap();
        dispatch_dev_keys::make(dir.path()).unwrap();
        let signing_key = dir.path().join(dispatch_dev_keys::SIGNING_KEY);
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        (dir, router(Apps::new(8000, "http://127.0.0.1:9".to_owned(), signing_key, client)))
    }

    async fn answer(server: &Router, method: &str, headers: &[(&str, &str)], body: &str) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri("/session").header("host", "127.0.0.1:8000");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = server.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 4096).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    #[tokio::test]
    async fn a_page_of_this_server_gets_a_token() {
        let (_dir, server) = server();
        for person in ["user#90001", "driver#90001"] {
            let body = json!({ "person": person }).to_string();
            for headers in [&[OWN][..], &[("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin")]] {
                let (status, json) = answer(&server, "POST", headers, &body).await;
                assert_eq!(status, StatusCode::OK);
                assert_eq!(json["token"].as_str().unwrap().split('.').count(), 3);
            }
        }
    }

    #[tokio::test]
    async fn other_pages_and_requests_of_no_page_are_refused() {
        let (_dir, server) = server();
        let body = json!({ "person": "user#90001" }).to_string();
        for headers in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "http://evil.example:8000")],
            &[("origin", "http://127.0.0.1:8001")],
            &[("origin", "https://127.0.0.1:8000")],
            &[("origin", "null")],
            &[OWN, ("sec-fetch-site", "cross-site")],
            &[OWN, ("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "same-origin")],
            &[],
        ] {
            assert_eq!(answer(&server, "POST", headers, &body).await.0, StatusCode::FORBIDDEN, "{headers:?}");
        }
        let request = Request::post("/session").header("host", "evil.example:8000").header(OWN.0, OWN.1);
        let response = server.clone().oneshot(request.body(Body::from(body.clone())).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST);
        assert_eq!(answer(&server, "GET", &[OWN], "").await.0, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn only_ids_of_bounded_length_are_signed() {
        let (_dir, server) = server();
        for person in ["", "operator", "user#", "user#a b", &format!("user#{}", "x".repeat(65))] {
            let body = json!({ "person": person }).to_string();
            assert_eq!(answer(&server, "POST", &[OWN], &body).await.0, StatusCode::BAD_REQUEST, "{person}");
        }
        let body = json!({ "person": "x".repeat(BODY_MAX) }).to_string();
        assert_eq!(answer(&server, "POST", &[OWN], &body).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer(&server, "POST", &[OWN], "person=user%2390001").await.0, StatusCode::BAD_REQUEST);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_requests_are_refused_until_later() {
        let (_dir, server) = server();
        let body = json!({ "person": "user#90001" }).to_string();
        let mut refused = 0;
        for _ in 0..30 {
            refused += u32::from(answer(&server, "POST", &[OWN], &body).await.0 == StatusCode::TOO_MANY_REQUESTS);
        }
        assert_eq!(refused, 10);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(answer(&server, "POST", &[OWN], &body).await.0, StatusCode::OK);
    }
}
