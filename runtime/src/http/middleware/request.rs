//! The outermost middleware: request id, rate limit of the address, admission, deadline, access log and metrics.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use ulid::Ulid;

use crate::http::middleware::limits::Exceeded;
use crate::http::problem::{ApiError, RETRY_AFTER_S};
use crate::http::state::AppState;

/// The header with the id of a request, which the client or the gateway may set.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum duration of a request: less than the 30 s integration timeout of an API Gateway HTTP API, and more than the
/// adapters allow for one call with its retries.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The target of access lines, by which `RUST_LOG` selects them.
const ACCESS: &str = "dispatch_runtime::access";

/// The routes that report positions.
const FREQUENT_ROUTES: [&str; 2] = ["/v1/drivers/{driverId}/locations", "/v1/locations/batch"];

/// Maximum length of a client's request id.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// Surrounds every request. A request beyond the limit is rejected immediately instead of queued, so that its client
/// receives `Retry-After` in time. The deadline covers the head of the response; only event streams send a body after
/// it, and they have their own limits.
pub(crate) async fn around(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", request_id = id.to_str().unwrap_or_default());
    let allowed = if has_valid_host(&request) { address_rate(&app, &request) } else { Err(ApiError::Host) };
    let mut response = match allowed {
        Ok(network) => admitted(&app, network, request, next).instrument(span.clone()).await,
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
    log(&span, &Served { method, route: &route, status, ms });
    response
}

/// A request that was answered.
struct Served<'a> {
    method: &'static str,
    route: &'a str,
    status: u16,
    ms: u64,
}

/// Writes the access line of a request. Positions are most of the requests, a few thousand a second in a large city,
/// and the metrics count them; unless the service failed, their lines are for debugging.
fn log(span: &tracing::Span, served: &Served<'_>) {
    let Served { method, route, status, ms } = *served;
    if FREQUENT_ROUTES.contains(&route) && status < StatusCode::INTERNAL_SERVER_ERROR.as_u16() {
        tracing::debug!(target: ACCESS, parent: span, method, path = route, status, ms, "request");
    } else {
        tracing::info!(target: ACCESS, parent: span, method, path = route, status, ms, "request");
    }
}

/// Whether the request names its host as RFC 9112 demands (section 3.2). A proxy in front may have chosen this process,
/// and cached its response, by a `Host` that is read differently here.
fn has_valid_host(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host.as_bytes()),
        (None, _) => request.version() < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

/// Whether a `Host` is empty, or a host with an optional port.
fn is_host(value: &[u8]) -> bool {
    value.is_empty() || (!value.contains(&b'@') && Authority::try_from(value).is_ok())
}

/// The network of a request's client, whose shares of requests and streams it counts for.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct ClientNetwork(pub IpAddr);

/// Applies the rate limit of the client's address, before any work is done for the request. Returns its network, if it
/// is known.
fn address_rate(app: &AppState, request: &Request) -> Result<Option<IpAddr>, ApiError> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let rates = &app.access.rates;
    let Some(network) = rates.client_network(request.headers(), peer) else { return Ok(None) };
    rates.take_network(network).map_err(|after_s| ApiError::TooMany { after_s })?;
    Ok(Some(network))
}

async fn admitted(app: &AppState, network: Option<IpAddr>, mut request: Request, next: Next) -> Response {
    let admitted = match app.admission.admit(network) {
        Ok(admitted) => admitted,
        Err(exceeded) => return refused(app, exceeded).into_response(),
    };
    if let Some(network) = network {
        request.extensions_mut().insert(ClientNetwork(network));
    }
    // The request is admitted until this function returns, although its head is dropped earlier.
    request.extensions_mut().insert(admitted.clone());
    let _admitted = admitted;
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::TimedOut.into_response(),
    }
}

/// The error for a request beyond a limit of concurrent requests or streams.
pub(in crate::http) fn refused(app: &AppState, exceeded: Exceeded) -> ApiError {
    match exceeded {
        Exceeded::Process => {
            app.engine.metrics.request_shed();
            ApiError::Overloaded
        }
        Exceeded::Address => ApiError::TooMany { after_s: RETRY_AFTER_S },
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
