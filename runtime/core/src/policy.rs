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
        Ok(self)
    }
}
