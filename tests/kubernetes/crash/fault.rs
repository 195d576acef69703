//! Injects one fault at one call of one operator: all calls of an operator, to the API server and to AWS, go over its
//! [`Wire`].

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use dispatch_operator::testing::{Fate, Judge, World};
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::disturbance::Disturbance;

/// Where the fault is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Point {
    /// The operator is killed before the call is sent.
    KilledBefore,
    /// The call takes effect, and the operator is killed before it receives the response.
    KilledAfter,
    /// The call takes effect, its response is lost, and the operator continues with an error.
    AnswerLost,
}

impl Point {
    /// All points.
    pub(super) const ALL: [Self; 3] = [Self::KilledBefore, Self::KilledAfter, Self::AnswerLost];

    /// Description in the report.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::KilledBefore => "killed before the effect",
            Self::KilledAfter => "killed after the effect",
            Self::AnswerLost => "effect, then an error",
        }
    }

    /// What happens to the operator.
    pub(super) fn disturbance(self) -> Disturbance {
        match self {
            Self::KilledBefore | Self::KilledAfter => Disturbance::Killed,
            Self::AnswerLost => Disturbance::Hindered,
        }
    }

    fn fate(self) -> Fate {
        match self {
            Self::KilledBefore => Fate::Lost,
            Self::KilledAfter => Fate::Unanswered,
            Self::AnswerLost => Fate::Broken,
        }
    }
}

/// Counts created and deleted objects by kind, and records the calls that can write. Shared by all operators of one
/// run.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(Arc<Mutex<Counts>>);

#[derive(Clone, Debug, Default)]
struct Counts {
    objects: BTreeMap<String, usize>,
    writes: Vec<String>,
    deployed: bool,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock()
    }

    /// Created and deleted objects so far.
    pub(super) fn objects(&self) -> BTreeMap<String, usize> {
        self.lock().objects.clone()
    }

    /// Calls to the API server that can write, since the last call of this function.
    pub(super) fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().writes)
    }

    /// Whether a Deployment was written since the last call of this function.
    pub(super) fn take_deployed(&self) -> bool {
        std::mem::take(&mut self.lock().deployed)
    }

    fn count(&self, call: &Named, status: StatusCode) {
        let mut counts = self.lock();
        counts.deployed |= call.method != Method::GET && call.resource == "deployments";
        let done = match call.method {
            _ if !status.is_success() => return,
            Method::POST | Method::PATCH if status == StatusCode::CREATED => "created",
            Method::DELETE => "deleted",
            _ => return,
        };
        *counts.objects.entry(format!("{} {done}", call.resource)).or_default() += 1;
    }
}

/// The connection of one operator to the API server and to AWS.
#[derive(Clone)]
pub(super) struct Wire {
    calls: Arc<Mutex<Vec<String>>>,
    strike: Option<(usize, Point)>,
    tally: Tally,
    dead: CancellationToken,
    past: Past,
}

/// Earlier responses of the API server, by path.
pub(super) type Past = BTreeMap<String, Vec<u8>>;

impl Wire {
    /// With a fault at the call of this index, or without a fault.
    pub(super) fn new(strike: Option<(usize, Point)>, tally: Tally) -> Self {
        Self { calls: Arc::default(), strike, tally, dead: CancellationToken::new(), past: Past::new() }
    }

    /// Without a fault, but the first read of every path in `past` gets the earlier response.
    pub(super) fn stale(past: Past, tally: Tally) -> Self {
        Self { past, ..Self::new(None, tally) }
    }

    /// Cancelled when the operator must be killed.
    pub(super) fn dead(&self) -> &CancellationToken {
        &self.dead
    }

    /// All calls, in order.
    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.lock().clone()
    }

    /// A Kubernetes client whose requests go over this wire.
    pub(super) fn client(&self, client: &Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let past = Arc::new(Mutex::new(self.past.clone()));
        Client::new(OnWire { client: client.clone(), wire: self.clone(), past }, namespace)
    }

    /// Routes the calls to an AWS account over this wire.
    pub(super) fn carry(&self, world: &World) {
        let wire = self.clone();
        let judge: Judge = Arc::new(move |call| {
            let fate = wire.send(&format!("aws {}", super::operations::operation(call)));
            // The account carries out the call before any other task on this thread runs.
            if matches!(fate, Fate::Lost | Fate::Unanswered) {
                wire.dead.cancel();
            }
            fate
        });
        world.judge(judge);
    }

    fn send(&self, call: &str) -> Fate {
        let mut calls = self.calls.lock();
        let index = calls.len();
        calls.push(call.to_owned());
        self.strike.filter(|(at, _)| *at == index).map_or(Fate::Answered, |(_, point)| point.fate())
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// An HTTP service whose requests go over a wire.
#[derive(Clone)]
struct OnWire {
    client: Client,
    wire: Wire,
    past: Arc<Mutex<Past>>,
}

impl Service<Request<Body>> for OnWire {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().carry(request))
    }
}

impl OnWire {
    async fn carry(self, request: Request<Body>) -> Result<Response<Body>, Error> {
        let Self { client, wire, past } = self;
        let named = Named::of(&request);
        if named.method == Method::GET {
            let then = past.lock().remove(request.uri().path());
            if let Some(body) = then {
                return Ok(Response::new(Body::from(body)));
            }
        }
        if named.method != Method::GET {
            wire.tally.lock().writes.push(named.to_string());
        }
        let fate = wire.send(&named.to_string());
        if fate == Fate::Lost {
            wire.dead.cancel();
            return std::future::pending().await;
        }
        let (head, body) = client.send(request).await?.into_parts();
        let body = body.collect_bytes().await?;
        wire.tally.count(&named, head.status);
        match fate {
            Fate::Unanswered => {
                wire.dead.cancel();
                std::future::pending().await
            }
            Fate::Broken => Err("the connection was reset".into()),
            _ => Ok(Response::from_parts(head, Body::from(body))),
        }
    }
}

/// A request with its verb and resource.
struct Named {
    method: Method,
    verb: &'static str,
    resource: String,
}

impl Named {
    fn of(request: &Request<Body>) -> Self {
        let parts: Vec<&str> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
        // After `namespaces/<namespace>`: the resource, a name, a subresource.
        let within = parts.iter().position(|part| *part == "namespaces").map_or(0, |at| at + 2);
        let of = |index: usize| parts.get(within + index).copied();
        let resource = [of(0), of(2)].into_iter().flatten().collect::<Vec<_>>().join("/");
        let kind = request.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let verb = match (request.method(), of(1)) {
            (&Method::GET, Some(_)) => "get",
            (&Method::GET, None) => "list",
            (&Method::POST, _) => "create",
            (&Method::DELETE, _) => "delete",
            _ if kind.is_some_and(|kind| kind.contains("apply-patch")) => "apply",
            _ => "patch",
        };
        Self { method: request.method().clone(), verb, resource }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "k8s {} {}", self.verb, self.resource)
    }
}
