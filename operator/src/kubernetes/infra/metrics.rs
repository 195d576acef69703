//! Metrics of the operator. Label values come from closed sets; object names are never used.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use dispatch_api::conditions::{ConditionType, EventReason};

use crate::kubernetes::infra::metric_labels::{After, CallResult, ErrorSource, ExportResult, ReconcileResult};

/// Reconciles by outcome, see [`ReconcileResult`]. The registry adds `_total` to every counter.
pub const RECONCILES: &str = "dispatch_operator_reconciles";
/// Duration of reconciles; the registry adds `_seconds`.
pub const RECONCILE_DURATION: &str = "dispatch_operator_reconcile_duration";
/// Failed reconciles by kind, see [`ErrorSource`].
pub const RECONCILE_ERRORS: &str = "dispatch_operator_reconcile_errors";
/// Reconciles that panicked.
pub const PANICS: &str = "dispatch_operator_reconcile_panics";
/// Failures of watches by kind of object. Each attempt of a failing watch counts.
pub const WATCH_ERRORS: &str = "dispatch_operator_watch_errors";
/// AWS calls by service, operation and outcome, see [`CallResult`]. A call and the SDK's retries of it count once.
pub const AWS_CALLS: &str = "dispatch_operator_aws_calls";
/// Duration of AWS calls; the registry adds `_seconds`.
pub const AWS_CALL_DURATION: &str = "dispatch_operator_aws_call_duration";
/// Writes to Kubernetes by kind of object and verb.
pub const KUBERNETES_WRITES: &str = "dispatch_operator_kubernetes_writes";
/// Events published, by reason.
pub const EVENTS: &str = "dispatch_operator_events";
/// 1 while this replica is the leader.
pub const LEADER: &str = "dispatch_operator_leader";
/// Systems by condition that is true.
pub const SYSTEMS: &str = "dispatch_operator_systems";
/// Systems whose workers were started and of which a role has no ready Pod.
pub const UNAVAILABLE: &str = "dispatch_operator_systems_unavailable";
/// Scheduled exports by outcome, see [`ExportResult`].
pub const EXPORTS: &str = "dispatch_operator_exports";
/// Unix time, s, up to which completed exports cover every table: the minimum over all systems. 0 while no system has
/// both a schedule and a completed export.
pub const EXPORTS_COVER: &str = "dispatch_operator_exports_cover_timestamp_seconds";
/// Unix time, s, at which a system will have had no completed export for two slots of its schedule: the minimum over
/// all systems. 0 while no system has a schedule.
pub const EXPORTS_DEADLINE: &str = "dispatch_operator_exports_deadline_timestamp_seconds";

/// Reconciles in progress, at most `--concurrency`. kube does not expose the length of its queue; while this gauge
/// stays at the limit, systems are waiting.
pub const ACTIVE: &str = "dispatch_operator_reconciles_active";
/// Time until a system is ready, `after` its `creation` or after a `change` of its spec or a failure; the registry adds
/// `_seconds`.
pub const TIME_TO_READY: &str = "dispatch_operator_time_to_ready";
/// Time from the deletion of an object until its environment is deleted; the registry adds `_seconds`.
pub const DELETION_DURATION: &str = "dispatch_operator_deletion_duration";
/// Number of times drift was detected.
pub const DRIFT_DETECTED: &str = "dispatch_operator_drift_detected";
/// Number of times drift was corrected.
pub const DRIFT_CORRECTED: &str = "dispatch_operator_drift_corrected";
/// Time that drift persisted. Drift that is corrected in the reconcile that detects it is not included. The registry
/// adds `_seconds`.
pub const DRIFT_DURATION: &str = "dispatch_operator_drift_duration";

/// Upper bounds of the long histograms, s: from a change of the workers, over a new cache, which takes up to half an
/// hour, to a day of drift.
const LONG_BUCKETS_S: [f64; 11] = [5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 86_400.0];
/// Upper bounds of the short histograms, s: from a reconcile with nothing to do to the deadline of a reconcile.
const BUCKETS_S: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 90.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    outcome: ReconcileResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExportLabels {
    outcome: ExportResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    kind: ErrorSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AwsCall {
    service: &'static str,
    operation: &'static str,
    code: CallResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Service {
    service: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabel {
    condition: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AfterLabels {
    after: After,
}

/// All metrics of the operator. Shared behind an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_duration: Histogram,
    errors: Family<ErrorLabels, Counter>,
    panics: Counter,
    watch_errors: Family<WatchLabels, Counter>,
    aws_calls: Family<AwsCall, Counter>,
    aws_duration: Family<Service, Histogram>,
    writes: Family<Write, Counter>,
    events: Family<Reason, Counter>,
    leader: Gauge,
    systems: Family<ConditionLabel, Gauge>,
    unavailable: Gauge,
    exports: Family<ExportLabels, Counter>,
    exports_cover: Gauge,
    exports_deadline: Gauge,
    active: Gauge,
    time_to_ready: Family<AfterLabels, Histogram>,
    deletion: Histogram,
    drift_detected: Counter,
    drift_corrected: Counter,
    drift_duration: Histogram,
}

/// Guard of a reconcile in progress; dropping it ends the reconcile, even after a panic.
#[derive(Debug)]
pub struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates and registers all metrics.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            reconciles: Family::default(),
            reconcile_duration: Histogram::new(BUCKETS_S),
            errors: Family::default(),
            panics: Counter::default(),
            watch_errors: Family::default(),
            aws_calls: Family::default(),
            aws_duration: Family::new_with_constructor(|| Histogram::new(BUCKETS_S)),
            writes: Family::default(),
            events: Family::default(),
            leader: Gauge::default(),
            systems: Family::default(),
            unavailable: Gauge::default(),
            active: Gauge::default(),
            time_to_ready: Family::new_with_constructor(|| Histogram::new(LONG_BUCKETS_S)),
            deletion: Histogram::new(LONG_BUCKETS_S),
            drift_detected: Counter::default(),
            drift_corrected: Counter::default(),
            drift_duration: Histogram::new(LONG_BUCKETS_S),
            exports: Family::default(),
            exports_cover: Gauge::default(),
            exports_deadline: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let all = &mut self.registry;
        all.register(RECONCILES, "Reconciles by outcome", self.reconciles.clone());
        let (text, seconds) = ("Duration of reconciles", Unit::Seconds);
        all.register_with_unit(RECONCILE_DURATION, text, seconds.clone(), self.reconcile_duration.clone());
        all.register(RECONCILE_ERRORS, "Failed reconciles by kind", self.errors.clone());
        all.register(PANICS, "Reconciles that panicked", self.panics.clone());
        all.register(WATCH_ERRORS, "Failures of watches by kind of object", self.watch_errors.clone());
        all.register(AWS_CALLS, "AWS calls by service, operation and outcome", self.aws_calls.clone());
        all.register_with_unit(AWS_CALL_DURATION, "Duration of AWS calls", seconds.clone(), self.aws_duration.clone());
        all.register(KUBERNETES_WRITES, "Writes to Kubernetes by kind and verb", self.writes.clone());
        all.register(EVENTS, "Events published by reason", self.events.clone());
        all.register(LEADER, "1 while this replica is the leader", self.leader.clone());
        all.register(SYSTEMS, "Systems by condition that is true", self.systems.clone());
        let text = "Started systems of which a worker role has no ready Pod";
        all.register(UNAVAILABLE, text, self.unavailable.clone());
        all.register(ACTIVE, "Reconciles in progress", self.active.clone());
        let (text, ready) = ("Time until a system is ready", self.time_to_ready.clone());
        all.register_with_unit(TIME_TO_READY, text, seconds.clone(), ready);
        let text = "Time until the environment of a deleted system is deleted";
        all.register_with_unit(DELETION_DURATION, text, seconds.clone(), self.deletion.clone());
        all.register(DRIFT_DETECTED, "Number of times drift was detected", self.drift_detected.clone());
        all.register(DRIFT_CORRECTED, "Number of times drift was corrected", self.drift_corrected.clone());
        all.register_with_unit(DRIFT_DURATION, "Time that drift persisted", seconds, self.drift_duration.clone());
        all.register(EXPORTS, "Scheduled exports by outcome", self.exports.clone());
        let text = "Unix time up to which completed exports cover every table";
        all.register(EXPORTS_COVER, text, self.exports_cover.clone());
        let text = "Unix time at which a system will have had no completed export for two scheduled times";
        all.register(EXPORTS_DEADLINE, text, self.exports_deadline.clone());
    }

    /// The response body of `/metrics`, in the `OpenMetrics` text format.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// Records a reconcile.
    pub fn reconciled(&self, outcome: ReconcileResult, took: Duration) {
        self.reconciles.get_or_create(&ReconcileLabels { outcome }).inc();
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// Counts a failed reconcile.
    pub fn failed(&self, kind: ErrorSource) {
        self.errors.get_or_create(&ErrorLabels { kind }).inc();
    }

    /// Counts a panic.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Counts a failure of the watch of a kind.
    pub fn watch_failed(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&WatchLabels { kind }).inc();
    }

    /// Records an AWS call: service and operation, result, duration.
    pub fn aws_call(&self, call: (&'static str, &'static str), code: CallResult, took: Duration) {
        let (service, operation) = call;
        self.aws_calls.get_or_create(&AwsCall { service, operation, code }).inc();
        self.aws_duration.get_or_create(&Service { service }).observe(took.as_secs_f64());
    }

    /// Counts a write to the Kubernetes API.
    pub fn kubernetes_write(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&Write { kind, verb }).inc();
    }

    /// Counts a published event.
    pub fn event(&self, reason: EventReason) {
        self.events.get_or_create(&Reason { reason: reason.as_str() }).inc();
    }

    /// Counts a reconcile as in progress until the guard is dropped.
    #[must_use]
    pub fn begins(&self) -> UnderWay {
        self.active.inc();
        UnderWay(self.active.clone())
    }

    /// Records that a system became ready.
    pub fn became_ready(&self, after: After, took: Duration) {
        self.time_to_ready.get_or_create(&AfterLabels { after }).observe(took.as_secs_f64());
    }

    /// Records that the environment of a deleted object was deleted.
    pub fn deleted(&self, took: Duration) {
        self.deletion.observe(took.as_secs_f64());
    }

    /// Counts detected drift.
    pub fn drift_detected(&self) {
        self.drift_detected.inc();
    }

    /// Counts corrected drift.
    pub fn drift_corrected(&self) {
        self.drift_corrected.inc();
    }

    /// Records the end of a system's drift.
    pub fn drift_ended(&self, took: Duration) {
        self.drift_duration.observe(took.as_secs_f64());
    }

    /// Sets whether this replica is the leader.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Counts the outcome of a scheduled export.
    pub fn export(&self, outcome: ExportResult) {
        self.exports.get_or_create(&ExportLabels { outcome }).inc();
    }

    /// Sets how far completed exports cover the tables, and when the first export becomes late.
    pub fn exports_stand(&self, cover: Option<Timestamp>, deadline: Option<Timestamp>) {
        self.exports_cover.set(cover.map_or(0, Timestamp::as_second));
        self.exports_deadline.set(deadline.map_or(0, Timestamp::as_second));
    }

    /// Sets the number of systems for which a condition is true.
    pub fn systems(&self, condition: ConditionType, count: usize) {
        self.systems
            .get_or_create(&ConditionLabel { condition: condition.as_str() })
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the number of started systems of which a role has no ready Pod.
    pub fn systems_unavailable(&self, count: usize) {
        self.unavailable.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_exposed_under_their_documented_names() {
        let metrics = Metrics::new();
        metrics.reconciled(ReconcileResult::Ready, Duration::from_millis(20));
        metrics.failed(ErrorSource::Aws);
        metrics.panicked();
        metrics.watch_failed("DispatchSystem");
        metrics.aws_call(("cloudformation", "describe"), CallResult::Ok, Duration::from_millis(3));
        metrics.kubernetes_write("DispatchSystem", "status");
        metrics.leads(true);
        metrics.systems(ConditionType::Ready, 3);
        metrics.systems_unavailable(1);
        metrics.became_ready(After::Creation, Duration::from_mins(15));
        metrics.deleted(Duration::from_secs(61));
        metrics.drift_detected();
        metrics.drift_corrected();
        metrics.drift_ended(Duration::from_secs(7));
        let under_way = [metrics.begins(), metrics.begins()];
        metrics.export(ExportResult::Completed);
        metrics.exports_stand(Timestamp::from_second(100).ok(), None);
        let text = metrics.encode().unwrap();
        for line in [
            "dispatch_operator_reconciles_total{outcome=\"ready\"} 1",
            "dispatch_operator_reconcile_duration_seconds_count 1",
            "dispatch_operator_reconcile_errors_total{kind=\"aws\"} 1",
            "dispatch_operator_reconcile_panics_total 1",
            "dispatch_operator_watch_errors_total{kind=\"DispatchSystem\"} 1",
            "dispatch_operator_aws_calls_total{service=\"cloudformation\",operation=\"describe\",code=\"ok\"} 1",
            "dispatch_operator_kubernetes_writes_total{kind=\"DispatchSystem\",verb=\"status\"} 1",
            "dispatch_operator_leader 1",
            "dispatch_operator_systems{condition=\"Ready\"} 3",
            "dispatch_operator_systems_unavailable 1",
            "dispatch_operator_time_to_ready_seconds_sum{after=\"creation\"} 900",
            "dispatch_operator_deletion_duration_seconds_sum 61",
            "dispatch_operator_drift_detected_total 1",
            "dispatch_operator_drift_corrected_total 1",
            "dispatch_operator_drift_duration_seconds_sum 7",
            "dispatch_operator_reconciles_active 2",
            "dispatch_operator_exports_total{outcome=\"completed\"} 1",
            "dispatch_operator_exports_cover_timestamp_seconds 100",
            "dispatch_operator_exports_deadline_timestamp_seconds 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        drop(under_way);
        assert!(metrics.encode().unwrap().contains("dispatch_operator_reconciles_active 0"));
    }
}
