//! Batched matching: requests are collected for a window and matched together by core, as in the engine.

use std::collections::BTreeSet;

use dispatch_core::candidate::Candidate;
use dispatch_core::dispatch::{CandidateRef, DispatchStatus, Event};
use dispatch_core::ids::DriverId;
use dispatch_core::matching::{LIST_MAX, Plan, Request, edges, offer_order, plan};
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::ranking::rank;

use super::world::World;

/// Drivers read for each candidate, because drivers under a hold or in a cool-down are skipped.
const LOOKED_AT_PER_CANDIDATE: usize = 4;

impl World<'_> {
    /// Closes the window and gives each collected request its candidates.
    pub(super) fn close_window(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        let open: Vec<u32> = gathered.into_iter().filter(|number| self.waits(*number)).collect();
        let (requests, ranked): (Vec<Request>, Vec<Vec<Candidate>>) =
            open.iter().map(|number| self.gather(*number)).unzip();
        let orders = offer_orders(&requests, ranked, self.policy.max_candidates);
        for (number, order) in open.into_iter().zip(orders) {
            let found = order.iter().map(CandidateRef::from).collect();
            self.drive(number, Event::CandidatesFound(found));
        }
    }

    fn waits(&self, number: u32) -> bool {
        let dispatch = &self.requests[number as usize].dispatch;
        dispatch.status == DispatchStatus::Requested && dispatch.driver.is_none()
    }

    fn gather(&self, number: u32) -> (Request, Vec<Candidate>) {
        let (search, now) = (self.wanted(number), self.epoch());
        let drivers = self.nearby(&search, usize::from(LIST_MAX) * LOOKED_AT_PER_CANDIDATE + search.asked.len());
        let listed = DispatchPolicy { max_candidates: LIST_MAX, ..self.policy.clone() };
        let ranked = rank(&drivers, &search, &listed, now);
        let edges = edges(&ranked, &drivers, &self.policy, now);
        let dispatch = &self.requests[number as usize].dispatch;
        let waited_ms = now.since_ms(dispatch.created_at);
        (Request { id: dispatch.id.clone(), waited_ms, edges }, ranked)
    }
}

fn offer_orders(requests: &[Request], ranked: Vec<Vec<Candidate>>, max_candidates: u8) -> Vec<Vec<Candidate>> {
    let assigned = match plan(requests) {
        Plan::Assigned(assigned) => assigned,
        Plan::Single | Plan::Plentiful => {
            let own = |mut ranked: Vec<Candidate>| {
                ranked.truncate(max_candidates.into());
                ranked
            };
            return ranked.into_iter().map(own).collect();
        }
    };
    let taken: BTreeSet<&DriverId> = assigned.iter().flatten().collect();
    let orders = ranked.into_iter().zip(&assigned);
    orders.map(|(ranked, driver)| offer_order(ranked, driver.as_ref(), &taken, max_candidates)).collect()
}
