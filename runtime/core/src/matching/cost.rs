//! The cost of a match. Costs are integers, so that sums are exact and equal on every machine.

use std::collections::BTreeMap;

use super::Edge;
use crate::candidate::{Candidate, DriverSnapshot};
use crate::ids::DriverId;
use crate::policy::DispatchPolicy;
use crate::time::EpochMs;

/// Idle time after which more idle time no longer lowers the cost, ms. Half an hour without a ride is long in any city,
/// and is no reason to send a driver from farther away.
const IDLE_FULL_MS: u64 = 30 * 60 * 1000;

/// Idle time is worth at most one fourth of a distance bucket. It is the last criterion of the ranking, so it weighs
/// less than the acceptance rate, which is worth a whole bucket.
const IDLE_PART: u64 = 4;

/// Metres of pickup distance that one second of waiting is worth when not every request can be served.
///
/// It prevents newer requests in better places from overtaking a request forever: a newer request goes first only if
/// its driver is nearer by more than this for each second it arrived later. A much larger value would serve requests in
/// the order of arrival, which batching is meant to improve on.
const METRES_PER_SECOND_WAITED: u64 = 25;

/// Longest waiting time that counts, ms: the longest search budget a policy allows.
const WAITED_MAX_MS: u64 = 900_000;

/// The inputs of the cost of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeFacts {
    /// Distance to the pickup, m. If travel times are known: time multiplied by the city's average speed.
    pub pickup_m: u32,
    /// Smoothed acceptance rate, thousandths; 1000 for a driver who is assigned without an answer.
    pub acceptance_rate_per_mille: u32,
    /// Time since the driver's last ride, ms.
    pub idle_ms: u64,
}

/// The cost of offering a request to a driver, in metres: the distance to the pickup, up to one distance bucket for a
/// low acceptance rate, and up to a quarter of a bucket for a driver who has just had a ride.
///
/// Within a distance bucket the ranking lets the acceptance rate decide, so a batch follows the rate no farther than a
/// single search does. With `distance_bucket_m: 0` only the distance counts, in both.
pub fn edge_cost(facts: EdgeFacts, policy: &DispatchPolicy) -> u32 {
    let width = u64::from(policy.distance_bucket_m);
    let refusal = width * u64::from(1000 - facts.acceptance_rate_per_mille.min(1000)) / 1000;
    // A penalty for drivers who are not idle instead of a bonus for those who are, so that no cost is negative.
    let busy = width * (IDLE_FULL_MS - facts.idle_ms.min(IDLE_FULL_MS)) / (IDLE_FULL_MS * IDLE_PART);
    u32::try_from(u64::from(facts.pickup_m) + refusal + busy).unwrap_or(u32::MAX)
}

/// The cost of leaving a request that has waited `waited_ms` to the next window, in metres. It decides which requests
/// remain unserved when there are too few drivers, never how many.
pub fn waiting_cost(waited_ms: u64) -> u64 {
    waited_ms.min(WAITED_MAX_MS) * METRES_PER_SECOND_WAITED / 1000
}

/// The drivers a request may be matched with, cheapest first, from its `ranked` candidates and the drivers they were
/// ranked from.
pub fn edges(ranked: &[Candidate], drivers: &[DriverSnapshot], policy: &DispatchPolicy, now: EpochMs) -> Vec<Edge> {
    let idle_since: BTreeMap<&DriverId, EpochMs> =
        drivers.iter().map(|driver| (&driver.id, driver.idle_since)).collect();
    let edge = |candidate: &Candidate| {
        let asked = !(candidate.auto_accept && policy.auto_accept);
        let facts = EdgeFacts {
            pickup_m: candidate.distance.rounded(),
            acceptance_rate_per_mille: if asked { candidate.acceptance_rate_per_mille } else { 1000 },
            idle_ms: idle_since.get(&candidate.driver_id).map_or(0, |since| now.since_ms(*since)),
        };
        Edge { driver: candidate.driver_id.clone(), cost: edge_cost(facts, policy) }
    };
    let mut edges: Vec<Edge> = ranked.iter().map(edge).collect();
    edges.sort_by(|a, b| (a.cost, &a.driver).cmp(&(b.cost, &b.driver)));
    edges
}
