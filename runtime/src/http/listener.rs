//! The public listener: connections with bounds of their own, which hyper keeps before any of our code sees a request.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Connections at once: every event stream has one, and some thousands more wait between two requests.
const CONNECTIONS_MAX: usize = 16_000;
/// Longest head of a request, bytes: a token of 8 KB, and as much again. Longer ones are answered 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of a request; browsers send some twenty, proxies add a few.
const HEADERS_MAX: usize = 64;
/// Longest time for a head, and longest rest between two requests. Load balancers rest for 60 s and then must not find a
/// connection that we closed at that moment.
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// Pause after a failed accept, as when the process has no file descriptor left: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Longest time for the head of a request.
    pub head_within: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, head_within: HEAD_WITHIN }
    }
}

/// Serves until `end`; then takes no more connections, finishes what is in flight and closes the rest. The caller decides how
/// long that may take.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, end: CancellationToken) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        let next = async { (Arc::clone(&places).acquire_owned().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = end.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, end) = (router.clone(), end.clone());
        connections.spawn(async move {
            connection(stream, peer, router, (bounds, end)).await;
            drop(place);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, (bounds, end): (Bounds, CancellationToken)) {
    // Answers are small: waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.map(axum::body::Body::new)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_within)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    // What a client breaks is its own affair: nothing to log, nothing to tell.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = end.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
