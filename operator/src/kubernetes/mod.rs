//! The controller: watches `DispatchSystem` objects and does for each what `apply` does, plus its worker pool as Deployments.
//!
//! Pure decisions: [`requeue`] (when to come back), [`reconcile_cache`] (whether AWS is asked), [`retry`] (when failures are enough), [`tenancy`]
//! (what a namespace says), [`timing`] (how long things took), [`events`] (events), `plan::exports` (which export is due), [`election::decide`], [`controller`]'s predicate,
//! `plan::workers` (objects) and `status` (conditions). Clients: [`cluster`] for objects, [`client_pool`] for AWS, [`event_recorder`] for events,
//! [`election`] for the lease. Everything that writes asks the [`fence`] first.

pub mod context;
pub mod controller;
pub mod error;
pub mod events;
pub mod infra;
pub mod object;
pub mod policy;
pub mod reconcile;

use crate::kubernetes::infra::health_server;
use crate::kubernetes::policy::requeue;
use crate::kubernetes::policy::tenancy;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Client, Config};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use context::{Context, Objects, Options};
use controller::Scope;
use infra::client_pool::AwsClientPool;
use infra::cluster::{Cluster, ClusterError};
use infra::election::{Election, ElectionError};
use infra::event_recorder::EventRecorder;
use infra::fence::Fence;
use infra::health_server::Health;
use infra::metrics::Metrics;

/// Time for reconciles that are under way at the end. What is cut off is taken up by the next leader; the lease is to change hands within
/// five seconds.
const DRAIN_WITHIN: Duration = Duration::from_secs(4);
/// Time over which the first looks at systems in sync are spread after a start.
const SPREAD: Duration = Duration::from_mins(1);

/// Settings of the controller.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// One namespace, or all.
    pub watch_namespace: Option<String>,
    /// Objects reconciled at once.
    pub concurrency: u16,
    /// Time between two looks at a system in sync.
    pub resync: Duration,
    /// Address of `/livez`, `/readyz` and `/metrics`.
    pub metrics_address: SocketAddr,
    /// Election among replicas; `None` for an operator that runs alone.
    pub election: Option<ElectionOptions>,
    /// Image of the runtime where a manifest names none.
    pub runtime_image: String,
    /// Address that replaces AWS's own.
    pub endpoint_url: Option<String>,
    /// Bound of AWS calls a second for each region and role.
    pub aws_calls_per_second: u32,
    /// Stack operations that may run at once.
    pub stack_operations: u16,
    /// What counts where neither a spec nor its namespace says, and whether roles have to be allowed.
    pub defaults: tenancy::Defaults,
    /// Name of this replica, which no other process has.
    pub identity: String,
}

/// Where the lease is.
#[derive(Clone, Debug)]
pub struct ElectionOptions {
    /// Namespace; default that of the operator.
    pub namespace: Option<String>,
    /// Name.
    pub lease: String,
}

/// Why the controller ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// No cluster is configured.
    #[error("no cluster is configured: neither a service account nor a kubeconfig was found")]
    NoCluster(#[source] Box<kube::config::InferConfigError>),
    /// The cluster cannot be talked to.
    #[error("the client of the cluster cannot be made")]
    Client(#[source] Box<kube::Error>),
    /// The definition of the resource is not installed.
    #[error(
        "the cluster does not serve dispatchsystems.dispatch.coactus.io; install its definition first: dispatch-operator crd"
    )]
    NotInstalled,
    /// A call failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another replica leads.
    #[error("this replica leads no more")]
    Election(#[from] ElectionError),
}

/// Runs the controller until `stop`.
pub async fn run(options: RunOptions, stop: CancellationToken) -> Result<(), RunError> {
    let config = Config::infer().await.map_err(|error| RunError::NoCluster(Box::new(error)))?;
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|error| RunError::Client(Box::new(error)))?;
    let metrics = Arc::new(Metrics::new());
    let (ready, readable) = watch::channel(false);
    let address = options.metrics_address;
    let listener = health_server::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
    let health = Health { ready: readable, metrics: Arc::clone(&metrics) };
    let server_stop = CancellationToken::new();
    let server = tokio::spawn(health_server::serve(listener, health, server_stop.clone()));

    let fence = if options.election.is_some() { Fence::closed() } else { Fence::open() };
    let cluster = Cluster::new(client.clone(), fence.clone(), Arc::clone(&metrics));
    if !cluster.serves_systems(options.watch_namespace.as_deref()).await? {
        return Err(RunError::NotInstalled);
    }
    // A replica that waits for the lease does all it has to.
    ready.send_replace(true);
    let work = Work {
        options: &options,
        cluster,
        client: client.clone(),
        metrics: Arc::clone(&metrics),
        fence: fence.clone(),
    };
    let ended = match &options.election {
        None => {
            metrics.leads(true);
            work.until(stop).await
        }
        Some(election) => {
            let in_namespace = election.namespace.as_deref().unwrap_or(&namespace);
            let me = options.identity.clone();
            let election = Election::new(client, in_namespace, election.lease.clone(), me, fence);
            lead(election, work, stop, &metrics).await
        }
    };
    metrics.leads(false);
    server_stop.cancel();
    // Nobody waits for what the metrics server has in flight.
    let _ = server.await;
    ended
}

async fn lead(
    mut election: Election,
    work: Work<'_>,
    stop: CancellationToken,
    metrics: &Metrics,
) -> Result<(), RunError> {
    tracing::info!("waiting for the lease");
    if !election.win(&stop).await {
        return Ok(());
    }
    tracing::info!("this replica leads");
    metrics.leads(true);
    // It is held until the work has ended, not only until the end is asked for.
    let done = CancellationToken::new();
    let working = async {
        let ended = work.until(stop).await;
        done.cancel();
        Ok(ended)
    };
    // A lost lease ends the work where it stands. The process then ends, too, and stands for election when it is started again.
    let ((), ended) = tokio::try_join!(election.hold(&done), working)?;
    election.release().await;
    ended
}

struct Work<'a> {
    options: &'a RunOptions,
    cluster: Cluster,
    client: Client,
    metrics: Arc<Metrics>,
    fence: Fence,
}

impl Work<'_> {
    /// Reconciles until `stop`, and a little longer for what is under way.
    async fn until(self, stop: CancellationToken) -> Result<(), RunError> {
        let options = self.options;
        let served = self.cluster.served().await?;
        tracing::info!(?served, namespace = ?options.watch_namespace, "reconciling");
        let endpoint_url = options.endpoint_url.clone();
        let (fence, metrics) = (self.fence, self.metrics);
        let calls = options.aws_calls_per_second;
        let context = Context {
            aws: Arc::new(AwsClientPool::new(endpoint_url.clone(), calls, fence.clone(), Arc::clone(&metrics))),
            recorder: EventRecorder::new(self.client, &options.identity, fence, Arc::clone(&metrics)),
            cluster: self.cluster,
            metrics,
            options: Options {
                image: options.runtime_image.clone(),
                endpoint_url,
                resync: options.resync,
                spread: SPREAD.min(options.resync),
                requeue: requeue::RequeuePolicy::default(),
                defaults: options.defaults,
            },
            clock: system_clock,
            served,
            objects: Objects::new(options.stack_operations),
        };
        let scope = Scope { namespace: options.watch_namespace.clone(), concurrency: options.concurrency };
        let mut running = Box::pin(controller::run(Arc::new(context), scope, stop.clone()));
        tokio::select! {
            () = &mut running => return Ok(()),
            () = stop.cancelled() => {}
        }
        if timeout(DRAIN_WITHIN, running).await.is_err() {
            tracing::warn!("ended with reconciles under way; the next leader takes them up");
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the controller's clock is chosen")]
fn system_clock() -> Timestamp {
    Timestamp::now()
}
