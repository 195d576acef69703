//! A fake Deployment controller, for an API server without controllers: it reports the Pods of every Deployment as
//! available. For fleets whose thousands of Pods would only measure the controller manager.

use std::path::Path;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::task::JoinHandle;

/// Concurrent status writes.
const CONCURRENCY: usize = 4;

/// Writes the status of every Deployment in the cluster until it is dropped.
pub struct Deployments {
    working: JoinHandle<()>,
}

impl Deployments {
    /// Starts as the user of a kubeconfig.
    pub async fn start(kubeconfig: &Path) -> anyhow::Result<Self> {
        let client = client(kubeconfig).await?;
        Ok(Self { working: tokio::spawn(async move { follow(&client).await }) })
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

async fn follow(client: &Client) {
    let all: Api<Deployment> = Api::all(client.clone());
    let seen = watcher(all, watcher::Config::default()).default_backoff().applied_objects();
    // Failures are retried by the next event.
    let seen = seen.into_stream().filter_map(|found| async { found.ok() });
    seen.for_each_concurrent(CONCURRENCY, |deployment| async move {
        if let Some(status) = status(&deployment) {
            write(client, &deployment, &status).await;
        }
    })
    .await;
}

/// The status a Deployment should have; `None` if it already has it.
fn status(deployment: &Deployment) -> Option<DeploymentStatus> {
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let previous = deployment.status.clone().unwrap_or_default();
    let wanted = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(replicas),
        updated_replicas: Some(replicas),
        ready_replicas: Some(replicas),
        available_replicas: Some(replicas),
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
        ..status.clone()
    }
}

async fn write(client: &Client, deployment: &Deployment, status: &DeploymentStatus) {
    let (Some(namespace), Some(name)) = (&deployment.metadata.namespace, &deployment.metadata.name) else { return };
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let patch = json!({ "status": status });
    // The Deployment may be gone, and a later change of it triggers another event.
    let _ = api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
}
