//! The bills of rides, and what their people learn of them.

use dispatch_core::dispatch::{Event, EventType, TripEvent};
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::DispatchId;
use dispatch_core::meter::ReviewReason;
use dispatch_core::route::RoutePoint;

use super::{World, accept, driver_id};
use crate::ports::{Clock as _, DispatchStore as _, RouteTails as _, StoredDispatch};

/// A world with a ride whose passenger is on board.
async fn on_board() -> (World, DispatchId) {
    let world = World::with_drivers(1).await;
    let id = world.request().await;
    world.stream().await;
    world.answer(accept).await.unwrap();
    let event = Event::Trip { driver: driver_id(1), event: TripEvent::PassengerPickedUp };
    world.engine.apply(&id, event).await.unwrap();
    (world, id)
}

impl World {
    /// The car is at `lat`, and drives on for `ms`.
    async fn drives(&self, id: &DispatchId, lat: f64, ms: i64) {
        let point = RoutePoint { position: Coordinate::new(lat, 126.9784).unwrap(), at: self.clock.now() };
        self.fleet.push(&[(id.clone(), point)]).await.unwrap();
        self.clock.advance_ms(ms);
    }

    async fn completes(&self, id: &DispatchId) -> StoredDispatch {
        self.engine.complete_trip(id, &driver_id(1)).await.unwrap().stored
    }
}

#[tokio::test]
async fn a_ride_that_cannot_be_billed_by_the_meter_waits_for_a_review() {
    let (world, id) = on_board().await;
    for swing in 0..40_u32 {
        world.drives(&id, 37.5662 + 0.4 * f64::from(swing % 2), 250).await;
    }
    let done = world.completes(&id).await;
    assert_eq!(done.state.review, Some(ReviewReason::TooFast));
    assert_eq!((done.details.actual_fare, done.details.metered_fare), (12_000, None));
    assert_eq!((done.details.duration_s, done.details.distance_m), (10, 416), "150 km/h for 10 s");
    assert_eq!(world.events().await.last(), Some(&EventType::ReviewRequested));
    let open = world.store.reviews(10, None).await.unwrap();
    let listed: Vec<_> = open.items.iter().map(|it| (it.stored.state.id.clone(), it.requested_at.as_str())).collect();
    assert_eq!(listed, [(id.clone(), "2025-05-25T15:30:10.000")]);
    let metrics = world.engine.metrics.encode().unwrap();
    assert!(metrics.contains("dispatch_reviews_total{reason=\"TOO_FAST\"} 1"), "{metrics}");

    assert!(!world.engine.complete_trip(&id, &driver_id(1)).await.unwrap().changed);
    assert_eq!(world.store.reviews(10, None).await.unwrap().items.len(), 1, "listed once");
    assert_eq!(world.store.load(&id).await.unwrap().unwrap().state.review, Some(ReviewReason::TooFast));
}

#[tokio::test]
async fn a_ride_without_a_recorded_pickup_costs_the_estimate() {
    let world = World::with_drivers(1).await;
    let id = world.request().await;
    world.stream().await;
    world.answer(accept).await.unwrap();
    let riding = aws_sdk_dynamodb::types::AttributeValue::S("IN_PROGRESS".to_owned());
    world.store.alter(id.as_str(), |item| drop(item.insert("status".to_owned(), riding)));
    let done = world.completes(&id).await;
    assert_eq!((done.details.actual_fare, done.state.review), (12_000, Some(ReviewReason::NoTrace)));
}

#[tokio::test]
async fn an_end_far_from_the_destination_is_in_the_dispatch_and_in_the_notification() {
    let (world, id) = on_board().await;
    for step in 0..=40_u32 {
        world.drives(&id, 37.5662 - 0.001 * f64::from(step), 15_000).await;
    }
    let done = world.completes(&id).await;
    // 4.4 km in 615 s: 4800 + 22 distance steps + 20 time steps.
    assert_eq!((done.details.actual_fare, done.details.metered_fare), (9000, Some(9000)));
    assert_eq!((done.details.is_far, done.state.review), (true, None));
    let last = done.details.events.last().unwrap();
    assert_eq!(last.event_type.known(), Some(EventType::EndedFarFromDestination));
    assert!(last.details.contains("12000") && last.details.contains("9000"), "{}", last.details);
    let sent = world.notifier.published.all().pop().unwrap();
    assert_eq!(sent.body.status.as_deref(), Some("TRIP_COMPLETED"));
    let fares = (sent.body.estimated_fare, sent.body.metered_fare, sent.body.actual_fare);
    assert_eq!(fares, (Some(12_000), Some(9000), Some(9000)));
    assert!(sent.body.message.contains("12000") && sent.body.message.contains("9000"), "{}", sent.body.message);
}
