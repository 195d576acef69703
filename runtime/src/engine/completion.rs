//! Completion of a trip: its route, distance, duration and fare.

use dispatch_core::dispatch::{DispatchStatus, Event, Refusal, TripTotals};
use dispatch_core::fare::Fare;
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::route::{ROUTE_POINTS_MAX, RoutePoint, length, simplify};
use dispatch_core::time::EpochMs;

use super::{Advance, Engine, EngineError};
use crate::ports::{StoredDispatch, TravelledRoute};

impl Engine {
    /// Completes a trip when the driver reports its end: measures the route from the moment the passenger got on board,
    /// calculates the fare by the city's table, and stores everything in one transaction. Repeating it gives the same
    /// result.
    pub async fn complete_trip(&self, id: &DispatchId, driver: &DriverId) -> Result<Advance, EngineError> {
        let before = self.load(id).await?;
        if before.state.driver.as_ref() != Some(driver) {
            return Err(EngineError::Refused { refusal: Refusal::NotYours, current: Box::new(before) });
        }
        let (totals, route) = match (before.state.status, before.state.trip_started_at) {
            (DispatchStatus::InProgress, Some(started_at)) => self.measure(&before, started_at).await?,
            // Core refuses the event, or finds that it already took effect; the totals are not used.
            _ => (TripTotals { fare: 0, distance_m: 0, duration_s: 0 }, TravelledRoute::default()),
        };
        self.apply_to(before, Event::TripCompleted { driver: driver.clone(), totals }, Some(route)).await
    }

    async fn measure(
        &self,
        before: &StoredDispatch,
        started_at: EpochMs,
    ) -> Result<(TripTotals, TravelledRoute), EngineError> {
        let points = self.travelled(&before.state.id, started_at).await?;
        let now = self.ports.clock.now();
        let duration_s = u32::try_from(now.since_ms(started_at) / 1000).unwrap_or(u32::MAX);
        let settings = self.city.settings();
        let minute = self.city.minute_of_day(started_at);
        let fare = if points.len() < 2 {
            // There is no route (no pings, or the cache was wiped): the user pays the quoted fare.
            let destination = &before.item.destination;
            let distance_m = match Coordinate::new(destination.lat, destination.lng) {
                Ok(to) => settings.fare.estimate(before.state.pickup, to, minute).distance_m,
                Err(_) => 0,
            };
            Fare { amount: before.state.estimated_fare, distance_m, duration_s }
        } else {
            settings.fare.for_trip(length(&points).rounded(), duration_s, minute)
        };
        let totals = TripTotals { fare: fare.amount, distance_m: fare.distance_m, duration_s: fare.duration_s };
        Ok((totals, TravelledRoute { points: simplify(&points, ROUTE_POINTS_MAX) }))
    }

    /// The route since the passenger got on board: the stored chunks and the tail that is still in the cache. If the
    /// cache is down, the tail is lost, at most one chunk; the trip is completed anyway.
    async fn travelled(&self, id: &DispatchId, since: EpochMs) -> Result<Vec<RoutePoint>, EngineError> {
        let mut points =
            self.ports.dispatches.read_route(id).await.inspect_err(|error| self.metrics.port_error(error))?;
        match self.ports.fleet.routes.tail(id).await {
            Ok(tail) => points.extend(tail.points),
            Err(error) => {
                self.metrics.port_error(&error);
                tracing::warn!(dispatch = %id, %error, "cannot read the tail of the route; it is lost");
            }
        }
        points.retain(|point| point.at >= since);
        // A chunk that was stored but not yet trimmed is in both places.
        points.sort_by_key(|point| point.at);
        points.dedup_by_key(|point| point.at);
        Ok(points)
    }
}
