//! Completion of a trip: its route, distance, duration and fare.

use dispatch_core::dispatch::{DispatchStatus, Event, Refusal, TripTotals};
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::meter::{Bill, ReviewReason, Trip};
use dispatch_core::route::{ROUTE_POINTS_MAX, RoutePoint, simplify};
use dispatch_core::time::EpochMs;

use super::{Advance, Engine, EngineError};
use crate::city::route_point;
use crate::ports::{StoredDispatch, TravelledRoute};

impl Engine {
    /// Completes a trip when the driver reports its end: measures the route from the moment the passenger got on board,
    /// calculates the bill by the city's rules, and stores everything in one transaction. Repeating it gives the same
    /// result.
    pub async fn complete_trip(&self, id: &DispatchId, driver: &DriverId) -> Result<Advance, EngineError> {
        let before = self.load(id).await?;
        if before.state.driver.as_ref() != Some(driver) {
            return Err(EngineError::Refused { refusal: Refusal::NotYours, current: Box::new(before) });
        }
        let (bill, route) = self.measure(&before).await?;
        self.apply_to(before, Event::TripCompleted { driver: driver.clone(), bill }, Some(route)).await
    }

    /// The bill and the route of a ride that ends now.
    pub(super) async fn measure(&self, before: &StoredDispatch) -> Result<(Bill, TravelledRoute), EngineError> {
        if before.state.status != DispatchStatus::InProgress {
            // Core refuses the event, or finds that it already took effect; the bill is not used.
            return Ok((TripTotals { fare: 0, distance_m: 0, duration_s: 0 }.into(), TravelledRoute::default()));
        }
        let points = self.travelled(before, started_at(before)).await?;
        let settings = self.city.settings();
        let trip = self.trip(before, &points);
        let bill = match before.state.trip_started_at {
            Some(_) => trip.bill(&settings.fare, &settings.policy.rides),
            // Another service set the status and recorded no pickup, so the time of the ride is not known.
            None => trip.estimate(&settings.fare, &settings.policy.rides, ReviewReason::NoTrace),
        };
        Ok((bill, TravelledRoute { points: simplify(&points, ROUTE_POINTS_MAX) }))
    }

    /// A ride in progress that ends now.
    pub(super) fn trip<'a>(&self, before: &StoredDispatch, points: &'a [RoutePoint]) -> Trip<'a> {
        let started_at = started_at(before);
        let destination = &before.details.destination;
        Trip {
            points,
            started_at,
            ended_at: self.ports.clock.now(),
            pickup: before.state.pickup,
            destination: Coordinate::new(destination.lat, destination.lng).ok(),
            estimated_fare: before.state.estimated_fare,
            local_minute: self.city.minute_of_day(started_at),
        }
    }

    /// The route since the passenger got on board: the stored chunks, the tail that is still in the cache, and points
    /// that another service stored in the dispatch. If the cache is down, the tail is lost, at most one chunk; the trip
    /// is completed anyway.
    pub(super) async fn travelled(
        &self,
        before: &StoredDispatch,
        since: EpochMs,
    ) -> Result<Vec<RoutePoint>, EngineError> {
        let id = &before.state.id;
        let mut points =
            self.ports.dispatches.read_route(id).await.inspect_err(|error| self.metrics.port_error(error))?;
        match self.ports.fleet.routes.tail(id).await {
            Ok(tail) => points.extend(tail.points),
            Err(error) => {
                self.metrics.port_error(&error);
                tracing::warn!(dispatch = %id, %error, "cannot read the tail of the route; it is lost");
            }
        }
        points.extend(before.details.route.iter().filter_map(route_point));
        points.retain(|point| point.at >= since);
        // A chunk that was stored but not yet trimmed is in both places.
        points.sort_by_key(|point| point.at);
        points.dedup_by_key(|point| point.at);
        Ok(points)
    }
}

/// When a ride in progress started. One without a recorded pickup counts from its request.
pub(super) fn started_at(ride: &StoredDispatch) -> EpochMs {
    ride.state.trip_started_at.unwrap_or(ride.state.created_at)
}
