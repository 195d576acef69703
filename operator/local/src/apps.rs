//! The web versions of the user app and the driver app, for whoever wants to play a ride: their pages, the API under the same address,
//! and a token for whoever asks.
//!
//! It hands out tokens, so it listens on this machine alone and answers only requests that name it so: a page from elsewhere
//! cannot get one through a browser here, not even by a name of its own that leads to 127.0.0.1.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use dispatch_core::ids::{DriverId, UserId};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Largest body passed on to the API; it refuses smaller ones itself.
const BODY_MAX: usize = 256 * 1024;
/// Longest time for a token; signing takes milliseconds.
const SIGNED_WITHIN: Duration = Duration::from_secs(10);
/// Headers that belong to one connection and not to what goes over it (RFC 9110, section 7.6.1), and the two that name the other end.
const OF_THE_CONNECTION: [HeaderName; 6] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::HOST, header::CONTENT_LENGTH];

const PAGES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("../../../examples/apps/index.html")),
    ("/user.html", "text/html; charset=utf-8", include_str!("../../../examples/apps/user.html")),
    ("/driver.html", "text/html; charset=utf-8", include_str!("../../../examples/apps/driver.html")),
    ("/common.js", "text/javascript; charset=utf-8", include_str!("../../../examples/apps/common.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../../../examples/apps/style.css")),
];

/// What the apps are served with.
#[derive(Clone)]
pub struct Apps {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Address of the city's API.
    pub api: String,
    /// The runtime, which signs tokens.
    pub runtime: PathBuf,
    /// The run's own signing key.
    pub signing_key: PathBuf,
    /// Client for the API.
    pub client: reqwest::Client,
}

/// A client that waits for event streams as long as they last.
pub fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(3)).build()
}

/// Serves the apps until the handle is dropped.
pub async fn serve(apps: Apps) -> io::Result<AbortOnDropHandle<()>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, apps.port)).await?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(apps)).await {
            tracing::warn!(%error, "the apps are served no more");
        }
    })))
}

fn router(apps: Apps) -> Router {
    let pages = PAGES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { ([(header::CONTENT_TYPE, kind)], text) }))
    });
    pages
        .route("/session", get(session))
        .route("/v1/{*path}", any(pass_on))
        .layer(from_fn_with_state(apps.clone(), only_from_here))
        .with_state(apps)
}

async fn only_from_here(State(apps): State<Apps>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_own_name(host, apps.port) { next.run(request).await } else { StatusCode::MISDIRECTED_REQUEST.into_response() }
}

fn is_own_name(host: &str, port: u16) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(name, number)| matches!(name, "127.0.0.1" | "localhost") && number.parse() == Ok(port))
}

#[derive(Deserialize)]
struct Who {
    person: String,
}

/// A token for a user or a driver, whoever they are: this is a city to play with.
async fn session(State(apps): State<Apps>, Query(who): Query<Who>) -> Response {
    let scope = match who.person.as_str() {
        user if UserId::parse(user).is_ok() => "user",
        driver if DriverId::parse(driver).is_ok() => "driver",
        _ => return (StatusCode::BAD_REQUEST, "person must be user#… or driver#…\n").into_response(),
    };
    let mut command = Command::new(&apps.runtime);
    command.arg("token").arg("--key").arg(&apps.signing_key).args(["--sub", &who.person, "--scope", scope]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    match timeout(SIGNED_WITHIN, command.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            ([(header::CACHE_CONTROL, "no-store")], Json(json!({ "token": token }))).into_response()
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "no token could be signed\n").into_response(),
    }
}

/// Passes a request on to the API, and its answer back as it comes: an event stream has no end.
async fn pass_on(State(apps): State<Apps>, request: Request) -> Response {
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
    let kept = headers.iter().filter(|(name, _)| !OF_THE_CONNECTION.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_that_name_this_machine_are_answered() {
        for own in ["127.0.0.1:8000", "localhost:8000"] {
            assert!(is_own_name(own, 8000), "{own}");
        }
        for other in
            ["", "127.0.0.1", "127.0.0.1:8001", "evil.example:8000", "localhost.evil.example:8000", "[::1]:8000"]
        {
            assert!(!is_own_name(other, 8000), "{other}");
        }
    }

    #[test]
    fn what_belongs_to_a_connection_is_not_passed_on() {
        let headers: HeaderMap = [
            (header::HOST, "127.0.0.1:8000"),
            (header::CONNECTION, "keep-alive"),
            (header::AUTHORIZATION, "Bearer x"),
            (header::CONTENT_TYPE, "application/json"),
        ]
        .into_iter()
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
        let kept = end_to_end(&headers);
        assert_eq!(kept.len(), 2);
        assert!(kept.contains_key(header::AUTHORIZATION) && kept.contains_key(header::CONTENT_TYPE));
    }

    /// The pages name no other host: they work without a way out.
    #[test]
    fn the_pages_need_nothing_from_elsewhere() {
        for (path, _, text) in PAGES {
            let foreign = text.split("http").skip(1).find(|rest| rest.starts_with("://") || rest.starts_with("s://"));
            assert!(foreign.is_none_or(|rest| rest.starts_with("://www.w3.org/2000/svg")), "{path}");
        }
    }
}
