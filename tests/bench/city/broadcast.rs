//! Offers to five drivers at the same time; the first to accept gets the ride, and five others follow if none does.
//! Core has no such mode, so its rules are here; in everything else it is like ours.

use dispatch_core::dispatch::{DispatchStatus, SEARCH_PAUSE_MS};
use dispatch_core::ranking::rank;

use super::bill::{self, NoRide};
use super::sequential::number_of;
use super::world::{Answered, Partition, STREAM_MS, What, World};

/// Drivers read to rank five.
const LOOKED_AT: usize = 40;

impl World<'_> {
    /// Handles an event of a request.
    pub(super) fn broadcast(&mut self, what: What) {
        match what {
            What::Look(number) if !self.requests[number as usize].is_closed() => self.ask_five(number),
            What::Answer { request, driver, offer, answer } => self.five_answer(request, driver, (offer, answer)),
            What::TimeOut { request, offer } if self.is_live(request, offer) => self.round_timed_out(request),
            What::GiveUp(number) if !self.requests[number as usize].is_closed() => {
                self.requests[number as usize].gave_up = true;
                self.end(number);
            }
            _ => {}
        }
    }

    fn is_live(&self, number: u32, offer: u32) -> bool {
        let request = &self.requests[number as usize];
        !request.is_closed() && request.dispatch.offer_seq == offer
    }

    fn ask_five(&mut self, number: u32) {
        if !self.requests[number as usize].open.is_empty() {
            return;
        }
        let search = self.wanted(number);
        let drivers = self.nearby(&search, LOOKED_AT + search.asked.len());
        let found = rank(&drivers, &search, &self.policy, self.epoch());
        let dispatch = &mut self.requests[number as usize].dispatch;
        let rounds_over = dispatch.offer_seq >= u32::from(self.policy.max_attempts);
        let budget_over = dispatch.matching.search_until.0 <= i64::try_from(self.now).unwrap_or(i64::MAX);
        if rounds_over || (found.is_empty() && budget_over) {
            self.end(number);
            return;
        }
        if found.is_empty() {
            self.after(SEARCH_PAUSE_MS, What::Look(number));
            return;
        }
        dispatch.offer_seq += 1;
        let offer = dispatch.offer_seq;
        dispatch.matching.asked.extend(found.iter().map(|candidate| candidate.driver_id.clone()));
        bill::offered(self.setup.arm, found.len() as f64, &mut self.requests[number as usize].bill);
        self.index_write(Partition::Requests, 1.0);
        for candidate in &found {
            self.push_offer(number, number_of(&candidate.driver_id), offer);
        }
        self.after(self.policy.offer_timeout_ms, What::TimeOut { request: number, offer });
    }

    fn five_answer(&mut self, number: u32, driver: u32, (offer, answer): (u32, Answered)) {
        if !self.is_live(number, offer) {
            return;
        }
        if self.still_accepts(driver, answer) && self.occupy(number, driver) {
            let request = &mut self.requests[number as usize];
            request.dispatch.status = DispatchStatus::Accepted;
            // The other offers of the round are wasted.
            request.wasted += u32::try_from(request.open.len()).unwrap_or(u32::MAX);
            self.withdraw(number);
            return;
        }
        self.requests[number as usize].wasted += u32::from(answer.accepts);
        self.refused(number, driver, NoRide::Rejected);
        if self.requests[number as usize].open.is_empty() {
            self.after(STREAM_MS, What::Look(number));
        }
    }

    fn round_timed_out(&mut self, number: u32) {
        let silent: Vec<u32> = self.requests[number as usize].open.keys().copied().collect();
        let Some((first, others)) = silent.split_first() else { return };
        // One write ends the round for any number of drivers.
        self.refused(number, *first, NoRide::TimedOut);
        for driver in others {
            self.offer_over(number, *driver);
        }
        self.after(STREAM_MS, What::Look(number));
    }

    fn withdraw(&mut self, number: u32) {
        let open: Vec<u32> = self.requests[number as usize].open.keys().copied().collect();
        for driver in open {
            self.offer_over(number, driver);
        }
    }

    fn end(&mut self, number: u32) {
        self.withdraw(number);
        let request = &mut self.requests[number as usize];
        request.dispatch.status = DispatchStatus::Cancelled;
        bill::closed(self.setup.arm, &mut request.bill);
        self.index_write(Partition::Requests, 1.0);
        self.close(number);
    }
}
