//! What the controller caches of an object between two reconciles. All of it may be lost: it only saves calls.

use std::time::Duration;

use dispatch_api::dispatch_system::{DeletionPolicy, DispatchSystemStatus};
use tokio::time::Instant;

use crate::engine::settings::{DriftDetection, Mode};
use crate::engine::status::ConnectionFinding;
use crate::kubernetes::policy::retry::RetryState;
use crate::kubernetes::policy::tenancy::Leave;

/// The inputs of a reconcile other than AWS itself. While they are unchanged and no inspection is due, AWS is not
/// called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputDigest {
    /// Generation of the spec.
    pub generation: i64,
    /// Annotation that requests a reconcile.
    pub requested: Option<String>,
    /// What the namespace and the approval allow.
    pub leave: Leave,
    /// Deletion policy in force, which may come from the namespace.
    pub policy: DeletionPolicy,
    /// Whether the annotation requests a dry run.
    pub mode: Mode,
    /// Annotation that names resources to skip.
    pub skipped: Option<String>,
    /// Digest of the secrets. It never leaves this process.
    pub secrets: String,
}

/// When AWS is inspected again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextLook {
    /// In the next reconcile.
    #[default]
    Now,
    /// In the first reconcile from this time on.
    At(Instant),
    /// Only when the [`InputDigest`] changes: AWS rejected the input, or the user has to act.
    OnChange,
}

/// Cached state of one object.
#[derive(Clone, Debug, Default)]
pub struct ReconcileCache {
    /// UID of the object; a new object of the same name has another one.
    pub uid: String,
    /// Inputs of the last inspection of AWS.
    pub input_digest: Option<InputDigest>,
    /// When AWS is inspected again.
    pub next: NextLook,
    /// Status from the last inspection of AWS, without the workers.
    pub base: Option<DispatchSystemStatus>,
    /// Time of the next drift detection.
    pub next_drift: Option<Instant>,
    /// Consecutive inspections that found a stack operation in progress.
    pub waits: u32,
    /// Consecutive failures.
    pub retry_state: RetryState,
    /// State of the scheduled exports.
    pub exports: ExportCache,
    /// Set while the connection Secret cannot be written for lack of a permission.
    pub denied: Option<DeniedSecret>,
}

/// Result of a write of the connection Secret that was denied. The write is not retried in every reconcile.
#[derive(Clone, Debug)]
pub struct DeniedSecret {
    /// Time of the next attempt.
    pub until: Instant,
    /// Generation of the spec that requested the Secret.
    pub generation: i64,
    /// Finding to report until then.
    pub finding: ConnectionFinding,
}

/// Cached state of an object's scheduled exports.
#[derive(Clone, Debug, Default)]
pub struct ExportCache {
    /// DynamoDB is not called before this time, neither for the state of an export nor to retry a start.
    pub not_before: Option<Instant>,
    /// Consecutive failures to start an export.
    pub failures: u32,
    /// How many of them DynamoDB rejected as invalid.
    pub refusals: u32,
    /// Why the last start failed.
    pub not_started: Option<String>,
}

impl ExportCache {
    /// Time until DynamoDB may be called again; `None` if it may be called now.
    pub fn wait(&self) -> Option<Duration> {
        let left = self.not_before?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

impl ReconcileCache {
    /// For an object that this process sees for the first time.
    pub fn new(uid: &str) -> Self {
        Self { uid: uid.to_owned(), ..Self::default() }
    }

    /// For an object that an earlier process left in sync. Its first inspection can wait, so that a restart does not
    /// inspect all systems at the same time.
    pub fn in_sync(uid: &str, status: &DispatchSystemStatus, input_digest: InputDigest, first_look: Instant) -> Self {
        Self {
            input_digest: Some(input_digest),
            next: NextLook::At(first_look),
            base: Some(status.clone()),
            next_drift: Some(first_look),
            ..Self::new(uid)
        }
    }

    /// Whether AWS is to be inspected now.
    pub fn is_due(&self, input_digest: &InputDigest, now: Instant) -> bool {
        let due = match self.next {
            NextLook::Now => true,
            NextLook::At(moment) => now >= moment,
            NextLook::OnChange => false,
        };
        due || self.base.is_none() || self.input_digest.as_ref() != Some(input_digest)
    }

    /// Whether to run drift detection. A change of the inputs always triggers it, unless `interval_s` is 0.
    pub fn drift_look(&self, input_digest: &InputDigest, interval_s: u32, now: Instant) -> DriftDetection {
        let changed = self.input_digest.as_ref() != Some(input_digest);
        let due = self.next_drift.is_none_or(|moment| now >= moment);
        if interval_s > 0 && (changed || due) { DriftDetection::Look } else { DriftDetection::Skip }
    }

    /// Time until AWS is inspected again; `None` if only a change of the inputs triggers it.
    pub fn until_next(&self, now: Instant) -> Option<Duration> {
        match self.next {
            NextLook::Now => Some(Duration::ZERO),
            NextLook::At(moment) => Some(moment.saturating_duration_since(now)),
            NextLook::OnChange => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input_digest(generation: i64) -> InputDigest {
        InputDigest {
            generation,
            requested: None,
            leave: Leave::default(),
            skipped: None,
            mode: Mode::CarryOut,
            policy: DeletionPolicy::Retain,
            secrets: "none".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn aws_is_inspected_when_an_input_changed_or_an_inspection_is_due() {
        let now = Instant::now();
        let later = now + Duration::from_mins(5);
        let memory = ReconcileCache::in_sync("u", &DispatchSystemStatus::default(), input_digest(1), later);
        assert!(!memory.is_due(&input_digest(1), now));
        assert!(memory.is_due(&input_digest(1), later));
        assert!(memory.is_due(&input_digest(2), now));
        let asked = InputDigest { requested: Some("now".to_owned()), ..input_digest(1) };
        assert!(memory.is_due(&asked, now));
        assert!(ReconcileCache::new("u").is_due(&input_digest(1), now));
        let refused = ReconcileCache { next: NextLook::OnChange, ..memory };
        assert!(!refused.is_due(&input_digest(1), later));
        assert!(refused.is_due(&input_digest(2), later));
    }

    #[tokio::test(start_paused = true)]
    async fn drift_detection_has_its_own_interval_and_zero_disables_it() {
        let now = Instant::now();
        let later = now + Duration::from_mins(10);
        let memory = ReconcileCache::in_sync("u", &DispatchSystemStatus::default(), input_digest(1), later);
        assert_eq!(memory.drift_look(&input_digest(1), 600, now), DriftDetection::Skip);
        assert_eq!(memory.drift_look(&input_digest(1), 600, later), DriftDetection::Look);
        assert_eq!(memory.drift_look(&input_digest(2), 600, now), DriftDetection::Look);
        assert_eq!(memory.drift_look(&input_digest(2), 0, later), DriftDetection::Skip);
    }
}
