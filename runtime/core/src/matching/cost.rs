//! What a match costs. Integers, so that sums are exact and equal on every machine.

use std::collections::BTreeMap;

use super::Edge;
use crate::candidate::{Candidate, DriverSnapshot};
use crate::ids::DriverId;
use crate::policy::DispatchPolicy;
use crate::time::EpochMs;

/// Idle time that counts in full, ms. Half an hour without a ride is long for a driver in any city; more idle time is not a
/// reason to send a user a driver from farther away.
const IDLE_FULL_MS: u64 = 30 * 60 * 1000;

/// Idle time is worth at most this part of a distance bucket: it comes last in the order of candidates, so it weighs less
/// than the acceptance rate, which is worth a whole one.
const IDLE_PART: u64 = 4;

/// Metres of pickup one second of waiting is worth where not all can be served.
///
/// It keeps a request in a bad place from being passed over for ever by newer ones in better places: a newer one goes first
/// only if its driver is nearer by more than this for each second it came later. More would serve in the order of arrival,
/// which is what the batch is to improve on.
const METRES_PER_SECOND_WAITED: u64 = 25;

/// Waiting that counts, ms: the longest search a policy allows.
const WAITED_MAX_MS: u64 = 900_000;

/// What the cost of a match is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeFacts {
    /// The way to the pickup, m. Where travel times are known: time times the city's average speed.
    pub pickup_m: u32,
    /// Smoothed acceptance rate, thousandths; 1000 for a driver who is assigned without being asked.
    pub acceptance_rate_per_mille: u32,
    /// Time since the driver's last ride, ms.
    pub idle_ms: u64,
}

/// The cost of offering a request to a driver, in metres: the way to the pickup, up to one distance bucket for a driver who
/// refuses, and up to a quarter of one for a driver who has just had a ride.
///
/// The bucket is the width within which the order of candidates lets the acceptance rate decide, so a batch follows it no
/// farther than a single search does. With `distance_bucket_m: 0` the way alone counts, in both.
pub fn edge_cost(facts: EdgeFacts, policy: &DispatchPolicy) -> u32 {
    let width = u64::from(policy.distance_bucket_m);
    let refusal = width * u64::from(1000 - facts.acceptance_rate_per_mille.min(1000)) / 1000;
    // A penalty for those who are not idle instead of a bonus for those who are: no cost is below zero.
    let busy = width * (IDLE_FULL_MS - facts.idle_ms.min(IDLE_FULL_MS)) / (IDLE_FULL_MS * IDLE_PART);
    u32::try_from(u64::from(facts.pickup_m) + refusal + busy).unwrap_or(u32::MAX)
}

/// What it costs to leave a request that has waited `waited_ms` for the next window, in metres. It decides who is left over
/// where somebody has to be, and never how many.
pub fn waiting_cost(waited_ms: u64) -> u64 {
    waited_ms.min(WAITED_MAX_MS) * METRES_PER_SECOND_WAITED / 1000
}

/// The drivers a request may be matched with, made from its `ranked` candidates and the drivers they were ranked from; the
/// cheapest first.
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
