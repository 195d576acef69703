//! The end of a trip: what it came to.

use dispatch_core::dispatch::{DispatchStatus, Event, Refusal, TripTotals};
use dispatch_core::fare::Fare;
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::route::{ROUTE_POINTS_MAX, RoutePoint, length, simplify};
use dispatch_core::time::EpochMs;

use super::{Applied, Engine, EngineError};
use crate::ports::{StoredDispatch, TravelledRoute};

impl Engine {
    /// The driver reports the end of the trip: the route is measured from the moment the passenger got on board, the fare is
    /// counted by the city's table, and everything is stored in one transaction. Repeating it gives the same result.
    pub async fn complete_trip(&self, id: &DispatchId, driver: &DriverId) -> Result<Applied, EngineError> {
        let before = self.load(id).await?;
        if before.state.driver.as_ref() != Some(driver) {
            return Err(EngineError::Refused { refusal: Refusal::NotYours, current: Box::new(before) });
        }
        let (totals, route) = match (before.state.status, before.state.trip_started_at) {
            (DispatchStatus::InProgress, Some(started_at)) => self.measure(&before, started_at).await?,
            // Core refuses it, or finds that it has happened already; the totals are not looked at.
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
            // No route was seen (no pings, or the cache was wiped): the user pays what the user was told.
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

    /// The route since the passenger got on board: the stored chunks and the tail that is still in the cache. A cache that
    /// is down costs the tail, at most one chunk, and never the completion.
    async fn travelled(&self, id: &DispatchId, since: EpochMs) -> Result<Vec<RoutePoint>, EngineError> {
        let mut points =
            self.ports.dispatches.read_route(id).await.inspect_err(|error| self.metrics.port_error(error))?;
        match self.ports.fleet.routes.tail(id).await {
            Ok(tail) => points.extend(tail.points),
            Err(error) => {
                self.metrics.port_error(&error);
                tracing::warn!(dispatch = %id, %error, "the tail of the route is lost");
            }
        }
        points.retain(|point| point.at >= since);
        // A chunk that was stored while its trimming failed is in both places.
        points.sort_by_key(|point| point.at);
        points.dedup_by_key(|point| point.at);
        Ok(points)
    }
}
