//! Web versions of the user's and the driver's app, to play a ride: their pages, the API under the same address, and
//! tokens ([`sign_in`]) and payments ([`payment`]).
//!
//! The server listens on this machine only, and answers only requests that name it as their host, so that no web page
//! reaches it under a host name of its own (DNS rebinding).

mod payment;
mod sign_in;

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use self::sign_in::SignInLimiter;

/// Largest request body that is forwarded to the API, which refuses smaller ones itself.
const BODY_MAX: usize = 256 * 1024;

/// Time to connect to the API.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Headers that are not forwarded: those of a single connection (RFC 9110, section 7.6.1), host and length.
const CONNECTION_HEADERS: [HeaderName; 6] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::HOST, header::CONTENT_LENGTH];

const PAGES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("../../../../examples/apps/index.html")),
    ("/user.html", "text/html; charset=utf-8", include_str!("../../../../examples/apps/user.html")),
    ("/driver.html", "text/html; charset=utf-8", include_str!("../../../../examples/apps/driver.html")),
    ("/common.js", "text/javascript; charset=utf-8", include_str!("../../../../examples/apps/common.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../../../../examples/apps/style.css")),
];

/// No other page may show these pages in a frame, where it could lead clicks to them.
const PAGE_POLICY: (HeaderName, &str) = (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'self'");

/// State of the server.
#[derive(Clone)]
pub(crate) struct Apps {
    port: u16,
    /// Address of the city's API.
    api: String,
    /// The key of the run's issuer.
    signing_key: PathBuf,
    client: reqwest::Client,
    sign_ins: Arc<SignInLimiter>,
}

impl Apps {
    /// `port` is on 127.0.0.1, `client` calls the API.
    pub(crate) fn new(port: u16, api: String, signing_key: PathBuf, client: reqwest::Client) -> Self {
        Self { port, api, signing_key, client, sign_ins: Arc::new(SignInLimiter::new()) }
    }
}

/// A client without a time limit for answers: event streams have no end.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT).build()
}

/// Serves the apps until the handle is dropped.
pub(crate) async fn serve(apps: Apps) -> io::Result<AbortOnDropHandle<()>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, apps.port)).await?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(apps)).await {
            tracing::warn!(%error, "the server of the apps ended");
        }
    })))
}

fn router(apps: Apps) -> Router {
    let pages = PAGES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { ([(header::CONTENT_TYPE, kind), PAGE_POLICY], text) }))
    });
    pages
        .route("/session", post(sign_in::sign_in))
        .route("/payment", post(payment::pay))
        .route("/v1/{*path}", any(forward))
        .layer(from_fn_with_state(apps.clone(), require_own_host))
        .with_state(apps)
}

async fn require_own_host(State(apps): State<Apps>, request: Request, next: Next) -> Response {
    let host = header_text(request.headers(), &header::HOST).unwrap_or_default();
    if is_own_host(host, apps.port) { next.run(request).await } else { StatusCode::MISDIRECTED_REQUEST.into_response() }
}

fn is_own_host(host: &str, port: u16) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(name, number)| matches!(name, "127.0.0.1" | "localhost") && number.parse() == Ok(port))
}

/// A header as text; `None` if it is absent or no ASCII text.
fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Forwards a request to the API, and streams its answer.
async fn forward(State(apps): State<Apps>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let Ok(body) = to_bytes(body, BODY_MAX).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    let request = apps.client.request(head.method, format!("{}{path}", apps.api));
    match request.headers(end_to_end(&head.headers)).body(body).send().await {
        Ok(answer) => {
            let (status, headers) = (answer.status(), end_to_end(answer.headers()));
            (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
        }
        Err(_) => (StatusCode::BAD_GATEWAY, "the workers do not answer\n").into_response(),
    }
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let forwarded = headers.iter().filter(|(name, _)| !CONNECTION_HEADERS.contains(name));
    forwarded.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_that_name_this_machine_are_answered() {
        for own in ["127.0.0.1:8000", "localhost:8000"] {
            assert!(is_own_host(own, 8000), "{own}");
        }
        for other in
            ["", "127.0.0.1", "127.0.0.1:8001", "evil.example:8000", "localhost.evil.example:8000", "[::1]:8000"]
        {
            assert!(!is_own_host(other, 8000), "{other}");
        }
    }

    #[test]
    fn headers_of_a_connection_are_not_forwarded() {
        let headers: HeaderMap = [
            (header::HOST, "127.0.0.1:8000"),
            (header::CONNECTION, "keep-alive"),
            (header::AUTHORIZATION, "Bearer x"),
            (header::CONTENT_TYPE, "application/json"),
        ]
        .into_iter()
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
        let forwarded = end_to_end(&headers);
        assert_eq!(forwarded.len(), 2);
        assert!(forwarded.contains_key(header::AUTHORIZATION) && forwarded.contains_key(header::CONTENT_TYPE));
    }

    /// The pages work without access to the internet.
    #[test]
    fn the_pages_load_nothing_from_other_hosts() {
        for (path, _, text) in PAGES {
            let foreign = text.split("http").skip(1).find(|rest| rest.starts_with("://") || rest.starts_with("s://"));
            assert!(foreign.is_none_or(|rest| rest.starts_with("://www.w3.org/2000/svg")), "{path}");
        }
    }
}
