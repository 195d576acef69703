//! When to look again. Pure: every random number is given.

use std::time::Duration;

use crate::engine::settings::WaitPolicy;

/// Time after a failure: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// Time between two looks at a system that has reached the limit of its retries: a right that was given, or a quota that was raised,
/// shows within it without anybody asking.
pub const SLOW: Duration = Duration::from_mins(30);
/// Longest time until a changed Secret is noticed. A read by name every so often needs no right to list Secrets.
pub const SECRETS: Duration = Duration::from_secs(20);
/// Time between two tries of a system that waits for its turn. A try costs no call of AWS.
pub const SLOT: Duration = Duration::from_secs(5);
/// Time between two looks at workers that are not all there. Their Deployments are watched as well.
pub const WORKERS: Duration = Duration::from_secs(30);
/// Pause after a step that has to reach the status before the next one.
pub const STEP: Duration = Duration::from_secs(1);
/// Time between two looks at an export that runs: the first ones, and the later ones. It takes minutes at least.
const EXPORT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(1));
/// Time after an export that could not be started: the first, and the longest.
const EXPORT_BACK_OFF: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(30));
/// Time over which exports of one slot are spread, so that a fleet does not ask for them all at once.
const EXPORT_SPREAD: Duration = Duration::from_secs(30);

/// Pause before the next look at an export that has run for `elapsed`.
pub fn export(elapsed: Duration) -> Duration {
    (elapsed / 10).clamp(EXPORT.0, EXPORT.1)
}

/// Pause after the `refusals`-th export in a row that could not be started.
pub fn export_back_off(refusals: u32) -> Duration {
    EXPORT_BACK_OFF.0.saturating_mul(2_u32.saturating_pow(refusals.saturating_sub(1))).min(EXPORT_BACK_OFF.1)
}

/// Pause before a slot that comes in `time`.
pub fn slot(time: Duration, random: f64) -> Duration {
    time + EXPORT_SPREAD.mul_f64(random)
}

/// How an operation of CloudFormation that runs is followed.
#[derive(Clone, Copy, Debug)]
pub struct RequeuePolicy {
    /// Within one reconcile, which then makes room for others and comes back.
    pub within: WaitPolicy,
    /// Between two reconciles: the first pause, and the longest.
    pub between: (Duration, Duration),
}

impl Default for RequeuePolicy {
    /// An operation takes seconds to minutes.
    fn default() -> Self {
        Self {
            within: WaitPolicy {
                first: Duration::from_millis(250),
                longest: Duration::from_secs(1),
                total: Duration::from_secs(3),
            },
            between: (Duration::from_secs(5), Duration::from_secs(30)),
        }
    }
}

impl RequeuePolicy {
    /// How long a reconcile waits for an operation that was seen running `looks` times. A later look waits for nothing: who sleeps in a
    /// reconcile takes the place of somebody else's.
    pub fn wait_policy(&self, looks: u32) -> WaitPolicy {
        if looks == 0 { self.within } else { WaitPolicy { total: Duration::ZERO, ..self.within } }
    }

    /// Pause before the next look at an operation that was seen running `looks` times.
    pub fn until_next(&self, looks: u32) -> Duration {
        let (first, longest) = self.between;
        first.saturating_mul(2_u32.saturating_pow(looks.saturating_sub(1))).min(longest)
    }
}

/// Pause after the `failures`-th failure in a row; `random` in `[0, 1)` spreads it over its upper half, so that what failed together
/// does not come back together.
pub fn back_off(failures: u32, random: f64) -> Duration {
    let whole = BACK_OFF.0.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(BACK_OFF.1);
    whole.mul_f64(0.5 + random / 2.0)
}

/// `every`, give or take a tenth.
pub fn jittered(every: Duration, random: f64) -> Duration {
    every.mul_f64(0.9 + random / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_five_seconds_to_thirty() {
        let requeue = RequeuePolicy::default();
        let waits: Vec<u64> = (1..6).map(|looks| requeue.until_next(looks).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 30, 30]);
        assert_eq!(requeue.until_next(u32::MAX), requeue.between.1);
    }

    #[test]
    fn failures_back_off_from_a_second_to_five_minutes() {
        for failures in [1, 2, 5, 9, 100, u32::MAX] {
            for random in [0.0, 0.5, 0.999] {
                let pause = back_off(failures, random);
                assert!(pause >= Duration::from_millis(500) && pause <= BACK_OFF.1, "{failures} {pause:?}");
            }
        }
        assert!(back_off(1, 0.999) <= Duration::from_secs(1));
        assert!(back_off(20, 0.0) >= Duration::from_secs(150));
    }

    #[test]
    fn an_export_is_looked_at_every_half_minute_and_later_every_minute() {
        let requeue = [0, 299, 400, 3600].map(|elapsed| export(Duration::from_secs(elapsed)).as_secs());
        assert_eq!(requeue, [30, 30, 40, 60]);
        let requeue: Vec<u64> = (1..8).map(|refusals| export_back_off(refusals).as_secs() / 60).collect();
        assert_eq!(requeue, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn an_interval_keeps_within_a_tenth() {
        let every = Duration::from_mins(5);
        assert_eq!(jittered(every, 0.0), Duration::from_secs(270));
        assert!(jittered(every, 0.999_999) <= Duration::from_secs(330));
    }
}
