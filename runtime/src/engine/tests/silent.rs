//! Rides that give no sign of life.

use dispatch_core::dispatch::{DispatchStatus, Event, EventType, TripEvent};
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::DispatchId;
use dispatch_core::meter::ReviewReason;
use dispatch_core::person::PersonStatus;
use dispatch_http_types::NotificationKind;

use super::{World, accept, driver_id};
use crate::ports::{Clock as _, DispatchStore as _, Ping, PositionSink as _, ProfileStore as _};
use crate::roles::sweep_rides;

const FLAG_MS: i64 = 600_000;
const END_MS: i64 = 1_800_000;

/// A world with an accepted ride.
async fn accepted() -> (World, DispatchId) {
    let world = World::with_drivers(1).await;
    let id = world.request().await;
    world.stream().await;
    world.answer(accept).await.unwrap();
    (world, id)
}

impl World {
    async fn reports(&self, id: &DispatchId, event: TripEvent) {
        self.engine.apply(id, Event::Trip { driver: driver_id(1), event }).await.unwrap();
    }

    async fn pings(&self) {
        let position = Coordinate::new(37.5692, 126.9784).unwrap();
        let ping = Ping { driver: driver_id(1), position, at: self.clock.now(), phone_at: None };
        self.fleet.record(&[ping]).await.unwrap();
    }

    async fn sweeps_after(&self, ms: i64) -> DispatchStatus {
        self.clock.advance_ms(ms);
        sweep_rides(&self.engine).await;
        self.stored().await.state.status
    }
}

#[tokio::test]
async fn a_silent_ride_before_the_pickup_is_flagged_then_cancelled_and_both_are_free() {
    let (world, id) = accepted().await;
    assert_eq!(world.sweeps_after(FLAG_MS - 1_000).await, DispatchStatus::Accepted);
    assert_eq!(world.stored().await.state.review, None);
    assert_eq!(world.sweeps_after(2_000).await, DispatchStatus::Accepted);
    assert_eq!(world.stored().await.state.review, Some(ReviewReason::NoSignOfLife));
    assert_eq!(world.store.reviews(10, None).await.unwrap().items.len(), 1);
    let ver = world.stored().await.state.ver;
    // Every replica sweeps.
    for _ in 0..3 {
        world.sweeps_after(60_000).await;
    }
    assert_eq!(world.stored().await.state.ver, ver, "flagged once");
    assert_eq!(world.sweeps_after(END_MS).await, DispatchStatus::Cancelled);
    assert_eq!(world.events().await[3..], [EventType::NoSignOfLife, EventType::CancelledBySystem]);
    assert_eq!(world.driver_item(1).await.current_status.status, PersonStatus::Active);
    assert_eq!(world.fleet.entry(&driver_id(1)).unwrap().status, PersonStatus::Active);
    let user = world.store.user(&super::user_id()).await.unwrap().unwrap().current_status;
    assert_eq!((user.status, user.dispatch), (PersonStatus::Active, None));
    let notified = world.notified();
    for person in ["user#00001", "driver#00001"] {
        assert!(notified.contains(&(NotificationKind::DispatchCancelled, person.to_owned())), "{notified:?}");
    }
    world.sweeps_after(END_MS).await;
    assert_eq!(world.stored().await.state.id, id);
    assert_eq!(world.events().await.len(), 5, "it is over");
}

#[tokio::test]
async fn a_silent_ride_after_the_pickup_is_completed_with_the_estimate_and_waits_for_a_review() {
    let (world, id) = accepted().await;
    world.reports(&id, TripEvent::PassengerPickedUp).await;
    assert_eq!(world.sweeps_after(FLAG_MS + 1_000).await, DispatchStatus::InProgress);
    assert_eq!(world.sweeps_after(END_MS).await, DispatchStatus::Completed);
    let done = world.stored().await;
    assert_eq!((done.details.actual_fare, done.details.metered_fare), (12_000, None));
    assert_eq!(done.state.review, Some(ReviewReason::NoSignOfLife));
    assert_eq!(world.driver_item(1).await.completed_rides, [id.to_string()]);
    let metrics = world.engine.metrics.encode().unwrap();
    assert!(metrics.contains("dispatch_reviews_total{reason=\"NO_SIGN_OF_LIFE\"} 1"), "{metrics}");
}

#[tokio::test]
async fn positions_and_events_are_signs_of_life() {
    let (world, id) = accepted().await;
    for _ in 0..10 {
        world.sweeps_after(FLAG_MS - 1_000).await;
        world.pings().await;
    }
    assert_eq!(world.stored().await.state.review, None, "the driver sent positions");
    world.sweeps_after(FLAG_MS - 1_000).await;
    world.reports(&id, TripEvent::DriverArrived).await;
    world.sweeps_after(FLAG_MS - 1_000).await;
    assert_eq!(world.stored().await.state.review, None, "the driver reported");
    world.sweeps_after(1_000).await;
    assert_eq!(world.events().await.last(), Some(&EventType::NoSignOfLife));
    // A position after the flag starts the time again.
    world.clock.advance_ms(END_MS - 1_000);
    world.pings().await;
    assert_eq!(world.sweeps_after(5_000).await, DispatchStatus::Accepted);
    assert_eq!(world.sweeps_after(FLAG_MS).await, DispatchStatus::Accepted);
    assert_eq!(world.sweeps_after(END_MS).await, DispatchStatus::Cancelled);
}

#[tokio::test]
async fn no_ride_is_ended_for_the_silence_of_the_cache() {
    let (world, _) = accepted().await;
    world.redis.set_down(true);
    assert_eq!(world.sweeps_after(FLAG_MS + END_MS).await, DispatchStatus::Accepted);
    assert_eq!(world.stored().await.state.review, None);
    world.redis.set_down(false);
    // The cache was wiped: it knows no last position, and takes the driver in again first.
    world.fleet.wipe();
    sweep_rides(&world.engine).await;
    assert_eq!(world.stored().await.state.review, None);
    assert!(world.fleet.entry(&driver_id(1)).is_some());
    sweep_rides(&world.engine).await;
    assert_eq!(world.stored().await.state.review, Some(ReviewReason::NoSignOfLife));
}
