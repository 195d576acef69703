//! A fake Deployment controller, for an API server without controllers: it reports the Pods of every Deployment as
//! available.

use std::path::Path;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Concurrent status writes.
const CONCURRENCY: usize = 4;

/// What the controller reports about the Pods of all Deployments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// All replicas are available at once.
    Serve,
    /// All replicas exist but never become available.
    NeverReady,
    /// Nothing: the status is not written.
    Untouched,
}

/// Writes the status of every Deployment in the cluster until it is dropped.
pub struct Deployments {
    pods: watch::Sender<Pods>,
    working: JoinHandle<()>,
}

impl Deployments {
    /// Starts as the user of a kubeconfig, with [`Pods::Serve`].
    pub async fn start(kubeconfig: &Path) -> anyhow::Result<Self> {
        let client = client(kubeconfig).await?;
        let (pods, wanted) = watch::channel(Pods::Serve);
        let working = tokio::spawn(work(client, wanted));
        Ok(Self { pods, working })
    }

    /// Changes what is reported, for existing and new Deployments.
    pub fn let_pods(&self, pods: Pods) {
        self.pods.send_replace(pods);
    }
}

impl Drop for Deployments {
    fn drop(&mut self) {
        self.working.abort();
    }
}

/// A Kubernetes client for the user of a kubeconfig.
pub async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig).context("cannot read the kubeconfig")?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn work(client: Client, mut wanted: watch::Receiver<Pods>) {
    loop {
        let pods = *wanted.borrow_and_update();
        tokio::select! {
            // A change restarts the watch, which begins with a list of all Deployments.
            changed = wanted.changed() => if changed.is_err() { return },
            () = follow(&client, pods) => {}
        }
    }
}

async fn follow(client: &Client, pods: Pods) {
    if pods == Pods::Untouched {
        return std::future::pending().await;
    }
    let all: Api<Deployment> = Api::all(client.clone());
    let seen = watcher(all, watcher::Config::default()).default_backoff().applied_objects();
    // Failures are retried by the next event.
    let seen = seen.into_stream().filter_map(|found| async { found.ok() });
    seen.for_each_concurrent(CONCURRENCY, |deployment| async move {
        if let Some(status) = status(&deployment, pods) {
            write(client, &deployment, &status).await;
        }
    })
    .await;
}

/// The status a Deployment should have; `None` if it already has it.
fn status(deployment: &Deployment, pods: Pods) -> Option<DeploymentStatus> {
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let available = if pods == Pods::Serve { replicas } else { 0 };
    let previous = deployment.status.clone().unwrap_or_default();
    let wanted = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(replicas),
        updated_replicas: Some(replicas),
        ready_replicas: Some(available),
        available_replicas: Some(available),
        unavailable_replicas: Some(replicas - available),
        ..previous.clone()
    };
    (without_zeros(&wanted) != without_zeros(&previous)).then_some(wanted)
}

/// The API server omits zeros.
fn without_zeros(status: &DeploymentStatus) -> DeploymentStatus {
    let counts = |count: Option<i32>| count.filter(|count| *count != 0);
    DeploymentStatus {
        replicas: counts(status.replicas),
        updated_replicas: counts(status.updated_replicas),
        ready_replicas: counts(status.ready_replicas),
        available_replicas: counts(status.available_replicas),
        unavailable_replicas: counts(status.unavailable_replicas),
        ..status.clone()
    }
}

async fn write(client: &Client, deployment: &Deployment, status: &DeploymentStatus) {
    let (Some(namespace), Some(name)) = (&deployment.metadata.namespace, &deployment.metadata.name) else { return };
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let patch = json!({ "status": status });
    // The Deployment may be gone, and a newer version triggers another event.
    let _ = api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
}
