//! Publishes events. That one cannot be published never stops a reconcile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dispatch_api::dispatch_system::{DispatchSystem, GROUP, VERSION};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource as _};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::announce::Announcement;
use super::cluster::Stored;
use super::fence::Fence;
use super::metrics::Metrics;

/// Longest time one event may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The same again within this time is counted in the event that is there: what Kubernetes' own components take for a series.
const SERIES_WITHIN: Duration = Duration::from_mins(6);
const CONTROLLER: &str = "dispatch-operator";

/// What makes two events the same: another text is another event, because a person has to read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Said {
    uid: String,
    reason: &'static str,
    note: String,
}

/// An event that is there.
#[derive(Clone, Debug)]
struct Told {
    name: String,
    count: i32,
    last: Instant,
}

/// Publishes events about objects.
#[derive(Clone)]
pub struct Announcer {
    client: Client,
    instance: String,
    fence: Fence,
    metrics: Arc<Metrics>,
    // Bounded by what is told within a series' time.
    told: Arc<Mutex<HashMap<Said, Told>>>,
}

impl Announcer {
    /// On a client. `instance` names this replica.
    pub fn new(client: Client, instance: &str, fence: Fence, metrics: Arc<Metrics>) -> Self {
        Self { client, instance: instance.to_owned(), fence, metrics, told: Arc::default() }
    }

    /// Tells what happened to an object. The same again within some minutes is counted in the event that is there.
    pub async fn tell(&self, about: &Stored, told: Vec<Announcement>) {
        for announcement in told {
            if self.fence.check().is_err() {
                return;
            }
            let reason = announcement.reason.name();
            match timeout(TIMEOUT, self.publish(about, announcement)).await {
                Ok(Ok(())) => self.metrics.event(reason),
                Ok(Err(error)) => tracing::warn!(%error, reason, "an event was not published"),
                Err(_) => tracing::warn!(reason, "an event was not published in time"),
            }
        }
    }

    async fn publish(&self, about: &Stored, announcement: Announcement) -> Result<(), kube::Error> {
        let Announcement { reason, note } = announcement;
        let warns = reason.warns();
        let uid = about.metadata.uid.clone().unwrap_or_default();
        let said = Said { uid, reason: reason.name(), note };
        let namespace = about.metadata.namespace.as_deref().unwrap_or("default");
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let now = now();
        let told = match self.told_before(&said) {
            Some(before) => {
                let count = before.count.saturating_add(1);
                let series = EventSeries { count, last_observed_time: MicroTime(now) };
                let patch = Patch::Merge(json!({ "series": series }));
                events.patch(&before.name, &PatchParams::default(), &patch).await?;
                Told { count, last: Instant::now(), ..before }
            }
            None => {
                let name = format!("{}.{:x}", about.metadata.name.as_deref().unwrap_or_default(), now.as_nanosecond());
                events.create(&PostParams::default(), &self.event(about, &said, (&name, warns, now))).await?;
                Told { name, count: 1, last: Instant::now() }
            }
        };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(said, told);
        Ok(())
    }

    fn told_before(&self, said: &Said) -> Option<Told> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, told| told.last.elapsed() < SERIES_WITHIN);
        told.get(said).cloned()
    }

    fn event(&self, about: &Stored, said: &Said, (name, warns, now): (&str, bool, Timestamp)) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: about.metadata.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(said.note.clone()),
            reason: Some(said.reason.to_owned()),
            regarding: Some(reference(about)),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if warns { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an event carries its reporter's clock; nothing is decided by it")]
fn now() -> Timestamp {
    Timestamp::now()
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
