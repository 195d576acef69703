//! Batched matching: which driver is offered which request where several requests want the same drivers.
//!
//! Requests that come one by one each take the driver who is best for them ([`rank`](crate::ranking::rank)), and
//! where drivers are scarce the second rider has a long wait for what the first gained by a little. Gathered for a
//! second or two they are matched together: as many as possible are served, and among all ways to do that the one with the
//! least [`cost`](edge_cost) is taken.
//!
//! A match is a proposal like any other. It only decides which candidate of a request is asked first ([`offer_order`]); the
//! reservation, the offer and its fence are those of a request that was never gathered.
//!
//! Nothing here knows of windows, tasks or time: a simulator calls the same functions in the same order as the runtime, which is
//! [`rank`](crate::ranking::rank) with [`LIST_MAX`] candidates, [`edges`], [`plan`], [`offer_order`].

mod assignment;
mod cost;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::candidate::Candidate;
use crate::ids::{DispatchId, DriverId};

use assignment::Components;
pub use cost::{EdgeFacts, edge_cost, edges, waiting_cost};

/// Candidates of one request that are gathered, and the most drivers it is matched among.
pub const LIST_MAX: u8 = 32;

/// Drivers a request is matched among at least. Fewer leave requests unserved that have drivers near; more is work for next to
/// nothing, because a request alone hardly ever gets its ninth driver.
const EDGES_MIN: usize = 8;

/// Drivers for each request above which they are plentiful. Everybody then has a good driver to himself, and waiting for
/// others gains nothing.
pub const PLENTIFUL: usize = 3;

/// A driver a request may be matched with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Who.
    pub driver: DriverId,
    /// What it costs: metres to the pickup and what counts like metres ([`edge_cost`]).
    pub cost: u32,
}

/// A request to be matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which. No two requests of a batch are the same.
    pub id: DispatchId,
    /// How long its user has waited, ms. Where not all can be served, it speaks for those who have waited longer
    /// ([`waiting_cost`]).
    pub waited_ms: u64,
    /// Its drivers, the cheapest first.
    pub edges: Vec<Edge>,
}

/// What is to be done with gathered requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// There is but one: its own order is the best.
    Single,
    /// No requests that share drivers are short of them: each keeps its own order.
    Plentiful,
    /// The driver each request is matched with, in the order of the requests; `None` has nobody and is searched again.
    Assigned(Vec<Option<DriverId>>),
}

/// Matches requests one to one with drivers: as many requests as possible, at the least total of [`Edge::cost`] and of the
/// [`waiting_cost`] of those left over. Every edge given is considered, and the result is an exact optimum. It depends on the
/// ids and costs alone: the same requests in another sequence get the same drivers.
///
/// Its work is bounded: one search for a shortest path for each request, each of which looks at every edge at most once. Costs
/// may have any value; the number of requests times the number of edges should stay below some ten millions.
pub fn assign(requests: &[Request]) -> Vec<Option<DriverId>> {
    Components::of(requests, usize::MAX).assign()
}

/// Decides for the requests of one window.
///
/// A request is matched among its eight cheapest drivers; where more requests were gathered, among as many drivers as there are
/// requests, up to [`LIST_MAX`]. Up to there the optimum is that of all drivers: of `n` requests none needs its driver
/// number `n + 1`, since the others take at most `n - 1` of those before.
pub fn plan(requests: &[Request]) -> Plan {
    if requests.len() < 2 {
        return Plan::Single;
    }
    if !Components::of(requests, usize::MAX).any_short_of_drivers(PLENTIFUL) {
        return Plan::Plentiful;
    }
    let edges = requests.len().clamp(EDGES_MIN, LIST_MAX.into());
    Plan::Assigned(Components::of(requests, edges).assign())
}

/// The order in which a request's candidates are asked once it was matched: the driver `assigned` to it, then those nobody was
/// assigned, then, in case theirs are gone, those `taken` by others of the batch. A request without a driver of its own does not ask
/// those: it would spoil the match of another and gain nobody. At most `max_candidates` are left.
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
