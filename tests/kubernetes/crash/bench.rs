//! One namespace of a real API server and in-memory AWS accounts: starts operators on them, kills them, and drives them
//! until nothing is left to do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use dispatch_api::annotations::ADOPTIONS;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::cloud::ports::Ports;
use dispatch_operator::engine::plan::workers::WorkerClients;
use dispatch_operator::engine::settings::WaitPolicy;
use dispatch_operator::kubernetes::context::{Context, Objects, Options};
use dispatch_operator::kubernetes::controller::attend;
use dispatch_operator::kubernetes::infra::client_pool::ClientPool;
use dispatch_operator::kubernetes::infra::cluster::Cluster;
use dispatch_operator::kubernetes::infra::event_recorder::EventRecorder;
use dispatch_operator::kubernetes::infra::fence::Fence;
use dispatch_operator::kubernetes::infra::metrics::Metrics;
use dispatch_operator::kubernetes::infra::throttled::{RateLimiter, Throttle, throttled};
use dispatch_operator::kubernetes::object::Key;
use dispatch_operator::kubernetes::policy::access::ExternalIds;
use dispatch_operator::kubernetes::policy::requeue::RequeuePolicy;
use dispatch_operator::kubernetes::policy::restrictions::Restrictions;
use dispatch_operator::kubernetes::policy::tenancy::Defaults;
use dispatch_operator::testing::World;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use super::fault::{Point, Tally, Wire};

/// Name of every system.
pub(super) const NAME: &str = "seoul";
/// An operator that requeues after this time or more has nothing to do: running operations and failures requeue sooner.
const REST: Duration = Duration::from_secs(15);
/// Maximum number of reconciles of one operator. The longest undisturbed run takes about ten.
const RECONCILES_MAX: usize = 40;

/// How an operator ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It has nothing to do.
    AtRest,
    /// It was killed.
    Killed,
}

/// A namespace.
pub(super) struct Bench {
    /// Client of everyone but the operator.
    pub client: Client,
    pub namespace: String,
}

/// State of one run.
#[derive(Clone, Default)]
pub(super) struct Run {
    /// The AWS account.
    pub world: World,
    /// Creations and deletions.
    pub tally: Tally,
    /// Whether the run only prepares another one: it publishes no events and waits for operations.
    pub prepares: bool,
}

impl Bench {
    /// Creates the namespace.
    pub(super) async fn open(kubeconfig: &Path, namespace: String) -> anyhow::Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let all: Api<Namespace> = Api::all(client.clone());
        // The consent of an administrator to the adoption of one scenario.
        let consent = json!({ ADOPTIONS: format!("{NAME}={namespace}/{NAME}") });
        let made = serde_json::from_value(json!({ "metadata": { "name": namespace, "annotations": consent } }))?;
        all.create(&PostParams::default(), &made).await?;
        Ok(Self { client, namespace })
    }

    /// Runs one operator with a fault at a call, and returns how it ended and its calls.
    pub(super) async fn operate(
        &self,
        run: &Run,
        strike: Option<(usize, Point)>,
    ) -> anyhow::Result<(Ended, Vec<String>)> {
        self.operate_on(Wire::new(strike, run.tally.clone()), run).await
    }

    /// Runs one operator on a wire.
    pub(super) async fn operate_on(&self, wire: Wire, run: &Run) -> anyhow::Result<(Ended, Vec<String>)> {
        wire.carry(&run.world);
        let (context, key) = (self.operator(run, &wire), self.key());
        let mut reconciles = 0;
        loop {
            let next = tokio::select! {
                biased;
                () = wire.dead().cancelled() => {
                    // Deployments roll out without the operator.
                    self.play(run).await?;
                    return Ok((Ended::Killed, wire.calls()));
                }
                next = attend(&context, &key) => next,
            };
            let moved = self.play(run).await?;
            if !moved && next.is_none_or(|next| next >= REST) {
                return Ok((Ended::AtRest, wire.calls()));
            }
            reconciles += 1;
            if reconciles >= RECONCILES_MAX {
                bail!("not at rest after {reconciles} reconciles: {}", wire.calls().join(", "));
            }
        }
    }

    /// Runs one reconcile of a new operator and returns its writes.
    pub(super) async fn idle(&self, run: &Run) -> Vec<String> {
        run.tally.take_writes();
        run.world.take_calls();
        let wire = Wire::new(None, run.tally.clone());
        wire.carry(&run.world);
        attend(&self.operator(run, &wire), &self.key()).await;
        let mut writes = run.tally.take_writes();
        writes.extend(run.world.take_calls().1.into_iter().map(str::to_owned));
        writes
    }

    /// A new operator process, without any cached state.
    pub(super) fn operator(&self, run: &Run, wire: &Wire) -> Arc<Context> {
        let client = wire.client(&self.client);
        let (metrics, fence) = (Arc::new(Metrics::new()), Fence::open());
        let guard = Throttle {
            fence: fence.clone(),
            rate: Arc::new(RateLimiter::per_second(u32::MAX)),
            metrics: Arc::clone(&metrics),
        };
        let events = if run.prepares { Fence::closed() } else { Fence::open() };
        Arc::new(Context {
            cluster: Cluster::new(client.clone(), fence, Arc::clone(&metrics)),
            aws: Arc::new(Account(throttled(&run.world.ports(), &guard))),
            recorder: EventRecorder::new(client, "campaign", events, Arc::clone(&metrics)),
            metrics,
            options: options(run.prepares),
            clock: now,
            objects: Objects::new(20),
        })
    }

    /// Key of the system.
    pub(super) fn key(&self) -> Key {
        (self.namespace.clone(), NAME.to_owned())
    }
}

/// Each reconcile polls a running operation once and does not wait for it, as with an operation that takes minutes.
fn options(patient: bool) -> Options {
    let total = if patient { Duration::from_mins(1) } else { Duration::ZERO };
    let within = WaitPolicy { first: Duration::ZERO, longest: Duration::ZERO, total };
    Options {
        image: "registry.example/dispatch-runtime:1".to_owned(),
        endpoint_url: None,
        resync: Duration::from_mins(5),
        spread: Duration::ZERO,
        requeue: RequeuePolicy { within, between: (Duration::ZERO, Duration::ZERO) },
        defaults: Defaults::default(),
        restrictions: Restrictions::default(),
        external_ids: ExternalIds::Spec,
        clients: WorkerClients::default(),
    }
}

#[expect(clippy::disallowed_methods, reason = "deletion timestamps come from the API server's clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

struct Account(Ports);

impl ClientPool for Account {
    fn ports<'a>(&'a self, _: &'a ValidatedSystem) -> BoxFuture<'a, Ports> {
        Box::pin(async { self.0.clone() })
    }
}
