//! The scenarios of the contract.

use std::collections::HashSet;
use std::time::Duration;

use dispatch_core::dispatch::{DispatchStatus, Event, OperationsAction, TripEvent, TripTotals};
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::meter::{Bill, ReviewReason};
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use dispatch_runtime::ports::{
    ANSWER_KEPT_MS, Commit, CreateOutcome, HELD_MS, IdempotencyState, IdempotentRequest, OpenReview, Owner, Page,
    StoredAnswer, StoredDispatch, TravelledRoute,
};
use serde_json::json;
use tokio::time::Instant;

use super::table::{Table, accept_step, decide, new_dispatch, offer_step, start};

/// Time limit for an index to show a write. Milliseconds as a rule; AWS guarantees none.
const INDEX_WITHIN: Duration = Duration::from_secs(20);

/// Repeats a read until its result is as expected, because indexes are eventually consistent.
pub(super) async fn eventually<T, F: Future<Output = T>>(ask: impl Fn() -> F, wanted: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + INDEX_WITHIN;
    loop {
        let answer = ask().await;
        if wanted(&answer) || Instant::now() >= deadline {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn ids(dispatches: &[StoredDispatch]) -> Vec<&str> {
    dispatches.iter().map(|dispatch| dispatch.state.id.as_str()).collect()
}

pub(super) async fn a_request_is_stored_as_specified_and_occupies_its_user(table: &Table) {
    let user = table.add_user("user#00001").await;
    table.request("dispatch#00001", &user, start()).await;
    let item = table.item("dispatch#00001", "METADATA").await;
    assert_eq!(
        item,
        json!({
            "PK": "dispatch#00001", "SK": "METADATA", "EntityType": "DISPATCH", "userId": "user#00001",
            "driverId": null, "status": "REQUESTED",
            "createdAt": "2025-05-25T15:30:00+09:00", "updatedAt": "2025-05-25T15:30:00+09:00",
            "pickupLocation": { "lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동" },
            "destination": { "lat": 37.573, "lng": 126.9768, "address": "서울시 종로구 종로" },
            "estimatedFare": 12000, "actualFare": 0, "route": [],
            "events": [
                { "type": "CREATED", "timestamp": "2025-05-25T15:30:00+09:00", "details": "배차 요청 생성" }
            ],
            "offerSeq": 0, "ver": 1, "distanceMeters": 0, "durationSeconds": 0,
            "matching": {
                "candidateDrivers": [], "autoAcceptDrivers": [], "askedDrivers": [], "currentAttempt": 0,
                "maxAttempts": 5, "searchUntil": "2025-05-25T15:31:00.000+09:00"
            },
            "GSI1PK": "DISPATCH#REQUESTED", "GSI1SK": "2025-05-25T15:30:00.000#dispatch#00001",
            "GSI2PK": "USER#user#00001", "GSI2SK": "DISPATCH#2025-05-25T15:30:00.000"
        })
    );
    let profile = table.item("user#00001", "PROFILE").await;
    assert_eq!(profile["currentStatus"]["status"], "DISPATCHED");
    assert_eq!(profile["currentStatus"]["currentDispatchId"], "dispatch#00001");
    assert_eq!((&profile["GSI1PK"], &profile["GSI1SK"]), (&json!("USER#DISPATCHED"), &json!("REGION#중구#user#00001")));
}

pub(super) async fn a_repeated_request_meets_the_dispatch_it_made_before(table: &Table) {
    let user = table.add_user("user#1").await;
    table.request("dispatch#1", &user, start()).await;
    let again = table.dispatches().create(new_dispatch("dispatch#1", &user, start().plus_ms(500))).await.unwrap();
    let CreateOutcome::Existed(first) = again else { panic!("not recognised") };
    assert_eq!(first.details.created_at, "2025-05-25T15:30:00+09:00");
    let other = table.add_user("user#2").await;
    let taken = table.dispatches().create(new_dispatch("dispatch#1", &other, start())).await;
    assert!(taken.is_err(), "another user's dispatch is not given away");
    let profile = table.item("user#2", "PROFILE").await;
    assert_eq!(profile["currentStatus"]["status"], "ACTIVE");
}

pub(super) async fn a_busy_or_unknown_user_gets_no_second_dispatch(table: &Table) {
    let user = table.add_user("user#1").await;
    table.request("dispatch#1", &user, start()).await;
    let second = table.dispatches().create(new_dispatch("dispatch#2", &user, start())).await.unwrap();
    let CreateOutcome::UserBusy { current } = second else { panic!("a second dispatch was stored") };
    assert_eq!(current, Some(DispatchId::parse("dispatch#1").unwrap()));
    let unknown = UserId::parse("user#unknown").unwrap();
    let unknown = table.dispatches().create(new_dispatch("dispatch#3", &unknown, start())).await.unwrap();
    assert!(matches!(unknown, CreateOutcome::UnknownUser));
    for id in ["dispatch#2", "dispatch#3"] {
        assert!(table.partition(id).await.is_empty(), "{id} remains");
    }
}

pub(super) async fn fifty_equal_accepts_store_one(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let requested = table.request("dispatch#1", &user, start()).await;
    let offered = table.offer(&requested, &driver, start().plus_ms(1000)).await;
    let step = accept_step(&offered, &driver, start().plus_ms(2000));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (store, offered, step) = (table.dispatches(), offered.clone(), step.clone());
            tokio::spawn(async move { store.commit(&offered, &step, None).await })
        })
        .collect();
    let mut applied = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(Commit::Applied(_)) => applied += 1,
            // Contention may use up the retry budget; the point is that no second step succeeds.
            Ok(Commit::Changed) | Err(_) => {}
            Ok(Commit::CompanionRefused) => panic!("the driver is on this very dispatch"),
        }
    }
    assert_eq!(applied, 1);
    let stored = table.reload(&offered).await;
    assert_eq!((stored.state.status, stored.state.ver), (DispatchStatus::Accepted, offered.state.ver + 1));
    assert_eq!(stored.details.events.len(), offered.details.events.len() + 1);
    let histories = table.partition("driver#1").await;
    let dispatched = histories.iter().filter(|item| item["SK"].as_str().unwrap().starts_with("DISPATCHED#")).count();
    assert_eq!(dispatched, 1);
}

/// Steps that change neither status, driver, offer nor any other item: they differ by version only.
pub(super) async fn of_many_steps_on_one_version_the_first_wins(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let requested = table.request("dispatch#1", &user, start()).await;
    let offered = table.offer(&requested, &driver, start().plus_ms(1)).await;
    let accepted = table.accept(&offered, &driver, start().plus_ms(2)).await;
    let trip =
        |event, after_ms| decide(&accepted, Event::Trip { driver: driver.clone(), event }, start().plus_ms(after_ms));
    let steps = [trip(TripEvent::PickupStarted, 3), trip(TripEvent::DriverArrived, 4)];
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let (store, accepted, step) = (table.dispatches(), accepted.clone(), steps[n % 2].clone());
            tokio::spawn(async move { store.commit(&accepted, &step, None).await.unwrap() })
        })
        .collect();
    let mut applied = 0;
    for task in tasks {
        applied += usize::from(matches!(task.await.unwrap(), Commit::Applied(_)));
    }
    assert_eq!(applied, 1);
    let stored = table.reload(&accepted).await;
    assert_eq!((stored.state.ver, stored.details.events.len()), (accepted.state.ver + 1, 4));
    let cancel = decide(&accepted, Event::CancelByUser { user }, start().plus_ms(5));
    assert!(matches!(table.commit(&accepted, &cancel).await, Commit::Changed));
    assert_eq!(table.item("user#1", "PROFILE").await["currentStatus"]["status"], "DISPATCHED");
}

pub(super) async fn two_dispatches_cannot_have_one_driver(table: &Table) {
    let driver = table.add_driver("driver#1").await;
    let (first_user, second_user) = (table.add_user("user#1").await, table.add_user("user#2").await);
    let first = table.request("dispatch#1", &first_user, start()).await;
    let second = table.request("dispatch#2", &second_user, start()).await;
    let first = table.offer(&first, &driver, start().plus_ms(1)).await;
    let second = table.offer(&second, &driver, start().plus_ms(2)).await;
    table.accept(&first, &driver, start().plus_ms(3)).await;
    let refused = table.commit(&second, &accept_step(&second, &driver, start().plus_ms(4))).await;
    assert!(matches!(refused, Commit::CompanionRefused));
    let unchanged = table.reload(&second).await;
    assert!(unchanged.state == second.state && unchanged.details == second.details, "a refused step leaves no trace");
    assert_eq!(table.item("driver#1", "PROFILE").await["currentStatus"]["currentDispatchId"], "dispatch#1");
}

pub(super) async fn a_changed_dispatch_refuses_a_step_before_its_companions_do(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let requested = table.request("dispatch#1", &user, start()).await;
    let offered = table.offer(&requested, &driver, start().plus_ms(1)).await;
    let stale = table.commit(&requested, &offer_step(&requested, &driver, start().plus_ms(2))).await;
    assert!(matches!(stale, Commit::Changed), "one offer for each offer_seq");
    table.accept(&offered, &driver, start().plus_ms(3)).await;
    let late = table.commit(&offered, &accept_step(&offered, &driver, start().plus_ms(4))).await;
    assert!(matches!(late, Commit::Changed), "the driver is busy too, but with this dispatch");
}

pub(super) async fn an_unchanged_step_writes_nothing(table: &Table) {
    let user = table.add_user("user#1").await;
    let requested = table.request("dispatch#1", &user, start()).await;
    let before = table.partition("dispatch#1").await;
    let wake = decide(&requested, Event::Wake, start().plus_ms(1));
    assert!(!wake.changed);
    assert!(matches!(table.commit(&requested, &wake).await, Commit::Applied(_)));
    assert_eq!(table.partition("dispatch#1").await, before);
}

pub(super) async fn a_completed_ride_writes_the_specified_items_and_frees_both(table: &Table) {
    let (user, driver) = (table.add_user("user#00001").await, table.add_driver("driver#00001").await);
    let requested = table.request("dispatch#00001", &user, start()).await;
    let offered = table.offer(&requested, &driver, start().plus_ms(30_000)).await;
    let accepted = table.accept(&offered, &driver, start().plus_ms(60_000)).await;
    assert_eq!(table.item("driver#00001", "PROFILE").await["GSI1PK"], "DRIVER#DISPATCHED");
    assert_eq!(
        table.item("driver#00001", "DISPATCHED#2025-05-25T15:31:00.000").await,
        json!({
            "PK": "driver#00001", "SK": "DISPATCHED#2025-05-25T15:31:00.000", "EntityType": "DRIVER_STATUS_HISTORY",
            "status": "DISPATCHED", "timestamp": "2025-05-25T15:31:00+09:00", "dispatchId": "dispatch#00001",
            "location": { "lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동" },
            "GSI2PK": "DRIVER#driver#00001", "GSI2SK": "STATUS#2025-05-25T15:31:00.000", "expiresAt": 1_779_690_660
        })
    );
    let pick_up = Event::Trip { driver: driver.clone(), event: TripEvent::PassengerPickedUp };
    let on_board = table.apply(&accepted, &decide(&accepted, pick_up, start().plus_ms(120_000)), None).await;
    assert_eq!(on_board.state.trip_started_at, Some(start().plus_ms(120_000)));
    let totals = TripTotals { fare: 12_000, distance_m: 2500, duration_s: 900 };
    let completed = decide(&on_board, Event::TripCompleted { driver, bill: totals.into() }, start().plus_ms(900_000));
    let points = vec![point(37.5662, 126.9784, 300_000), point(37.5655, 126.9785, 600_000)];
    table.apply(&on_board, &completed, Some(TravelledRoute { points })).await;
    the_ended_dispatch_is_as_specified(table).await;
    the_histories_are_as_specified(table).await;
    both_are_free_again(table).await;
}

fn point(lat: f64, lng: f64, after_ms: u64) -> RoutePoint {
    RoutePoint { position: Coordinate::new(lat, lng).unwrap(), at: start().plus_ms(after_ms) }
}

async fn the_ended_dispatch_is_as_specified(table: &Table) {
    let item = table.item("dispatch#00001", "METADATA").await;
    assert_eq!((&item["status"], &item["actualFare"]), (&json!("COMPLETED"), &json!(12_000)));
    assert_eq!((&item["distanceMeters"], &item["durationSeconds"]), (&json!(2500), &json!(900)));
    assert_eq!(
        item["route"],
        json!([
            { "lat": 37.5662, "lng": 126.9784, "timestamp": "2025-05-25T15:35:00+09:00", "distanceFromPrevious": 0 },
            { "lat": 37.5655, "lng": 126.9785, "timestamp": "2025-05-25T15:40:00+09:00", "distanceFromPrevious": 78 }
        ])
    );
    let types: Vec<&str> =
        item["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["CREATED", "DRIVER_ASSIGNED", "DRIVER_ACCEPTED", "PASSENGER_PICKED_UP", "TRIP_COMPLETED"]);
    assert_eq!(item["GSI1PK"], "DISPATCH#COMPLETED");
}

async fn the_histories_are_as_specified(table: &Table) {
    assert_eq!(
        table.item("user#00001", "DISPATCH#2025-05-25T15:45:00.000#dispatch#00001").await,
        json!({
            "PK": "user#00001", "SK": "DISPATCH#2025-05-25T15:45:00.000#dispatch#00001",
            "EntityType": "USER_DISPATCH_HISTORY", "dispatchId": "dispatch#00001",
            "date": "2025-05-25T15:45:00+09:00", "from": "서울시 중구 명동", "to": "서울시 종로구 종로",
            "fare": 12000, "status": "COMPLETED", "expiresAt": 1_779_691_500
        })
    );
    assert_eq!(
        table.item("driver#00001", "COMPLETED#2025-05-25T15:45:00.000#dispatch#00001").await,
        json!({
            "PK": "driver#00001", "SK": "COMPLETED#2025-05-25T15:45:00.000#dispatch#00001",
            "EntityType": "DRIVER_COMPLETED_RIDE", "dispatchId": "dispatch#00001",
            "completedAt": "2025-05-25T15:45:00+09:00", "fare": 12000, "distance": 2500, "duration": 900,
            "GSI2PK": "DRIVER#driver#00001", "GSI2SK": "DISPATCH#2025-05-25T15:45:00.000",
            "expiresAt": 1_779_691_500
        })
    );
}

async fn both_are_free_again(table: &Table) {
    let user = table.item("user#00001", "PROFILE").await;
    assert_eq!(user["currentStatus"]["status"], "ACTIVE");
    assert_eq!(user["currentStatus"]["currentDispatchId"], json!(null));
    assert_eq!(user["GSI1PK"], "USER#ACTIVE");
    let driver = table.item("driver#00001", "PROFILE").await;
    assert_eq!(driver["currentStatus"]["status"], "ACTIVE");
    assert_eq!(driver["currentStatus"]["currentDispatchId"], json!(null));
    assert_eq!(driver["currentStatus"]["currentLocation"]["address"], "서울시 종로구 종로");
    assert_eq!(driver["completedRides"], json!(["dispatch#00001"]));
    let keys = (&driver["GSI1PK"], &driver["GSI1SK"]);
    assert_eq!(keys, (&json!("DRIVER#ACTIVE"), &json!("REGION#종로구#driver#00001")));
}

pub(super) async fn completed_rides_keep_the_last_twenty(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    for n in 0..22_u64 {
        table.ride(&format!("dispatch#{n:02}"), &user, &driver, start().plus_ms(n * 1_000_000)).await;
    }
    let profile = table.item("driver#1", "PROFILE").await;
    let rides = profile["completedRides"].as_array().unwrap();
    assert_eq!((rides.len(), &rides[0], &rides[19]), (20, &json!("dispatch#02"), &json!("dispatch#21")));
}

pub(super) async fn a_cancelled_dispatch_frees_its_driver_and_user(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let requested = table.request("dispatch#1", &user, start()).await;
    let offered = table.offer(&requested, &driver, start().plus_ms(1)).await;
    let accepted = table.accept(&offered, &driver, start().plus_ms(2)).await;
    let cancel = decide(&accepted, Event::CancelByUser { user: user.clone() }, start().plus_ms(3));
    let cancelled = table.apply(&accepted, &cancel, None).await;
    assert_eq!(cancelled.state.status, DispatchStatus::Cancelled);
    for person in ["user#1", "driver#1"] {
        let profile = table.item(person, "PROFILE").await;
        assert_eq!(profile["currentStatus"]["status"], "ACTIVE", "{person}");
        assert_eq!(profile["currentStatus"]["currentDispatchId"], json!(null), "{person}");
    }
    let history = table.item("user#1", "DISPATCH#2025-05-25T15:30:00.003#dispatch#1").await;
    assert_eq!((&history["status"], &history["fare"]), (&json!("CANCELLED"), &json!(0)));
    let driver = table.item("driver#1", "PROFILE").await;
    assert_eq!((&driver["completedRides"], &driver["GSI1SK"]), (&json!([]), &json!("REGION#중구#driver#1")));
    table.request("dispatch#2", &user, start().plus_ms(4)).await;
}

pub(super) async fn a_user_who_is_elsewhere_does_not_keep_a_dispatch_open(table: &Table) {
    let user = table.add_user("user#1").await;
    let first = table.request("dispatch#1", &user, start()).await;
    let cancel = decide(&first, Event::CancelByUser { user: user.clone() }, start().plus_ms(1));
    let cancelled = table.apply(&first, &cancel, None).await;
    let second = table.request("dispatch#2", &user, start().plus_ms(2)).await;
    // Repeats the companions of a cancellation for a dispatch that its user has left.
    let mut again = cancel;
    again.state.ver = cancelled.state.ver + 1;
    table.apply(&cancelled, &again, None).await;
    let profile = table.item("user#1", "PROFILE").await;
    assert_eq!(profile["currentStatus"]["currentDispatchId"], second.state.id.as_str(), "the other dispatch is kept");
    assert_eq!(profile["currentStatus"]["status"], "DISPATCHED");
}

pub(super) async fn lists_are_paged_newest_first(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    for n in 1..=5_u64 {
        table.ride(&format!("dispatch#{n}"), &user, &driver, start().plus_ms(n * 1_000_000)).await;
    }
    let last = table.request("dispatch#6", &user, start().plus_ms(6_000_000)).await;
    let store = table.dispatches();
    let owner = Owner::User(user);
    let all = eventually(|| async { store.list(&owner, 50, None).await.unwrap() }, |page| page.items.len() == 6).await;
    let newest_first = ["dispatch#6", "dispatch#5", "dispatch#4", "dispatch#3", "dispatch#2", "dispatch#1"];
    assert_eq!(ids(&all.items), newest_first);
    assert_eq!(all.next, None);
    assert!(all.items[0].state == last.state && all.items[0].details == last.details, "entries are whole dispatches");

    for (owner, expected) in [(owner, &newest_first[..]), (Owner::Driver(driver), &newest_first[1..])] {
        let total = expected.len();
        eventually(|| async { store.list(&owner, 50, None).await.unwrap() }, |page| page.items.len() == total).await;
        let (mut seen, mut after) = (Vec::new(), None);
        for _ in 0..10 {
            let page = store.list(&owner, 2, after.take()).await.unwrap();
            assert!(page.items.len() <= 2);
            seen.extend(ids(&page.items).into_iter().map(str::to_owned));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "{owner:?}");
    }
    let unknown = Owner::Driver(DriverId::parse("driver#unknown").unwrap());
    assert!(store.list(&unknown, 5, None).await.unwrap().items.is_empty());
}

pub(super) async fn a_made_up_page_token_is_refused(table: &Table) {
    let owner = Owner::User(UserId::parse("user#1").unwrap());
    for token in ["", "GSI2PK", "2025-05-25T14:30:00.000_dispatch#1"] {
        assert!(table.dispatches().list(&owner, 5, Some(token.to_owned())).await.is_err(), "{token}");
    }
}

pub(super) async fn the_sweeper_sees_old_open_dispatches_only(table: &Table) {
    let driver = table.add_driver("driver#1").await;
    let mut requested = Vec::new();
    for n in 1..=4_u64 {
        let user = table.add_user(&format!("user#{n}")).await;
        requested.push(table.request(&format!("dispatch#{n}"), &user, start().plus_ms(n * 1000)).await);
    }
    let offered = table.offer(&requested[1], &driver, start().plus_ms(5000)).await;
    let store = table.dispatches();
    let open = |before: EpochMs, limit: u16| {
        let store = store.clone();
        async move {
            let open = store.open_since_before(before, limit, &HashSet::new()).await.unwrap();
            open.into_iter().map(|id| id.to_string()).collect::<Vec<_>>()
        }
    };
    let all = eventually(|| open(start().plus_ms(60_000), 10), |open| open.len() == 3).await;
    assert_eq!(all, ["dispatch#1", "dispatch#3", "dispatch#4"], "a dispatch with a live offer is skipped");
    assert_eq!(open(start().plus_ms(125_000), 10).await.len(), 4, "one that has run out is not");
    table.accept(&offered, &driver, start().plus_ms(6000)).await;
    let all = eventually(|| open(start().plus_ms(125_000), 10), |open| open.len() == 3).await;
    assert_eq!(all, ["dispatch#1", "dispatch#3", "dispatch#4"]);
    assert_eq!(open(start().plus_ms(60_000), 2).await, ["dispatch#1", "dispatch#3"]);
    assert_eq!(open(start().plus_ms(3500), 10).await, ["dispatch#1", "dispatch#3"]);
    assert!(open(start(), 10).await.is_empty());
    let aside = HashSet::from([DispatchId::parse("dispatch#1").unwrap()]);
    let rest = store.open_since_before(start().plus_ms(60_000), 1, &aside).await.unwrap();
    assert_eq!(rest, [DispatchId::parse("dispatch#3").unwrap()], "what is set aside takes no place");
}

pub(super) async fn the_sweeper_sees_what_a_wrong_clock_has_dated(table: &Table) {
    const HOUR_MS: u64 = 3_600_000;
    let driver = table.add_driver("driver#1").await;
    let (one, two) = (table.add_user("user#1").await, table.add_user("user#2").await);
    table.request("dispatch#1", &one, start().plus_ms(HOUR_MS)).await;
    let requested = table.request("dispatch#2", &two, start()).await;
    table.offer(&requested, &driver, start().plus_ms(HOUR_MS)).await;
    let store = table.dispatches();
    let open = || {
        let store = store.clone();
        async move { store.open_since_before(start().plus_ms(60_000), 10, &HashSet::new()).await.unwrap() }
    };
    let all = eventually(open, |open| open.len() == 2).await;
    assert_eq!(all.iter().map(DispatchId::as_str).collect::<Vec<_>>(), ["dispatch#2", "dispatch#1"]);
}

pub(super) async fn route_chunks_are_read_in_order_and_written_twice_without_harm(table: &Table) {
    let id = DispatchId::parse("dispatch#1").unwrap();
    let store = table.dispatches();
    let first = [point(37.5662, 126.9784, 4000), point(37.5655, 126.9785, 8000)];
    let second = [point(37.565, 126.979, 12_250)];
    store.append_route(&id, 2, &second).await.unwrap();
    store.append_route(&id, 1, &first).await.unwrap();
    store.append_route(&id, 1, &first).await.unwrap();
    assert_eq!(store.read_route(&id).await.unwrap(), [first.as_slice(), second.as_slice()].concat());
    let items = table.partition("dispatch#1").await;
    assert_eq!(items.len(), 2);
    assert_eq!(items[1]["SK"], "ROUTE#000002");
    assert_eq!(items[1]["route"][0]["timestamp"], "2025-05-25T15:30:12.250+09:00");
    assert!(store.read_route(&DispatchId::parse("dispatch#2").unwrap()).await.unwrap().is_empty());
}

/// A request with a key.
fn keyed(asked: &str, holder: &str) -> IdempotentRequest {
    IdempotentRequest { key: "0a".repeat(32), asked: asked.to_owned(), holder: holder.to_owned() }
}

pub(super) async fn an_answer_is_kept_for_a_day_and_its_holder_for_half_a_minute(table: &Table) {
    let (answers, begin) = (table.answers(), start());
    let first = keyed("a", "1");
    assert!(matches!(answers.begin(&first, begin).await.unwrap(), IdempotencyState::New));
    let second = keyed("a", "2");
    let IdempotencyState::InProgress { for_ms } = answers.begin(&second, begin.plus_ms(1000)).await.unwrap() else {
        panic!("free")
    };
    assert_eq!(for_ms, HELD_MS - 1000);
    assert!(matches!(answers.begin(&keyed("b", "3"), begin).await.unwrap(), IdempotencyState::KeyReused));

    // The first holder's time is over: only the same request may take over, and the first can no longer store an
    // answer.
    let later = begin.plus_ms(HELD_MS);
    assert!(matches!(answers.begin(&keyed("b", "3"), later).await.unwrap(), IdempotencyState::KeyReused));
    assert!(matches!(answers.begin(&second, later).await.unwrap(), IdempotencyState::New));
    let answer = |body: &str| StoredAnswer { status: 200, body: body.to_owned() };
    answers.keep(&first, &answer("of a ghost"), later).await.unwrap();
    answers.keep(&second, &answer("{\"a\":1}"), later).await.unwrap();
    let third = keyed("a", "3");
    let IdempotencyState::Completed(kept) = answers.begin(&third, later.plus_ms(HELD_MS * 10)).await.unwrap() else {
        panic!("no answer")
    };
    assert_eq!((kept.status, kept.body.as_str()), (200, "{\"a\":1}"));

    // A day later the key is free for any request. A request without effect frees it at once.
    let tomorrow = later.plus_ms(ANSWER_KEPT_MS);
    let other = keyed("b", "4");
    assert!(matches!(answers.begin(&other, tomorrow).await.unwrap(), IdempotencyState::New));
    answers.forget(&third).await.unwrap();
    assert!(
        matches!(answers.begin(&third, tomorrow).await.unwrap(), IdempotencyState::KeyReused),
        "only the holder can forget"
    );
    answers.forget(&other).await.unwrap();
    assert!(matches!(answers.begin(&third, tomorrow).await.unwrap(), IdempotencyState::New));
    let item = table.item(&format!("ANSWER#{}", "0a".repeat(32)), "ANSWER").await;
    assert_eq!(item["EntityType"], "ANSWER");
    let seconds = tomorrow.plus_ms(ANSWER_KEPT_MS).0 / 1000;
    assert_eq!(item["expiresAt"].as_f64(), Some(seconds as f64), "what DynamoDB's time to live reads");
}

pub(super) async fn rides_under_review_are_listed_oldest_first_until_they_are_reviewed(table: &Table) {
    let reason = ReviewReason::TooFast;
    let mut rides = Vec::new();
    for number in 1..=3_u64 {
        let (user, driver) =
            (table.add_user(&format!("user#{number}")).await, table.add_driver(&format!("driver#{number}")).await);
        let requested = table.request(&format!("dispatch#{number}"), &user, start()).await;
        let offered = table.offer(&requested, &driver, start()).await;
        let accepted = table.accept(&offered, &driver, start()).await;
        let pick_up = Event::Trip { driver: driver.clone(), event: TripEvent::PassengerPickedUp };
        let on_board = table.apply(&accepted, &decide(&accepted, pick_up, start()), None).await;
        let totals = TripTotals { fare: 12_000, distance_m: 2500, duration_s: 900 };
        let bill = Bill { review: Some(reason), metered_fare: None, ..totals.into() };
        let completed = decide(&on_board, Event::TripCompleted { driver, bill }, start().plus_ms(number * 1000));
        rides.push(table.apply(&on_board, &completed, None).await);
    }
    let item = table.item("dispatch#1", "REVIEW").await;
    assert_eq!((&item["EntityType"], &item["reason"]), (&json!("DISPATCH_REVIEW"), &json!("TOO_FAST")));
    let open = async |limit, after| table.dispatches().reviews(limit, after).await.unwrap();
    let listed = |page: &Page<OpenReview>| -> Vec<String> {
        page.items.iter().map(|it| it.stored.state.id.to_string()).collect()
    };
    let first = eventually(|| open(2, None), |page| page.next.is_some()).await;
    assert_eq!(listed(&first), ["dispatch#1", "dispatch#2"]);
    assert_eq!(first.items[0].requested_at, "2025-05-25T15:30:01.000");
    assert!(first.items.iter().all(|it| it.stored.state.review == Some(reason)));
    let rest = open(2, first.next).await;
    assert_eq!((listed(&rest), rest.next), (vec!["dispatch#3".to_owned()], None));
    let action = OperationsAction::CloseReview;
    let close = Event::ByOperations { action, note: "console: 확인".to_owned() };
    let closed = table.apply(&rides[0], &decide(&rides[0], close, start().plus_ms(9000)), None).await;
    assert_eq!(closed.state.review, None);
    let left = eventually(|| open(10, None), |page| page.items.len() == 2).await;
    assert_eq!(listed(&left), ["dispatch#2", "dispatch#3"]);
}

pub(super) async fn rides_without_a_change_are_found_and_others_are_not(table: &Table) {
    let mut drivers = Vec::new();
    for number in 1..=3 {
        let (user, driver) =
            (table.add_user(&format!("user#{number}")).await, table.add_driver(&format!("driver#{number}")).await);
        let requested = table.request(&format!("dispatch#{number}"), &user, start()).await;
        let offered = table.offer(&requested, &driver, start()).await;
        if number < 3 {
            let accepted = table.accept(&offered, &driver, start()).await;
            let event = Event::Trip { driver: driver.clone(), event: TripEvent::PassengerPickedUp };
            table.apply(&accepted, &decide(&accepted, event, start().plus_ms(number * 100_000)), None).await;
        }
        drivers.push(driver);
    }
    let none = HashSet::new();
    let found = async |after_ms| {
        let rides = table.dispatches().rides_unchanged_since(start().plus_ms(after_ms), &none).await.unwrap();
        rides.into_iter().map(|ride| (ride.id.to_string(), ride.driver)).collect::<Vec<_>>()
    };
    let ride = |number: usize| (format!("dispatch#{number}"), Some(drivers[number - 1].clone()));
    let both = eventually(|| found(200_000), |rides| rides.len() == 2).await;
    assert_eq!(both, [ride(1), ride(2)], "the third one is still requested");
    assert_eq!(found(199_000).await, [ride(1)]);
    assert_eq!(found(99_000).await, []);
    let except = HashSet::from([DispatchId::parse("dispatch#1").unwrap()]);
    let rides = table.dispatches().rides_unchanged_since(start().plus_ms(200_000), &except).await.unwrap();
    assert_eq!(rides.len(), 1);
}
