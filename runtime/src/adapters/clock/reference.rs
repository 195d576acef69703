//! The time of AWS, estimated from the header `Date` of its answers. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use dispatch_core::time::EpochMs;

/// Answers of which the median is taken: a few wrong ones, from a proxy or a slow network, do not matter.
pub(super) const SAMPLES: usize = 9;
/// Fewest answers.
const SAMPLES_MIN: usize = 3;
/// Time between two answers that count. `Date` has whole seconds: answers within one second share the error.
const APART: Duration = Duration::from_millis(250);
/// Longest round trip of an answer that counts. The moment of `Date` within a longer one is too uncertain; a call that
/// waits for messages takes many seconds.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);
/// How far `Date` is behind on average, ms.
const DATE_BEHIND_MS: i64 = 500;
/// A clock that differs more is wrong, ms. It is the least difference that `Date` shows for certain.
const WRONG_BEYOND_MS: u64 = 2_000;
/// A wrong clock that differs no more is right again, ms.
const RIGHT_WITHIN_MS: u64 = 1_500;

/// One answer. Moments are times since the start of the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) date: EpochMs,
    pub(super) sent: Duration,
    pub(super) answered: Duration,
}

/// The latest answers.
#[derive(Debug, Default)]
pub(super) struct Reference {
    /// By how much the time of AWS exceeds the time since the start of the process, ms.
    offsets_ms: VecDeque<i64>,
    last: Option<Duration>,
}

impl Reference {
    pub(super) fn add(&mut self, sample: Sample) {
        let Sample { date, sent, answered } = sample;
        let round_trip = answered.saturating_sub(sent);
        let too_early = self.last.is_some_and(|last| answered.saturating_sub(last) < APART);
        if round_trip > ROUND_TRIP_MAX || too_early {
            return;
        }
        self.last = Some(answered);
        let middle_ms = i64::try_from((sent + round_trip / 2).as_millis()).unwrap_or(i64::MAX);
        if self.offsets_ms.len() == SAMPLES {
            self.offsets_ms.pop_front();
        }
        self.offsets_ms.push_back(date.0.saturating_add(DATE_BEHIND_MS).saturating_sub(middle_ms));
    }

    /// The median; `None` with too few answers.
    pub(super) fn offset_ms(&self) -> Option<i64> {
        if self.offsets_ms.len() < SAMPLES_MIN {
            return None;
        }
        let mut sorted: Vec<i64> = self.offsets_ms.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

/// Whether a clock is wrong that was so before or not, and is ahead of AWS by so much. An unknown difference is no
/// reason to distrust it.
pub(super) fn is_wrong(was_wrong: bool, ahead_ms: Option<i64>) -> bool {
    let limit_ms = if was_wrong { RIGHT_WITHIN_MS } else { WRONG_BEYOND_MS };
    ahead_ms.is_some_and(|ahead_ms| ahead_ms.unsigned_abs() > limit_ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(date_ms: i64, sent_ms: u64, took_ms: u64) -> Sample {
        let sent = Duration::from_millis(sent_ms);
        Sample { date: EpochMs(date_ms), sent, answered: sent + Duration::from_millis(took_ms) }
    }

    fn offset_of(samples: &[Sample]) -> Option<i64> {
        let mut reference = Reference::default();
        for sample in samples {
            reference.add(*sample);
        }
        reference.offset_ms()
    }

    #[test]
    fn a_median_needs_three_answers_and_ignores_a_wrong_one() {
        let answers = [sample(1_000, 0, 0), sample(2_000, 1_000, 0), sample(9_999_000, 2_000, 0)];
        assert_eq!(offset_of(&answers[..2]), None);
        assert_eq!(offset_of(&answers), Some(1_500));
    }

    #[test]
    fn answers_that_took_long_or_follow_closely_do_not_count() {
        let good = [sample(0, 0, 1_000), sample(1_000, 1_250, 0), sample(1_000, 2_500, 0)];
        assert_eq!(offset_of(&good), Some(0));
        assert_eq!(offset_of(&[good[0], good[1], sample(1_000, 2_500, 1_001)]), None);
        assert_eq!(offset_of(&[good[0], good[1], sample(1_000, 1_499, 0)]), None);
    }

    #[test]
    fn the_limits_have_a_hysteresis() {
        for sign in [1, -1] {
            assert!(!is_wrong(false, Some(sign * 2_000)) && is_wrong(false, Some(sign * 2_001)));
            assert!(!is_wrong(true, Some(sign * 1_500)) && is_wrong(true, Some(sign * 1_501)));
        }
        assert!(!is_wrong(true, None) && !is_wrong(false, None));
    }

    proptest! {
        /// Whatever the round trips, the estimate is right within what whole seconds and their halves allow.
        #[test]
        fn the_estimate_is_within_its_error(
            true_offset in -1_000_000_000i64..1_000_000_000_000,
            trips in proptest::collection::vec((0u64..=1_000, 0u64..=1_000, 0u64..=3_000), 3..40),
        ) {
            let (mut reference, mut now) = (Reference::default(), 0u64);
            for (there_ms, back_ms, pause_ms) in trips {
                let took = there_ms + back_ms;
                let server = true_offset + i64::try_from(now + there_ms).unwrap();
                reference.add(sample(server.div_euclid(1000) * 1000, now, took));
                now += took + pause_ms;
            }
            if let Some(offset) = reference.offset_ms() {
                prop_assert!(offset.abs_diff(true_offset) <= 1_000, "{offset} instead of {true_offset}");
            }
        }
    }
}
