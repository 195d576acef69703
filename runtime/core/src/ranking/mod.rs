//! The order of candidates, and all it depended on: who is eligible, how near, and whose turn it is.
//!
//! A search makes a [`Shortlist`] of what is known of the drivers, adds the times to the pickup where a router gave them, and
//! [ranks](Shortlist::rank) it. The [`Ranking`] holds no position, and everything else that the order was made of: [`replay`]
//! makes the same order of it again, so that a decision can be explained, and checked, long after it was made.

use std::cmp::Reverse;

use crate::candidate::{AcceptanceCounts, Candidate, DriverSnapshot, Ineligible, Search, eligibility};
use crate::geo::{Coordinate, Metres};
use crate::ids::{DispatchId, DriverId};
use crate::policy::DispatchPolicy;
use crate::time::EpochMs;

/// Width of a bucket of times to the pickup, s. Routers are no better than this in a city's traffic, and in half a minute a car
/// drives about what the usual distance bucket is wide.
pub const TIME_BUCKET_S: u32 = 30;

/// Offers in the acceptance window from which a driver is no longer new: from then on the smoothed rate is more the driver's own
/// than the prior's.
pub const NEW_DRIVER_OFFERS: u32 = 5;

/// How nearness is compared. Within one bucket, `autoAccept`, acceptance rate and idle time decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearness {
    /// By distance, to the last digit: every distance is a bucket of its own, numbered from the nearest. The seed's literal order.
    Exact,
    /// By distance in buckets.
    Distance {
        /// Width of a bucket, m.
        width_m: u32,
    },
    /// By time to the pickup in buckets. Drivers nobody asked the time of come behind the others, by distance as in
    /// [`Exact`](Self::Exact).
    Time {
        /// Width of a bucket, s.
        width_s: u32,
    },
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The best comes first.
    Best,
    /// A new driver comes first, where one is about as near as the best.
    NewDriver,
}

/// Where a time to the pickup comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// A router.
    Router,
    /// The straight line, because the router knew no way.
    StraightLine,
}

/// The time a driver needs to the pickup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PickupTime {
    /// Seconds.
    pub seconds: u32,
    /// Where they come from.
    pub source: TimeSource,
}

/// How many drivers were left out, by the first reason found.
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

/// All that the place of one driver depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrant {
    /// Who.
    pub driver_id: DriverId,
    /// Straight distance to the pickup.
    pub distance: Metres,
    /// Time to the pickup, where it was asked for.
    pub time: Option<PickupTime>,
    /// Bucket by [`Nearness`], 0 the nearest.
    pub bucket: u32,
    /// Whether the driver accepts by itself.
    pub auto_accept: bool,
    /// Answers in the acceptance window.
    pub acceptance: AcceptanceCounts,
    /// For how long the driver has been free, ms.
    pub idle_ms: u64,
}

/// A decided order, and all it depended on.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// How nearness was compared.
    pub nearness: Nearness,
    /// Whose turn it was.
    pub turn: Turn,
    /// Drivers who could have been asked, those behind the last candidate included.
    pub eligible: usize,
    /// Drivers who could not.
    pub left_out: LeftOut,
    /// The candidates, best first.
    pub order: Vec<Entrant>,
}

impl Ranking {
    /// The candidates as the rest of the algorithm knows them, best first.
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

/// The drivers who may be asked, nearest first, before it is decided in which order.
pub struct Shortlist<'a> {
    eligible: Vec<Eligible<'a>>,
    left_out: LeftOut,
    now: EpochMs,
}

impl<'a> Shortlist<'a> {
    /// Those of `drivers` who may be offered what `search` looks for. Their sequence does not matter.
    pub fn of(drivers: &'a [DriverSnapshot], search: &Search, policy: &DispatchPolicy, now: EpochMs) -> Self {
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

    /// The moment of the decision.
    pub fn now(&self) -> EpochMs {
        self.now
    }

    /// Whether nobody may be asked.
    pub fn is_empty(&self) -> bool {
        self.eligible.is_empty()
    }

    /// Where the nearest `count` of them are, nearest first.
    pub fn nearest(&self, count: usize) -> Vec<Coordinate> {
        self.eligible.iter().take(count).map(|one| one.driver.position).collect()
    }

    /// The same drivers with the times that the [nearest](Self::nearest) need to the pickup.
    #[must_use]
    pub fn with_times(mut self, times: impl IntoIterator<Item = PickupTime>) -> Self {
        for (one, time) in self.eligible.iter_mut().zip(times) {
            one.time = Some(time);
        }
        self
    }

    /// Decides the order. It is total, and depends on the arguments alone.
    pub fn rank(&self, policy: &DispatchPolicy, turn: Turn) -> Ranking {
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
        sort(&mut entrants, turn);
        entrants.truncate(policy.max_candidates.into());
        Ranking { nearness, turn, eligible, left_out: self.left_out, order: entrants }
    }
}

/// Whose turn it is in the searches of a dispatch: that of new drivers in the policy's share of all dispatches. It depends on the id
/// alone, so that every search of a dispatch, and every look back at it, comes to the same.
pub fn turn_of(dispatch: &DispatchId, policy: &DispatchPolicy) -> Turn {
    let drawn = spread(dispatch.as_str()) % 100;
    if drawn < u64::from(policy.exploration_share_percent) { Turn::NewDriver } else { Turn::Best }
}

/// The order that the record of a ranking leads to. It is the order of the record itself, unless somebody changed one or the other.
pub fn replay(ranking: &Ranking) -> Vec<DriverId> {
    let mut entrants = ranking.order.clone();
    for entrant in &mut entrants {
        // What can be worked out again is not believed.
        entrant.bucket = bucket(ranking.nearness, entrant.distance, entrant.time).unwrap_or(entrant.bucket);
    }
    sort(&mut entrants, ranking.turn);
    entrants.into_iter().map(|entrant| entrant.driver_id).collect()
}

/// The bucket that follows from the numbers of one driver; `None` where it depends on the others.
fn bucket(nearness: Nearness, distance: Metres, time: Option<PickupTime>) -> Option<u32> {
    match (nearness, time) {
        (Nearness::Distance { width_m }, _) => Some(distance.rounded() / width_m.max(1)),
        (Nearness::Time { width_s }, Some(time)) => Some(time.seconds / width_s.max(1)),
        (Nearness::Exact, _) | (Nearness::Time { .. }, None) => None,
    }
}

fn sort(entrants: &mut [Entrant], turn: Turn) {
    // Times are there only where they are compared; whoever has none comes behind those who have.
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
    if let (Turn::NewDriver, Some((_, bucket))) = (turn, nearest) {
        let about_as_near = |entrant: &Entrant| nearness(entrant) <= (false, bucket.saturating_add(1));
        let is_new = |entrant: &Entrant| entrant.acceptance.offered < NEW_DRIVER_OFFERS;
        if let Some(place) = entrants.iter().position(|entrant| is_new(entrant) && about_as_near(entrant)) {
            entrants[..=place].rotate_right(1);
        }
    }
}

/// Spreads texts over all numbers, evenly and always in the same way: FNV-1a, and the last mixing step of `MurmurHash3`, without which
/// texts that differ in one digit would have neighbouring remainders.
fn spread(text: &str) -> u64 {
    let fnv = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

/// The candidates among `drivers`, best first, at most `max_candidates` (the seed's `findCandidateDrivers`). The order is total
/// and depends only on the arguments: equal inputs in any sequence give equal outputs.
pub fn rank(drivers: &[DriverSnapshot], search: &Search, policy: &DispatchPolicy, now: EpochMs) -> Vec<Candidate> {
    Shortlist::of(drivers, search, policy, now).rank(policy, Turn::Best).candidates()
}

#[cfg(test)]
mod tests;
