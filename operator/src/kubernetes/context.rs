//! Shared state of all reconciles: clients, settings, and what is cached for each object between two reconciles.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::annotations::RECONCILE_REQUESTED_AT;
use dispatch_api::conditions::{ConditionType, EventReason};
use dispatch_api::dispatch_system::DispatchSystemStatus;
use jiff::Timestamp;

use crate::engine::plan::workers::WorkerClients;
use crate::engine::status;
use crate::kubernetes::error::ReconcileError;
use crate::kubernetes::events::{self, ObjectEvent};
use crate::kubernetes::infra::client_pool::ClientPool;
use crate::kubernetes::infra::cluster::{Cluster, SystemObject, place, to_value};
use crate::kubernetes::infra::event_recorder::EventRecorder;
use crate::kubernetes::infra::metric_labels::ReconcileResult;
use crate::kubernetes::infra::metrics::Metrics;
use crate::kubernetes::infra::reconcile_cache::ReconcileCache;
use crate::kubernetes::infra::timing;
use crate::kubernetes::object::{Key, annotation, generation_of, status_of};
use crate::kubernetes::policy::access::ExternalIds;
use crate::kubernetes::policy::operation_slots::OperationLimiter;
use crate::kubernetes::policy::requeue;
use crate::kubernetes::policy::restrictions::Restrictions;
use crate::kubernetes::policy::retry::{FailureKind, RetryState, Revision};
use crate::kubernetes::policy::tenancy::Defaults;
use crate::kubernetes::reconcile::exports::Mark;

/// Settings shared by all reconciles.
#[derive(Clone, Debug)]
pub struct Options {
    /// Runtime image for systems whose spec names none.
    pub image: String,
    /// Replaces the AWS endpoints, for the workers as well.
    pub endpoint_url: Option<String>,
    /// Time between two inspections of a system in sync.
    pub resync: Duration,
    /// After a start, the first inspections of systems in sync are spread over this time.
    pub spread: Duration,
    /// How often a running stack operation is polled.
    pub requeue: requeue::RequeuePolicy,
    /// Defaults where neither the spec nor the namespace sets a value.
    pub defaults: Defaults,
    /// What specs may ask for in namespaces that do not say otherwise.
    pub restrictions: Restrictions,
    /// Who chooses the external IDs of roles.
    pub external_ids: ExternalIds,
    /// Who may connect to the workers.
    pub clients: WorkerClients,
}

/// Dependencies of a reconcile.
pub struct Context {
    pub cluster: Cluster,
    pub aws: Arc<dyn ClientPool>,
    pub recorder: EventRecorder,
    pub metrics: Arc<Metrics>,
    pub options: Options,
    /// Clock for the timestamps in the status.
    pub clock: fn() -> Timestamp,
    pub objects: Objects,
}

/// In-memory state per object, kept between two reconciles. Its size is bounded by the number of objects.
#[derive(Debug)]
pub struct Objects {
    pub(super) limiter: Arc<OperationLimiter>,
    caches: Mutex<HashMap<Key, ReconcileCache>>,
    shown: Mutex<HashMap<Key, Shown>>,
    exports: Mutex<HashMap<Key, Mark>>,
}

impl Objects {
    /// Starts empty; at most `stack_operations` stack operations run concurrently.
    pub fn new(stack_operations: u16) -> Self {
        let limiter = Arc::new(OperationLimiter::new(stack_operations));
        Self { limiter, caches: Mutex::default(), shown: Mutex::default(), exports: Mutex::default() }
    }
}

/// What the metrics count of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    /// The conditions that are true, of those that are counted.
    on: Vec<ConditionType>,
    /// Whether a role of a started system has no ready Pod.
    unavailable: bool,
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Value of the metric label.
    pub result: ReconcileResult,
    /// When to reconcile again if no event arrives before.
    pub requeue_after: Option<Duration>,
}

impl Context {
    /// The cached state of an object. An object is never reconciled twice at the same time, so a copy is safe.
    pub(super) fn recall(&self, key: &Key, uid: &str) -> Option<ReconcileCache> {
        let caches = self.objects.caches.lock();
        caches.get(key).filter(|cache| cache.uid == uid).cloned()
    }

    pub(super) fn remember(&self, key: &Key, cache: ReconcileCache) {
        self.objects.caches.lock().insert(key.clone(), cache);
    }

    /// Drops the state of an object that no longer exists.
    pub fn forget(&self, key: &Key) {
        self.objects.caches.lock().remove(key);
        self.objects.limiter.release(key);
        self.show(key, None);
        self.mark_exports(key, None);
    }

    /// Counts a failure of an object and returns the updated retry state. If the object cannot be read, the failure
    /// counts against the last known revision.
    pub(super) fn count_failure(
        &self,
        key: &Key,
        stored: Option<&SystemObject>,
        failure_kind: FailureKind,
    ) -> RetryState {
        let mut caches = self.objects.caches.lock();
        let cache = caches.entry(key.clone()).or_default();
        if let Some(stored) = stored {
            let uid = stored.metadata.uid.clone().unwrap_or_default();
            let revision = revision_of(stored);
            if cache.uid != uid {
                *cache = ReconcileCache {
                    retry_state: RetryState::restored(status_of(stored).as_ref(), &revision),
                    ..ReconcileCache::new(&uid)
                };
            }
            cache.retry_state = cache.retry_state.with_failure(&revision, failure_kind);
        } else {
            cache.retry_state = cache.retry_state.with_repeated_failure(failure_kind);
        }
        cache.retry_state.clone()
    }

    /// Consecutive failures of an object.
    pub(super) fn failures(&self, key: &Key) -> u32 {
        let caches = self.objects.caches.lock();
        caches.get(key).map_or(0, |cache| cache.retry_state.failures)
    }

    fn show(&self, key: &Key, status: Option<&DispatchSystemStatus>) {
        const SHOWN: [ConditionType; 7] = [
            ConditionType::Ready,
            ConditionType::Reconciling,
            ConditionType::Stalled,
            ConditionType::Drifted,
            ConditionType::PlanPending,
            ConditionType::Paused,
            ConditionType::DeletionBlocked,
        ];
        let on = status.map(|status| Shown {
            on: SHOWN.into_iter().filter(|kind| status::is_true(status, *kind)).collect(),
            unavailable: status::is_unavailable(status),
        });
        let mut shown = self.objects.shown.lock();
        // Counting iterates over all systems, and most reconciles change nothing.
        if shown.get(key) == on.as_ref() {
            return;
        }
        match on {
            Some(on) => drop(shown.insert(key.clone(), on)),
            None => drop(shown.remove(key)),
        }
        for kind in SHOWN {
            self.metrics.systems(kind, shown.values().filter(|shown| shown.on.contains(&kind)).count());
        }
        self.metrics.systems_unavailable(shown.values().filter(|shown| shown.unavailable).count());
    }

    pub(super) fn mark_exports(&self, key: &Key, mark: Option<Mark>) {
        let mut marks = self.objects.exports.lock();
        match mark {
            Some(mark) => drop(marks.insert(key.clone(), mark)),
            None => drop(marks.remove(key)),
        }
        let covered = marks.values().filter_map(|mark| mark.covered).min();
        self.metrics.exports_stand(covered, marks.values().filter_map(|mark| mark.deadline).min());
    }

    /// Writes the status if it changed and publishes the changes as events. Events come first: a process that dies in
    /// between publishes them again after the restart instead of never.
    pub(super) async fn publish(
        &self,
        stored: &SystemObject,
        mut next: DispatchSystemStatus,
        begun: Vec<ObjectEvent>,
    ) -> Result<(), ReconcileError> {
        next.operator_version = Some(env!("CARGO_PKG_VERSION").to_owned());
        let (next, previous) = (&next, status_of(stored));
        let (namespace, name) = place(stored);
        let differs = previous.as_ref().is_none_or(|previous| to_value(previous) != to_value(next));
        let mut events = begun;
        if differs {
            events.extend(events::events_between(previous.as_ref(), next));
            self.count(stored, previous.as_ref(), next, &events);
        }
        self.recorder.publish(stored, events).await;
        if differs {
            self.cluster.set_status(stored, next).await?;
        }
        self.show(&(namespace.to_owned(), name.to_owned()), Some(next));
        Ok(())
    }
}

impl Context {
    /// Updates the metrics from the difference between two statuses.
    fn count(
        &self,
        stored: &SystemObject,
        before: Option<&DispatchSystemStatus>,
        after: &DispatchSystemStatus,
        events: &[ObjectEvent],
    ) {
        let created = stored.metadata.creation_timestamp.as_ref().map(|at| at.0);
        if let Some((kind, took)) = created.and_then(|created| timing::time_to_ready(before, after, created)) {
            self.metrics.became_ready(kind, took);
        }
        if let Some(took) = timing::time_drifted(before, after) {
            self.metrics.drift_ended(took);
        }
        for ObjectEvent { reason, .. } in events {
            match reason {
                EventReason::DriftDetected => self.metrics.drift_detected(),
                EventReason::DriftCorrected => self.metrics.drift_corrected(),
                _ => {}
            }
        }
    }
}

/// The revision of an object that consecutive failures are counted against.
pub(super) fn revision_of(stored: &SystemObject) -> Revision {
    Revision { generation: generation_of(stored), requested: annotation(stored, RECONCILE_REQUESTED_AT) }
}
