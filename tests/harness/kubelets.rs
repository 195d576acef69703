//! Fake kubelets, for a control plane without nodes: they report the Pods that the controllers create as ready.

use std::path::Path;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::deployments::client;

/// Concurrent status writes.
const CONCURRENCY: usize = 4;

/// What the kubelets report about all Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// They run and are ready at once.
    Ready,
    /// They run and are not ready.
    NotReady,
}

/// Writes the status of every Pod in the cluster until it is dropped.
pub struct Kubelets {
    pods: watch::Sender<Pods>,
    working: JoinHandle<()>,
}

impl Kubelets {
    /// Starts as the user of a kubeconfig, with [`Pods::Ready`].
    pub async fn start(kubeconfig: &Path) -> anyhow::Result<Self> {
        let client = client(kubeconfig).await?;
        let (pods, wanted) = watch::channel(Pods::Ready);
        let working = tokio::spawn(work(client, wanted));
        Ok(Self { pods, working })
    }

    /// Changes what is reported, for existing and new Pods.
    pub fn report(&self, pods: Pods) {
        self.pods.send_replace(pods);
    }
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        self.working.abort();
    }
}

async fn work(client: Client, mut wanted: watch::Receiver<Pods>) {
    loop {
        let pods = *wanted.borrow_and_update();
        tokio::select! {
            // A change restarts the watch, which begins with a list of all Pods.
            changed = wanted.changed() => if changed.is_err() { return },
            () = follow(&client, pods) => {}
        }
    }
}

async fn follow(client: &Client, pods: Pods) {
    let all: Api<Pod> = Api::all(client.clone());
    let seen = watcher(all, watcher::Config::default()).default_backoff().applied_objects();
    // Failures are retried by the next event.
    let seen = seen.into_stream().filter_map(|found| async { found.ok() });
    seen.for_each_concurrent(CONCURRENCY, |pod| async move {
        if let Some(status) = status(&pod, pods) {
            write(client, &pod, &status).await;
        }
    })
    .await;
}

/// The status a Pod should have; `None` if it already has it.
fn status(pod: &Pod, pods: Pods) -> Option<Value> {
    let wanted = if pods == Pods::Ready { "True" } else { "False" };
    let status = pod.status.as_ref()?;
    let found = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    if found.is_some_and(|ready| ready.status == wanted) {
        return None;
    }
    // Long ago, so that no one waits for the `minReadySeconds` of a Deployment.
    let since = "2020-01-01T00:00:00Z";
    let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "lastTransitionTime": since });
    Some(json!({ "status": { "phase": "Running", "conditions": [
        condition("PodScheduled", "True"), condition("Initialized", "True"),
        condition("ContainersReady", wanted), condition("Ready", wanted),
    ] } }))
}

async fn write(client: &Client, pod: &Pod, status: &Value) {
    let (Some(namespace), Some(name)) = (&pod.metadata.namespace, &pod.metadata.name) else { return };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    // The Pod may be gone, and a later change of it triggers another event.
    let _ = api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await;
}
