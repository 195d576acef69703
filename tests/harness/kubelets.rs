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
    /// New ones cannot pull their image. Like the following, it leaves the Pods that are ready alone.
    NoImage,
    /// New ones end with an error again and again.
    Crashing,
    /// New ones run at this address and are not ready.
    Waiting(&'static str),
}

impl Pods {
    /// The status of the container, and more fields of the Pod's.
    fn details(self) -> Option<Value> {
        let container = |restarts: u32, last: Value, state: Value| {
            json!([{ "name": "runtime", "image": "runtime", "imageID": "", "ready": false, "restartCount": restarts,
                "lastState": last, "state": state }])
        };
        let waits = |reason: &str, message: &str| json!({ "waiting": { "reason": reason, "message": message } });
        match self {
            Self::Ready | Self::NotReady => None,
            Self::NoImage => {
                let state = waits("ErrImagePull", "manifest for runtime:broken not found");
                Some(json!({ "containerStatuses": container(0, json!({}), state) }))
            }
            Self::Crashing => {
                let log = "{\"level\":\"INFO\"}\nError: cannot read the configuration\n\nCaused by:\n    no such file";
                let last = json!({ "terminated": { "exitCode": 1, "reason": "Error", "message": log } });
                let state = waits("CrashLoopBackOff", "back-off 10s");
                Some(json!({ "containerStatuses": container(2, last, state) }))
            }
            Self::Waiting(address) => {
                let state = json!({ "running": { "startedAt": LONG_AGO } });
                let statuses = container(0, json!({}), state);
                Some(json!({ "containerStatuses": statuses, "podIP": address, "podIPs": [{ "ip": address }] }))
            }
        }
    }
}

/// So that no one waits for the `minReadySeconds` of a Deployment.
const LONG_AGO: &str = "2020-01-01T00:00:00Z";

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
    let is_as_wanted = found.is_some_and(|ready| ready.status == wanted);
    let details = pods.details();
    match &details {
        None if is_as_wanted => return None,
        Some(_) if found.is_some_and(|ready| ready.status == "True") => return None,
        Some(details) if is_as_wanted && has(&serde_json::to_value(status).ok()?, details) => return None,
        _ => {}
    }
    let condition =
        |kind: &str, status: &str| json!({ "type": kind, "status": status, "lastTransitionTime": LONG_AGO });
    let mut wanted = json!({ "phase": "Running", "conditions": [
        condition("PodScheduled", "True"), condition("Initialized", "True"),
        condition("ContainersReady", wanted), condition("Ready", wanted),
    ] });
    for (field, value) in details.as_ref().and_then(Value::as_object).into_iter().flatten() {
        wanted[field] = value.clone();
    }
    Some(json!({ "status": wanted }))
}

/// Whether a document has all values of another one.
fn has(found: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(fields) => fields.iter().all(|(name, value)| has(&found[name], value)),
        Value::Array(items) => items.iter().enumerate().all(|(at, value)| has(&found[at], value)),
        Value::String(text) if text.is_empty() => found.is_null() || found == wanted,
        other => found == other,
    }
}

async fn write(client: &Client, pod: &Pod, status: &Value) {
    let (Some(namespace), Some(name)) = (&pod.metadata.namespace, &pod.metadata.name) else { return };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    // The Pod may be gone, and a later change of it triggers another event.
    let _ = api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await;
}
