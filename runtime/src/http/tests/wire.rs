//! The public listener over real connections, which the limits of connections need.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dispatch_api::worker_config::{LimitsConfig, RateConfig};
use dispatch_http_types::Notification;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Who, World, access, wide_limits};
use crate::http::listener::{Bounds, Setup, serve};
use crate::http::{Admission, HttpRole, router};
use crate::ports::{EventStreams, Person, PortError};

pub(super) struct Server {
    pub address: SocketAddr,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(world: &World, bounds: Bounds) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, end) = (listener.local_addr().unwrap(), CancellationToken::new());
        let routes = router(world.state.clone(), &HttpRole::ALL.into());
        let setup = Setup { bounds, metrics: Arc::clone(&world.state.engine.metrics), name: "http" };
        let task = tokio::spawn(serve(listener, routes, setup, end.clone()));
        Self { address, end, task }
    }

    /// Sends bytes and reads until the connection ends.
    pub(super) async fn talk(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }
}

pub(super) async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) fn get(path: &str, more: &str) -> String {
    let token = Who::new(path, "", &serde_json::Value::Null).token();
    format!("GET {path} HTTP/1.1\r\nhost: dispatch\r\nconnection: close\r\nauthorization: Bearer {token}\r\n{more}\r\n")
}

pub(super) fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}

/// Event streams that block until `go`, and count the waiting callers.
pub(super) struct Slow {
    pub waiting: AtomicUsize,
    pub most: AtomicUsize,
    pub go: watch::Receiver<bool>,
}

#[async_trait]
impl EventStreams for Slow {
    async fn send(&self, _: &Notification) -> Result<(), PortError> {
        Ok(())
    }

    async fn listen(&self, _: &Person) -> Result<mpsc::Receiver<Notification>, PortError> {
        let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(waiting, Ordering::SeqCst);
        let _ = self.go.clone().wait_for(|go| *go).await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Err(PortError::Unavailable { action: "listening", source: "over".into() })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_flight_requests_never_exceed_the_cap_over_all_routes() {
    const CAP: usize = 16;
    let (go, going) = watch::channel(false);
    let slow = Arc::new(Slow { waiting: AtomicUsize::new(0), most: AtomicUsize::new(0), go: going });
    let streams = slow.clone();
    let mut world = World::with(|ports| ports.streams = streams);
    world.state.admission = Admission::new(CAP);
    let server = Arc::new(Server::start(&world, Bounds::default()).await);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..10 * CAP {
        let server = server.clone();
        // Two kinds of callers take turns: all of them share the cap.
        let path = if n % 2 == 0 { "/v1/events?driver=00001" } else { "/v1/events?user=00001" };
        let who = if n % 2 == 0 { Who::Driver("00001".to_owned()) } else { Who::User("00001".to_owned()) };
        let token = who.token();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: d\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n");
        calls.spawn(async move { server.talk(&request).await });
    }
    // Requests beyond the cap are rejected at once; the others wait for `go`.
    let mut shed = 0;
    while shed < 9 * CAP {
        let answer = calls.join_next().await.unwrap().unwrap();
        assert_eq!(status(&answer), "503");
        assert!(answer.to_ascii_lowercase().contains("retry-after: 2"), "{answer}");
        shed += 1;
    }
    assert_eq!(slow.most.load(Ordering::SeqCst), CAP);
    assert_eq!(status(&server.talk(&get("/v1/users/00001", "")).await), "503", "other routes share the cap");
    go.send_replace(true);
    while let Some(answer) = calls.join_next().await {
        assert!(answer.unwrap().contains("unavailable"));
    }
    assert_eq!(slow.most.load(Ordering::SeqCst), CAP);
    assert_eq!(status(&server.talk(&get("/v1/users/00001", "")).await), "404", "permits are returned");
}

#[tokio::test]
async fn request_heads_are_limited() {
    let world = World::new();
    let server = Server::start(&world, Bounds::default()).await;
    assert_eq!(status(&server.talk(&get("/v1/users/00001", "")).await), "404");
    let long = format!("x-long: {}\r\n", "x".repeat(20_000));
    assert_eq!(status(&server.talk(&get("/v1/users/00001", &long)).await), "431");
    let many = "x-more: 1\r\n".repeat(80);
    assert_eq!(status(&server.talk(&get("/v1/users/00001", &many)).await), "431");
    assert!(matches!(status(&server.talk("nonsense\r\n\r\n").await), "400" | "nothing"));
}

#[tokio::test]
async fn a_request_names_its_host_exactly_once() {
    let world = World::new();
    let server = Server::start(&world, Bounds::default()).await;
    let token = Who::User("00001".to_owned()).token();
    let answer = async |version: &str, hosts: &str| {
        let end = format!("connection: close\r\nauthorization: Bearer {token}\r\n\r\n");
        server.talk(&format!("GET /v1/users/00001 HTTP/{version}\r\n{hosts}{end}")).await
    };
    for (version, hosts) in [
        ("1.1", "host: dispatch\r\n"),
        ("1.1", "host: dispatch.example.com:8080\r\n"),
        ("1.1", "host: [2001:db8::1]:8080\r\n"),
        ("1.1", "host:\r\n"),
        ("1.0", ""),
        ("1.0", "host: dispatch\r\n"),
    ] {
        assert_eq!(status(&answer(version, hosts).await), "404", "{version} {hosts:?}");
    }
    for (version, hosts) in [
        ("1.1", ""),
        ("1.1", "host: dispatch\r\nhost: dispatch\r\n"),
        ("1.1", "host: a\r\nHOST: b\r\n"),
        ("1.0", "host: a\r\nhost: b\r\n"),
        ("1.1", "host: a b\r\n"),
        ("1.1", "host: a/b\r\n"),
        ("1.1", "host: user@a\r\n"),
        ("1.1", "host: a:b:c\r\n"),
        ("1.1", "host: \u{e9}\r\n"),
    ] {
        let refused = answer(version, hosts).await;
        assert_eq!(status(&refused), "400", "{version} {hosts:?}");
        assert!(refused.contains("invalid-host"), "{refused}");
    }
}

#[tokio::test]
async fn endless_heads_and_idle_connections_are_closed() {
    let world = World::new();
    let soon = Duration::from_millis(200);
    let bounds = Bounds { head_within: soon, idle_within: soon, ..Bounds::default() };
    let server = Server::start(&world, bounds).await;
    let begun = Instant::now();
    let answer = server.talk("GET /v1/users/00001 HTTP/1.1\r\nhost: d\r\nx-slow: ").await;
    assert!(!answer.contains("200"), "{answer}");
    let token = Who::User("00001".to_owned()).token();
    let resting = format!("GET /v1/users/00001 HTTP/1.1\r\nhost: d\r\nauthorization: Bearer {token}\r\n\r\n");
    assert_eq!(status(&server.talk(&resting).await), "404", "answered first, closed after the idle time");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// Whether the peer has closed a connection without an answer.
pub(super) async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(stream.read(&mut byte).await, Ok(0) | Err(_))
}

/// A request whose connection stays open.
pub(super) fn resting(path: &str) -> String {
    get(path, "").replace("connection: close\r\n", "")
}

/// Sends a request and waits for the beginning of its answer.
pub(super) async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn a_head_has_its_own_time_and_an_idle_connection_has_more() {
    let world = World::new();
    let bounds = Bounds { head_within: Duration::from_millis(400), ..Bounds::default() };
    let server = Server::start(&world, bounds).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    let request = resting("/v1/users/00001");
    assert_eq!(status(&ask(&mut slow, &request).await), "404");
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(status(&ask(&mut slow, &request).await), "404", "idle for longer than a head may take");
    // Byte by byte: each of them in time, the whole head not.
    let (mut sent, begun) = (0, Instant::now());
    for byte in request.bytes() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if slow.write_all(&[byte]).await.is_err() || begun.elapsed() > Duration::from_secs(3) {
            break;
        }
        sent += 1;
    }
    assert!(sent < request.len() && begun.elapsed() < Duration::from_secs(3), "{sent} bytes, {:?}", begun.elapsed());
    // A new connection is there for a request at once.
    let begun = Instant::now();
    for first in ["", "GET /v1/users/00001 HTTP/1.1\r\n"] {
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        silent.write_all(first.as_bytes()).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(10), is_closed(&mut silent)).await.unwrap(), "{first}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn connections_that_wait_for_a_head_make_room_for_others() {
    let world = World::new();
    let server = Server::start(&world, Bounds { connections: 3, ..Bounds::default() }).await;
    let request = resting("/v1/users/00001");
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(status(&ask(&mut idle, &request).await), "404");
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"GET /v1/users/00001 HTTP/1.1\r\n").await.unwrap();
    let mut stayed = Vec::new();
    for closed in [&mut silent, &mut half, &mut idle] {
        let mut next = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(status(&ask(&mut next, &request).await), "404", "served in the place of another one");
        assert!(tokio::time::timeout(Duration::from_secs(5), is_closed(closed)).await.unwrap());
        stayed.push(next);
    }
    let text = world.state.engine.metrics.encode().unwrap();
    assert!(text.contains("dispatch_http_connections_evicted_total{listener=\"http\"} 3"), "{text}");
    for mut next in stayed {
        assert_eq!(status(&ask(&mut next, &request).await), "404");
    }
}

#[tokio::test]
async fn a_connection_with_a_request_makes_no_room() {
    let (go, going) = watch::channel(false);
    let slow = Arc::new(Slow { waiting: AtomicUsize::new(0), most: AtomicUsize::new(0), go: going });
    let streams = slow.clone();
    let world = World::with(|ports| ports.streams = streams);
    let server = Server::start(&world, Bounds { connections: 1, ..Bounds::default() }).await;
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    let token = Who::Driver("00001".to_owned()).token();
    let stream = format!("GET /v1/events?driver=00001 HTTP/1.1\r\nhost: d\r\nauthorization: Bearer {token}\r\n\r\n");
    busy.write_all(stream.as_bytes()).await.unwrap();
    let request = get("/v1/users/00001", "");
    let second = server.talk(&request);
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(1500), &mut second).await.is_err(), "served beyond the limit");
    go.send_replace(true);
    assert_eq!(status(&read_all(&mut busy).await), "503", "the request was answered");
    assert_eq!(status(&second.await), "404");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let world = World::new();
    let server = Server::start(&world, Bounds { connections: 1, ..Bounds::default() }).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    let request = get("/v1/users/00001", "");
    let second = server.talk(&request);
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut second).await.is_err(), "served beyond the limit");
    drop(first);
    assert_eq!(status(&second.await), "404");
}

#[tokio::test]
async fn shutdown_waits_for_requests_in_flight_and_accepts_no_connections() {
    let (go, going) = watch::channel(false);
    let slow = Arc::new(Slow { waiting: AtomicUsize::new(0), most: AtomicUsize::new(0), go: going });
    let streams = slow.clone();
    let world = World::with(|ports| ports.streams = streams);
    let server = Server::start(&world, Bounds::default()).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    let mut flying = TcpStream::connect(server.address).await.unwrap();
    let token = Who::Driver("00001".to_owned()).token();
    let request = format!("GET /v1/events?driver=00001 HTTP/1.1\r\nhost: d\r\nauthorization: Bearer {token}\r\n\r\n");
    flying.write_all(request.as_bytes()).await.unwrap();
    while slow.waiting.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    server.end.cancel();
    let refused = async {
        loop {
            let Ok(mut late) = TcpStream::connect(server.address).await else { return };
            // The kernel may accept a connection before the listener closes, which then drops it.
            let mut byte = [0];
            if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(Duration::from_millis(100), late.read(&mut byte)).await {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.expect("new connections are refused");
    assert!(!server.task.is_finished());
    go.send_replace(true);
    assert_eq!(status(&read_all(&mut flying).await), "503", "the request in flight is answered");
    tokio::time::timeout(Duration::from_secs(10), server.task).await.expect("it ends").unwrap();
    drop(idle);
}

#[tokio::test]
async fn addresses_and_subjects_are_rate_limited() {
    let rate = |burst| RateConfig { per_second: 1, burst };
    let limits = LimitsConfig { per_subject: rate(3), per_address: rate(8), ..wide_limits() };
    let mut world = World::new();
    world.state.access = access(&limits);
    let server = Server::start(&world, Bounds::default()).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(server.talk(&get("/v1/users/00001", "")).await);
    }
    let statuses: Vec<&str> = answers.iter().map(|answer| status(answer)).collect();
    assert_eq!(statuses, ["404", "404", "404", "429"]);
    assert!(answers[3].to_ascii_lowercase().contains("retry-after: 1"), "{}", answers[3]);
    assert_eq!(status(&server.talk(&get("/v1/users/00002", "")).await), "404", "another subject has its own rate");
    // Requests without a valid token count against the address.
    let mut last = String::new();
    for _ in 0..6 {
        last = server.talk("GET /v1/users/00001 HTTP/1.1\r\nhost: d\r\nconnection: close\r\n\r\n").await;
    }
    assert_eq!(status(&last), "429");
    assert!(last.contains("too-many-requests") && last.to_ascii_lowercase().contains("x-request-id"), "{last}");
}
