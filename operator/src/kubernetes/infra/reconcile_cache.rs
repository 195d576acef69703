//! What the controller remembers of an object between two reconciles. All of it can be lost: it only saves calls.

use std::time::Duration;

use dispatch_api::dispatch_system::{DeletionPolicy, DispatchSystemStatus};
use tokio::time::Instant;

use crate::engine::settings::{DriftDetection, Mode};
use crate::engine::status::ConnectionFinding;
use crate::kubernetes::policy::retry::RetryState;

/// What a reconcile of AWS depends on besides AWS. While it is the same and no look is due, AWS is not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputDigest {
    /// Generation of the spec.
    pub generation: i64,
    /// Annotation that asks for a reconcile.
    pub requested: Option<String>,
    /// Annotation that approves a plan.
    pub approved: Option<String>,
    /// Annotation that adopts a stack.
    pub adopted: Option<String>,
    /// What becomes of the data, which the namespace may have changed.
    pub policy: DeletionPolicy,
    /// Whether the annotation asks for a plan only.
    pub mode: Mode,
    /// Annotation that names resources to leave behind.
    pub skipped: Option<String>,
    /// Digest of the secrets; never leaves this process.
    pub secrets: String,
}

/// When AWS is asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextLook {
    /// At once.
    #[default]
    Now,
    /// At a moment.
    At(Instant),
    /// Only when the input_digest changes: AWS refused, or a person is asked.
    OnChange,
}

/// ReconcileCache of one object.
#[derive(Clone, Debug, Default)]
pub struct ReconcileCache {
    /// Which object of this name.
    pub uid: String,
    /// What the last look depended on.
    pub input_digest: Option<InputDigest>,
    /// When AWS is asked again.
    pub next: NextLook,
    /// What the last look found, without the workers.
    pub base: Option<DispatchSystemStatus>,
    /// When the parts that drift are looked at again.
    pub next_drift: Option<Instant>,
    /// Looks at an operation that still ran, in a row.
    pub waits: u32,
    /// Failures in a row.
    pub retry_state: RetryState,
    /// Exports.
    pub exports: ExportCache,
    /// A Secret that may not be written.
    pub denied: Option<DeniedSecret>,
}

/// What was found when the operator was not allowed to write the connection's Secret. It is not tried again at every look.
#[derive(Clone, Debug)]
pub struct DeniedSecret {
    /// When it is.
    pub until: Instant,
    /// Generation of the spec that wanted it.
    pub generation: i64,
    /// What was found.
    pub finding: ConnectionFinding,
}

/// ReconcileCache of an object's scheduled exports.
#[derive(Clone, Debug, Default)]
pub struct ExportCache {
    /// DynamoDB is not asked before then: for the state of an export, or to start one that it did not start.
    pub not_before: Option<Instant>,
    /// Exports that were not started, in a row.
    pub failures: u32,
    /// How many of them DynamoDB has refused for what they ask for.
    pub refusals: u32,
    /// Why the last one was not.
    pub not_started: Option<String>,
}

impl ExportCache {
    /// How long DynamoDB is not to be asked yet.
    pub fn wait(&self) -> Option<Duration> {
        let left = self.not_before?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

impl ReconcileCache {
    /// Of an object this process sees for the first time.
    pub fn new(uid: &str) -> Self {
        Self { uid: uid.to_owned(), ..Self::default() }
    }

    /// Of an object that an earlier process left in sync: the first look may wait, so that a restart is no stampede.
    pub fn in_sync(uid: &str, status: &DispatchSystemStatus, input_digest: InputDigest, first_look: Instant) -> Self {
        Self {
            input_digest: Some(input_digest),
            next: NextLook::At(first_look),
            base: Some(status.clone()),
            next_drift: Some(first_look),
            ..Self::new(uid)
        }
    }

    /// Whether AWS is to be asked now.
    pub fn is_due(&self, input_digest: &InputDigest, now: Instant) -> bool {
        let due = match self.next {
            NextLook::Now => true,
            NextLook::At(moment) => now >= moment,
            NextLook::OnChange => false,
        };
        due || self.base.is_none() || self.input_digest.as_ref() != Some(input_digest)
    }

    /// Whether the parts that drift are to be looked at. A new generation always is.
    pub fn drift_look(&self, input_digest: &InputDigest, interval_s: u32, now: Instant) -> DriftDetection {
        let changed = self.input_digest.as_ref() != Some(input_digest);
        let due = self.next_drift.is_none_or(|moment| now >= moment);
        if interval_s > 0 && (changed || due) { DriftDetection::Look } else { DriftDetection::Skip }
    }

    /// Time until AWS is asked again.
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
            approved: None,
            adopted: None,
            skipped: None,
            mode: Mode::CarryOut,
            policy: DeletionPolicy::Retain,
            secrets: "none".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn aws_is_asked_when_something_changed_or_a_look_is_due() {
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
    async fn drift_is_looked_for_at_its_own_interval_and_not_at_all_where_it_is_zero() {
        let now = Instant::now();
        let later = now + Duration::from_mins(10);
        let memory = ReconcileCache::in_sync("u", &DispatchSystemStatus::default(), input_digest(1), later);
        assert_eq!(memory.drift_look(&input_digest(1), 600, now), DriftDetection::Skip);
        assert_eq!(memory.drift_look(&input_digest(1), 600, later), DriftDetection::Look);
        assert_eq!(memory.drift_look(&input_digest(2), 600, now), DriftDetection::Look);
        assert_eq!(memory.drift_look(&input_digest(2), 0, later), DriftDetection::Skip);
    }
}
