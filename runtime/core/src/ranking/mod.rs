//! The order of the candidates, with everything it depends on: eligibility, nearness and exploration.
//!
//! A search builds a [`Shortlist`] from what is known of the drivers, adds driving times if a router provided them, and
//! [ranks](Shortlist::rank) it. The [`Ranking`] contains no position but everything else the order depends on:
//! [`replay`] derives the same order from it, so that a decision can be explained and verified at any later time.

use std::cmp::Reverse;

use crate::candidate::{AcceptanceCounts, Candidate, DriverSnapshot, Ineligible, Search, eligibility};
use crate::geo::{Coordinate, Metres};
use crate::ids::{DispatchId, DriverId};
use crate::policy::DispatchPolicy;
use crate::time::EpochMs;

/// Width of a bucket of driving times, s. Routers are no more precise than this in city traffic, and in half a minute a
/// car drives about the width of the usual distance bucket.
pub const TIME_BUCKET_S: u32 = 30;

/// Offers in the acceptance window from which a driver no longer counts as new: the smoothed rate then reflects the
/// driver's own answers more than the prior.
pub const NEW_DRIVER_OFFERS: u32 = 5;

/// How nearness is compared. Within one bucket, `autoAccept`, acceptance rate and idle time decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearness {
    /// By exact distance: every distance is a bucket of its own, numbered from the nearest (the literal order of spec
    /// §8).
    Exact,
    /// By distance in buckets.
    Distance {
        /// Width of a bucket, m.
        width_m: u32,
    },
    /// By driving time in buckets. Drivers without a time follow the others, ordered as in [`Exact`](Self::Exact).
    Time {
        /// Width of a bucket, s.
        width_s: u32,
    },
}

/// Whether a search prefers the best driver or explores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exploration {
    /// The best driver comes first.
    Exploit,
    /// A new driver comes first if one is about as near as the best.
    Explore,
}

/// The source of a driving time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// A router's answer.
    Router,
    /// An estimate from the straight line, because the router knew no route.
    StraightLine,
}

/// The driving time of a driver to the pickup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PickupTime {
    pub seconds: u32,
    pub source: TimeSource,
}

/// How many drivers were not eligible, by the first reason found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// [`Ineligible::NotActive`].
    pub not_active: u32,
    /// [`Ineligible::Stale`].
    pub stale: u32,
    /// [`Ineligible::AlreadyAsked`].
    pub already_asked: u32,
    /// [`Ineligible::Resting`].
    pub resting: u32,
    /// [`Ineligible::TooFar`].
    pub too_far: u32,
    /// [`Ineligible::FareTooLow`].
    pub fare_too_low: u32,
}

impl LeftOut {
    fn count(&mut self, reason: Ineligible) {
        let counter = match reason {
            Ineligible::NotActive => &mut self.not_active,
            Ineligible::Stale => &mut self.stale,
            Ineligible::AlreadyAsked => &mut self.already_asked,
            Ineligible::Resting => &mut self.resting,
            Ineligible::TooFar => &mut self.too_far,
            Ineligible::FareTooLow => &mut self.fare_too_low,
        };
        *counter = counter.saturating_add(1);
    }
}

/// Everything one driver's rank depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrant {
    pub driver_id: DriverId,
    /// Straight-line distance to the pickup.
    pub distance: Metres,
    /// Driving time, if it was requested.
    pub time: Option<PickupTime>,
    /// Bucket by [`Nearness`]; 0 is the nearest.
    pub bucket: u32,
    /// Whether the driver accepts automatically.
    pub auto_accept: bool,
    /// Answers in the acceptance window.
    pub acceptance: AcceptanceCounts,
    /// How long the driver has been free, ms.
    pub idle_ms: u64,
}

/// A decided order, with everything it depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    pub nearness: Nearness,
    pub exploration: Exploration,
    /// Number of eligible drivers, including those cut off after the last candidate.
    pub eligible: usize,
    /// Drivers who were not eligible.
    pub left_out: LeftOut,
    /// The candidates, best first.
    pub order: Vec<Entrant>,
}

impl Ranking {
    /// The candidates for the rest of the algorithm, best first.
    pub fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(priority, entrant): (usize, &Entrant)| Candidate {
            driver_id: entrant.driver_id.clone(),
            distance: entrant.distance,
            priority,
            auto_accept: entrant.auto_accept,
            acceptance_rate_per_mille: entrant.acceptance.rate_per_mille(),
        };
        self.order.iter().enumerate().map(candidate).collect()
    }
}

struct Eligible<'a> {
    driver: &'a DriverSnapshot,
    distance: Metres,
    time: Option<PickupTime>,
}

/// The eligible drivers, nearest first, before ranking.
pub struct Shortlist<'a> {
    eligible: Vec<Eligible<'a>>,
    left_out: LeftOut,
    now: EpochMs,
}

impl<'a> Shortlist<'a> {
    /// The drivers who are eligible for `search`. The order of `drivers` does not matter.
    pub fn new(drivers: &'a [DriverSnapshot], search: &Search, policy: &DispatchPolicy, now: EpochMs) -> Self {
        let mut left_out = LeftOut::default();
        let mut eligible = Vec::new();
        for driver in drivers {
            match eligibility(driver, search, policy, now) {
                Ok(distance) => eligible.push(Eligible { driver, distance, time: None }),
                Err(reason) => left_out.count(reason),
            }
        }
        eligible.sort_by(|a, b| a.distance.0.total_cmp(&b.distance.0).then_with(|| a.driver.id.cmp(&b.driver.id)));
        eligible.dedup_by(|a, b| a.driver.id == b.driver.id);
        Self { eligible, left_out, now }
    }

    /// The time of the decision.
    pub fn now(&self) -> EpochMs {
        self.now
    }

    /// Whether no driver is eligible.
    pub fn is_empty(&self) -> bool {
        self.eligible.is_empty()
    }

    /// The positions of the nearest `count` drivers, nearest first.
    pub fn nearest(&self, count: usize) -> Vec<Coordinate> {
        self.eligible.iter().take(count).map(|one| one.driver.position).collect()
    }

    /// The same drivers with the driving times of the [nearest](Self::nearest).
    #[must_use]
    pub fn with_times(mut self, times: impl IntoIterator<Item = PickupTime>) -> Self {
        for (one, time) in self.eligible.iter_mut().zip(times) {
            one.time = Some(time);
        }
        self
    }

    /// Decides the order. It is total and depends only on the arguments.
    pub fn rank(&self, policy: &DispatchPolicy, exploration: Exploration) -> Ranking {
        let nearness = match policy.distance_bucket_m {
            _ if self.eligible.iter().any(|one| one.time.is_some()) => Nearness::Time { width_s: TIME_BUCKET_S },
            0 => Nearness::Exact,
            width_m => Nearness::Distance { width_m },
        };
        let mut place = 0_u32;
        let mut before = None;
        let mut entrants = Vec::with_capacity(self.eligible.len());
        for Eligible { driver, distance, time } in &self.eligible {
            if before.replace(*distance).is_some_and(|before| before != *distance) {
                place += 1;
            }
            entrants.push(Entrant {
                driver_id: driver.id.clone(),
                distance: *distance,
                time: *time,
                bucket: bucket(nearness, *distance, *time).unwrap_or(place),
                auto_accept: driver.auto_accept,
                acceptance: driver.acceptance,
                idle_ms: self.now.since_ms(driver.idle_since),
            });
        }
        let eligible = entrants.len();
        sort(&mut entrants, exploration);
        entrants.truncate(policy.max_candidates.into());
        Ranking { nearness, exploration, eligible, left_out: self.left_out, order: entrants }
    }
}

/// Whether the searches of a dispatch explore: true for the policy's share of all dispatches. It depends only on the
/// id, so that every search of a dispatch and every replay of its record give the same result.
pub fn exploration_for(dispatch: &DispatchId, policy: &DispatchPolicy) -> Exploration {
    let sample = uniform_hash(dispatch.as_str()) % 100;
    if sample < u64::from(policy.exploration_share_percent) { Exploration::Explore } else { Exploration::Exploit }
}

/// The order that follows from the record of a ranking. It equals the recorded order unless one of the two was
/// modified.
pub fn replay(ranking: &Ranking) -> Vec<DriverId> {
    let mut entrants = ranking.order.clone();
    for entrant in &mut entrants {
        // Recorded buckets are not trusted if they can be computed.
        entrant.bucket = bucket(ranking.nearness, entrant.distance, entrant.time).unwrap_or(entrant.bucket);
    }
    sort(&mut entrants, ranking.exploration);
    entrants.into_iter().map(|entrant| entrant.driver_id).collect()
}

/// The bucket that follows from one driver's values; `None` if it depends on the other drivers.
fn bucket(nearness: Nearness, distance: Metres, time: Option<PickupTime>) -> Option<u32> {
    match (nearness, time) {
        (Nearness::Distance { width_m }, _) => Some(distance.rounded() / width_m.max(1)),
        (Nearness::Time { width_s }, Some(time)) => Some(time.seconds / width_s.max(1)),
        (Nearness::Exact, _) | (Nearness::Time { .. }, None) => None,
    }
}

fn sort(entrants: &mut [Entrant], exploration: Exploration) {
    // Times exist only if they are compared. Drivers without a time follow the others.
    let timed = entrants.iter().any(|entrant| entrant.time.is_some());
    let nearness = |entrant: &Entrant| (timed && entrant.time.is_none(), entrant.bucket);
    let rest = |entrant: &Entrant| {
        (!entrant.auto_accept, Reverse(entrant.acceptance.rate_per_mille()), Reverse(entrant.idle_ms))
    };
    entrants.sort_by(|a, b| {
        let by_nearness = nearness(a).cmp(&nearness(b));
        by_nearness.then_with(|| rest(a).cmp(&rest(b))).then_with(|| a.driver_id.cmp(&b.driver_id))
    });
    let nearest = entrants.iter().map(nearness).min();
    if let (Exploration::Explore, Some((_, bucket))) = (exploration, nearest) {
        let about_as_near = |entrant: &Entrant| nearness(entrant) <= (false, bucket.saturating_add(1));
        let is_new = |entrant: &Entrant| entrant.acceptance.offered < NEW_DRIVER_OFFERS;
        if let Some(place) = entrants.iter().position(|entrant| is_new(entrant) && about_as_near(entrant)) {
            entrants[..=place].rotate_right(1);
        }
    }
}

/// A deterministic, uniform hash: FNV-1a with the last mixing step of `MurmurHash3`, without which texts that differ in
/// one digit would have neighbouring remainders.
fn uniform_hash(text: &str) -> u64 {
    let fnv = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

/// The candidates among `drivers`, best first, at most `max_candidates` (`findCandidateDrivers` in spec §8). The order
/// is total and depends only on the arguments: the same drivers in any order give the same result.
pub fn rank(drivers: &[DriverSnapshot], search: &Search, policy: &DispatchPolicy, now: EpochMs) -> Vec<Candidate> {
    Shortlist::new(drivers, search, policy, now).rank(policy, Exploration::Exploit).candidates()
}

#[cfg(test)]
mod tests;
