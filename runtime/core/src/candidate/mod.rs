//! Which drivers may be offered a dispatch, and the inputs of their order (spec §8).
//!
//! Spec §8 orders active drivers nearest first, within the driver's own `maxDistance`, `autoAccept` before others, and
//! a higher recent acceptance rate before a lower one. Exact distances never tie, so taken literally the last two
//! criteria would never apply. Distances are therefore compared in buckets of `distance_bucket_m`; `0` gives the
//! literal order.

use crate::geo::{Coordinate, Metres};
use crate::ids::DriverId;
use crate::person::PersonStatus;
use crate::policy::DispatchPolicy;
use crate::time::EpochMs;

/// Weight of the prior acceptance rate, in offers: a driver without offers counts as 2 accepted of 4. It prevents one
/// lucky or unlucky first answer from deciding a driver's rank.
const PRIOR_OFFERED: u32 = 4;
/// Accepted offers of the prior.
const PRIOR_ACCEPTED: u32 = 2;

/// Answers to the offers in the acceptance window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AcceptanceCounts {
    /// Offers made.
    pub offered: u32,
    /// Offers accepted.
    pub accepted: u32,
}

impl AcceptanceCounts {
    /// Smoothed acceptance rate in thousandths, as an integer so that equal histories compare equal.
    pub fn rate_per_mille(self) -> u32 {
        let offered = u64::from(self.offered.max(self.accepted)) + u64::from(PRIOR_OFFERED);
        let accepted = u64::from(self.accepted) + u64::from(PRIOR_ACCEPTED);
        u32::try_from(accepted * 1000 / offered).unwrap_or(1000)
    }
}

/// What is known of a driver at the time of a decision.
#[derive(Debug, Clone, PartialEq)]
pub struct DriverSnapshot {
    pub id: DriverId,
    pub availability: PersonStatus,
    /// Position of the last ping.
    pub position: Coordinate,
    /// Time of the last ping.
    pub seen_at: EpochMs,
    /// Since when the driver is free; `seen_at` if unknown.
    pub idle_since: EpochMs,
    /// `preferences.maxDistance`, converted from kilometres.
    pub max_distance: Metres,
    /// `preferences.minimumFare`.
    pub minimum_fare: u32,
    /// `preferences.autoAccept`.
    pub auto_accept: bool,
    /// Answers in the acceptance window.
    pub acceptance: AcceptanceCounts,
    /// Whether another offer holds this driver, or a cool-down is active.
    pub resting: bool,
}

/// The criteria of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    pub pickup: Coordinate,
    pub estimated_fare: u32,
    /// Drivers who were already offered this dispatch.
    pub asked: Vec<DriverId>,
}

/// A driver who may be offered the dispatch (`DriverCandidate` in spec §8).
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub driver_id: DriverId,
    /// Distance to the pickup.
    pub distance: Metres,
    /// Rank, 0 first.
    pub priority: usize,
    /// Whether the driver accepts automatically.
    pub auto_accept: bool,
    /// Smoothed acceptance rate, thousandths.
    pub acceptance_rate_per_mille: u32,
}

/// Why a driver is not eligible: the first reason found, in the order of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ineligible {
    /// Not `ACTIVE`.
    NotActive,
    /// The last ping is too old.
    Stale,
    /// Already offered this dispatch.
    AlreadyAsked,
    /// Held by another offer, or cooling down.
    Resting,
    /// The pickup is beyond the driver's `maxDistance`.
    TooFar,
    /// The estimate is below the driver's `minimumFare`.
    FareTooLow,
}

/// Whether `driver` is eligible for `search`, with the distance to the pickup (`isEligibleDriver` in spec §8).
pub fn eligibility(
    driver: &DriverSnapshot,
    search: &Search,
    policy: &DispatchPolicy,
    now: EpochMs,
) -> Result<Metres, Ineligible> {
    if driver.availability != PersonStatus::Active {
        return Err(Ineligible::NotActive);
    }
    if now.since_ms(driver.seen_at) > policy.stale_after_ms {
        return Err(Ineligible::Stale);
    }
    if search.asked.contains(&driver.id) {
        return Err(Ineligible::AlreadyAsked);
    }
    if driver.resting {
        return Err(Ineligible::Resting);
    }
    let distance = driver.position.distance_to(search.pickup);
    if driver.max_distance < distance {
        return Err(Ineligible::TooFar);
    }
    if driver.minimum_fare > search.estimated_fare {
        return Err(Ineligible::FareTooLow);
    }
    Ok(distance)
}

#[cfg(test)]
pub(crate) mod tests;
