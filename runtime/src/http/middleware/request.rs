//! The outermost middleware: request id, rate limit of the address, admission, deadline, access log and metrics.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use ulid::Ulid;

use crate::http::problem::ApiError;
use crate::http::state::AppState;

/// The header with the id of a request, which the client or the gateway may set.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum duration of a request: less than the 30 s integration timeout of an API Gateway HTTP API, and more than the
/// adapters allow for one call with its retries.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum length of a client's request id.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// Surrounds every request. A request beyond the limit is rejected immediately instead of queued, so that its client
/// receives `Retry-After` in time. The deadline covers the head of the response; only event streams send a body after
/// it, and they have their own limits.
pub async fn around(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", request_id = id.to_str().unwrap_or_default());
    let mut response = match address_share(&app, &request) {
        Ok(()) => admitted(&app, request, next).instrument(span.clone()).await,
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    // Responses contain positions and phone numbers, which no cache may store.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // No response is a web page. No CORS header is sent either: browser apps have their own server in front of this
    // API.
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    let (status, took) = (response.status().as_u16(), started.elapsed());
    app.engine.metrics.http_request(method, &route, status, took);
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(parent: &span, method, path = route, status, ms, "request");
    response
}

/// Applies the rate limit of the client's address, before any work is done for the request.
fn address_share(app: &AppState, request: &Request) -> Result<(), ApiError> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let rates = &app.access.rates;
    let Some(address) = rates.client_address(request.headers(), peer) else { return Ok(()) };
    rates.take_address(address).map_err(|after_s| ApiError::TooMany { after_s })
}

async fn admitted(app: &AppState, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.admission.0.try_acquire() else {
        app.engine.metrics.request_shed();
        return ApiError::Overloaded.into_response();
    };
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::TimedOut.into_response(),
    }
}

/// The client's request id, unless it could forge log lines; otherwise a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=' | b';' | b':' | b'.');
    let given = headers.get(REQUEST_ID).filter(|value| {
        (1..=REQUEST_ID_CHARS_MAX).contains(&value.len()) && value.as_bytes().iter().copied().all(plain)
    });
    match given {
        Some(given) => given.clone(),
        // A ULID is ASCII, so the fallback is never used.
        None => HeaderValue::from_str(&Ulid::generate().to_string()).unwrap_or(HeaderValue::from_static("none")),
    }
}

/// The metric label of a method. Unknown methods share one label, so that clients cannot create metric series.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}
