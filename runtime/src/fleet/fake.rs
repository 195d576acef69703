//! A fleet in memory that behaves like [`super::RedisFleet`], for tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dispatch_core::candidate::{AcceptanceCounts, Availability, DriverSnapshot};
use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;

use super::{DAY_MS, FRESHER_BY_MS, ROUTE_CHUNK_POINTS, chunks_after_loss};
use crate::city::City;
use crate::port::{Clock, Fleet, FleetEntry, HoldToken, Ping, PortError, Recorded, RouteTail};
use crate::store::entity::PersonStatus;

#[derive(Default)]
struct State {
    warm: bool,
    drivers: HashMap<DriverId, (FleetEntry, EpochMs)>,
    holds: HashMap<DriverId, (HoldToken, EpochMs)>,
    rests: HashMap<DriverId, EpochMs>,
    answers: HashMap<DriverId, Vec<(EpochMs, bool)>>,
    routes: HashMap<DispatchId, (u32, Vec<RoutePoint>)>,
}

/// The fleet in memory.
pub struct FakeFleet {
    city: City,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl FakeFleet {
    /// An empty, cold fleet.
    pub fn new(city: City, clock: Arc<dyn Clock>) -> Self {
        Self { city, clock, state: Mutex::default() }
    }

    /// Forgets everything, like `FLUSHALL`.
    pub fn wipe(&self) {
        *self.state() = State::default();
    }

    /// What is known of a driver.
    pub fn entry(&self, driver: &DriverId) -> Option<FleetEntry> {
        self.state().drivers.get(driver).map(|(entry, _)| entry.clone())
    }

    /// Who holds a driver.
    pub fn holder(&self, driver: &DriverId) -> Option<HoldToken> {
        let now = self.clock.now();
        self.state().holds.get(driver).filter(|(_, until)| *until > now).map(|(token, _)| token.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(state: &mut State, entry: &FleetEntry, now: EpochMs) {
    let known = state.drivers.get(&entry.driver).cloned();
    let Some((mut kept, idle_since)) = known else {
        if let Some(dispatch) = &entry.dispatch {
            state.routes.entry(dispatch.clone()).or_insert_with(|| (chunks_after_loss(now), Vec::new()));
        }
        state.drivers.insert(entry.driver.clone(), (entry.clone(), entry.seen_at));
        return;
    };
    if kept.seen_at.0 > entry.seen_at.0 + FRESHER_BY_MS {
        kept.preferences = entry.preferences.clone();
        state.drivers.insert(entry.driver.clone(), (kept, idle_since));
    } else {
        let idle = if kept.status == PersonStatus::Active { idle_since } else { entry.seen_at };
        state.drivers.insert(entry.driver.clone(), (entry.clone(), idle));
    }
}

#[async_trait]
impl Fleet for FakeFleet {
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

    async fn record(&self, pings: &[Ping]) -> Result<Vec<Recorded>, PortError> {
        let mut state = self.state();
        let answer = |ping: &Ping| {
            let Some((entry, _)) = state.drivers.get_mut(&ping.driver) else { return Recorded::Unknown };
            if entry.seen_at > ping.at {
                return Recorded::Outdated;
            }
            (entry.position, entry.seen_at) = (ping.position, ping.at);
            entry.dispatch.clone().map_or(Recorded::Seen, Recorded::OnDispatch)
        };
        Ok(pings.iter().map(answer).collect())
    }

    async fn set_status(
        &self,
        driver: &DriverId,
        status: PersonStatus,
        dispatch: Option<&DispatchId>,
    ) -> Result<(), PortError> {
        let now = self.clock.now();
        if let Some((entry, idle_since)) = self.state().drivers.get_mut(driver) {
            if status == PersonStatus::Active && entry.status != PersonStatus::Active {
                *idle_since = now;
            }
            entry.status = status;
            entry.dispatch = dispatch.cloned();
        }
        Ok(())
    }

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
        for (driver, (entry, idle_since)) in &state.drivers {
            if entry.status != PersonStatus::Active || now.since_ms(entry.seen_at) > policy.stale_after_ms {
                continue;
            }
            let answers = state.answers.get(driver).map(Vec::as_slice).unwrap_or_default();
            let recent = || answers.iter().filter(|(at, _)| at.0 > now.0 - window);
            let count = |counted: usize| u32::try_from(counted).unwrap_or(u32::MAX);
            let snapshot = DriverSnapshot {
                id: driver.clone(),
                availability: Availability::Active,
                position: entry.position,
                seen_at: entry.seen_at,
                idle_since: *idle_since,
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

    async fn hold(&self, driver: &DriverId, token: &HoldToken, for_ms: u64) -> Result<bool, PortError> {
        let now = self.clock.now();
        let mut state = self.state();
        let holder = state.holds.get(driver).filter(|(_, until)| *until > now).map(|(holder, _)| holder.clone());
        let ours = if let Some(holder) = holder {
            holder == *token
        } else {
            let rests = state.rests.get(driver).is_some_and(|until| *until > now);
            let known = state.drivers.get(driver);
            !rests && known.is_none_or(|(entry, _)| entry.status == PersonStatus::Active)
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
    ) -> Result<(), PortError> {
        let mut state = self.state();
        state.answers.entry(driver.clone()).or_default().push((now, outcome == OfferOutcome::Accepted));
        if rest_ms > 0 {
            state.rests.insert(driver.clone(), now.plus_ms(rest_ms));
        }
        Ok(())
    }

    async fn push_route(&self, id: &DispatchId, point: RoutePoint) -> Result<Option<RouteTail>, PortError> {
        let mut state = self.state();
        let (chunks, points) = state.routes.entry(id.clone()).or_default();
        points.push(point);
        let whole = points.len().is_multiple_of(ROUTE_CHUNK_POINTS);
        Ok(whole.then(|| RouteTail { next_chunk: *chunks + 1, points: points.clone() }))
    }

    async fn trim_route(&self, id: &DispatchId, count: usize) -> Result<(), PortError> {
        let mut state = self.state();
        let (chunks, points) = state.routes.entry(id.clone()).or_default();
        points.drain(..count.min(points.len()));
        *chunks += 1;
        Ok(())
    }

    async fn route_tail(&self, id: &DispatchId) -> Result<RouteTail, PortError> {
        let state = self.state();
        let (chunks, points) = state.routes.get(id).cloned().unwrap_or_default();
        Ok(RouteTail { next_chunk: chunks + 1, points })
    }
}
