//! When to reconcile again. Pure: random numbers are parameters.

use std::time::Duration;

use crate::engine::settings::WaitPolicy;

/// Delay after a failure: the first and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// Retry interval of a system that has reached the retry limit. A permission that was granted or a quota that was
/// raised takes effect within this time without any request.
pub const SLOW: Duration = Duration::from_mins(30);
/// Interval at which Secrets are read to notice a change. Reading by name needs no permission to list or watch Secrets.
pub const SECRETS: Duration = Duration::from_secs(20);
/// Retry interval of a system that waits for an operation slot. A retry makes no AWS call.
pub const SLOT: Duration = Duration::from_secs(5);
/// Interval at which workers are inspected while they roll out or fail. Their Deployments are watched as well, their
/// Pods are not.
pub const WORKERS: Duration = Duration::from_secs(10);
/// Delay after a step that must reach the status before the next one.
pub const STEP: Duration = Duration::from_secs(1);
/// Polling interval of a running export: the shortest and the longest. An export takes several minutes at least.
const EXPORT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(1));
/// Delay after an export that could not be started: the first and the longest.
const EXPORT_BACK_OFF: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(30));
/// Exports of one slot are spread over this time, so that a fleet does not start all of them at the same time.
const EXPORT_SPREAD: Duration = Duration::from_secs(30);

/// Delay until the next poll of an export that has run for `elapsed`.
pub fn export(elapsed: Duration) -> Duration {
    (elapsed / 10).clamp(EXPORT.0, EXPORT.1)
}

/// Delay after `refusals` consecutive exports that could not be started.
pub fn export_back_off(refusals: u32) -> Duration {
    EXPORT_BACK_OFF.0.saturating_mul(2_u32.saturating_pow(refusals.saturating_sub(1))).min(EXPORT_BACK_OFF.1)
}

/// Delay until a slot that is due in `time`.
pub fn slot(time: Duration, random: f64) -> Duration {
    time + EXPORT_SPREAD.mul_f64(random)
}

/// How a running CloudFormation operation is polled.
#[derive(Clone, Copy, Debug)]
pub struct RequeuePolicy {
    /// Polling within one reconcile, which then yields to other systems and is requeued.
    pub within: WaitPolicy,
    /// Delay between two reconciles: the first and the longest.
    pub between: (Duration, Duration),
}

impl Default for RequeuePolicy {
    /// For operations that take seconds to minutes.
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
    /// How long a reconcile waits for an operation that was found in progress `polls` times. Only the first one waits:
    /// a reconcile that sleeps occupies one of the `--concurrency` workers.
    pub fn wait_policy(&self, polls: u32) -> WaitPolicy {
        if polls == 0 { self.within } else { WaitPolicy { total: Duration::ZERO, ..self.within } }
    }

    /// Delay until the next poll of an operation that was found in progress `polls` times.
    pub fn until_next(&self, polls: u32) -> Duration {
        let (first, longest) = self.between;
        first.saturating_mul(2_u32.saturating_pow(polls.saturating_sub(1))).min(longest)
    }
}

/// Delay after `failures` consecutive failures. `random` in `[0, 1)` spreads it over its upper half, so that systems
/// that failed together are not retried together.
pub fn back_off(failures: u32, random: f64) -> Duration {
    let whole = BACK_OFF.0.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(BACK_OFF.1);
    whole.mul_f64(0.5 + random / 2.0)
}

/// `every` with a jitter of ±10 %.
pub fn jittered(every: Duration, random: f64) -> Duration {
    every.mul_f64(0.9 + random / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_delays_grow_from_five_to_thirty_seconds() {
        let requeue = RequeuePolicy::default();
        let waits: Vec<u64> = (1..6).map(|polls| requeue.until_next(polls).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 30, 30]);
        assert_eq!(requeue.until_next(u32::MAX), requeue.between.1);
    }

    #[test]
    fn failures_back_off_from_one_second_to_five_minutes() {
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
    fn an_export_is_polled_every_half_minute_and_later_every_minute() {
        let requeue = [0, 299, 400, 3600].map(|elapsed| export(Duration::from_secs(elapsed)).as_secs());
        assert_eq!(requeue, [30, 30, 40, 60]);
        let requeue: Vec<u64> = (1..8).map(|refusals| export_back_off(refusals).as_secs() / 60).collect();
        assert_eq!(requeue, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn jitter_is_at_most_ten_percent() {
        let every = Duration::from_mins(5);
        assert_eq!(jittered(every, 0.0), Duration::from_secs(270));
        assert!(jittered(every, 0.999_999) <= Duration::from_secs(330));
    }
}
