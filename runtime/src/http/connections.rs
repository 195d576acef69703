//! The open connections of a listener: how long each may wait for the head of a request, and which one is closed when
//! another client needs its place.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::head_scanner::HeadScanner;

/// Maximum open connections: one for each event stream, and several thousand that are idle between requests.
const CONNECTIONS_MAX: usize = 16_000;
/// Maximum time to receive a request head. A new connection counts from its acceptance, because clients connect to send
/// a request at once.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Maximum idle time between two requests. It is longer than the 60 s idle timeout of a load balancer, which must not
/// send a request on a connection that is being closed here.
const IDLE_WITHIN: Duration = Duration::from_secs(75);
/// Minimum time that a connection may wait for a head before it can be closed for another client: a phone on a slow
/// network needs less for its first request.
const EVICTABLE_AFTER: Duration = Duration::from_millis(500);

/// The limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Maximum open connections. For further ones, those that have waited longest for a head are closed; without any,
    /// the new ones wait to be accepted.
    pub connections: usize,
    /// Maximum time to receive a request head.
    pub head_within: Duration,
    /// Maximum idle time between two requests.
    pub idle_within: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, head_within: HEAD_WITHIN, idle_within: IDLE_WITHIN }
    }
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It has not yet sent the head of its first request, or has begun the head of another one.
    Head,
    /// It rests between two requests.
    Idle,
    /// A request is being served.
    Busy,
}

/// The connections of a listener that wait for a head.
#[derive(Default)]
pub(super) struct Connections(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    last_number: u64,
    /// Connections by phase and, within it, by how long they have waited: the longest first.
    waiting: BTreeMap<(Phase, u64), (Instant, Arc<Notify>)>,
}

impl Waiting {
    fn add(&mut self, phase: Phase, since: Instant, closed: &Arc<Notify>) -> (Phase, u64) {
        self.last_number += 1;
        let key = (phase, self.last_number);
        if phase != Phase::Busy {
            self.waiting.insert(key, (since, Arc::clone(closed)));
        }
        key
    }
}

impl Connections {
    /// Registers a new connection.
    pub(super) fn open(self: &Arc<Self>) -> Arc<Connection> {
        let (closed, since) = (Arc::new(Notify::new()), Instant::now());
        let key = self.0.lock().add(Phase::Head, since, &closed);
        let state = State { key, since, heads: HeadScanner::default() };
        Arc::new(Connection { all: Arc::clone(self), closed, state: Mutex::new(state) })
    }

    /// Closes the connection that has waited longest for the rest of a head or, if there is none, for a next request;
    /// returns whether there is one.
    pub(super) fn evict(&self) -> bool {
        let mut all = self.0.lock();
        let found = [Phase::Head, Phase::Idle].into_iter().find_map(|phase| {
            let (key, (since, _)) = all.waiting.range((phase, 0)..=(phase, u64::MAX)).next()?;
            (since.elapsed() >= EVICTABLE_AFTER).then_some(*key)
        });
        let evicted = found.and_then(|key| all.waiting.remove(&key));
        if let Some((_, closed)) = &evicted {
            closed.notify_one();
        }
        evicted.is_some()
    }
}

/// One connection.
pub(super) struct Connection {
    all: Arc<Connections>,
    closed: Arc<Notify>,
    state: Mutex<State>,
}

struct State {
    key: (Phase, u64),
    /// Start of the phase.
    since: Instant,
    heads: HeadScanner,
}

impl Connection {
    /// Returns when the connection is to be closed for another client.
    pub(super) async fn evicted(&self) {
        self.closed.notified().await;
    }

    /// Whether a request is being served.
    pub(super) fn is_busy(&self) -> bool {
        self.state.lock().key.0 == Phase::Busy
    }

    /// The head of a request is complete.
    pub(super) fn begin_request(&self) {
        self.enter(&mut self.state.lock(), Phase::Busy);
    }

    /// Whether the beginning of the next request cannot be found. The connection then ends with the response.
    pub(super) fn must_close(&self) -> bool {
        self.state.lock().heads.is_lost()
    }

    /// The response is complete. The head of the next request may have begun already.
    fn end_request(&self) {
        let mut state = self.state.lock();
        let next = if state.heads.is_in_head() { Phase::Head } else { Phase::Idle };
        self.enter(&mut state, next);
    }

    fn enter(&self, state: &mut State, phase: Phase) {
        let mut all = self.all.0.lock();
        all.waiting.remove(&state.key);
        state.since = Instant::now();
        state.key = all.add(phase, state.since, &self.closed);
    }

    /// Notes received bytes: those of an idle connection begin a head.
    fn received(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.heads.feed(bytes);
        if state.key.0 == Phase::Idle {
            self.enter(&mut state, Phase::Head);
        }
    }

    /// When the connection is closed if nothing arrives; `None` while a request is being served.
    fn deadline(&self, bounds: &Bounds) -> Option<Instant> {
        let state = self.state.lock();
        match state.key.0 {
            Phase::Head => Some(state.since + bounds.head_within),
            Phase::Idle => Some(state.since + bounds.idle_within),
            Phase::Busy => None,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let key = self.state.lock().key;
        self.all.0.lock().waiting.remove(&key);
    }
}

/// The socket of a connection. Reading fails when the connection has waited too long for a head: hyper has one limit
/// for the idle time and the head together, so a client could send its head byte by byte for as long as a connection
/// may be idle.
pub(super) struct TimedSocket {
    socket: TcpStream,
    connection: Arc<Connection>,
    bounds: Bounds,
    deadline: Pin<Box<Sleep>>,
}

impl TimedSocket {
    pub(super) fn new(socket: TcpStream, connection: Arc<Connection>, bounds: Bounds) -> Self {
        let deadline = Box::pin(tokio::time::sleep(bounds.head_within));
        Self { socket, connection, bounds, deadline }
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(deadline) = self.connection.deadline(&self.bounds) else { return Poll::Pending };
        if self.deadline.deadline() != deadline {
            self.deadline.as_mut().reset(deadline);
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.connection.received(&buffer.filled()[before..]);
        }
        if polled.is_pending() { self.poll_deadline(context) } else { polled }
    }
}

impl AsyncWrite for TimedSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// The body of a response. When it has been sent, its connection is idle.
pub(super) struct ResponseBody {
    body: Body,
    connection: Arc<Connection>,
}

impl ResponseBody {
    pub(super) fn new(body: Body, connection: Arc<Connection>) -> Self {
        Self { body, connection }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.connection.end_request();
    }
}
