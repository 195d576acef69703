//! Batched matching: the assignment of drivers to requests that compete for the same drivers.
//!
//! Requests handled one by one each take the best driver for themselves ([`rank`](crate::ranking::rank)). When drivers
//! are scarce, a later rider may wait long for the little that an earlier one gained. Requests collected for a second
//! or two are matched together: as many as possible are served, and among all ways to do so the one with the lowest
//! total [`cost`](edge_cost) is chosen.
//!
//! A match only decides which candidate of a request is offered first ([`offer_order`]). The reservation, the offer and
//! its fence are the same as for an unbatched request.
//!
//! This module knows nothing of windows, tasks or time. A simulator calls the same functions in the same order as the
//! runtime: [`rank`](crate::ranking::rank) with [`LIST_MAX`] candidates, [`edges`], [`plan`], [`offer_order`].

mod assignment;
mod cost;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::candidate::Candidate;
use crate::ids::{DispatchId, DriverId};

use assignment::Components;
pub use cost::{EdgeFacts, edge_cost, edges, waiting_cost};

/// Most candidates listed for a batched request, and most drivers it is matched among.
pub const LIST_MAX: u8 = 32;

/// Fewest drivers a request is matched among. Fewer would leave requests unserved that have drivers nearby. More hardly
/// changes the result, because a lone request almost never gets its ninth driver.
const EDGES_MIN: usize = 8;

/// Drivers for each request above which drivers are plentiful. Every request then has a good driver of its own, and
/// waiting for others gains nothing.
pub const PLENTIFUL: usize = 3;

/// A driver a request may be matched with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    pub driver: DriverId,
    /// Cost in metres ([`edge_cost`]).
    pub cost: u32,
}

/// A request to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Unique within the batch.
    pub id: DispatchId,
    /// How long its user has waited, ms. It favours longer waits when not every request can be served
    /// ([`waiting_cost`]).
    pub waited_ms: u64,
    /// Its drivers, cheapest first.
    pub edges: Vec<Edge>,
}

/// What to do with the requests of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// There is only one request; its own order is the best.
    Single,
    /// No requests that share drivers are short of drivers: each keeps its own order.
    Plentiful,
    /// The driver of each request, in the order of the requests; a request with `None` has no driver and is searched
    /// again.
    Assigned(Vec<Option<DriverId>>),
}

/// Matches requests one to one with drivers: as many requests as possible, at the lowest total of [`Edge::cost`] and of
/// the [`waiting_cost`] of the remaining requests. Every given edge is considered, and the result is an exact optimum.
/// It depends only on ids and costs: the same requests in another order get the same drivers.
///
/// The work is bounded: one shortest-path search for each request, each of which visits every edge at most once. Costs
/// may have any value; the number of requests times the number of edges should stay below about ten million.
pub fn assign(requests: &[Request]) -> Vec<Option<DriverId>> {
    Components::new(requests, usize::MAX).assign()
}

/// Plans the requests of one window.
///
/// A request is matched among its eight cheapest drivers, or, in a larger batch, among as many drivers as there are
/// requests, up to [`LIST_MAX`]. Up to that size the result equals the optimum over all drivers: of `n` requests none
/// needs its driver number `n + 1`, since the others take at most `n - 1` of the ones before it.
pub fn plan(requests: &[Request]) -> Plan {
    if requests.len() < 2 {
        return Plan::Single;
    }
    if !Components::new(requests, usize::MAX).any_short_of_drivers(PLENTIFUL) {
        return Plan::Plentiful;
    }
    let edges = requests.len().clamp(EDGES_MIN, LIST_MAX.into());
    Plan::Assigned(Components::new(requests, edges).assign())
}

/// The order in which a matched request is offered to its candidates: the `assigned` driver, then drivers assigned to
/// no request, then, as a fallback, drivers `taken` by other requests of the batch. A request without an assigned
/// driver skips the `taken` ones: it would break another request's match without gaining a ride. At most
/// `max_candidates` remain.
pub fn offer_order(
    mut ranked: Vec<Candidate>,
    assigned: Option<&DriverId>,
    taken: &BTreeSet<&DriverId>,
    max_candidates: u8,
) -> Vec<Candidate> {
    let group = |candidate: &Candidate| {
        let driver = &candidate.driver_id;
        if assigned == Some(driver) { 0 } else { 1 + u8::from(taken.contains(driver)) }
    };
    ranked.retain(|candidate| assigned.is_some() || group(candidate) < 2);
    ranked.sort_by_key(group);
    ranked.truncate(max_candidates.into());
    for (priority, candidate) in ranked.iter_mut().enumerate() {
        candidate.priority = priority;
    }
    ranked
}
