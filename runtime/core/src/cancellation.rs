//! Limits for users who request rides and cancel them: each cancelled request costs drivers their time.

use crate::dispatch::{Dispatch, EventType, Step};
use crate::policy::CancellationPolicy;
use crate::time::EpochMs;

/// Time after which a search that has offered the dispatch to no driver is in vain: its cancellation does not count.
/// Half of the default search budget, so that users who would wait longer are not punished for giving up.
pub const SEARCH_IN_VAIN_MS: u64 = 30_000;

/// A time of cancellation may be this far ahead of `now`, because replicas have clocks of their own. Later ones are
/// invalid, and ignored.
const AHEAD_MAX_MS: u64 = 60_000;

/// A day of the city, from midnight to midnight in its time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    pub start: EpochMs,
    /// Start of the next day.
    pub end: EpochMs,
}

/// Why a user has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Several cancellations in a short time.
    CoolDown,
    /// The cancellations of a day.
    Daily,
}

/// Time in which a user cannot request a ride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    pub until: EpochMs,
    pub limit: Limit,
}

/// Whether a step is a cancellation that counts: by the user, unless a search of [`SEARCH_IN_VAIN_MS`] had found no
/// driver. Cancellations by a driver or by the system are never the user's.
pub fn counts(before: &Dispatch, step: &Step) -> bool {
    let by_user = step.records.iter().find(|record| record.record_type == EventType::CancelledByUser);
    let in_vain =
        |at: EpochMs| before.matching.current_attempt == 0 && at.since_ms(before.created_at) >= SEARCH_IN_VAIN_MS;
    by_user.is_some_and(|record| !in_vain(record.at))
}

/// The pause at `now` of a user who cancelled at these times, in any order; `None` if the user may request a ride.
pub fn pause(policy: &CancellationPolicy, times: &[EpochMs], now: EpochMs, today: Day) -> Option<Pause> {
    let times = valid(times, now);
    let in_short_time = match usize::from(policy.cool_down_after) {
        0 => None,
        number => {
            let close = |times: &&[EpochMs]| times[number - 1].since_ms(times[0]) < policy.window_ms;
            let last = times.windows(number).filter(close).map(|times| times[number - 1]).next_back();
            last.map(|last| Pause { until: last.plus_ms(policy.cool_down_ms), limit: Limit::CoolDown })
        }
    };
    let of_today = times.iter().filter(|at| (today.start..today.end).contains(*at)).count();
    let daily = (policy.daily_max > 0 && of_today >= usize::from(policy.daily_max))
        .then_some(Pause { until: today.end, limit: Limit::Daily });
    let pauses = in_short_time.into_iter().chain(daily);
    pauses.filter(|pause| pause.until > now).max_by_key(|pause| pause.until)
}

/// The times to store after a cancellation at `now`, oldest first: as many as a limit can need, and none from before
/// today and the window.
pub fn with_cancellation(policy: &CancellationPolicy, times: &[EpochMs], now: EpochMs, today: Day) -> Vec<EpochMs> {
    let needed = usize::from(policy.cool_down_after.max(policy.daily_max));
    let mut times = valid(times, now);
    times.retain(|at| *at >= today.start || now.since_ms(*at) < policy.window_ms);
    times.push(now);
    let surplus = times.len().saturating_sub(needed);
    times.drain(..surplus);
    times
}

/// The times that can be true, in order.
fn valid(times: &[EpochMs], now: EpochMs) -> Vec<EpochMs> {
    let possible = times.iter().copied().filter(|at| at.since_ms(now) <= AHEAD_MAX_MS);
    let mut times: Vec<EpochMs> = possible.map(|at| at.min(now)).collect();
    times.sort_unstable();
    times
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;

    fn policy() -> CancellationPolicy {
        CancellationPolicy { cool_down_after: 3, window_ms: 600_000, cool_down_ms: 300_000, daily_max: 5 }
    }

    /// A day in the tenth day of the epoch.
    fn today() -> Day {
        Day { start: EpochMs(10 * DAY_MS), end: EpochMs(11 * DAY_MS) }
    }

    fn minutes(minutes: &[i64]) -> Vec<EpochMs> {
        minutes.iter().map(|minute| EpochMs(10 * DAY_MS + 12 * HOUR_MS + minute * 60_000)).collect()
    }

    fn at(minute: i64) -> EpochMs {
        minutes(&[minute])[0]
    }

    fn pause_at(times: &[i64], minute: i64) -> Option<Pause> {
        pause(&policy(), &minutes(times), at(minute), today())
    }

    #[test]
    fn cancellations_in_a_short_time_start_a_cool_down() {
        assert_eq!(pause_at(&[], 0), None);
        assert_eq!(pause_at(&[0, 1], 1), None);
        assert_eq!(pause_at(&[0, 1, 2], 2), Some(Pause { until: at(7), limit: Limit::CoolDown }));
        assert_eq!(pause_at(&[2, 0, 1], 2), pause_at(&[0, 1, 2], 2), "the order does not matter");
        assert_eq!(pause_at(&[0, 1, 2], 7), None, "the cool-down ends");
        assert_eq!(pause_at(&[0, 5, 10], 10), None, "the window has passed");
        assert_eq!(pause_at(&[0, 5, 9], 9), Some(Pause { until: at(14), limit: Limit::CoolDown }));
        assert_eq!(pause_at(&[0, 1, 2, 8], 8), Some(Pause { until: at(13), limit: Limit::CoolDown }), "again");
    }

    #[test]
    fn the_cancellations_of_a_day_end_with_it() {
        let spread = [-700, -600, -100, -50, 0];
        assert_eq!(pause_at(&spread, 1), Some(Pause { until: today().end, limit: Limit::Daily }));
        assert_eq!(pause_at(&spread[1..], 1), None);
        // The first one was yesterday.
        assert_eq!(pause_at(&[-721, -600, -100, -50, 0], 1), None);
        let tomorrow = Day { start: today().end, end: EpochMs(12 * DAY_MS) };
        assert_eq!(pause(&policy(), &minutes(&spread), today().end, tomorrow), None);
    }

    #[test]
    fn the_later_limit_counts_and_zero_switches_one_off() {
        let times = [0, 1, 2, 3, 4];
        assert_eq!(pause_at(&times, 4).unwrap().limit, Limit::Daily);
        let just = |change: fn(&mut CancellationPolicy)| {
            let mut policy = policy();
            change(&mut policy);
            pause(&policy, &minutes(&times), at(4), today())
        };
        assert_eq!(just(|policy| policy.daily_max = 0), Some(Pause { until: at(9), limit: Limit::CoolDown }));
        assert_eq!(just(|policy| policy.cool_down_after = 0).unwrap().limit, Limit::Daily);
        assert_eq!(just(|policy| (policy.cool_down_after, policy.daily_max) = (0, 0)), None);
        // Before midnight the cool-down is the later one.
        let late = |minute: i64| EpochMs(today().end.0 - minute * 60_000);
        let times: Vec<EpochMs> = (1..=5).map(late).collect();
        let paused = pause(&policy(), &times, late(1), today()).unwrap();
        assert_eq!(paused, Pause { until: EpochMs(today().end.0 + 4 * 60_000), limit: Limit::CoolDown });
    }

    #[test]
    fn impossible_times_are_ignored_and_clocks_may_differ_a_little() {
        assert_eq!(pause_at(&[1000, 1001, 1002], 2), None);
        assert_eq!(pause_at(&[1, 2, 3], 2), Some(Pause { until: at(7), limit: Limit::CoolDown }));
    }

    #[test]
    fn as_many_times_are_kept_as_the_limits_need() {
        let kept = |times: &[i64], now| with_cancellation(&policy(), &minutes(times), at(now), today());
        assert_eq!(kept(&[], 0), minutes(&[0]));
        assert_eq!(kept(&[1, 2, 3, 4, 5], 6), minutes(&[2, 3, 4, 5, 6]));
        assert_eq!(kept(&[-3000, 1000], 6), minutes(&[6]));
        // Yesterday's count while the window includes them.
        let early = |minute: i64| EpochMs(today().start.0 + minute * 60_000);
        assert_eq!(with_cancellation(&policy(), &[early(-11), early(-5)], early(1), today()), [early(-5), early(1)]);
        assert_eq!(with_cancellation(&policy(), &[early(-9)], early(1), today()), [early(1)], "exactly the window");
    }

    proptest! {
        /// Stored times of one user after another: the pause is the same as with the complete history, and bounded.
        #[test]
        fn what_is_kept_decides_like_the_complete_history(gaps in prop::collection::vec(0_u64..5_000_000, 0..60)) {
            let (mut all, mut kept, mut now) = (Vec::new(), Vec::new(), EpochMs(10 * DAY_MS));
            for gap in gaps {
                now = now.plus_ms(gap);
                let start = EpochMs(now.0.div_euclid(DAY_MS) * DAY_MS);
                let today = Day { start, end: EpochMs(start.0 + DAY_MS) };
                let paused = pause(&policy(), &kept, now, today);
                prop_assert_eq!(paused, pause(&policy(), &all, now, today));
                if let Some(paused) = paused {
                    prop_assert!(paused.until > now && paused.until.since_ms(now) <= DAY_MS.unsigned_abs());
                    continue;
                }
                all.push(now);
                kept = with_cancellation(&policy(), &kept, now, today);
                prop_assert!(kept.len() <= 5);
            }
        }
    }
}
