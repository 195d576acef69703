//! Failures of one object in a row, and when they are so many that going on as before helps nobody. Pure.

use dispatch_api::conditions::RETRY_LIMIT_REACHED;
use dispatch_api::dispatch_system::DispatchSystemStatus;

use crate::status;

/// Failures in a row, of those that do not obviously pass, after which a system is stalled. With pauses that grow to five minutes that is
/// three quarters of an hour: longer than a region's trouble or a right that is just being given, shorter than a working day.
pub const RETRY_LIMIT: u32 = 20;

/// Whether a failure obviously passes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It does: AWS asks for patience, or somebody else was faster.
    Passing,
    /// It may last: a missing right, a quota, a service without an answer.
    Lasting,
}

/// What somebody wants tried. Another wish begins another streak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Generation of the spec.
    pub generation: i64,
    /// Annotation that asks for a reconcile.
    pub requested: Option<String>,
}

/// Failures in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    wish: Wish,
    /// All of them.
    pub failures: u32,
    lasting: u32,
}

impl Streak {
    /// The streak an earlier process has left in the status. Of those below the limit only the number is known, which sets the pace.
    pub fn restored(status: Option<&DispatchSystemStatus>, wish: &Wish) -> Self {
        let same = |status: &&DispatchSystemStatus| {
            status.observed_generation == wish.generation && status.last_handled_reconcile_at == wish.requested
        };
        let Some(status) = status.filter(same) else { return Self { wish: wish.clone(), ..Self::default() } };
        let spent = status::stalled_for(status, RETRY_LIMIT_REACHED);
        let failures = status.failures_in_a_row.unwrap_or(0);
        Self { wish: wish.clone(), failures, lasting: if spent { RETRY_LIMIT } else { 0 } }
    }

    /// With one failure more.
    #[must_use]
    pub fn and(&self, wish: &Wish, nature: Nature) -> Self {
        let before = if self.wish == *wish { self.clone() } else { Self { wish: wish.clone(), ..Self::default() } };
        let lasting = before.lasting.saturating_add(u32::from(nature == Nature::Lasting));
        Self { failures: before.failures.saturating_add(1), lasting, ..before }
    }

    /// With one failure more of what was wanted last.
    #[must_use]
    pub fn and_again(&self, nature: Nature) -> Self {
        self.and(&self.wish, nature)
    }

    /// Whether trying again at the usual pace has come to its end.
    pub fn is_spent(&self) -> bool {
        self.lasting >= RETRY_LIMIT
    }

    /// The number the status shows: it grows in steps, so that failing costs few writes.
    pub fn told(&self) -> Option<u32> {
        match self.failures {
            0 => None,
            _ if self.is_spent() => Some(RETRY_LIMIT),
            failures => Some(1 << failures.ilog2()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(generation: i64, requested: Option<&str>) -> Wish {
        Wish { generation, requested: requested.map(str::to_owned) }
    }

    fn after(failures: u32, nature: Nature) -> Streak {
        (0..failures).fold(Streak::default(), |streak, _| streak.and(&wish(1, None), nature))
    }

    #[test]
    fn failures_that_may_last_end_at_the_limit_and_throttling_never_does() {
        assert!(!after(RETRY_LIMIT - 1, Nature::Lasting).is_spent());
        assert!(after(RETRY_LIMIT, Nature::Lasting).is_spent());
        assert!(!after(10_000, Nature::Passing).is_spent());
        let mixed = after(RETRY_LIMIT - 1, Nature::Lasting).and(&wish(1, None), Nature::Passing);
        assert!(!mixed.is_spent() && mixed.and(&wish(1, None), Nature::Lasting).is_spent());
    }

    #[test]
    fn an_edit_or_a_request_begins_anew() {
        let spent = after(RETRY_LIMIT, Nature::Lasting);
        for other in [wish(2, None), wish(1, Some("now"))] {
            let anew = spent.and(&other, Nature::Lasting);
            assert_eq!((anew.failures, anew.is_spent()), (1, false));
        }
        assert!(spent.and(&wish(1, None), Nature::Passing).is_spent(), "nothing else does");
    }

    #[test]
    fn counting_to_a_hundred_is_told_in_seven_steps() {
        let mut told: Vec<Option<u32>> = (0..=100).map(|failures| after(failures, Nature::Passing).told()).collect();
        told.dedup();
        let steps = [None, Some(1), Some(2), Some(4), Some(8), Some(16), Some(32), Some(64)];
        assert_eq!(told, steps);
        assert_eq!(after(RETRY_LIMIT + 30, Nature::Lasting).told(), Some(RETRY_LIMIT), "then it stays");
    }

    #[test]
    fn a_restart_forgets_neither_the_limit_nor_the_pace() {
        let frame = |generation| status::Frame { generation, previous: None, now: jiff::Timestamp::UNIX_EPOCH };
        let mut stalled = status::unfinished(&frame(1), status::Trio::Stalled, RETRY_LIMIT_REACHED, "no");
        stalled.failures_in_a_row = Some(RETRY_LIMIT);
        assert!(Streak::restored(Some(&stalled), &wish(1, None)).is_spent());
        assert!(!Streak::restored(Some(&stalled), &wish(2, None)).is_spent());
        let mut failing = status::unfinished(&frame(1), status::Trio::Reconciling, "AwsThrottled", "slow");
        failing.failures_in_a_row = Some(8);
        let restored = Streak::restored(Some(&failing), &wish(1, None));
        assert_eq!((restored.failures, restored.is_spent()), (8, false));
    }
}
