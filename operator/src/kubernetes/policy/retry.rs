//! Counts consecutive failures of an object and decides when retrying at the usual pace no longer helps. Pure.

use dispatch_api::conditions::Reason;
use dispatch_api::dispatch_system::DispatchSystemStatus;

use crate::engine::status;

/// Consecutive persistent failures after which a system is stalled. With a backoff of up to five minutes the limit is
/// reached after about 45 minutes: longer than a short regional outage or the propagation of a new permission, shorter
/// than a working day.
pub const RETRY_LIMIT: u32 = 20;

/// Consecutive failures before `Ready` turns false or a deletion is reported as blocked; a single failed call changes
/// neither.
pub const FAILURES_TOLERATED: u32 = 3;

/// Whether a failure is expected to pass without any change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It will pass: AWS throttles, or the API server is unavailable.
    Transient,
    /// It may persist: a missing permission, a quota, a service that does not answer.
    Persistent,
}

/// What the user requested. A new revision resets the retry state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// Generation of the spec.
    pub generation: i64,
    /// Annotation that requests a reconcile.
    pub requested: Option<String>,
}

/// Consecutive failures of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryState {
    revision: Revision,
    /// All failures, transient ones included.
    pub failures: u32,
    persistent: u32,
}

impl RetryState {
    /// Restores the state that an earlier process wrote into the status. Below the limit, only the total is known; it
    /// determines the backoff.
    pub fn restored(status: Option<&DispatchSystemStatus>, revision: &Revision) -> Self {
        let same = |status: &&DispatchSystemStatus| {
            status.observed_generation == revision.generation && status.last_handled_reconcile_at == revision.requested
        };
        let Some(status) = status.filter(same) else { return Self { revision: revision.clone(), ..Self::default() } };
        let spent = status::stalled_for(status, Reason::RetryLimitReached);
        let failures = status.failures_in_a_row.unwrap_or(0);
        Self { revision: revision.clone(), failures, persistent: if spent { RETRY_LIMIT } else { 0 } }
    }

    /// Adds a failure.
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

    /// Adds a failure of the last known revision.
    #[must_use]
    pub fn with_repeated_failure(&self, failure_kind: FailureKind) -> Self {
        self.with_failure(&self.revision, failure_kind)
    }

    /// Whether the retry limit is reached.
    pub fn is_exhausted(&self) -> bool {
        self.persistent >= RETRY_LIMIT
    }

    /// The number shown in the status. It grows in powers of two, so that failures cause few writes.
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
    fn persistent_failures_reach_the_limit_and_throttling_never_does() {
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
    fn an_edit_or_a_request_resets_the_retry_state() {
        let spent = after(RETRY_LIMIT, FailureKind::Persistent);
        for other in [revision(2, None), revision(1, Some("now"))] {
            let reset = spent.with_failure(&other, FailureKind::Persistent);
            assert_eq!((reset.failures, reset.is_exhausted()), (1, false));
        }
        assert!(spent.with_failure(&revision(1, None), FailureKind::Transient).is_exhausted(), "nothing else does");
    }

    #[test]
    fn a_hundred_failures_are_reported_in_seven_steps() {
        let mut reported: Vec<Option<u32>> =
            (0..=100).map(|failures| after(failures, FailureKind::Transient).reported()).collect();
        reported.dedup();
        let steps = [None, Some(1), Some(2), Some(4), Some(8), Some(16), Some(32), Some(64)];
        assert_eq!(reported, steps);
        assert_eq!(after(RETRY_LIMIT + 30, FailureKind::Persistent).reported(), Some(RETRY_LIMIT), "then it stays");
    }

    #[test]
    fn a_restart_preserves_the_limit_and_the_backoff() {
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
