//! What the controller remembers of an object between two reconciles. All of it can be lost: it only saves calls.

use std::time::Duration;

use dispatch_api::dispatch_system::{DeletionPolicy, DispatchSystemStatus};
use tokio::time::Instant;

use super::streak::Streak;
use crate::reconcile::{DriftLook, Mode};
use crate::status::ConnectionFinding;

/// What a reconcile of AWS depends on besides AWS. While it is the same and no look is due, AWS is not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
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
    /// Only when the fingerprint changes: AWS refused, or a person is asked.
    OnChange,
}

/// Memory of one object.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Which object of this name.
    pub uid: String,
    /// What the last look depended on.
    pub fingerprint: Option<Fingerprint>,
    /// When AWS is asked again.
    pub next: NextLook,
    /// What the last look found, without the workers.
    pub base: Option<DispatchSystemStatus>,
    /// When the parts that drift are looked at again.
    pub next_drift: Option<Instant>,
    /// Looks at an operation that still ran, in a row.
    pub waits: u32,
    /// Failures in a row.
    pub streak: Streak,
    /// Exports.
    pub exports: ExportMemory,
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

/// Memory of an object's scheduled exports.
#[derive(Clone, Debug, Default)]
pub struct ExportMemory {
    /// DynamoDB is not asked before then: for the state of an export, or to start one that it did not start.
    pub not_before: Option<Instant>,
    /// Exports that were not started, in a row.
    pub failures: u32,
    /// How many of them DynamoDB has refused for what they ask for.
    pub refusals: u32,
    /// Why the last one was not.
    pub not_started: Option<String>,
}

impl ExportMemory {
    /// How long DynamoDB is not to be asked yet.
    pub fn wait(&self) -> Option<Duration> {
        let left = self.not_before?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

impl Memory {
    /// Of an object this process sees for the first time.
    pub fn of(uid: &str) -> Self {
        Self { uid: uid.to_owned(), ..Self::default() }
    }

    /// Of an object that an earlier process left in sync: the first look may wait, so that a restart is no stampede.
    pub fn in_sync(uid: &str, status: &DispatchSystemStatus, fingerprint: Fingerprint, first_look: Instant) -> Self {
        Self {
            fingerprint: Some(fingerprint),
            next: NextLook::At(first_look),
            base: Some(status.clone()),
            next_drift: Some(first_look),
            ..Self::of(uid)
        }
    }

    /// Whether AWS is to be asked now.
    pub fn is_due(&self, fingerprint: &Fingerprint, now: Instant) -> bool {
        let due = match self.next {
            NextLook::Now => true,
            NextLook::At(moment) => now >= moment,
            NextLook::OnChange => false,
        };
        due || self.base.is_none() || self.fingerprint.as_ref() != Some(fingerprint)
    }

    /// Whether the parts that drift are to be looked at. A new generation always is.
    pub fn drift_look(&self, fingerprint: &Fingerprint, interval_s: u32, now: Instant) -> DriftLook {
        let changed = self.fingerprint.as_ref() != Some(fingerprint);
        let due = self.next_drift.is_none_or(|moment| now >= moment);
        if interval_s > 0 && (changed || due) { DriftLook::Look } else { DriftLook::Skip }
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

    fn fingerprint(generation: i64) -> Fingerprint {
        Fingerprint {
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
        let memory = Memory::in_sync("u", &DispatchSystemStatus::default(), fingerprint(1), later);
        assert!(!memory.is_due(&fingerprint(1), now));
        assert!(memory.is_due(&fingerprint(1), later));
        assert!(memory.is_due(&fingerprint(2), now));
        let asked = Fingerprint { requested: Some("now".to_owned()), ..fingerprint(1) };
        assert!(memory.is_due(&asked, now));
        assert!(Memory::of("u").is_due(&fingerprint(1), now));
        let refused = Memory { next: NextLook::OnChange, ..memory };
        assert!(!refused.is_due(&fingerprint(1), later));
        assert!(refused.is_due(&fingerprint(2), later));
    }

    #[tokio::test(start_paused = true)]
    async fn drift_is_looked_for_at_its_own_interval_and_not_at_all_where_it_is_zero() {
        let now = Instant::now();
        let later = now + Duration::from_mins(10);
        let memory = Memory::in_sync("u", &DispatchSystemStatus::default(), fingerprint(1), later);
        assert_eq!(memory.drift_look(&fingerprint(1), 600, now), DriftLook::Skip);
        assert_eq!(memory.drift_look(&fingerprint(1), 600, later), DriftLook::Look);
        assert_eq!(memory.drift_look(&fingerprint(2), 600, now), DriftLook::Look);
        assert_eq!(memory.drift_look(&fingerprint(2), 0, later), DriftLook::Skip);
    }
}
