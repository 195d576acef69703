//! Failures of one object in a row, and when they are so many that going on as before helps nobody. Pure.

use dispatch_api::conditions::Reason;
use dispatch_api::dispatch_system::DispatchSystemStatus;

use crate::engine::status;

/// Failures in a row, of those that do not obviously pass, after which a system is stalled. With requeue that grow to five minutes that is
/// three quarters of an hour: longer than a region's trouble or a right that is just being given, shorter than a working day.
pub const RETRY_LIMIT: u32 = 20;

/// Failures in a row after which a system that was ready is called ready no more, and a deletion blocked. A call that failed once says
/// nothing of either.
pub const FAILURES_TOLERATED: u32 = 3;

/// Whether a failure obviously passes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It does: AWS asks for wait_policy, or somebody else was faster.
    Transient,
    /// It may last: a missing right, a quota, a service without an answer.
    Persistent,
}

/// What somebody wants tried. Another revision begins another retry_state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// Generation of the spec.
    pub generation: i64,
    /// Annotation that asks for a reconcile.
    pub requested: Option<String>,
}

/// Failures in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryState {
    revision: Revision,
    /// All of them.
    pub failures: u32,
    persistent: u32,
}

impl RetryState {
    /// The retry_state an earlier process has left in the status. Of those below the limit only the number is known, which sets the pace.
    pub fn restored(status: Option<&DispatchSystemStatus>, revision: &Revision) -> Self {
        let same = |status: &&DispatchSystemStatus| {
            status.observed_generation == revision.generation && status.last_handled_reconcile_at == revision.requested
        };
        let Some(status) = status.filter(same) else { return Self { revision: revision.clone(), ..Self::default() } };
        let spent = status::stalled_for(status, Reason::RetryLimitReached);
        let failures = status.failures_in_a_row.unwrap_or(0);
        Self { revision: revision.clone(), failures, persistent: if spent { RETRY_LIMIT } else { 0 } }
    }

    /// With one failure more.
    #[must_use]
    pub fn with_failure(&self, revision: &Revision, failure_kind: FailureKind) -> Self {
        let before = if self.revision == *revision {
            self.clone()
        } else {
            Self { revision: revision.clone(), ..Self::default() }
        };
        let persistent = before.persistent.saturating_add(u32::from(failure_kind == FailureKind::Persistent));
        Self { failures: before.failures.saturating_add(1), persistent, ..before }
    }

    /// With one failure more of what was wanted last.
    #[must_use]
    pub fn with_repeated_failure(&self, failure_kind: FailureKind) -> Self {
        self.with_failure(&self.revision, failure_kind)
    }

    /// Whether trying again at the usual pace has come to its end.
    pub fn is_exhausted(&self) -> bool {
        self.persistent >= RETRY_LIMIT
    }

    /// The number the status shows: it grows in steps, so that failing costs few writes.
    pub fn reported(&self) -> Option<u32> {
        match self.failures {
            0 => None,
            _ if self.is_exhausted() => Some(RETRY_LIMIT),
            failures => Some(1 << failures.ilog2()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(generation: i64, requested: Option<&str>) -> Revision {
        Revision { generation, requested: requested.map(str::to_owned) }
    }

    fn after(failures: u32, failure_kind: FailureKind) -> RetryState {
        (0..failures)
            .fold(RetryState::default(), |retry_state, _| retry_state.with_failure(&revision(1, None), failure_kind))
    }

    #[test]
    fn failures_that_may_last_end_at_the_limit_and_throttling_never_does() {
        assert!(!after(RETRY_LIMIT - 1, FailureKind::Persistent).is_exhausted());
        assert!(after(RETRY_LIMIT, FailureKind::Persistent).is_exhausted());
        assert!(!after(10_000, FailureKind::Transient).is_exhausted());
        let mixed =
            after(RETRY_LIMIT - 1, FailureKind::Persistent).with_failure(&revision(1, None), FailureKind::Transient);
        assert!(
            !mixed.is_exhausted() && mixed.with_failure(&revision(1, None), FailureKind::Persistent).is_exhausted()
        );
    }

    #[test]
    fn an_edit_or_a_request_begins_anew() {
        let spent = after(RETRY_LIMIT, FailureKind::Persistent);
        for other in [revision(2, None), revision(1, Some("now"))] {
            let anew = spent.with_failure(&other, FailureKind::Persistent);
            assert_eq!((anew.failures, anew.is_exhausted()), (1, false));
        }
        assert!(spent.with_failure(&revision(1, None), FailureKind::Transient).is_exhausted(), "nothing else does");
    }

    #[test]
    fn counting_to_a_hundred_is_told_in_seven_steps() {
        let mut told: Vec<Option<u32>> =
            (0..=100).map(|failures| after(failures, FailureKind::Transient).reported()).collect();
        told.dedup();
        let steps = [None, Some(1), Some(2), Some(4), Some(8), Some(16), Some(32), Some(64)];
        assert_eq!(told, steps);
        assert_eq!(after(RETRY_LIMIT + 30, FailureKind::Persistent).reported(), Some(RETRY_LIMIT), "then it stays");
    }

    #[test]
    fn a_restart_forgets_neither_the_limit_nor_the_pace() {
        let frame = |generation| status::Frame { generation, previous: None, now: jiff::Timestamp::UNIX_EPOCH };
        let mut stalled = status::unfinished(&frame(1), status::SystemPhase::Stalled, Reason::RetryLimitReached, "no");
        stalled.failures_in_a_row = Some(RETRY_LIMIT);
        assert!(RetryState::restored(Some(&stalled), &revision(1, None)).is_exhausted());
        assert!(!RetryState::restored(Some(&stalled), &revision(2, None)).is_exhausted());
        let mut failing = status::unfinished(&frame(1), status::SystemPhase::Reconciling, Reason::AwsThrottled, "slow");
        failing.failures_in_a_row = Some(8);
        let restored = RetryState::restored(Some(&failing), &revision(1, None));
        assert_eq!((restored.failures, restored.is_exhausted()), (8, false));
    }
}
