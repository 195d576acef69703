//! The dispatch algorithm of spec §8 for one dispatch: find candidates, reserve the best one, make the offer. When an
//! offer ends, the stream record of that change triggers the next offer.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use dispatch_core::candidate::{Search, eligibility};
use dispatch_core::dispatch::{CandidateRef, Dispatch, Event, FollowUp, Rules, Step, step};
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_core::ranking::Shortlist;
use dispatch_core::time::EpochMs;

use crate::adapters::fleet::fleet_entry;
use crate::engine::batching::{WaitingSearch, for_listing};
use crate::engine::table_search::{Cache, FETCHED_MAX, TableSearch};
use crate::engine::trigger::Trigger;
use crate::engine::{Engine, EngineError};
use crate::ports::{Commit, HoldToken, Person, PortError, StoredDispatch, TimerMessage};

/// Most steps of one run: each of at most 50 candidates may turn out to be busy in each of a few searches. More steps
/// would mean that core and this loop disagree; the sweeper then retries.
const ADVANCE_STEPS_MAX: usize = 200;

/// Most consecutive searches without a pause. They occur when every candidate was reserved between search and hold, as
/// when many users request rides at one place at the same time. Each search sees the reservations made so far; after
/// the last one the dispatch waits for its wake-up like any other.
const CONSECUTIVE_SEARCHES_MAX: u32 = 4;

/// Drivers fetched for each wanted candidate, so that enough remain after ineligible ones are removed.
const FETCHED_PER_CANDIDATE: usize = 4;

/// Time a driver is reserved while the offer is being stored, ms. It bounds what the driver loses if the process
/// crashes in between. A stored offer reserves its driver for as long as the offer lasts.
const HOLD_MS: u64 = 10_000;

/// Pause until a timer is repeated that a process with a wrong clock received, ms. Another process may then receive it.
const UNTRUSTED_PAUSE_MS: u64 = 2_000;

/// Scheduled wake-ups remembered before those that are due are removed.
const ARMED_WAKES_MAX: usize = 10_000;

/// Wake-ups of this process that have not fired yet. They prevent a repeated stream record from starting a second chain
/// of wake-ups. Other replicas may start one; every chain ends with the search budget. A dispatch that has advanced
/// starts a new chain, and the wake-up of an earlier version is ignored when it fires.
#[derive(Default)]
pub(super) struct ArmedWakes(Mutex<HashMap<DispatchId, (EpochMs, u32)>>);

impl ArmedWakes {
    fn arm(&self, state: &Dispatch, now: EpochMs, delay_ms: u64) -> bool {
        let mut armed = self.0.lock();
        if armed.get(&state.id).is_some_and(|(due, ver)| *due > now && *ver >= state.ver) {
            return false;
        }
        if armed.len() >= ARMED_WAKES_MAX {
            armed.retain(|_, (due, _)| *due > now);
        }
        armed.insert(state.id.clone(), (now.plus_ms(delay_ms), state.ver));
        true
    }
}

impl Engine {
    /// Advances a dispatch as far as possible without waiting for an answer. `stored` is the dispatch as the caller
    /// knows it, for example from a stream image; it is read again only if the table has a newer version. Repeating the
    /// call is harmless, even concurrently and in other processes: only one caller can store the next offer. Within one
    /// process a second caller waits, and returns at once if the first already advanced that version.
    pub async fn advance(&self, stored: StoredDispatch, trigger: Trigger) -> Result<(), EngineError> {
        if self.known.has_advanced(&stored.state.id, stored.state.ver) {
            return Ok(());
        }
        let (id, ver) = (stored.state.id.clone(), stored.state.ver);
        let mut guard = self.locks.acquire(&id).await;
        if guard.was_done(ver) || self.known.has_advanced(&id, ver) {
            return Ok(());
        }
        self.known.note(&stored);
        self.advance_alone(stored, trigger).await?;
        // A sweep that found no driver schedules no wake-up; a waiting caller may have to.
        if trigger != Trigger::Sweep {
            guard.done(ver);
        }
        Ok(())
    }

    async fn advance_alone(&self, stored: StoredDispatch, trigger: Trigger) -> Result<(), EngineError> {
        let mut before = stored;
        let mut working = before.state.clone();
        let mut event = Event::Wake;
        let mut searches = 1;
        for _ in 0..ADVANCE_STEPS_MAX {
            let settings = self.city.settings();
            let rules = Rules { policy: &settings.policy, now: self.ports.clock.now() };
            let Ok(step) = step(&working, event.clone(), rules) else {
                // The offer that was to be accepted automatically has already changed.
                return Ok(());
            };
            if !step.changed {
                if all_were_reserved(&event, &step) && searches < CONSECUTIVE_SEARCHES_MAX {
                    searches += 1;
                    (working, event) = (step.state, Event::Wake);
                    continue;
                }
                let Some(next) = self.continue_with(&before, &step, trigger).await? else { return Ok(()) };
                (working, event) = (step.state, next);
                continue;
            }
            let committed = match self.commit(&before, &step, None).await {
                Ok(committed) => committed,
                Err(error) => {
                    self.release_after_failure(&before, &event).await;
                    return Err(error.into());
                }
            };
            match committed {
                Commit::Applied(after) => {
                    self.after_commit(&after, &step).await;
                    let Some(next) = self.continue_with(&after, &step, trigger).await? else { return Ok(()) };
                    before = *after;
                    (working, event) = (before.state.clone(), next);
                }
                Commit::Changed => {
                    let next_offer = before.state.offer_seq + 1;
                    before = self.load(&before.state.id).await?;
                    self.release_unless_stored(&before, &event, next_offer).await;
                    working = before.state.clone();
                    event = Event::Wake;
                }
                Commit::CompanionRefused => match event {
                    Event::Accept { driver, offer_seq } => {
                        self.correct_fleet(&before, &driver).await;
                        event = Event::AcceptImpossible { driver, offer_seq };
                    }
                    _ => return Err(EngineError::Contended),
                },
            }
        }
        tracing::warn!(dispatch = %before.state.id, "the algorithm reached its step limit; the sweeper will retry");
        Ok(())
    }

    /// Reads a dispatch and advances it: for wake-up timers and the sweeper, which know only its id.
    pub async fn advance_by_id(&self, id: &DispatchId, trigger: Trigger) -> Result<(), EngineError> {
        let stored = self.load(id).await?;
        self.advance(stored, trigger).await
    }

    /// Repeats the search of a dispatch that found no driver in version `ver`, unless it is known to have advanced
    /// since. Redriven dead letters have no version.
    pub async fn wake(self: &Arc<Self>, id: &DispatchId, ver: Option<u32>) -> Result<(), EngineError> {
        if ver.is_some_and(|ver| self.known.has_advanced(id, ver)) {
            return Ok(());
        }
        self.advance_in_background(id, Trigger::Wake).await
    }

    /// Ends an offer whose timer fired. Returns the remaining time (ms) if the timer was early, or the time after which
    /// another process may handle it if the clock of this one is wrong.
    pub async fn time_out(&self, id: &DispatchId, offer_seq: u32) -> Result<Option<u64>, EngineError> {
        if self.known.is_over(id, offer_seq) {
            return Ok(None);
        }
        if !self.ports.clock.is_trusted() {
            return Ok(Some(UNTRUSTED_PAUSE_MS));
        }
        let stored = self.load(id).await?;
        let now = self.ports.clock.now();
        let is_its_own = stored.state.offer_seq == offer_seq;
        let left_ms = if is_its_own { stored.state.matching.offer_ends_at(now).since_ms(now) } else { 0 };
        if left_ms > 0 {
            return Ok(Some(left_ms));
        }
        match self.apply_to(stored, Event::OfferTimedOut { offer_seq }, None).await {
            // An answer was faster; nothing is left for the timer.
            Ok(_) | Err(EngineError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Carries out the follow-up that leads to another event.
    async fn continue_with(
        &self,
        before: &StoredDispatch,
        step: &Step,
        trigger: Trigger,
    ) -> Result<Option<Event>, EngineError> {
        let mut next = None;
        for follow_up in &step.follow_ups {
            match follow_up {
                FollowUp::Search => {
                    // A search that fails ends like one that finds no driver: it is repeated, and the request ends in
                    // time whatever the search says.
                    let found = self.search(before, &step.state, trigger).await.unwrap_or_else(|error| {
                        search_failed(before, &error);
                        Some(Vec::new())
                    });
                    next = found.map(Event::CandidatesFound);
                }
                FollowUp::Hold(driver) => next = Some(self.hold(before, driver).await),
                FollowUp::AcceptAtOnce { driver, offer_seq } => {
                    next = Some(Event::Accept { driver: driver.clone(), offer_seq: *offer_seq });
                }
                FollowUp::WakeAfter { delay_ms } => {
                    if trigger != Trigger::Sweep {
                        self.arm_wake(before, *delay_ms).await;
                    }
                }
                // The hold was for an offer that is no longer needed.
                FollowUp::ReleaseHold(driver) if !step.changed => {
                    let token = HoldToken::for_offer(&before.state.id, before.state.offer_seq + 1);
                    self.release(before, driver, &token).await;
                }
                // Side effects of a stored change; `after_commit` carries them out.
                FollowUp::ReleaseHold(_)
                | FollowUp::Offer { .. }
                | FollowUp::OfferEnded { .. }
                | FollowUp::Notify(_) => {}
            }
        }
        Ok(next)
    }

    async fn arm_wake(&self, stored: &StoredDispatch, delay_ms: u64) {
        let now = self.ports.clock.now();
        if !self.wakes.arm(&stored.state, now, delay_ms) {
            return;
        }
        let message = TimerMessage {
            dispatch_id: stored.state.id.to_string(),
            driver_id: None,
            request_time: self.city.timestamp(now),
            timeout_at: self.city.timestamp(now.plus_ms(delay_ms)),
            offer_seq: None,
            ver: Some(stored.state.ver),
        };
        let result = self.ports.timers.start(&message, delay_ms).await;
        self.tolerate(stored, result);
    }

    /// Reserves a driver for the next offer. If the cache is down, the offer is made without a reservation; the table
    /// decides.
    async fn hold(&self, stored: &StoredDispatch, driver: &DriverId) -> Event {
        let token = HoldToken::for_offer(&stored.state.id, stored.state.offer_seq + 1);
        match self.ports.fleet.reservations.hold(driver, &token, HOLD_MS).await {
            Ok(true) => Event::DriverHeld(driver.clone()),
            Ok(false) => Event::DriverBusy(driver.clone()),
            Err(error) => {
                self.tolerate(stored, Err(error));
                Event::DriverHeld(driver.clone())
            }
        }
    }

    /// Releases the reservation after a failed write unless the offer was stored after all. Otherwise the next attempt
    /// would find the driver reserved.
    async fn release_after_failure(&self, before: &StoredDispatch, event: &Event) {
        if !matches!(event, Event::DriverHeld(_)) {
            return;
        }
        // If reading fails too, the reservation expires.
        if let Ok(stored) = self.load(&before.state.id).await {
            self.release_unless_stored(&stored, event, before.state.offer_seq + 1).await;
        }
    }

    /// Releases the reservation of an offer that could not be stored. Another process that stored the same offer uses
    /// the same token (a token names the offer, not the process); the reservation then belongs to that offer and
    /// remains.
    async fn release_unless_stored(&self, now_stored: &StoredDispatch, event: &Event, offer_seq: u32) {
        let Event::DriverHeld(driver) = event else { return };
        let state = &now_stored.state;
        if state.has_live_offer() && state.offer_seq == offer_seq && state.driver.as_ref() == Some(driver) {
            return;
        }
        self.release(now_stored, driver, &HoldToken::for_offer(&state.id, offer_seq)).await;
    }

    /// Searches candidates (`findCandidateDrivers` in spec §8): in the cache, or in the table if the cache is cold or
    /// down. `None` if the dispatch advanced while the search waited in a batch window.
    async fn search(
        &self,
        before: &StoredDispatch,
        working: &Dispatch,
        trigger: Trigger,
    ) -> Result<Option<Vec<CandidateRef>>, PortError> {
        let settings = self.city.settings();
        let now = self.ports.clock.now();
        let window = self.batch_window_for(before, &settings.policy, trigger, now);
        let policy = if window.is_some() { &for_listing(&settings.policy) } else { &settings.policy };
        let search = Search {
            pickup: working.pickup,
            estimated_fare: working.estimated_fare,
            asked: working.matching.asked.clone(),
        };
        let wanted = usize::from(policy.max_candidates) * FETCHED_PER_CANDIDATE;
        let wanted = settings.router.as_ref().map_or(wanted, |_| wanted.max(policy.eta_top_k.into()));
        let narrow = wanted + search.asked.len();
        let mut drivers = Vec::new();
        for enough in [narrow, FETCHED_MAX] {
            let nearby = self.ports.fleet.search.nearby(search.pickup, &policy.search_rings_m, enough, now).await;
            let unusable = match nearby {
                Ok(Some(found)) => {
                    drivers = found;
                    None
                }
                Ok(None) => Some(Cache::Cold),
                Err(error) => {
                    self.tolerate(before, Err(error));
                    Some(Cache::Down)
                }
            };
            if let Some(cache) = unusable {
                drivers = self.drivers_from_table(before, TableSearch { search: &search, policy, now, cache }).await?;
                break;
            }
            let found = drivers.iter().any(|driver| eligibility(driver, &search, policy, now).is_ok());
            if found || drivers.len() < enough {
                break;
            }
        }
        let ranking = self.rank(&settings, policy, working, Shortlist::new(&drivers, &search, policy, now)).await;
        let mut found = ranking.candidates();
        if let Some(window) = window {
            let listed = WaitingSearch { ranked: found, drivers, at: now };
            let Some(ordered) = self.match_in_window(before, listed, &settings.policy, window).await else {
                return Ok(None);
            };
            found = ordered;
        }
        Ok(Some(found.iter().map(CandidateRef::from).collect()))
    }

    /// Corrects the cache when the table shows that a driver is not free.
    pub(super) async fn correct_fleet(&self, stored: &StoredDispatch, driver: &DriverId) {
        let corrected = async {
            let known = self.ports.profiles.drivers(std::slice::from_ref(driver)).await?;
            let current = known.first().and_then(|driver| driver.current_status.dispatch.clone());
            if let Some(current) = current.filter(|current| *current != stored.state.id)
                && self.release_if_over(&Person::Driver(driver.clone()), &current).await?
            {
                return self.ports.fleet.reservations.set_status(driver, PersonStatus::Active, None).await;
            }
            match known.first().and_then(fleet_entry) {
                Some(entry) => {
                    self.ports.fleet.reservations.set_status(driver, entry.status, entry.dispatch.as_ref()).await
                }
                None => self.ports.fleet.reservations.set_status(driver, PersonStatus::Inactive, None).await,
            }
        };
        let result = corrected.await;
        self.tolerate(stored, result);
    }
}

fn search_failed(stored: &StoredDispatch, error: &PortError) {
    let reason = std::error::Error::source(error).map(ToString::to_string);
    let dispatch = &stored.state.id;
    tracing::warn!(%dispatch, %error, reason, "a search failed; it is repeated until the request's time is over");
}

/// Whether every candidate of a search was already reserved, so that another search may find a free driver.
fn all_were_reserved(event: &Event, step: &Step) -> bool {
    let waits = |follow_up: &FollowUp| matches!(follow_up, FollowUp::WakeAfter { .. });
    matches!(event, Event::DriverBusy(_)) && step.follow_ups.iter().any(waits)
}
