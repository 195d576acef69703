//! A recording HTTP proxy: it records every call it forwards, and can interfere with calls as the test chooses.
//!
//! It runs in front of an AWS emulator or an API server. Each observed client gets its own recorder, so that calls can
//! be attributed to clients. Bodies are forwarded but not stored, because they may contain secrets.

mod names;

use parking_lot::Mutex;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use names::Subject;

/// Maximum request size. A CloudFormation template or a Kubernetes object has at most a megabyte.
const REQUEST_MAX: usize = 8 << 20;
/// Timeout until the upstream server begins its response.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// Whether a call can change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It only reads.
    Reads,
    /// It can change something.
    Writes,
}

/// A recorded call.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Index among the calls of this recorder, from 0; [`Recorder::clear`] resets it.
    pub number: usize,
    /// AWS service such as `cloudformation`; for Kubernetes the resource, such as `deployments` or
    /// `dispatchsystems/status`.
    pub service: String,
    /// AWS operation such as `DescribeStacks`; for Kubernetes the verb, such as `list` or `patch`.
    pub operation: String,
    /// Whether it reads or writes.
    pub effect: Effect,
    /// Path without the query; for Kubernetes it names the object.
    pub path: String,
    /// Table, queue URL or topic that a JSON request to AWS names; empty if it names none.
    pub resource: String,
    /// Partition key of the item in a request to DynamoDB, of the first one in a transaction: all attempts of a request
    /// share it. Empty for other requests.
    pub item: String,
    /// Time of arrival.
    pub begun: Instant,
    /// Time when its response began or the connection was cut; `None` while it is in progress or held.
    pub ended: Option<Instant>,
    /// Status of the response, even if it did not reach the client; `None` if there was none.
    pub status: Option<u16>,
    /// Length of its body, if the server names it.
    pub answer_bytes: Option<u64>,
}

impl Recorded {
    /// Whether it can change something.
    pub fn writes(&self) -> bool {
        self.effect == Effect::Writes
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        write!(f, "{} {} {} {} {status}", self.number, self.service, self.operation, self.path)
    }
}

/// What the recorder does with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Forward it and return the response.
    Pass,
    /// Do not forward it, and return this response.
    Answer {
        /// HTTP status.
        status: u16,
        /// Content type of the body.
        kind: &'static str,
        /// Response body.
        body: String,
    },
    /// Do not forward it, and cut the connection.
    CutBefore,
    /// Forward it, and cut the connection instead of returning the response.
    CutAfter,
    /// Do not forward it, and do not respond until the client disconnects.
    HoldBefore,
    /// Forward it, and do not respond until the client disconnects.
    HoldAfter,
}

/// The server behind a recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// An AWS endpoint.
    Aws,
    /// A Kubernetes API server.
    Kubernetes,
}

type Rule = Arc<dyn Fn(&Recorded) -> Fate + Send + Sync>;

/// A running recorder. Its connections are cut on drop.
pub struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    kind: Upstream,
    upstream: String,
    client: reqwest::Client,
    calls: Mutex<Vec<Recorded>>,
    rule: Mutex<Option<Rule>>,
    /// Incremented with every change of `calls`.
    changed: watch::Sender<u64>,
    held: watch::Sender<usize>,
    alive: watch::Receiver<()>,
    life: Mutex<Option<watch::Sender<()>>>,
}

impl Recorder {
    /// Starts one in front of an AWS endpoint, such as an emulator's `http://127.0.0.1:…`.
    pub async fn aws(upstream: &str) -> anyhow::Result<Self> {
        Self::start(Upstream::Aws, upstream).await
    }

    /// Starts one in front of an API server, `https://127.0.0.1:…`, without verifying its certificate. The recorder
    /// itself serves plain HTTP.
    pub async fn kubernetes(upstream: &str) -> anyhow::Result<Self> {
        Self::start(Upstream::Kubernetes, upstream).await
    }

    async fn start(kind: Upstream, upstream: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        // The upstream is always on this machine, and redirects are returned to the client.
        let client = reqwest::Client::builder()
            .danger_accept_invalid_certs(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let (life, alive) = watch::channel(());
        let shared = Arc::new(Shared {
            kind,
            upstream: upstream.trim_end_matches('/').to_owned(),
            client,
            calls: Mutex::default(),
            rule: Mutex::default(),
            changed: watch::Sender::new(0),
            held: watch::Sender::new(0),
            alive,
            life: Mutex::new(Some(life)),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Address of the recorder, `http://127.0.0.1:…`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All calls since the start or [`Self::clear`], in order of arrival.
    pub fn calls(&self) -> Vec<Recorded> {
        self.shared.calls().clone()
    }

    /// The calls that can change something.
    pub fn writes(&self) -> Vec<Recorded> {
        self.shared.calls().iter().filter(|call| call.writes()).cloned().collect()
    }

    /// Drops all recorded calls, those in progress as well, and restarts the numbers at 0.
    pub fn clear(&self) {
        self.shared.calls().clear();
    }

    /// From now on `rule` decides what happens to each call.
    pub fn interfere(&self, rule: impl Fn(&Recorded) -> Fate + Send + Sync + 'static) {
        *self.shared.rule.lock() = Some(Arc::new(rule));
    }

    /// From now on every call is forwarded. Held calls stay held.
    pub fn stop_interfering(&self) {
        *self.shared.rule.lock() = None;
    }

    /// Waits until the calls satisfy a predicate.
    pub async fn until(&self, within: Duration, wanted: impl Fn(&[Recorded]) -> bool) -> anyhow::Result<()> {
        let mut changed = self.shared.changed.subscribe();
        let waiting = async {
            while !wanted(&self.shared.calls()) {
                changed.changed().await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(within, waiting).await.with_context(|| format!("not seen within {within:?}"))?
    }

    /// Waits until `count` calls have been held since the start.
    pub async fn until_held(&self, count: usize, within: Duration) -> anyhow::Result<()> {
        let mut held = self.shared.held.subscribe();
        let waiting = held.wait_for(|held| *held >= count);
        tokio::time::timeout(within, waiting)
            .await
            .with_context(|| format!("no call was held within {within:?}"))??;
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
        // Cuts every connection.
        self.shared.life.lock().take();
    }
}

impl Shared {
    fn calls(&self) -> parking_lot::MutexGuard<'_, Vec<Recorded>> {
        self.calls.lock()
    }

    fn record(&self, request: &Request<Body>, body: &Bytes) -> Recorded {
        let (service, operation) = match self.kind {
            Upstream::Aws => names::aws(request, body),
            Upstream::Kubernetes => names::kubernetes(request),
        };
        let effect = names::effect(self.kind, &operation);
        let Subject { resource, item } = names::subject(body);
        let mut calls = self.calls();
        let call = Recorded {
            number: calls.len(),
            service,
            operation,
            effect,
            path: request.uri().path().to_owned(),
            resource,
            item,
            begun: Instant::now(),
            ended: None,
            status: None,
            answer_bytes: None,
        };
        calls.push(call.clone());
        drop(calls);
        self.changed.send_modify(|changes| *changes += 1);
        call
    }

    fn ended(&self, of: &Recorded, status: Option<u16>) {
        if let Some(call) = self.calls().get_mut(of.number).filter(|call| call.begun == of.begun) {
            (call.ended, call.status) = (Some(Instant::now()), status);
        }
        self.changed.send_modify(|changes| *changes += 1);
    }

    fn measured(&self, of: &Recorded, answer: Option<&Response<Body>>) {
        let length =
            answer.and_then(|answer| answer.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok());
        if let Some(call) = self.calls().get_mut(of.number).filter(|call| call.begun == of.begun) {
            call.answer_bytes = length;
        }
    }

    fn fate(&self, call: &Recorded) -> Fate {
        let rule = self.rule.lock().clone();
        rule.map_or(Fate::Pass, |rule| rule(call))
    }
}

/// An error returned by the service makes hyper cut the connection without a response.
fn cut() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let mut alive = shared.alive.clone();
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error means that the client disconnected, or that the connection was cut on purpose.
        _ = serving => {}
        // The recorder was dropped.
        _ = alive.changed() => {}
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(Body::new(body), REQUEST_MAX).await else { return Err(cut()) };
    let request = Request::from_parts(parts, Body::empty());
    let call = shared.record(&request, &body);
    let hold = || async {
        shared.held.send_modify(|held| *held += 1);
        std::future::pending::<Infallible>().await
    };
    let fate = shared.fate(&call);
    match &fate {
        Fate::Answer { status, kind, body } => {
            shared.ended(&call, Some(*status));
            let answer = Response::builder().status(*status).header(header::CONTENT_TYPE, *kind);
            return answer.body(Body::from(body.clone())).map_err(|_| cut());
        }
        Fate::CutBefore => {
            shared.ended(&call, None);
            return Err(cut());
        }
        Fate::HoldBefore => match hold().await {},
        Fate::Pass | Fate::CutAfter | Fate::HoldAfter => {}
    }
    let answered = hand_on(&shared, request, body).await;
    shared.measured(&call, answered.as_ref().ok());
    let status = answered.as_ref().ok().map(|answer| answer.status().as_u16());
    match fate {
        Fate::HoldAfter => {
            // The effect has taken place once the whole response has arrived.
            if let Ok(answer) = answered {
                let _ = to_bytes(answer.into_body(), usize::MAX).await;
            }
            shared.ended(&call, status);
            match hold().await {}
        }
        Fate::CutAfter => {
            if let Ok(answer) = answered {
                let _ = to_bytes(answer.into_body(), usize::MAX).await;
            }
            shared.ended(&call, status);
            Err(cut())
        }
        _ => {
            shared.ended(&call, status);
            answered.map_err(|_| cut())
        }
    }
}

/// Forwards a request. The response is streamed, because a watch does not end.
async fn hand_on(shared: &Shared, request: Request<Body>, body: Bytes) -> anyhow::Result<Response<Body>> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut headers = request.headers().clone();
    drop_hop_by_hop(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    let sent = shared
        .client
        .request(request.method().clone(), format!("{}{target}", shared.upstream))
        .headers(headers)
        .body(body)
        .send();
    let answer = tokio::time::timeout(ANSWER_WITHIN, sent).await??;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        *headers = answer.headers().clone();
        drop_hop_by_hop(headers);
    }
    Ok(response.body(Body::from_stream(answer.bytes_stream()))?)
}

/// Removes hop-by-hop headers (RFC 9110, 7.6.1).
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::TE, header::TRAILER, header::UPGRADE] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::routing::post;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A server that counts its requests, and a recorder in front of it.
    async fn counted() -> (Arc<AtomicU32>, Recorder) {
        let count = Arc::new(AtomicU32::new(0));
        let counting = Arc::clone(&count);
        let reply = move || async move { (counting.fetch_add(1, Ordering::SeqCst) + 1).to_string() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let upstream = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(reply))).await });
        (count, Recorder::aws(&upstream).await.expect("a recorder"))
    }

    async fn call(recorder: &Recorder, action: &str) -> reqwest::Result<String> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        client.post(recorder.endpoint()).body(format!("Action={action}")).send().await?.text().await
    }

    #[tokio::test]
    async fn calls_are_forwarded_cut_or_answered_as_the_rule_says() {
        let (count, recorder) = counted().await;
        assert_eq!(call(&recorder, "CreateThing").await.ok().as_deref(), Some("1"));
        recorder.interfere(|call| match call.number {
            1 => Fate::CutBefore,
            2 => Fate::CutAfter,
            3 => Fate::Answer { status: 503, kind: "text/plain", body: "no".to_owned() },
            _ => Fate::Pass,
        });
        assert!(call(&recorder, "CreateThing").await.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert!(call(&recorder, "CreateThing").await.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert_eq!(call(&recorder, "DescribeThing").await.ok().as_deref(), Some("no"));
        assert_eq!(call(&recorder, "DescribeThing").await.ok().as_deref(), Some("3"));
        let seen: Vec<_> =
            recorder.calls().into_iter().map(|call| (call.operation, call.effect, call.status)).collect();
        let (create, describe) = ("CreateThing".to_owned(), "DescribeThing".to_owned());
        let wanted = [
            (create.clone(), Effect::Writes, Some(200)),
            (create.clone(), Effect::Writes, None),
            (create, Effect::Writes, Some(200)),
            (describe.clone(), Effect::Reads, Some(503)),
            (describe, Effect::Reads, Some(200)),
        ];
        assert_eq!(seen, wanted);
        assert_eq!(recorder.writes().len(), 3);
    }

    #[tokio::test]
    async fn a_call_is_held_before_or_after_its_effect() {
        let (count, recorder) = counted().await;
        recorder.interfere(|call| if call.number == 0 { Fate::HoldBefore } else { Fate::HoldAfter });
        for (held, effects) in [(1, 0), (2, 1)] {
            tokio::select! {
                answer = call(&recorder, "CreateThing") => panic!("answered with {answer:?}"),
                seen = recorder.until_held(held, SOON) => seen.expect("held"),
            }
            assert_eq!(count.load(Ordering::SeqCst), effects);
        }
        recorder.stop_interfering();
        assert_eq!(call(&recorder, "CreateThing").await.ok().as_deref(), Some("2"));
    }
}
