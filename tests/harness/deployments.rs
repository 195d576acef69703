//! A stand-in for the controller of Deployments, which an API server alone does not have: it says of every Deployment that its Pods
//! are there.

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

/// Statuses written at once.
const CONCURRENCY: usize = 4;

/// What becomes of the Pods of all Deployments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// They are there at once, in the number wanted.
    Serve,
    /// They are made and never become available.
    NeverReady,
    /// Nothing happens.
    Untouched,
}

/// Writes the status of every Deployment of the cluster until it is dropped.
pub struct Deployments {
    pods: watch::Sender<Pods>,
    working: JoinHandle<()>,
}

impl Deployments {
    /// Starts with the user of a kubeconfig; all Pods serve.
    pub async fn start(kubeconfig: &Path) -> anyhow::Result<Self> {
        let client = client(kubeconfig).await?;
        let (pods, wanted) = watch::channel(Pods::Serve);
        let working = tokio::spawn(work(client, wanted));
        Ok(Self { pods, working })
    }

    /// From now on, for all that are there and all that come.
    pub fn let_pods(&self, pods: Pods) {
        self.pods.send_replace(pods);
    }
}

impl Drop for Deployments {
    fn drop(&mut self) {
        self.working.abort();
    }
}

/// A client with the user of a kubeconfig.
pub async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig).context("the kubeconfig cannot be read")?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

async fn work(client: Client, mut wanted: watch::Receiver<Pods>) {
    loop {
        let pods = *wanted.borrow_and_update();
        tokio::select! {
            // A new wish begins with the list of all.
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
    // The watch and each write are tried again by the next event.
    let seen = seen.into_stream().filter_map(|found| async { found.ok() });
    seen.for_each_concurrent(CONCURRENCY, |deployment| async move {
        if let Some(status) = status(&deployment, pods) {
            write(client, &deployment, &status).await;
        }
    })
    .await;
}

/// The status a Deployment is to have, where it has another one.
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

/// The API server leaves zeros out.
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
    // It may be gone, and a newer one has an event of its own.
    let _ = api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
}
