//! A city's dispatch rules, validated once and trusted afterwards.

use thiserror::Error;

/// Why a set of rules is invalid. The text names the field as in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// A number outside its bounds.
    #[error("{field} is {value}, allowed is {min} to {max}")]
    OutOfRange {
        /// Field of `spec.dispatch`.
        field: &'static str,
        /// The invalid value.
        value: u64,
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
    },
    /// The search radii are not increasing.
    #[error("searchRingsMeters must rise: {before} is followed by {after}")]
    RingsNotRising {
        /// A radius, m.
        before: u32,
        /// The radius that follows it, m.
        after: u32,
    },
}

/// How requests that wait at the same time are matched with drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MatchingMode {
    /// One by one, in the order of arrival (spec §8).
    #[default]
    Sequential,
    /// The requests of a window together ([`matching`](crate::matching)).
    Batched,
}

/// How requests are matched with drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchingPolicy {
    /// Sequential or batched.
    pub mode: MatchingMode,
    /// Length of a batch window, ms. Ignored in the mode `Sequential`.
    pub window_ms: u64,
}

impl Default for MatchingPolicy {
    fn default() -> Self {
        Self { mode: MatchingMode::Sequential, window_ms: 2_000 }
    }
}

/// How a ride is billed, and when one without a sign of life is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RidePolicy {
    /// Highest average speed of a ride, km/h: no longer distance is billed.
    pub max_speed_kmh: u32,
    /// Highest fare that is billed without a review, per cent of the estimate.
    pub max_fare_percent: u32,
    /// Distance from the destination beyond which the end of a ride is reported to the user, m.
    pub destination_radius_m: u32,
    /// Time without a position and without an event after which a ride is flagged, ms.
    pub silent_after_ms: u64,
    /// Time after that flag until the ride is ended, ms.
    pub end_silent_after_ms: u64,
}

impl Default for RidePolicy {
    fn default() -> Self {
        Self {
            // No road of Korea allows more than 110 km/h, and the positions of a standing car scatter.
            max_speed_kmh: 150,
            max_fare_percent: 300,
            destination_radius_m: 1000,
            silent_after_ms: 600_000,
            end_silent_after_ms: 1_800_000,
        }
    }
}

/// Limits for users who request and cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancellationPolicy {
    /// Cancellations within the window that start a cool-down; 0 for none.
    pub cool_down_after: u8,
    /// Length of the window, ms.
    pub window_ms: u64,
    /// Time without new requests after the last of them, ms.
    pub cool_down_ms: u64,
    /// Cancellations of one day after which a user waits for the next day; 0 for any number.
    pub daily_max: u8,
}

impl Default for CancellationPolicy {
    fn default() -> Self {
        Self { cool_down_after: 3, window_ms: 600_000, cool_down_ms: 300_000, daily_max: 20 }
    }
}

impl CancellationPolicy {
    /// Whether no number of cancellations has a consequence.
    pub fn is_off(&self) -> bool {
        self.cool_down_after == 0 && self.daily_max == 0
    }
}

/// When drivers who are `ACTIVE` become `INACTIVE` without having asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresencePolicy {
    /// Time without a sign of life after which a driver becomes `INACTIVE`, ms.
    pub silent_after_ms: u64,
    /// Unanswered offers in a row after which a driver becomes `INACTIVE`; 0 for any number.
    pub unanswered_offers: u8,
}

impl Default for PresencePolicy {
    fn default() -> Self {
        Self { silent_after_ms: 600_000, unanswered_offers: 0 }
    }
}

/// The rules of `spec.dispatch`. All fields are public because a value is only created by [`DispatchPolicy::checked`]
/// or from constants in tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatchPolicy {
    /// Drivers ranked for one dispatch (`MAX_CANDIDATES`).
    pub max_candidates: u8,
    /// Offers made for one dispatch (`MAX_ATTEMPTS`).
    pub max_attempts: u8,
    /// Time a driver has to answer, ms.
    pub offer_timeout_ms: u64,
    /// Time for which a search that finds no driver is repeated, ms; 0 fails at the first empty search.
    pub search_budget_ms: u64,
    /// Search radii, m, increasing.
    pub search_rings_m: Vec<u32>,
    /// Width of a distance bucket, m; 0 gives the literal order of spec §8.
    pub distance_bucket_m: u32,
    /// Age at which a position is stale, ms.
    pub stale_after_ms: u64,
    /// Cool-down after a rejection, ms.
    pub cool_down_after_reject_ms: u64,
    /// Cool-down after an unanswered offer, ms.
    pub cool_down_after_timeout_ms: u64,
    /// Length of the acceptance window, days.
    pub acceptance_window_days: u8,
    /// Whether drivers with `autoAccept` are assigned without an answer.
    pub auto_accept: bool,
    /// Share of dispatches in which a new driver comes first if one is about as near as the best, per cent; 0 gives the
    /// order of spec §8.
    pub exploration_share_percent: u8,
    /// Time a router has to answer, ms.
    pub eta_timeout_ms: u64,
    /// Number of nearest drivers a router is asked about in one search.
    pub eta_top_k: u8,
    /// How requests are matched with drivers.
    pub matching: MatchingPolicy,
    /// How rides are billed and ended.
    pub rides: RidePolicy,
    /// Limits for users who request and cancel.
    pub cancellations: CancellationPolicy,
    /// Longest straight line from pickup to destination, m.
    pub longest_trip_m: u32,
    /// When drivers become `INACTIVE` without having asked for it.
    pub presence: PresencePolicy,
}

impl Default for DispatchPolicy {
    /// The values of the specification if it gives any (spec §8, and the 120 s of spec §7.4), otherwise our own.
    fn default() -> Self {
        Self {
            max_candidates: 5,
            max_attempts: 5,
            offer_timeout_ms: 120_000,
            search_budget_ms: 60_000,
            search_rings_m: vec![700, 1500, 3000, 5000, 20_000],
            distance_bucket_m: 200,
            stale_after_ms: 30_000,
            cool_down_after_reject_ms: 10_000,
            cool_down_after_timeout_ms: 30_000,
            acceptance_window_days: 7,
            auto_accept: true,
            exploration_share_percent: 0,
            eta_timeout_ms: 300,
            eta_top_k: 20,
            matching: MatchingPolicy::default(),
            rides: RidePolicy::default(),
            cancellations: CancellationPolicy::default(),
            longest_trip_m: 200_000,
            presence: PresencePolicy::default(),
        }
    }
}

impl DispatchPolicy {
    /// Validates every bound. The longest offer is 900 s because an SQS message cannot be delayed longer.
    pub fn checked(self) -> Result<Self, PolicyError> {
        let within = |field, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(PolicyError::OutOfRange { field, value, min, max }) }
        };
        within("maxCandidates", self.max_candidates.into(), 1, 50)?;
        within("maxAttempts", self.max_attempts.into(), 1, 50)?;
        within("offerTimeoutSeconds", self.offer_timeout_ms / 1000, 5, 900)?;
        within("searchBudgetSeconds", self.search_budget_ms / 1000, 0, 900)?;
        within("searchRingsMeters (number of rings)", self.search_rings_m.len() as u64, 1, 8)?;
        for ring in &self.search_rings_m {
            within("searchRingsMeters", (*ring).into(), 100, 100_000)?;
        }
        for pair in self.search_rings_m.windows(2) {
            if pair[0] >= pair[1] {
                return Err(PolicyError::RingsNotRising { before: pair[0], after: pair[1] });
            }
        }
        within("distanceBucketMeters", self.distance_bucket_m.into(), 0, 5000)?;
        within("staleAfterSeconds", self.stale_after_ms / 1000, 5, 3600)?;
        within("coolDowns.afterRejectSeconds", self.cool_down_after_reject_ms / 1000, 0, 3600)?;
        within("coolDowns.afterTimeoutSeconds", self.cool_down_after_timeout_ms / 1000, 0, 3600)?;
        within("acceptanceWindowDays", self.acceptance_window_days.into(), 1, 30)?;
        within("explorationSharePercent", self.exploration_share_percent.into(), 0, 50)?;
        within("eta.timeoutMilliseconds", self.eta_timeout_ms, 50, 2000)?;
        within("eta.topK", self.eta_top_k.into(), 1, 50)?;
        within("matching.windowMilliseconds", self.matching.window_ms, 500, 5000)?;
        let rides = &self.rides;
        within("rides.maxSpeedKmh", rides.max_speed_kmh.into(), 30, 300)?;
        within("rides.maxFarePercent", rides.max_fare_percent.into(), 100, 1000)?;
        within("rides.destinationRadiusMeters", rides.destination_radius_m.into(), 100, 100_000)?;
        within("rides.silentAfterSeconds", rides.silent_after_ms / 1000, 5, 86_400)?;
        within("rides.endSilentAfterSeconds", rides.end_silent_after_ms / 1000, 5, 86_400)?;
        within("cancellations.coolDownAfter", self.cancellations.cool_down_after.into(), 0, 20)?;
        within("cancellations.windowSeconds", self.cancellations.window_ms / 1000, 60, 86_400)?;
        within("cancellations.coolDownSeconds", self.cancellations.cool_down_ms / 1000, 10, 86_400)?;
        within("cancellations.dailyMax", self.cancellations.daily_max.into(), 0, 50)?;
        within("longestTripMeters", self.longest_trip_m.into(), 1000, 20_100_000)?;
        within("presence.silentAfterSeconds", self.presence.silent_after_ms / 1000, 5, 86_400)?;
        within("presence.unansweredOffers", self.presence.unanswered_offers.into(), 0, 20)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut DispatchPolicy, u64);

    /// Each bounded number: its name, its bounds, and how it is set. Times in seconds are given in seconds.
    fn numbers() -> [(&'static str, u64, u64, Change); 14] {
        fn small(value: u64) -> u8 {
            u8::try_from(value).unwrap()
        }
        [
            ("maxCandidates", 1, 50, |policy, value| policy.max_candidates = small(value)),
            ("maxAttempts", 1, 50, |policy, value| policy.max_attempts = small(value)),
            ("offerTimeoutSeconds", 5, 900, |policy, value| policy.offer_timeout_ms = value * 1000),
            ("searchBudgetSeconds", 0, 900, |policy, value| policy.search_budget_ms = value * 1000),
            ("distanceBucketMeters", 0, 5000, |policy, value| policy.distance_bucket_m = u32::try_from(value).unwrap()),
            ("staleAfterSeconds", 5, 3600, |policy, value| policy.stale_after_ms = value * 1000),
            ("coolDowns.afterRejectSeconds", 0, 3600, |policy, value| policy.cool_down_after_reject_ms = value * 1000),
            ("coolDowns.afterTimeoutSeconds", 0, 3600, |policy, value| {
                policy.cool_down_after_timeout_ms = value * 1000;
            }),
            ("acceptanceWindowDays", 1, 30, |policy, value| policy.acceptance_window_days = small(value)),
            ("explorationSharePercent", 0, 50, |policy, value| policy.exploration_share_percent = small(value)),
            ("eta.timeoutMilliseconds", 50, 2000, |policy, value| policy.eta_timeout_ms = value),
            ("matching.windowMilliseconds", 500, 5000, |policy, value| policy.matching.window_ms = value),
            ("presence.silentAfterSeconds", 5, 86_400, |policy, value| policy.presence.silent_after_ms = value * 1000),
            ("presence.unansweredOffers", 0, 20, |policy, value| policy.presence.unanswered_offers = small(value)),
        ]
    }

    #[test]
    fn every_bound_is_closed() {
        for (field, min, max, change) in numbers() {
            let checked = |value: u64| {
                let mut policy = DispatchPolicy { max_attempts: 7, ..DispatchPolicy::default() };
                change(&mut policy, value);
                policy.clone().checked().map(|same| assert_eq!(same, policy))
            };
            assert_eq!((checked(min), checked(max)), (Ok(()), Ok(())), "{field}");
            for value in min.checked_sub(1).into_iter().chain([max + 1]) {
                assert_eq!(checked(value), Err(PolicyError::OutOfRange { field, value, min, max }));
            }
        }
        for (count, fits) in [(0, false), (1, true), (50, true), (51, false)] {
            assert_eq!(DispatchPolicy { eta_top_k: count, ..DispatchPolicy::default() }.checked().is_ok(), fits);
        }
    }

    #[test]
    fn search_rings_rise_within_their_bounds() {
        let rings =
            |rings: &[u32]| DispatchPolicy { search_rings_m: rings.to_vec(), ..DispatchPolicy::default() }.checked();
        let eight: Vec<u32> = (1..=8).map(|ring| ring * 100).collect();
        for good in [&[100][..], &[100_000], &[100, 101, 100_000], &eight] {
            assert!(rings(good).is_ok(), "{good:?}");
        }
        assert!(rings(&[]).is_err() && rings(&[eight.as_slice(), &[900]].concat()).is_err());
        assert!(rings(&[99]).is_err() && rings(&[100_001]).is_err());
        for (before, after) in [(500, 500), (501, 500)] {
            assert_eq!(rings(&[100, before, after]), Err(PolicyError::RingsNotRising { before, after }));
        }
    }

    #[test]
    fn cancellations_have_no_consequence_only_without_both_limits() {
        for (cool_down_after, daily_max, is_off) in [(0, 0, true), (1, 0, false), (0, 1, false), (3, 20, false)] {
            let policy = CancellationPolicy { cool_down_after, daily_max, ..CancellationPolicy::default() };
            assert_eq!(policy.is_off(), is_off, "{cool_down_after} and {daily_max}");
        }
    }
}
