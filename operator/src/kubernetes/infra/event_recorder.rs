//! Publishes Kubernetes Events through kube's recorder. An event that cannot be published never stops a reconcile.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::dispatch_system::{DispatchSystem, GROUP, VERSION};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use tokio::time::timeout;

use crate::kubernetes::events::ObjectEvent;
use crate::kubernetes::infra::cluster::Stored;
use crate::kubernetes::infra::fence::Fence;
use crate::kubernetes::infra::metrics::Metrics;

/// Longest time one event may take.
const TIMEOUT: Duration = Duration::from_secs(5);
const CONTROLLER: &str = "dispatch-operator";

/// Publishes events about objects. kube's recorder counts a repeated event in the one that exists for six minutes.
#[derive(Clone)]
pub struct EventRecorder {
    recorder: Recorder,
    fence: Fence,
    metrics: Arc<Metrics>,
}

impl EventRecorder {
    /// `instance` names this replica.
    pub fn new(client: Client, instance: &str, fence: Fence, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter), fence, metrics }
    }

    /// Publishes events about one object, in their order.
    pub async fn publish(&self, about: &Stored, events: Vec<ObjectEvent>) {
        let regarding = reference(about);
        for event in events {
            if self.fence.check().is_err() {
                return;
            }
            let reason = event.reason;
            match timeout(TIMEOUT, self.recorder.publish(&kubernetes_event(event), &regarding)).await {
                Ok(Ok(())) => self.metrics.event(reason),
                Ok(Err(error)) => tracing::warn!(%error, %reason, "the event was not published"),
                Err(_) => tracing::warn!(%reason, "the event was not published in time"),
            }
        }
    }
}

/// kube's recorder takes events of one action and reason for repetitions, whatever their note says. A person has to read another
/// note, so the action carries its digest; `kubectl describe` does not show the action.
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

#[cfg(test)]
mod tests {
    use super::*;
    use dispatch_api::conditions::EventReason;

    #[test]
    fn another_note_is_another_event_and_the_same_note_the_same() {
        let action = |note: &str| kubernetes_event(ObjectEvent::new(EventReason::Stalled, note)).action;
        assert_eq!(action("quota"), action("quota"));
        assert_ne!(action("quota"), action("denied"));
    }
}
