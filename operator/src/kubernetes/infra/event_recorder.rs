//! Publishes Kubernetes Events through kube's recorder. An event that cannot be published never fails a reconcile.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::dispatch_system::{DispatchSystem, GROUP, VERSION};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use tokio::time::timeout;

use crate::kubernetes::events::ObjectEvent;
use crate::kubernetes::infra::cluster::{SystemObject, is_terminating};
use crate::kubernetes::infra::fence::Fence;
use crate::kubernetes::infra::metrics::Metrics;

/// Timeout of publishing one event.
const TIMEOUT: Duration = Duration::from_secs(5);
const CONTROLLER: &str = "dispatch-operator";

/// Publishes events about objects. kube's recorder aggregates repetitions of an event into one object for six minutes.
#[derive(Clone)]
pub struct EventRecorder {
    recorder: Recorder,
    fence: Fence,
    metrics: Arc<Metrics>,
}

impl EventRecorder {
    /// `instance` is the name of this replica.
    pub fn new(client: Client, instance: &str, fence: Fence, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter), fence, metrics }
    }

    /// Publishes events about one object, in order.
    pub async fn publish(&self, about: &SystemObject, events: Vec<ObjectEvent>) {
        let regarding = reference(about);
        for event in events {
            if self.fence.check().is_err() {
                return;
            }
            let reason = event.reason;
            match timeout(TIMEOUT, self.recorder.publish(&kubernetes_event(event), &regarding)).await {
                Ok(Ok(())) => self.metrics.event(reason),
                Ok(Err(kube::Error::Api(status))) if is_terminating(&status) => {
                    tracing::debug!(%reason, "no event: the namespace is being deleted");
                }
                Ok(Err(error)) => tracing::warn!(%error, %reason, "could not publish the event"),
                Err(_) => tracing::warn!(%reason, "could not publish the event in time"),
            }
        }
    }
}

/// kube's recorder aggregates events with the same action and reason even if their notes differ. A different note must
/// stay visible, so the action contains a digest of the note; `kubectl describe` does not show the action.
fn kubernetes_event(event: ObjectEvent) -> Event {
    let ObjectEvent { reason, note } = event;
    let mut hasher = DefaultHasher::new();
    note.hash(&mut hasher);
    Event {
        type_: if reason.is_warning() { EventType::Warning } else { EventType::Normal },
        reason: reason.to_string(),
        action: format!("Reconcile-{:016x}", hasher.finish()),
        note: Some(note),
        secondary: None,
    }
}

fn reference(stored: &SystemObject) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some(DispatchSystem::kind(&()).into_owned()),
        name: stored.metadata.name.clone(),
        namespace: stored.metadata.namespace.clone(),
        uid: stored.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dispatch_api::conditions::EventReason;

    #[test]
    fn events_are_aggregated_only_if_their_notes_are_equal() {
        let action = |note: &str| kubernetes_event(ObjectEvent::new(EventReason::Stalled, note)).action;
        assert_eq!(action("quota"), action("quota"));
        assert_ne!(action("quota"), action("denied"));
    }
}
