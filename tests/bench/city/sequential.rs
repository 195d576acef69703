//! Offers to one driver after the other, decided by core's `step`: the arms of the specification, and ours with and
//! without batching. The follow-ups, for which the engine calls DynamoDB, Redis and SNS, change the model.

use dispatch_core::candidate::{DriverSnapshot, Search};
use dispatch_core::dispatch::{
    CandidateRef, Companion, DispatchStatus, Event, FollowUp, OfferOutcome, Rules, Step, step,
};
use dispatch_core::ids::DriverId;
use dispatch_core::ranking::rank;
use dispatch_core::time::EpochMs;
use dispatch_runtime::adapters::fleet::index::NearestQuery;

use super::arm::{Arm, Source};
use super::bill::{self, NoRide};
use super::world::{Partition, STREAM_MS, What, World};

/// Drivers read for each candidate, and the number if none of these was eligible, as in the engine.
const LOOKED_AT_PER_CANDIDATE: usize = 4;
const LOOKED_AT_WIDE: usize = 200;
/// Time by which a hold outlasts its offer, as in the engine, ms.
const HOLD_GRACE_MS: u64 = 5_000;

/// The number of a driver of this city.
pub(super) fn number_of(id: &DriverId) -> u32 {
    id.suffix().parse().unwrap_or(u32::MAX)
}

impl World<'_> {
    /// Handles an event of a request.
    pub(super) fn one_by_one(&mut self, what: What) {
        match what {
            What::Look(number) => self.drive(number, Event::Wake),
            What::Searched(number) => {
                let found = self.candidates(number);
                self.drive(number, Event::CandidatesFound(found));
            }
            What::Answer { request, driver, offer, answer } => {
                let id = self.drivers[driver as usize].id.clone();
                let event = if self.still_accepts(driver, answer) {
                    Event::Accept { driver: id, offer_seq: offer }
                } else {
                    // The driver got another ride before this offer was answered.
                    let live = self.is_live_with(request, (driver, offer));
                    self.requests[request as usize].wasted += u32::from(answer.accepts && live);
                    Event::Reject { driver: id, offer_seq: offer }
                };
                self.drive(request, event);
            }
            What::TimeOut { request, offer } => self.drive(request, Event::OfferTimedOut { offer_seq: offer }),
            What::GiveUp(number) if !self.requests[number as usize].is_closed() => {
                let request = &mut self.requests[number as usize];
                request.gave_up = true;
                let user = request.dispatch.user.clone();
                self.drive(number, Event::CancelByUser { user });
            }
            _ => {}
        }
    }

    fn is_live_with(&self, number: u32, (driver, offer): (u32, u32)) -> bool {
        let request = &self.requests[number as usize];
        request.dispatch.offer_seq == offer && request.open.contains_key(&driver)
    }

    /// Applies an event and the events that follow from it, as the engine does.
    pub(super) fn drive(&mut self, number: u32, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let policy = self.policy.clone();
            let rules = Rules { policy: &policy, now: self.epoch() };
            // A refused event is outdated: a late answer, or the timer of an answered offer.
            let Ok(step) = step(&self.requests[number as usize].dispatch, event.clone(), rules) else { return };
            if !self.companions_agree(number, &step) {
                if let Event::Accept { driver, offer_seq } = event {
                    self.requests[number as usize].wasted += 1;
                    next = Some(Event::AcceptImpossible { driver, offer_seq });
                }
                continue;
            }
            self.requests[number as usize].dispatch = step.state.clone();
            next = self.carry_out(number, &step);
        }
    }

    /// The transaction's conditions on other items.
    fn companions_agree(&mut self, number: u32, step: &Step) -> bool {
        step.companions.iter().all(|companion| match companion {
            Companion::OccupyDriver(driver) => self.occupy(number, number_of(driver)),
            _ => true,
        })
    }

    fn carry_out(&mut self, number: u32, step: &Step) -> Option<Event> {
        let mut next = None;
        for follow_up in &step.follow_ups {
            match follow_up {
                FollowUp::Search => next = self.search(number),
                FollowUp::Hold(driver) => next = Some(self.hold(driver)),
                FollowUp::WakeAfter { delay_ms } => self.after(*delay_ms, What::Look(number)),
                FollowUp::Offer { driver, offer_seq, timeout_at, .. } => {
                    self.offer(number, driver, (*offer_seq, *timeout_at));
                }
                FollowUp::OfferEnded { driver, outcome, .. } => self.offer_ended(number, driver, *outcome),
                FollowUp::ReleaseHold(driver) => {
                    self.offer_over(number, number_of(driver));
                    self.release(driver);
                    if step.changed && step.state.status == DispatchStatus::Requested {
                        self.after(STREAM_MS, What::Look(number));
                    }
                }
                // Automatic acceptance is off, and notifications are counted in the bill.
                FollowUp::AcceptAtOnce { .. } | FollowUp::Notify(_) => {}
            }
        }
        if step.changed && step.state.status == DispatchStatus::Cancelled {
            bill::closed(self.setup.arm, &mut self.requests[number as usize].bill);
            self.index_write(Partition::Requests, 1.0);
            self.close(number);
        }
        next
    }

    fn hold(&mut self, driver: &DriverId) -> Event {
        let now = self.epoch();
        let free = self.index.get(driver).is_some_and(|known| {
            known.snapshot(driver, now).availability == dispatch_core::person::PersonStatus::Active
                && known.held_until <= now
                && known.rests_until <= now
        });
        // The specification reserves no driver and asks every driver on its list.
        if free || !self.setup.arm.reserves() {
            Event::DriverHeld(driver.clone())
        } else {
            Event::DriverBusy(driver.clone())
        }
    }

    fn release(&mut self, driver: &DriverId) {
        self.change(number_of(driver), |known| known.held_until = EpochMs(0));
    }

    fn offer(&mut self, number: u32, driver: &DriverId, (offer_seq, timeout_at): (u32, EpochMs)) {
        if self.setup.arm.reserves() {
            self.change(number_of(driver), |known| known.held_until = timeout_at.plus_ms(HOLD_GRACE_MS));
        }
        bill::offered(self.setup.arm, 1.0, &mut self.requests[number as usize].bill);
        self.index_write(Partition::Requests, 1.0);
        self.push_offer(number, number_of(driver), offer_seq);
        self.after(self.policy.offer_timeout_ms, What::TimeOut { request: number, offer: offer_seq });
    }

    fn offer_ended(&mut self, number: u32, driver: &DriverId, outcome: OfferOutcome) {
        let how = match outcome {
            // Counted with the transaction.
            OfferOutcome::Accepted => return,
            OfferOutcome::Rejected => NoRide::Rejected,
            OfferOutcome::TimedOut => NoRide::TimedOut,
        };
        self.refused(number, number_of(driver), how);
        self.release(driver);
        self.after(STREAM_MS, What::Look(number));
    }

    /// Searches for drivers, at once or when the source is free; a batched request waits for its window.
    fn search(&mut self, number: u32) -> Option<Event> {
        match self.source() {
            Source::Table | Source::Redis if self.requests[number as usize].listed => {
                // The specification searches once and works through the list.
                let listed = self.requests[number as usize].dispatch.matching.candidates.clone();
                Some(Event::CandidatesFound(listed))
            }
            Source::Table | Source::Redis => {
                self.waiting.push_back(number);
                if !self.searching {
                    self.start_searches();
                }
                None
            }
            Source::Index if self.setup.arm == Arm::E => {
                if !self.gathered.contains(&number) {
                    self.gathered.push(number);
                }
                None
            }
            Source::Index => Some(Event::CandidatesFound(self.candidates(number))),
        }
    }

    /// Starts waiting searches as far as the source's limits allow, and drops those of requests that have ended.
    pub(super) fn start_searches(&mut self) {
        self.searching = false;
        while let Some(number) = self.waiting.front().copied() {
            if self.requests[number as usize].is_closed() {
                self.waiting.pop_front();
                continue;
            }
            let wait_ms = self.shared.wait_ms(self.active, self.now);
            if wait_ms > 0 {
                self.throttled += 1;
                self.searching = true;
                self.after(wait_ms, What::Search);
                return;
            }
            self.waiting.pop_front();
            let begun = self.shared.begin(self.active, self.now);
            let request = &mut self.requests[number as usize];
            request.listed = true;
            bill::searched(self.setup.arm, begun.calls, begun.read_units, &mut request.bill);
            self.at(begun.answered_at, What::Searched(number));
        }
    }

    /// The candidates of the arm, best first.
    pub(super) fn candidates(&self, number: u32) -> Vec<CandidateRef> {
        let search = self.wanted(number);
        let narrow = usize::from(self.policy.max_candidates) * LOOKED_AT_PER_CANDIDATE + search.asked.len();
        for enough in [narrow, LOOKED_AT_WIDE] {
            let drivers = self.nearby(&search, enough);
            let found = rank(&drivers, &search, &self.policy, self.epoch());
            if !found.is_empty() || drivers.len() < enough {
                return found.iter().map(CandidateRef::from).collect();
            }
        }
        Vec::new()
    }

    /// The search of a request.
    pub(super) fn wanted(&self, number: u32) -> Search {
        let dispatch = &self.requests[number as usize].dispatch;
        Search {
            pickup: dispatch.pickup,
            estimated_fare: dispatch.estimated_fare,
            asked: dispatch.matching.asked.clone(),
        }
    }

    /// The nearest free drivers. All drivers ping, so no position is stale.
    pub(super) fn nearby(&self, search: &Search, enough: usize) -> Vec<DriverSnapshot> {
        let now = self.epoch();
        let wanted = NearestQuery { center: search.pickup, within: self.farthest(), enough };
        self.index.nearest(wanted, |_| true).into_iter().map(|found| found.driver.snapshot(found.id, now)).collect()
    }
}
