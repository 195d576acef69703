//! Drivers who are gone.

use dispatch_core::geo::Coordinate;
use dispatch_core::person::PersonStatus;
use dispatch_core::policy::{DispatchPolicy, PresencePolicy};
use dispatch_http_types::NotificationKind;

use super::{World, driver_id, settings};
use crate::ports::{Clock as _, Ping, PositionSink as _, ProfileStore as _, Reservations as _};
use crate::roles::{sweep, sweep_drivers};

const SILENT_MS: i64 = 600_000;

impl World {
    async fn ping_of(&self, number: u32) {
        let position = Coordinate::new(37.5692, 126.9784).unwrap();
        let ping = Ping { driver: driver_id(number), position, at: self.clock.now(), phone_at: None };
        self.fleet.record(&[ping]).await.unwrap();
    }

    async fn status_of(&self, number: u32) -> PersonStatus {
        let stored = self.driver_item(number).await.current_status.status;
        if let Some(entry) = self.fleet.entry(&driver_id(number)) {
            assert_eq!(entry.status, stored, "the cache and the table agree");
        }
        stored
    }

    async fn sweeps_drivers_after(&self, ms: i64) {
        self.clock.advance_ms(ms);
        sweep_drivers(&self.engine).await;
    }
}

#[tokio::test]
async fn a_silent_driver_becomes_inactive_and_is_notified_once() {
    let world = World::with_drivers(2).await;
    world.sweeps_drivers_after(SILENT_MS).await;
    assert_eq!(world.status_of(1).await, PersonStatus::Active, "not before its time is over");
    world.ping_of(2).await;
    world.sweeps_drivers_after(1).await;
    assert_eq!((world.status_of(1).await, world.status_of(2).await), (PersonStatus::Inactive, PersonStatus::Active));
    let history = world.store.partition("driver#00001");
    assert_eq!(history.iter().filter(|item| item["status"] == "INACTIVE").count(), 1, "{history:?}");
    assert_eq!(world.notified(), [(NotificationKind::DriverInactive, "driver#00001".to_owned())]);
    let sent = world.notifier.published.all();
    assert_eq!((sent[0].body.dispatch_id.as_deref(), sent[0].body.status.as_deref()), (None, Some("INACTIVE")));
    // Every replica sweeps.
    world.sweeps_drivers_after(0).await;
    assert_eq!(world.notified().len(), 1);
    let metrics = world.engine.metrics.encode().unwrap();
    assert!(metrics.contains("dispatch_drivers_deactivated_total{reason=\"silent\"} 1"), "{metrics}");
}

#[tokio::test]
async fn silence_counts_from_the_change_to_active_and_from_the_first_sight() {
    let world = World::with_drivers(1).await;
    world.clock.advance_ms(SILENT_MS * 2);
    // Active again, with the old position of the cache.
    world.fleet.set_status(&driver_id(1), PersonStatus::Inactive, None).await.unwrap();
    world.fleet.set_status(&driver_id(1), PersonStatus::Active, None).await.unwrap();
    world.sweeps_drivers_after(SILENT_MS).await;
    assert_eq!(world.status_of(1).await, PersonStatus::Active);
    // A wiped cache knows no driver, and counts from the first round on.
    world.fleet.wipe();
    world.sweeps_drivers_after(1).await;
    world.sweeps_drivers_after(SILENT_MS).await;
    assert_eq!(world.status_of(1).await, PersonStatus::Active);
    world.sweeps_drivers_after(1).await;
    assert_eq!(world.status_of(1).await, PersonStatus::Inactive);
}

#[tokio::test]
async fn a_written_position_is_a_sign_of_life_and_one_of_a_wrong_clock_is_none() {
    let world = World::with_drivers(2).await;
    world.clock.advance_ms(SILENT_MS);
    let place = super::place(37.5692, "서울시 중구 명동");
    let now = world.clock.now();
    // The cache misses both: the first writes its place now, the second in the year to come.
    world.store.set_availability(&driver_id(1), PersonStatus::Active, &place, now).await.unwrap();
    let next_year = now.plus_ms(365 * 24 * 3_600_000);
    world.store.set_availability(&driver_id(2), PersonStatus::Active, &place, next_year).await.unwrap();
    world.sweeps_drivers_after(1).await;
    assert_eq!((world.status_of(1).await, world.status_of(2).await), (PersonStatus::Active, PersonStatus::Inactive));
}

#[tokio::test]
async fn a_driver_on_a_dispatch_and_a_driver_who_reports_meanwhile_stay() {
    let world = World::with_drivers(1).await;
    world.request().await;
    world.stream().await;
    world.answer(super::accept).await.unwrap();
    world.sweeps_drivers_after(SILENT_MS * 2).await;
    assert_eq!(world.status_of(1).await, PersonStatus::Dispatched);
    assert!(!world.notified().iter().any(|(kind, _)| *kind == NotificationKind::DriverInactive));
}

#[tokio::test]
async fn no_driver_is_silent_while_the_cache_does_not_answer_or_every_position_is_missing() {
    let world = World::with_drivers(1).await;
    world.redis.set_down(true);
    world.sweeps_drivers_after(SILENT_MS * 2).await;
    world.redis.set_down(false);
    assert_eq!(world.driver_item(1).await.current_status.status, PersonStatus::Active);

    let many = World::with_drivers(60).await;
    many.sweeps_drivers_after(SILENT_MS * 2).await;
    for number in [1, 30, 60] {
        assert_eq!(many.status_of(number).await, PersonStatus::Active, "sixty at once is an outage");
    }
    many.ping_of(60).await;
    many.sweeps_drivers_after(1).await;
    for (number, status) in [(1, PersonStatus::Inactive), (59, PersonStatus::Inactive), (60, PersonStatus::Active)] {
        assert_eq!(many.status_of(number).await, status);
    }
}

#[tokio::test]
async fn many_drivers_who_are_gone_become_inactive_in_rounds() {
    const GONE: u32 = 1_010;
    let world = World::with_drivers(GONE + 1).await;
    world.clock.advance_ms(SILENT_MS + 1);
    // The last one of the list is there.
    world.ping_of(GONE + 1).await;
    let told = || world.notified().iter().filter(|(kind, _)| *kind == NotificationKind::DriverInactive).count();
    world.sweeps_drivers_after(0).await;
    assert_eq!(told(), 1_000);
    world.sweeps_drivers_after(0).await;
    assert_eq!(told(), usize::try_from(GONE).unwrap());
    assert_eq!(world.status_of(GONE + 1).await, PersonStatus::Active);
}

#[tokio::test]
async fn offers_without_an_answer_end_the_presence_of_a_driver_where_the_city_says_so() {
    for (limit, expected) in [(0, PersonStatus::Active), (2, PersonStatus::Inactive)] {
        let mut settings = settings();
        let presence = PresencePolicy { unanswered_offers: limit, ..PresencePolicy::default() };
        settings.policy = DispatchPolicy { presence, ..settings.policy };
        let world = World::by_with_drivers(settings, 1).await;
        for number in 1..=2 {
            let id = world.request_at(number, 37.5662).await;
            let stored = crate::ports::DispatchStore::load(&world.store, &id).await.unwrap().unwrap();
            world.engine.advance(stored, crate::engine::Trigger::Event).await.unwrap();
            assert_eq!(world.status_of(1).await, PersonStatus::Active, "offer {number}");
            world.clock.advance_ms(120_001);
            world.ping_of(1).await;
            assert_eq!(world.engine.time_out(&id, 1).await.unwrap(), None);
            // The cool-down after an unanswered offer.
            world.clock.advance_ms(31_000);
            world.ping_of(1).await;
        }
        assert_eq!(world.status_of(1).await, expected, "{limit}");
        let told = world.notified().iter().filter(|(kind, _)| *kind == NotificationKind::DriverInactive).count();
        assert_eq!(told, usize::from(limit > 0));
    }
}

#[tokio::test]
async fn an_answer_starts_the_count_of_unanswered_offers_again() {
    use dispatch_core::dispatch::OfferOutcome::{Accepted, Rejected, TimedOut};
    let world = World::with_drivers(1).await;
    let mut counts = Vec::new();
    for outcome in [TimedOut, TimedOut, Rejected, TimedOut, Accepted, TimedOut, TimedOut] {
        counts.push(world.fleet.offer_ended(&driver_id(1), outcome, 0, world.clock.now()).await.unwrap());
    }
    assert_eq!(counts, [1, 2, 0, 1, 0, 1, 2]);
}

/// In the table alone there are hundreds of drivers who are far away or gone; one near the pickup is there.
#[tokio::test]
async fn drivers_who_are_far_away_or_gone_keep_no_offer_from_one_who_is_there() {
    let world = World::new();
    for number in 1..=300 {
        world.driver_at(number, false, 38.5 + f64::from(number) * 0.001).await;
    }
    world.driver_at(999, false, 37.5670).await;
    world.redis.set_down(true);
    world.request().await;
    world.stream().await;
    assert_eq!(world.offered().await, Some(999), "the nearest, although the list of the district begins with others");

    // After a wipe, those who are nearer but gone do not come before one who sends positions.
    let world = World::new();
    for number in 1..=300 {
        world.driver_at(number, false, 37.5663).await;
    }
    world.driver_at(999, false, 37.5700).await;
    world.fleet.wipe();
    world.fleet.put(&[crate::adapters::fleet::fleet_entry(&world.driver_item(999).await).unwrap()]).await.unwrap();
    world.clock.advance_ms(60_000);
    world.ping_of(999).await;
    world.request().await;
    world.stream().await;
    assert_eq!(world.offered().await, Some(999));
}

#[tokio::test]
async fn a_process_whose_clock_is_wrong_ends_no_offer() {
    let world = World::with_drivers(1).await;
    let id = world.request().await;
    world.stream().await;
    world.clock.advance_ms(130_000);
    world.clock.set_wrong(true);
    assert!(world.engine.time_out(&id, 1).await.unwrap().is_some(), "another process may handle the timer");
    assert_eq!(world.offered().await, Some(1));
    world.clock.set_wrong(false);
    assert_eq!(world.engine.time_out(&id, 1).await.unwrap(), None);
    assert_eq!(world.offered().await, None);
}

#[tokio::test]
async fn an_offer_that_a_wrong_clock_dated_an_hour_ahead_ends_with_the_next_sweep() {
    let world = World::with_drivers(1).await;
    world.clock.advance_ms(3_600_000);
    world.ping_of(1).await;
    world.request().await;
    world.stream().await;
    assert_eq!(world.offered().await, Some(1));
    world.clock.advance_ms(-3_600_000);
    sweep(&world.engine).await;
    assert_eq!(world.offered().await, None);
}
