//! A driver cache in memory that behaves like [`crate::adapters::fleet::RedisFleet`], for tests.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use dispatch_core::candidate::{AcceptanceCounts, DriverSnapshot};
use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_core::ping_filter::{Fix, Rejection, Track, Verdict};
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;

use crate::adapters::fleet::{DAY_MS, FRESHER_BY_MS, ROUTE_CHUNK_POINTS, chunks_after_loss};
use crate::city::City;
use crate::ports::{
    Clock, DriverSearch, FleetEntry, HoldToken, Ping, PingOutcome, PortError, PositionSink, Reservations, RouteTail,
    RouteTails,
};

#[derive(Clone)]
struct DriverRecord {
    entry: FleetEntry,
    idle_since: EpochMs,
    active_since: EpochMs,
    /// Time of the last accepted ping by the phone's clock.
    phone_at: Option<EpochMs>,
    doubt: Option<Rejection>,
}

impl DriverRecord {
    fn track(&self) -> Track {
        let FleetEntry { position, seen_at: at, .. } = self.entry;
        Track { believed: Fix { position, at, phone_at: self.phone_at }, doubt: self.doubt }
    }
}

#[derive(Default)]
struct State {
    warm: bool,
    drivers: HashMap<DriverId, DriverRecord>,
    holds: HashMap<DriverId, (HoldToken, EpochMs)>,
    rests: HashMap<DriverId, EpochMs>,
    answers: HashMap<DriverId, Vec<(EpochMs, bool)>>,
    unanswered: HashMap<DriverId, u32>,
    routes: HashMap<DispatchId, (u32, Vec<RoutePoint>)>,
}

/// The driver cache in memory.
pub struct FakeFleet {
    city: City,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl FakeFleet {
    /// An empty, cold cache.
    pub fn new(city: City, clock: Arc<dyn Clock>) -> Self {
        Self { city, clock, state: Mutex::default() }
    }

    /// Empties the cache, as `FLUSHALL` does.
    pub fn wipe(&self) {
        *self.state() = State::default();
    }

    /// The entry of a driver.
    pub fn entry(&self, driver: &DriverId) -> Option<FleetEntry> {
        self.state().drivers.get(driver).map(|known| known.entry.clone())
    }

    /// The token that holds a driver.
    pub fn holder(&self, driver: &DriverId) -> Option<HoldToken> {
        let now = self.clock.now();
        self.state().holds.get(driver).filter(|(_, until)| *until > now).map(|(token, _)| token.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

fn put(state: &mut State, entry: &FleetEntry, now: EpochMs) {
    let Some(known) = state.drivers.get_mut(&entry.driver) else {
        if let Some(dispatch) = &entry.dispatch {
            state.routes.entry(dispatch.clone()).or_insert_with(|| (chunks_after_loss(now), Vec::new()));
        }
        let (idle_since, active_since) = (entry.seen_at, now);
        let known = DriverRecord { entry: entry.clone(), idle_since, active_since, phone_at: None, doubt: None };
        state.drivers.insert(entry.driver.clone(), known);
        return;
    };
    if known.entry.seen_at.0 > entry.seen_at.0 + FRESHER_BY_MS {
        known.entry.preferences = entry.preferences.clone();
    } else {
        if known.entry.status != PersonStatus::Active {
            (known.idle_since, known.active_since) = (entry.seen_at, now);
        }
        (known.entry, known.phone_at) = (entry.clone(), None);
    }
}

#[async_trait]
impl PositionSink for FakeFleet {
    async fn put(&self, entries: &[FleetEntry]) -> Result<(), PortError> {
        let mut state = self.state();
        for entry in entries {
            put(&mut state, entry, self.clock.now());
        }
        Ok(())
    }

    async fn fill(&self, entries: &[FleetEntry]) -> Result<(), PortError> {
        self.put(entries).await?;
        self.state().warm = true;
        Ok(())
    }

    async fn last_pings(&self, drivers: &[DriverId]) -> Result<Vec<Option<EpochMs>>, PortError> {
        let state = self.state();
        let last = |driver: &DriverId| {
            let known = state.drivers.get(driver)?;
            let doubtful = known.doubt.map_or(EpochMs(i64::MIN), |doubt| doubt.last.at);
            Some(known.entry.seen_at.max(doubtful))
        };
        Ok(drivers.iter().map(last).collect())
    }

    async fn last_signs(&self, drivers: &[DriverId]) -> Result<Vec<Option<EpochMs>>, PortError> {
        let pings = self.last_pings(drivers).await?;
        let state = self.state();
        let active_since = |driver: &DriverId| state.drivers.get(driver).map(|known| known.active_since);
        Ok(drivers.iter().zip(pings).map(|(driver, ping)| ping.max(active_since(driver))).collect())
    }

    async fn record(&self, pings: &[Ping]) -> Result<Vec<PingOutcome>, PortError> {
        let mut state = self.state();
        let answer = |ping: &Ping| {
            let Some(known) = state.drivers.get_mut(&ping.driver) else { return PingOutcome::Unknown };
            let fix = Fix { position: ping.position, at: ping.at, phone_at: ping.phone_at };
            let (Track { believed, doubt }, verdict) = known.track().after(fix);
            (known.entry.position, known.entry.seen_at) = (believed.position, believed.at);
            (known.phone_at, known.doubt) = (believed.phone_at, doubt);
            match verdict {
                Verdict::Take => known.entry.dispatch.clone().map_or(PingOutcome::Seen, PingOutcome::OnDispatch),
                Verdict::Outdated => PingOutcome::Outdated,
                Verdict::Implausible => PingOutcome::Implausible,
            }
        };
        Ok(pings.iter().map(answer).collect())
    }

    async fn forget(&self, drivers: &[DriverId], routes: &[DispatchId]) -> Result<(), PortError> {
        let mut state = self.state();
        for driver in drivers {
            state.drivers.remove(driver);
            state.holds.remove(driver);
            state.rests.remove(driver);
            state.answers.remove(driver);
            state.unanswered.remove(driver);
        }
        for dispatch in routes {
            state.routes.remove(dispatch);
        }
        Ok(())
    }
}

#[async_trait]
impl DriverSearch for FakeFleet {
    async fn nearby(
        &self,
        center: Coordinate,
        rings_m: &[u32],
        enough: usize,
        now: EpochMs,
    ) -> Result<Option<Vec<DriverSnapshot>>, PortError> {
        let policy = self.city.settings().policy.clone();
        let state = self.state();
        if !state.warm {
            return Ok(None);
        }
        let window = i64::try_from(u64::from(policy.acceptance_window_days) * DAY_MS).unwrap_or(i64::MAX);
        let mut found: Vec<(f64, DriverSnapshot)> = Vec::new();
        for (driver, known) in &state.drivers {
            let entry = &known.entry;
            let is_free = entry.status == PersonStatus::Active && !known.track().is_hidden();
            if !is_free || now.since_ms(entry.seen_at) > policy.stale_after_ms {
                continue;
            }
            let answers = state.answers.get(driver).map(Vec::as_slice).unwrap_or_default();
            let recent = || answers.iter().filter(|(at, _)| at.0 > now.0 - window);
            let count = |counted: usize| u32::try_from(counted).unwrap_or(u32::MAX);
            let snapshot = DriverSnapshot {
                id: driver.clone(),
                availability: PersonStatus::Active,
                position: entry.position,
                seen_at: entry.seen_at,
                idle_since: known.idle_since,
                max_distance: Metres::from_km(entry.preferences.max_distance),
                minimum_fare: entry.preferences.minimum_fare,
                auto_accept: entry.preferences.auto_accept,
                acceptance: AcceptanceCounts {
                    offered: count(recent().count()),
                    accepted: count(recent().filter(|(_, accepted)| *accepted).count()),
                },
                resting: state.holds.get(driver).is_some_and(|(_, until)| *until > now)
                    || state.rests.get(driver).is_some_and(|until| *until > now),
            };
            found.push((entry.position.distance_to(center).0, snapshot));
        }
        found.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let within = |ring_m: u32| found.iter().filter(|(distance, _)| *distance <= f64::from(ring_m)).count();
        let counts: Vec<usize> = rings_m.iter().map(|ring_m| within(*ring_m)).collect();
        let reached = counts.iter().find(|count| **count >= enough).or_else(|| counts.last()).copied().unwrap_or(0);
        Ok(Some(found.into_iter().take(reached.min(enough)).map(|(_, snapshot)| snapshot).collect()))
    }
}

#[async_trait]
impl Reservations for FakeFleet {
    async fn hold(&self, driver: &DriverId, token: &HoldToken, for_ms: u64) -> Result<bool, PortError> {
        let now = self.clock.now();
        let mut state = self.state();
        let holder = state.holds.get(driver).filter(|(_, until)| *until > now).map(|(holder, _)| holder.clone());
        let ours = if let Some(holder) = holder {
            holder == *token
        } else {
            let rests = state.rests.get(driver).is_some_and(|until| *until > now);
            let known = state.drivers.get(driver);
            let is_free =
                |known: &DriverRecord| known.entry.status == PersonStatus::Active && !known.track().is_hidden();
            !rests && known.is_none_or(is_free)
        };
        if ours {
            let wanted = now.plus_ms(for_ms);
            let until = state.holds.get(driver).filter(|(holder, _)| holder == token).map(|(_, until)| *until);
            let until = until.map_or(wanted, |until| until.max(wanted));
            state.holds.insert(driver.clone(), (token.clone(), until));
        }
        Ok(ours)
    }

    async fn release(&self, driver: &DriverId, token: &HoldToken) -> Result<(), PortError> {
        let mut state = self.state();
        if state.holds.get(driver).is_some_and(|(holder, _)| holder == token) {
            state.holds.remove(driver);
        }
        Ok(())
    }

    async fn offer_ended(
        &self,
        driver: &DriverId,
        outcome: OfferOutcome,
        rest_ms: u64,
        now: EpochMs,
    ) -> Result<u32, PortError> {
        let limit = u32::from(self.city.settings().policy.presence.unanswered_offers);
        let mut state = self.state();
        let before = state.unanswered.remove(driver).unwrap_or_default();
        let unanswered = if outcome == OfferOutcome::TimedOut { before + 1 } else { 0 };
        if unanswered > 0 && (limit == 0 || unanswered < limit) {
            state.unanswered.insert(driver.clone(), unanswered);
        }
        state.answers.entry(driver.clone()).or_default().push((now, outcome == OfferOutcome::Accepted));
        if rest_ms > 0 {
            state.rests.insert(driver.clone(), now.plus_ms(rest_ms));
        }
        Ok(unanswered)
    }

    async fn set_status(
        &self,
        driver: &DriverId,
        status: PersonStatus,
        dispatch: Option<&DispatchId>,
    ) -> Result<(), PortError> {
        let now = self.clock.now();
        if let Some(known) = self.state().drivers.get_mut(driver) {
            if status == PersonStatus::Active && known.entry.status != PersonStatus::Active {
                (known.idle_since, known.active_since) = (now, now);
            }
            known.entry.status = status;
            known.entry.dispatch = dispatch.cloned();
        }
        Ok(())
    }
}

#[async_trait]
impl RouteTails for FakeFleet {
    async fn push(&self, points: &[(DispatchId, RoutePoint)]) -> Result<Vec<(DispatchId, RouteTail)>, PortError> {
        let mut state = self.state();
        let mut tails = Vec::new();
        for (id, point) in points {
            let (chunks, points) = state.routes.entry(id.clone()).or_default();
            points.push(*point);
            if points.len().is_multiple_of(ROUTE_CHUNK_POINTS) {
                tails.push((id.clone(), RouteTail { next_chunk: *chunks + 1, points: points.clone() }));
            }
        }
        Ok(tails)
    }

    async fn trim(&self, id: &DispatchId, chunk: u32, count: usize) -> Result<(), PortError> {
        let mut state = self.state();
        let (chunks, points) = state.routes.entry(id.clone()).or_default();
        if *chunks + 1 == chunk {
            points.drain(..count.min(points.len()));
            *chunks = chunk;
        }
        Ok(())
    }

    async fn tail(&self, id: &DispatchId) -> Result<RouteTail, PortError> {
        let state = self.state();
        let (chunks, points) = state.routes.get(id).cloned().unwrap_or_default();
        Ok(RouteTail { next_chunk: chunks + 1, points })
    }
}
