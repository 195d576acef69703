//! The listeners. Their limits on connections hold before any handler sees a request.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub use super::connections::Bounds;
use super::connections::{Connection, Connections, ResponseBody, TimedSocket};
use crate::telemetry::metrics::Metrics;

/// Maximum length of a request head, bytes: a token of 8 KB, and as much again. A longer one is answered with 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Maximum header fields of a request. Browsers send about twenty, and proxies add a few.
const HEADERS_MAX: usize = 64;
/// Pause after a failed accept, for example when the process has run out of file descriptors. Without it the loop would
/// spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Minimum time between two log lines about failed accepts.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Pause between two attempts to close a waiting connection while all places are taken.
const EVICT_EVERY: Duration = Duration::from_millis(100);
/// Idle time of a connection after which the kernel asks whether its client still exists.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// Time between two such questions.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// Questions without an answer after which a connection is closed.
const KEEPALIVE_TRIES: u32 = 3;
/// Time after which a connection whose client acknowledges nothing is closed, ms: longer than a short tunnel.
const UNACKNOWLEDGED_MAX_MS: u32 = 60_000;

/// A listener's limits and where it counts.
#[derive(Clone)]
pub struct Setup {
    pub bounds: Bounds,
    pub metrics: Arc<Metrics>,
    /// Name of the listener in metrics and logs.
    pub name: &'static str,
}

/// Serves until `end`; then accepts no more connections, finishes the requests in flight and closes idle connections.
/// The caller limits how long that may take.
pub async fn serve(listener: TcpListener, router: Router, setup: Setup, end: CancellationToken) {
    let places = Arc::new(Semaphore::new(setup.bounds.connections));
    let known = Arc::new(Connections::default());
    let mut failures = AcceptFailures::default();
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let accepted = listener.accept().await;
            let place = if accepted.is_ok() { free_place(&places, &known, &setup).await } else { None };
            (accepted, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            () = end.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let client = Client { connection: known.open(), peer, bounds: setup.bounds };
                let (router, end) = (router.clone(), end.clone());
                connections.spawn(async move {
                    client.serve(stream, router, end).await;
                    drop(place);
                });
            }
            Err(error) => {
                failures.count(&error, &setup);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits for a place and closes waiting connections until there is one.
async fn free_place(places: &Arc<Semaphore>, known: &Connections, setup: &Setup) -> Option<OwnedSemaphorePermit> {
    loop {
        if places.available_permits() == 0 && known.evict() {
            setup.metrics.http_connection_evicted(setup.name);
        }
        // Fails only when the semaphore is closed, which it never is.
        if let Ok(place) = tokio::time::timeout(EVICT_EVERY, Arc::clone(places).acquire_owned()).await {
            return place.ok();
        }
    }
}

/// Failed accepts since the last log line.
#[derive(Default)]
struct AcceptFailures {
    unlogged: u64,
    logged: Option<Instant>,
}

impl AcceptFailures {
    fn count(&mut self, error: &io::Error, setup: &Setup) {
        setup.metrics.http_accept_failed(setup.name);
        self.unlogged += 1;
        if self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            let (listener, failures) = (setup.name, self.unlogged);
            tracing::warn!(%error, listener, failures, "cannot accept connections; clients wait until this passes");
            *self = Self { unlogged: 0, logged: Some(Instant::now()) };
        }
    }
}

/// An accepted connection.
struct Client {
    connection: Arc<Connection>,
    peer: SocketAddr,
    bounds: Bounds,
}

impl Client {
    async fn serve(self, stream: TcpStream, router: Router, end: CancellationToken) {
        set_options(&stream);
        let Self { connection: client, peer, bounds } = self;
        let (begun, ended) = (Arc::clone(&client), Arc::clone(&client));
        let service = router
            .map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
                begun.begin_request();
                request.extensions_mut().insert(ConnectInfo(peer));
                request.map(Body::new)
            })
            .map_response(move |response| {
                let mut response = response.map(|body| ResponseBody::new(body, Arc::clone(&ended)));
                if ended.must_close() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            });
        let socket = TimedSocket::new(stream, Arc::clone(&client), bounds);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // `TimedSocket` limits the time of a head.
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
        let mut connection = pin!(connection);
        // Connection errors are the client's doing, so they are not logged.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = end.cancelled() => {},
            // A request may have arrived in the meantime.
            () = client.evicted() => if !client.is_busy() { return },
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Sets the options of a socket. A failure costs only what the option is for.
fn set_options(stream: &TcpStream) {
    // Responses are small: Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    // A client that vanishes without a word, as phones do, would keep its place for hours.
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY);
    let _ = sockopt::set_tcp_keepcnt(stream, KEEPALIVE_TRIES);
    #[cfg(target_os = "linux")]
    let _ = sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MAX_MS);
}
