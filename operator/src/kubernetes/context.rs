//! What every reconcile works with: clients, settings, and what is remembered of each object between two reconciles.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dispatch_api::annotations::RECONCILE_REQUESTED_AT;
use dispatch_api::conditions::{ConditionType, EventReason};
use dispatch_api::dispatch_system::DispatchSystemStatus;
use jiff::Timestamp;

use crate::engine::plan::workers::Served;
use crate::engine::status;
use crate::kubernetes::error::ReconcileError;
use crate::kubernetes::events::{self, ObjectEvent};
use crate::kubernetes::infra::client_pool::ClientPool;
use crate::kubernetes::infra::cluster::{Cluster, Stored, place, to_value};
use crate::kubernetes::infra::event_recorder::EventRecorder;
use crate::kubernetes::infra::metric_labels::ReconcileResult;
use crate::kubernetes::infra::metrics::Metrics;
use crate::kubernetes::infra::reconcile_cache::ReconcileCache;
use crate::kubernetes::infra::timing;
use crate::kubernetes::object::{Key, annotation, generation_of, status_of};
use crate::kubernetes::policy::operation_slots::OperationLimiter;
use crate::kubernetes::policy::requeue;
use crate::kubernetes::policy::retry::{FailureKind, RetryState, Revision};
use crate::kubernetes::policy::tenancy::Defaults;
use crate::kubernetes::reconcile::exports::Mark;

/// Settings of all reconciles.
#[derive(Clone, Debug)]
pub struct Options {
    /// Image of the runtime where a manifest names none.
    pub image: String,
    /// Address that replaces AWS's own, for workers too.
    pub endpoint_url: Option<String>,
    /// Time between two looks at a system in sync.
    pub resync: Duration,
    /// Time over which the first looks at systems in sync are spread after a start.
    pub spread: Duration,
    /// How a running operation is followed.
    pub requeue: requeue::RequeuePolicy,
    /// What counts where neither a spec nor its namespace says.
    pub defaults: Defaults,
}

/// Everything a reconcile works with.
pub struct Context {
    /// The API server.
    pub cluster: Cluster,
    /// AWS.
    pub aws: Arc<dyn ClientPool>,
    /// Events.
    pub recorder: EventRecorder,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Settings.
    pub options: Options,
    /// The clock of status timestamps.
    pub clock: fn() -> Timestamp,
    /// What the cluster serves.
    pub served: Served,
    /// What is remembered of each object.
    pub objects: Objects,
}

/// What the controller remembers of each object between two reconciles. Bounded by the objects that exist.
#[derive(Debug)]
pub struct Objects {
    pub(super) limiter: Arc<OperationLimiter>,
    caches: Mutex<HashMap<Key, ReconcileCache>>,
    shown: Mutex<HashMap<Key, Vec<ConditionType>>>,
    exports: Mutex<HashMap<Key, Mark>>,
}

impl Objects {
    /// Remembers nothing yet; at most `stack_operations` run at once.
    pub fn new(stack_operations: u16) -> Self {
        let limiter = Arc::new(OperationLimiter::new(stack_operations));
        Self { limiter, caches: Mutex::default(), shown: Mutex::default(), exports: Mutex::default() }
    }
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Label of the metrics.
    pub result: ReconcileResult,
    /// When to reconcile again if no event arrives before.
    pub requeue_after: Option<Duration>,
}

impl Context {
    /// The cache of an object, which is never reconciled twice at once.
    pub(super) fn recall(&self, key: &Key, uid: &str) -> Option<ReconcileCache> {
        let caches = self.objects.caches.lock().unwrap_or_else(PoisonError::into_inner);
        caches.get(key).filter(|cache| cache.uid == uid).cloned()
    }

    pub(super) fn remember(&self, key: &Key, cache: ReconcileCache) {
        self.objects.caches.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), cache);
    }

    /// The object is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.objects.caches.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.objects.limiter.release(key);
        self.show(key, None);
        self.mark_exports(key, None);
    }

    /// Counts one more failure of an object and says how many there were in a row. Where the object cannot be read the failure counts
    /// for the wish that was known last.
    pub(super) fn count_failure(&self, key: &Key, stored: Option<&Stored>, failure_kind: FailureKind) -> RetryState {
        let mut caches = self.objects.caches.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Failures of an object in a row.
    pub(super) fn failures(&self, key: &Key) -> u32 {
        let caches = self.objects.caches.lock().unwrap_or_else(PoisonError::into_inner);
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
        let on: Option<Vec<_>> =
            status.map(|status| SHOWN.into_iter().filter(|kind| status::is_true(status, *kind)).collect());
        let mut shown = self.objects.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // Counting goes over all systems, and most looks change nothing.
        if shown.get(key) == on.as_ref() {
            return;
        }
        match on {
            Some(on) => drop(shown.insert(key.clone(), on)),
            None => drop(shown.remove(key)),
        }
        for kind in SHOWN {
            self.metrics.systems(kind, shown.values().filter(|on| on.contains(&kind)).count());
        }
    }

    pub(super) fn mark_exports(&self, key: &Key, mark: Option<Mark>) {
        let mut marks = self.objects.exports.lock().unwrap_or_else(PoisonError::into_inner);
        match mark {
            Some(mark) => drop(marks.insert(key.clone(), mark)),
            None => drop(marks.remove(key)),
        }
        let covered = marks.values().filter_map(|mark| mark.covered).min();
        self.metrics.exports_stand(covered, marks.values().filter_map(|mark| mark.deadline).min());
    }

    /// Writes a status if it says something new, and tells what changed. It is told first: a process that ends between the two leaves it
    /// to be told once more, and not never.
    pub(super) async fn publish(
        &self,
        stored: &Stored,
        mut next: DispatchSystemStatus,
        begun: Vec<ObjectEvent>,
    ) -> Result<(), ReconcileError> {
        next.operator_version = Some(env!("CARGO_PKG_VERSION").to_owned());
        let (next, previous) = (&next, status_of(stored));
        let (namespace, name) = place(stored);
        let differs = previous.as_ref().is_none_or(|previous| to_value(previous) != to_value(next));
        let mut told = begun;
        if differs {
            told.extend(events::events_between(previous.as_ref(), next));
            self.count(stored, previous.as_ref(), next, &told);
        }
        self.recorder.publish(stored, told).await;
        if differs {
            self.cluster.set_status(stored, next).await?;
        }
        self.show(&(namespace.to_owned(), name.to_owned()), Some(next));
        Ok(())
    }
}

impl Context {
    /// Counts what two statuses show to have happened between them.
    fn count(
        &self,
        stored: &Stored,
        before: Option<&DispatchSystemStatus>,
        after: &DispatchSystemStatus,
        told: &[ObjectEvent],
    ) {
        let created = stored.metadata.creation_timestamp.as_ref().map(|at| at.0);
        if let Some((kind, took)) = created.and_then(|created| timing::time_to_ready(before, after, created)) {
            self.metrics.became_ready(kind, took);
        }
        if let Some(took) = timing::time_drifted(before, after) {
            self.metrics.drift_ended(took);
        }
        for ObjectEvent { reason, .. } in told {
            match reason {
                EventReason::DriftDetected => self.metrics.drift_detected(),
                EventReason::DriftCorrected => self.metrics.drift_corrected(),
                _ => {}
            }
        }
    }
}

/// What is wanted of an object, as far as failures in a row belong to it.
pub(super) fn revision_of(stored: &Stored) -> Revision {
    Revision { generation: generation_of(stored), requested: annotation(stored, RECONCILE_REQUESTED_AT) }
}
