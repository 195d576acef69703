//! The public listener. Its limits on connections are enforced by hyper, before any handler sees a request.

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

/// Maximum open connections: one for each event stream, and several thousand that are idle between requests.
const CONNECTIONS_MAX: usize = 16_000;
/// Maximum length of a request head, bytes: a token of 8 KB, and as much again. A longer one is answered with 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Maximum header fields of a request. Browsers send about twenty, and proxies add a few.
const HEADERS_MAX: usize = 64;
/// Maximum time to receive a request head, which includes the idle time between two requests. It is longer than the 60
/// s idle timeout of a load balancer, which must not send a request on a connection that is being closed here.
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// Pause after a failed accept, for example when the process has run out of file descriptors. Without it the loop would
/// spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Maximum open connections; further ones wait to be accepted.
    pub connections: usize,
    /// Maximum time to receive a request head.
    pub head_within: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, head_within: HEAD_WITHIN }
    }
}

/// Serves until `end`; then accepts no more connections, finishes the requests in flight and closes idle connections.
/// The caller limits how long that may take.
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
    // Responses are small: Nagle's algorithm would only delay them.
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
    // Connection errors are the client's doing, so they are not logged.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = end.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
