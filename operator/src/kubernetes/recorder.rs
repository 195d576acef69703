//! Publishes events. That one cannot be published never stops a reconcile.

use std::sync::Arc;
use std::time::Duration;

use dispatch_api::dispatch_system::{DispatchSystem, GROUP, VERSION};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use tokio::time::timeout;

use super::announce::Announcement;
use super::cluster::Stored;
use super::fence::Fence;
use super::metrics::Metrics;

/// Longest time one event may take.
const TIMEOUT: Duration = Duration::from_secs(5);
const CONTROLLER: &str = "dispatch-operator";

/// Publishes events about objects.
#[derive(Clone)]
pub struct Announcer {
    recorder: Recorder,
    fence: Fence,
    metrics: Arc<Metrics>,
}

impl Announcer {
    /// On a client. `instance` names this replica.
    pub fn new(client: Client, instance: &str, fence: Fence, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter), fence, metrics }
    }

    /// Tells what happened to an object. The same again within some minutes is counted in the event that is there.
    pub async fn tell(&self, about: &Stored, told: Vec<Announcement>) {
        let about = reference(about);
        for Announcement { reason, note } in told {
            if self.fence.check().is_err() {
                return;
            }
            let event = Event {
                type_: if reason.warns() { EventType::Warning } else { EventType::Normal },
                reason: reason.name().to_owned(),
                note: Some(note),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            match timeout(TIMEOUT, self.recorder.publish(&event, &about)).await {
                Ok(Ok(())) => self.metrics.event(reason.name()),
                Ok(Err(error)) => tracing::warn!(%error, reason = reason.name(), "an event was not published"),
                Err(_) => tracing::warn!(reason = reason.name(), "an event was not published in time"),
            }
        }
    }
}

fn reference(stored: &Stored) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some(DispatchSystem::kind(&()).into_owned()),
        name: stored.metadata.name.clone(),
        namespace: stored.metadata.namespace.clone(),
        uid: stored.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
