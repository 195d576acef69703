//! Rides without a sign of life: the sweeper finds them, core flags and ends them.

use std::collections::HashMap;

use dispatch_core::dispatch::{DispatchStatus, Event, EventType, Rules, Silence, step};
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::meter::ReviewReason;
use dispatch_core::route::{ROUTE_POINTS_MAX, simplify};
use dispatch_core::time::EpochMs;

use super::completion::started_at;
use super::{Engine, EngineError};
use crate::adapters::fleet::fleet_entry;
use crate::city::parse_timestamp;
use crate::ports::{Commit, OngoingRide, PortError, StoredDispatch, TravelledRoute};

/// Drivers read from the table in one call, the limit of `ProfileStore::drivers`.
const PROFILES_AT_ONCE: usize = 100;

impl Engine {
    /// The rides that may be silent: none of their events and none of the positions of their drivers is new.
    ///
    /// A driver whom the cache does not know is put there and left to the next round: the cache may have been wiped,
    /// and then does not show the driver's last position. If the cache does not answer, there is nothing to judge
    /// by.
    pub async fn silent_rides(&self) -> Result<Vec<DispatchId>, PortError> {
        let count = |error: &PortError| self.metrics.port_error(error);
        let policy = self.city.settings().policy.rides;
        let now = self.ports.clock.now();
        let since = now.minus_ms(policy.silent_after_ms.min(policy.end_silent_after_ms));
        let rides = self.ports.dispatches.rides_unchanged_since(since, &self.set_aside.ids(now)).await;
        let rides = rides.inspect_err(count)?;
        let drivers: Vec<DriverId> = rides.iter().filter_map(|ride| ride.driver.clone()).collect();
        let pings = self.ports.fleet.positions.last_pings(&drivers).await.inspect_err(count)?;
        let pings: HashMap<DriverId, Option<EpochMs>> = drivers.into_iter().zip(pings).collect();
        let unknown: Vec<DriverId> = pings.iter().filter(|(_, at)| at.is_none()).map(|(id, _)| id.clone()).collect();
        let introduced = self.introduce(&unknown).await.inspect_err(count)?;
        let is_silent = |ride: &OngoingRide| match &ride.driver {
            Some(driver) => match pings.get(driver).copied().flatten() {
                Some(at) => at < since,
                None => !introduced.contains(driver),
            },
            None => true,
        };
        Ok(rides.into_iter().filter(is_silent).map(|ride| ride.id).collect())
    }

    /// Puts drivers into the cache. Returns those that have a profile.
    async fn introduce(&self, drivers: &[DriverId]) -> Result<Vec<DriverId>, PortError> {
        let mut entries = Vec::new();
        for some in drivers.chunks(PROFILES_AT_ONCE) {
            entries.extend(self.ports.profiles.drivers(some).await?.iter().filter_map(fleet_entry));
        }
        self.ports.fleet.positions.put(&entries).await?;
        Ok(entries.into_iter().map(|entry| entry.driver).collect())
    }

    /// Flags a silent ride, or ends it if it stayed silent. Repeating it is harmless. If the dispatch changes
    /// meanwhile, that was a sign of life.
    pub async fn judge_silence(&self, id: &DispatchId) -> Result<(), EngineError> {
        let before = self.load(id).await?;
        if !matches!(before.state.status, DispatchStatus::Accepted | DispatchStatus::InProgress) {
            return Ok(());
        }
        let ping = match &before.state.driver {
            Some(driver) => {
                let pings = self.ports.fleet.positions.last_pings(std::slice::from_ref(driver)).await;
                pings.inspect_err(|error| self.metrics.port_error(error))?.into_iter().next().flatten()
            }
            None => None,
        };
        let (event, route) = self.silence_of(&before, ping).await?;
        let settings = self.city.settings();
        let rules = Rules { policy: &settings.policy, now: self.ports.clock.now() };
        let step = match step(&before.state, event, rules) {
            Ok(step) if step.changed => step,
            Ok(_) => return Ok(()),
            Err(refusal) => return Err(EngineError::Refused { refusal, current: Box::new(before) }),
        };
        if let Commit::Applied(stored) = self.commit(&before, &step, route).await? {
            let status = stored.state.status.as_str();
            tracing::warn!(dispatch = %id, status, "a ride gives no sign of life");
            self.after_commit(&stored, &step).await;
        }
        Ok(())
    }

    /// The signs of life of a ride, with its bill by the estimate.
    async fn silence_of(
        &self,
        before: &StoredDispatch,
        ping: Option<EpochMs>,
    ) -> Result<(Event, Option<TravelledRoute>), EngineError> {
        let mut silence = Silence { last_sign: last_event(before), flagged_at: flagged_at(before), bill: None };
        silence.last_sign = silence.last_sign.max(ping.unwrap_or(silence.last_sign));
        if before.state.status != DispatchStatus::InProgress {
            return Ok((Event::Silence(silence), None));
        }
        let points = self.travelled(before, started_at(before)).await?;
        let settings = self.city.settings();
        let trip = self.trip(before, &points);
        silence.bill = Some(trip.estimate(&settings.fare, &settings.policy.rides, ReviewReason::NoSignOfLife));
        Ok((Event::Silence(silence), Some(TravelledRoute { points: simplify(&points, ROUTE_POINTS_MAX) })))
    }
}

/// The latest event of a ride that a person caused.
fn last_event(ride: &StoredDispatch) -> EpochMs {
    let own = [EventType::NoSignOfLife, EventType::ReviewRequested, EventType::ReviewClosed];
    let events =
        ride.details.events.iter().filter(|entry| entry.event_type.known().is_none_or(|it| !own.contains(&it)));
    let times = events.filter_map(|entry| parse_timestamp(&entry.timestamp));
    times.max().unwrap_or(ride.state.created_at)
}

/// When a ride was last flagged as silent.
fn flagged_at(ride: &StoredDispatch) -> Option<EpochMs> {
    let flags = ride.details.events.iter().filter(|entry| entry.event_type.known() == Some(EventType::NoSignOfLife));
    flags.filter_map(|entry| parse_timestamp(&entry.timestamp)).max()
}
