//! The controller: watches `DispatchSystem` objects, does for each of them what `apply` does, and manages its worker
//! pool as Deployments.
//!
//! Pure decisions: [`policy`] (when to requeue, when to stop retrying, how many stack operations run, what a namespace
//! allows, what a spec may ask for), [`infra::reconcile_cache`] (whether AWS is called), [`infra::timing`] (durations),
//! [`events`], [`infra::election::decide`], [`controller`]'s predicate, and from the engine `plan::exports` (which
//! export is due),
//! `plan::workers` (objects) and `status` (conditions). Clients: [`infra::cluster`] for objects, [`infra::client_pool`]
//! for AWS, [`infra::event_recorder`] for events, [`infra::election`] for the lease. Every write checks the
//! [`infra::fence`] first.

pub mod context;
pub mod controller;
pub mod error;
pub mod events;
pub mod infra;
pub mod object;
pub mod policy;
pub mod reconcile;

use crate::engine::plan::workers::WorkerClients;
use crate::kubernetes::infra::health_server;
use crate::kubernetes::policy::access::ExternalIds;
use crate::kubernetes::policy::requeue;
use crate::kubernetes::policy::restrictions::Restrictions;
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

/// Time for reconciles in progress at shutdown. The next leader continues what is cut off; the lease should change
/// hands within five seconds.
const DRAIN_WITHIN: Duration = Duration::from_secs(4);
/// After a start, the first inspections of systems in sync are spread over this time.
const SPREAD: Duration = Duration::from_mins(1);

/// Settings of the controller.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The only namespace to watch; `None` for all.
    pub watch_namespace: Option<String>,
    /// Objects reconciled concurrently.
    pub concurrency: u16,
    /// Time between two inspections of a system in sync.
    pub resync: Duration,
    /// Listen address of `/livez`, `/readyz` and `/metrics`.
    pub metrics_address: SocketAddr,
    /// Leader election; `None` for a single replica.
    pub election: Option<ElectionOptions>,
    /// Runtime image for systems whose spec names none.
    pub runtime_image: String,
    /// Replaces the AWS endpoints.
    pub endpoint_url: Option<String>,
    /// Limit of AWS calls per second for each region and role.
    pub aws_calls_per_second: u32,
    /// Limit of concurrent stack operations.
    pub stack_operations: u16,
    /// Defaults where neither the spec nor the namespace sets a value.
    pub defaults: tenancy::Defaults,
    /// What specs may ask for in namespaces that do not say otherwise.
    pub restrictions: Restrictions,
    /// Who chooses the external IDs of roles.
    pub external_ids: ExternalIdSource,
    /// Who may connect to the workers.
    pub clients: WorkerClients,
    /// Unique name of this replica.
    pub identity: String,
}

/// Who chooses the external IDs of roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalIdSource {
    /// The specs.
    Spec,
    /// The operator, from the namespace and this id of the cluster; `None` for the UID of the namespace `kube-system`.
    Derived(Option<String>),
}

/// Where the lease of the leader election is.
#[derive(Clone, Debug)]
pub struct ElectionOptions {
    /// Namespace; the operator's own by default.
    pub namespace: Option<String>,
    /// Name of the `Lease` object.
    pub lease: String,
}

/// Why the controller stopped.
#[derive(Debug, Error)]
pub enum RunError {
    /// No cluster is configured.
    #[error("cannot connect to a cluster: neither a service account nor a kubeconfig was found")]
    NoCluster(#[source] Box<kube::config::InferConfigError>),
    /// The Kubernetes client cannot be created.
    #[error("cannot create the Kubernetes client")]
    Client(#[source] Box<kube::Error>),
    /// The custom resource definition is not installed.
    #[error(
        "the cluster does not serve dispatchsystems.dispatch.coactus.io; install the resource definition first: \
         dispatch-operator crd | kubectl apply --server-side -f -"
    )]
    NotInstalled,
    /// A call to the Kubernetes API server failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The id of the cluster is not known.
    #[error(
        "cannot derive external IDs: the UID of namespace kube-system, the id of the cluster, cannot be read; set \
         --cluster-id, or grant the operator `get` on namespaces"
    )]
    ClusterId(#[source] Option<ClusterError>),
    /// The metrics address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The metrics address.
        address: SocketAddr,
        /// Error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// This replica lost the leadership.
    #[error("this replica is no longer the leader")]
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
    let external_ids = external_ids(&cluster, &options.external_ids).await?;
    // A replica that waits for the lease is ready: waiting is its job.
    ready.send_replace(true);
    let work = Work {
        options: &options,
        external_ids,
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
    // Requests in flight at the metrics server may be lost.
    let _ = server.await;
    ended
}

/// Reads the id of the cluster if external IDs are derived from it.
async fn external_ids(cluster: &Cluster, source: &ExternalIdSource) -> Result<ExternalIds, RunError> {
    let cluster = match source {
        ExternalIdSource::Spec => return Ok(ExternalIds::Spec),
        ExternalIdSource::Derived(Some(id)) => id.clone(),
        ExternalIdSource::Derived(None) => match cluster.namespace_uid("kube-system").await {
            Ok(Some(uid)) => uid,
            Ok(None) => return Err(RunError::ClusterId(None)),
            Err(error) => return Err(RunError::ClusterId(Some(error))),
        },
    };
    tracing::info!("external IDs are coactus:{cluster}:<namespace>");
    Ok(ExternalIds::Derived { cluster })
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
    tracing::info!("this replica is the leader");
    metrics.leads(true);
    // The lease is held until the work has ended, not only until `stop`.
    let done = CancellationToken::new();
    let working = async {
        let ended = work.until(stop).await;
        done.cancel();
        Ok(ended)
    };
    // If the lease is lost, the work is cancelled and the process exits. After its restart it waits for the lease
    // again.
    let ((), ended) = tokio::try_join!(election.hold(&done), working)?;
    election.release().await;
    ended
}

struct Work<'a> {
    options: &'a RunOptions,
    external_ids: ExternalIds,
    cluster: Cluster,
    client: Client,
    metrics: Arc<Metrics>,
    fence: Fence,
}

impl Work<'_> {
    /// Reconciles until `stop`, then gives reconciles in progress [`DRAIN_WITHIN`] to finish.
    async fn until(self, stop: CancellationToken) -> Result<(), RunError> {
        let options = self.options;
        tracing::info!(namespace = ?options.watch_namespace, "reconciling");
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
                restrictions: options.restrictions.clone(),
                external_ids: self.external_ids,
                clients: options.clients.clone(),
            },
            clock: system_clock,
            objects: Objects::new(options.stack_operations),
        };
        let scope = Scope { namespace: options.watch_namespace.clone(), concurrency: options.concurrency };
        let mut running = Box::pin(controller::run(Arc::new(context), scope, stop.clone()));
        tokio::select! {
            () = &mut running => return Ok(()),
            () = stop.cancelled() => {}
        }
        if timeout(DRAIN_WITHIN, running).await.is_err() {
            tracing::warn!("stopped with reconciles in progress; the next leader continues them");
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the controller's clock is chosen")]
fn system_clock() -> Timestamp {
    Timestamp::now()
}
