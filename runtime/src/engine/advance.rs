//! The dispatch algorithm of the seed's section 8, for one dispatch: find candidates, reserve the best, offer; the next one
//! when the stream says that the offer ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dispatch_core::candidate::{AcceptanceCounts, DriverSnapshot, Search, eligibility};
use dispatch_core::dispatch::{CandidateRef, Dispatch, Event, FollowUp, Rules, Step, step};
use dispatch_core::geo::{Metres, region_of_address};
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_core::ranking::Shortlist;
use dispatch_core::time::EpochMs;

use super::batching::{Listed, for_listing};
use super::{Engine, EngineError};
use crate::fleet::fleet_entry;
use crate::ports::{Commit, FleetEntry, HoldToken, PortError, StoredDispatch, TimerMessage};

/// Steps of one run: each of at most 50 candidates may turn out to be busy in each of a few searches. More would mean that core
/// and this loop disagree; the sweeper then tries again.
const ADVANCE_STEPS_MAX: usize = 200;

/// Searches that follow one another at once because every candidate was reserved between search and hold, as where many ask at one place at
/// the same time. Each sees who is reserved by then; whoever is still unlucky searches again later like others.
const SEARCHES_AT_ONCE_MAX: u32 = 4;

/// Drivers looked at for each candidate wanted, so that those who rest, drive too far or want more leave enough others.
const LOOKED_AT_PER_CANDIDATE: usize = 4;

/// Drivers looked at where the nearest were all ineligible, and drivers read from the table where the cache is cold. Both are
/// one round trip; more would cost more than the next search in two seconds.
const LOOKED_AT_WIDE: u16 = 200;

/// Time a driver is reserved while the offer is being stored. A process that dies meanwhile costs the driver no more; a stored
/// offer reserves its driver for as long as it lasts.
const HOLD_MS: u64 = 10_000;

/// Armed wake-ups remembered before those that are due are forgotten.
const ARMED_WAKES_MAX: usize = 10_000;

/// What made somebody look at a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A stream record: an empty search sets the next wake-up timer.
    Event,
    /// A wake-up timer, which sets the next one in the same way, and may come any time after the dispatch was last changed.
    Wake,
    /// The sweeper, which comes again by itself: an empty search sets no timer.
    Sweep,
}

/// Wake-ups of this process that have not fired yet: a replayed stream record must not start a second chain of them. Other
/// replicas may; a chain ends with the search budget. A dispatch that has gone on begins another: the wake-up of an earlier version is
/// passed over when it fires.
#[derive(Default)]
pub(super) struct ArmedWakes(Mutex<HashMap<DispatchId, (EpochMs, u32)>>);

impl ArmedWakes {
    fn arm(&self, state: &Dispatch, now: EpochMs, delay_ms: u64) -> bool {
        let mut armed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    /// Moves a dispatch on as far as it goes without waiting for somebody: `stored` is what the caller has seen of it, a
    /// stream image for example, and is read again only where the table has something newer. Repeating it, at the same time
    /// and elsewhere too, is harmless: only one of them can store the next offer. In one process the second waits for the first, and has
    /// nothing left to do where that one came as far.
    pub async fn advance(&self, stored: StoredDispatch, trigger: Trigger) -> Result<(), EngineError> {
        if self.known.has_gone_on(&stored.state.id, stored.state.ver) {
            return Ok(());
        }
        let (id, ver) = (stored.state.id.clone(), stored.state.ver);
        let mut turn = self.turns.enter(&id).await;
        if turn.was_done(ver) || self.known.has_gone_on(&id, ver) {
            return Ok(());
        }
        self.known.note(&stored);
        self.advance_alone(stored, trigger).await?;
        // A sweep that found nobody has set no timer: others may want one.
        if trigger != Trigger::Sweep {
            turn.done(ver);
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
                // Somebody else was faster with the offer that was to be accepted at once.
                return Ok(());
            };
            if !step.changed {
                if all_were_reserved(&event, &step) && searches < SEARCHES_AT_ONCE_MAX {
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
                    self.give_back_after_failure(&before, &event).await;
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
                    self.give_back_unless_won(&before, &event, next_offer).await;
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
        tracing::warn!(dispatch = %before.state.id, "the algorithm did not come to an end; the sweeper tries again");
        Ok(())
    }

    /// Reads a dispatch and moves it on: for a wake-up timer and for the sweeper, who know only its id.
    pub async fn advance_by_id(&self, id: &DispatchId, trigger: Trigger) -> Result<(), EngineError> {
        let stored = self.load(id).await?;
        self.advance(stored, trigger).await
    }

    /// Repeats the search of a dispatch that found nobody in this version, unless it is known to have gone on since. Letters that are moved
    /// back name no version.
    pub async fn wake(self: &Arc<Self>, id: &DispatchId, ver: Option<u32>) -> Result<(), EngineError> {
        if ver.is_some_and(|ver| self.known.has_gone_on(id, ver)) {
            return Ok(());
        }
        self.advance_aside(id, Trigger::Wake).await
    }

    /// Ends an offer whose timer fired. Gives the time that is left where the timer was early.
    pub async fn time_out(&self, id: &DispatchId, offer_seq: u32) -> Result<Option<u64>, EngineError> {
        if self.known.is_over(id, offer_seq) {
            return Ok(None);
        }
        let stored = self.load(id).await?;
        let due = stored.state.matching.timeout_at.filter(|_| stored.state.offer_seq == offer_seq);
        let left_ms = due.map_or(0, |at| at.since_ms(self.ports.clock.now()));
        if left_ms > 0 {
            return Ok(Some(left_ms));
        }
        match self.apply_to(stored, Event::OfferTimedOut { offer_seq }, None).await {
            // An answer was first; the timer has nothing left to do.
            Ok(_) | Err(EngineError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Carries out the one follow-up that leads to another event.
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
                    next = self.search(before, &step.state, trigger).await?.map(Event::CandidatesFound);
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
                // The hold was for an offer that is no longer wanted.
                FollowUp::ReleaseHold(driver) if !step.changed => {
                    let token = HoldToken::for_offer(&before.state.id, before.state.offer_seq + 1);
                    self.release(before, driver, &token).await;
                }
                // Side effects of a stored change, done by `after_commit`.
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

    /// Reserves a driver for the next offer. A cache that is down reserves nobody and stops nobody: the table decides.
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

    /// Storing failed, perhaps after its effect: the reservation goes unless the offer turns out to be there. Whoever tries again
    /// would otherwise take the driver for somebody else's.
    async fn give_back_after_failure(&self, before: &StoredDispatch, event: &Event) {
        if !matches!(event, Event::DriverHeld(_)) {
            return;
        }
        // Where reading fails too, the reservation ends by itself.
        if let Ok(stored) = self.load(&before.state.id).await {
            self.give_back_unless_won(&stored, event, before.state.offer_seq + 1).await;
        }
    }

    /// The offer could not be stored. Whoever stored it first may have reserved the same driver under the same token (a
    /// token names the offer, not the process), and then the reservation is theirs.
    async fn give_back_unless_won(&self, now_stored: &StoredDispatch, event: &Event, offer_seq: u32) {
        let Event::DriverHeld(driver) = event else { return };
        let state = &now_stored.state;
        if state.has_live_offer() && state.offer_seq == offer_seq && state.driver.as_ref() == Some(driver) {
            return;
        }
        self.release(now_stored, driver, &HoldToken::for_offer(&state.id, offer_seq)).await;
    }

    /// The seed's `findCandidateDrivers`: the cache first, the table where the cache is cold or down. `None` where the dispatch went on
    /// while the search was gathered with others.
    async fn search(
        &self,
        before: &StoredDispatch,
        working: &Dispatch,
        trigger: Trigger,
    ) -> Result<Option<Vec<CandidateRef>>, EngineError> {
        let settings = self.city.settings();
        let now = self.ports.clock.now();
        let window = self.gathers_for(before, &settings.policy, trigger, now);
        let policy = if window.is_some() { &for_listing(&settings.policy) } else { &settings.policy };
        let search = Search {
            pickup: working.pickup,
            estimated_fare: working.estimated_fare,
            asked: working.matching.asked.clone(),
        };
        let wanted = usize::from(policy.max_candidates) * LOOKED_AT_PER_CANDIDATE;
        let wanted = settings.router.as_ref().map_or(wanted, |_| wanted.max(policy.eta_top_k.into()));
        let narrow = wanted + search.asked.len();
        let mut drivers = Vec::new();
        for enough in [narrow, usize::from(LOOKED_AT_WIDE)] {
            let nearby = self.ports.fleet.search.nearby(search.pickup, &policy.search_rings_m, enough, now).await;
            drivers = match nearby {
                Ok(Some(drivers)) => drivers,
                Ok(None) => self.drivers_from_table(before, now, Cache::Cold).await?,
                Err(error) => {
                    self.tolerate(before, Err(error));
                    self.drivers_from_table(before, now, Cache::Down).await?
                }
            };
            let found = drivers.iter().any(|driver| eligibility(driver, &search, policy, now).is_ok());
            if found || drivers.len() < enough {
                break;
            }
        }
        let ranking = self.rank(&settings, policy, working, Shortlist::of(&drivers, &search, policy, now)).await;
        let mut found = ranking.candidates();
        if let Some(window) = window {
            let listed = Listed { ranked: found, drivers, at: now };
            let Some(ordered) = self.gather(before, listed, &settings.policy, window).await else { return Ok(None) };
            found = ordered;
        }
        Ok(Some(found.iter().map(CandidateRef::from).collect()))
    }

    /// The seed's fallback (section 4: 캐시에 없는 경우 DynamoDB 조회). The table has a driver's place of its last change of
    /// status; it counts as fresh here, because a cold cache knows nothing better and a wrong guess costs one offer. The
    /// cache gets the true age, so that only a ping makes the driver fresh there. What the cache knows better, from pings
    /// since it was wiped, goes before.
    async fn drivers_from_table(
        &self,
        stored: &StoredDispatch,
        now: EpochMs,
        cache: Cache,
    ) -> Result<Vec<DriverSnapshot>, PortError> {
        let region = region_of_address(&stored.item.pickup_location.address);
        let active = self.ports.profiles.active_drivers(region, LOOKED_AT_WIDE).await;
        let items = active.inspect_err(|error| self.metrics.port_error(error))?;
        let entries: Vec<FleetEntry> = items.iter().filter_map(fleet_entry).collect();
        let mut drivers = Vec::new();
        if cache == Cache::Cold {
            drivers = self.fill_and_search(stored, &entries, now).await;
        }
        let unseen = entries.iter().filter(|entry| !drivers.iter().any(|driver| driver.id == entry.driver));
        let unseen: Vec<DriverSnapshot> = unseen.map(|entry| snapshot(entry, now)).collect();
        tracing::info!(dispatch = %stored.state.id, from_table = unseen.len(), ?cache, "searched the table");
        drivers.extend(unseen);
        Ok(drivers)
    }

    /// Fills a cold cache and gives those of its drivers that have pinged since.
    async fn fill_and_search(
        &self,
        stored: &StoredDispatch,
        entries: &[FleetEntry],
        now: EpochMs,
    ) -> Vec<DriverSnapshot> {
        let settings = self.city.settings();
        let rings_m = &settings.policy.search_rings_m;
        let searched = async {
            self.ports.fleet.positions.fill(entries).await?;
            self.ports.fleet.search.nearby(stored.state.pickup, rings_m, LOOKED_AT_WIDE.into(), now).await
        };
        match searched.await {
            Ok(known) => {
                let fresh = |driver: &DriverSnapshot| now.since_ms(driver.seen_at) <= settings.policy.stale_after_ms;
                known.unwrap_or_default().into_iter().filter(fresh).collect()
            }
            Err(error) => {
                self.tolerate(stored, Err(error));
                Vec::new()
            }
        }
    }

    /// The table says that a driver the cache calls free is not: the cache is told.
    pub(super) async fn correct_fleet(&self, stored: &StoredDispatch, driver: &DriverId) {
        let corrected = async {
            let known = self.ports.profiles.drivers(std::slice::from_ref(driver)).await?;
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

/// Whether the last candidate of a search was reserved, too, and somebody may still be free.
fn all_were_reserved(event: &Event, step: &Step) -> bool {
    let waits = |follow_up: &FollowUp| matches!(follow_up, FollowUp::WakeAfter { .. });
    matches!(event, Event::DriverBusy(_)) && step.follow_ups.iter().any(waits)
}

/// What is wrong with the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    Cold,
    Down,
}

fn snapshot(entry: &FleetEntry, now: EpochMs) -> DriverSnapshot {
    DriverSnapshot {
        id: entry.driver.clone(),
        availability: entry.status,
        position: entry.position,
        seen_at: now,
        idle_since: entry.seen_at,
        max_distance: Metres::from_km(entry.preferences.max_distance),
        minimum_fare: entry.preferences.minimum_fare,
        auto_accept: entry.preferences.auto_accept,
        acceptance: AcceptanceCounts::default(),
        resting: false,
    }
}
