//! The items of one ride, attribute for attribute, and the conditions on which profiles change.

use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::dispatch::{CandidateRef, DispatchStatus, Event, Rules, Step, TripEvent, TripTotals, step};
use dispatch_core::geo::{Coordinate, Location};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::{DriverPreferences, PersonStatus, RideType, UserPreferences, VehicleInfo};
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use serde::Serialize;
use serde_json::{Value, json};

use crate::adapters::store::convert::{Codec, DISPATCH, Item, ItemError, route_points, write_item};
use crate::adapters::store::entity::{DriverItem, UserItem};
use crate::adapters::store::plan::{Guard, Plan, PlanError, StepPeople, step_people};
use crate::adapters::store::repair::repaired;
use crate::adapters::store::streams_image::codec_for_tests;
use crate::ports::{DriverProfile, NewDispatch, StoredDispatch, TravelledRoute, UserProfile};

/// 2025-05-25T15:30:00.250+09:00.
const NOW: EpochMs = EpochMs(1_748_154_600_250);

fn pickup() -> Location {
    Location { lat: 37.5662, lng: 126.9784, address: "서울시 중구 명동".to_owned() }
}

fn destination() -> Location {
    Location { lat: 37.573, lng: 126.9768, address: "서울시 종로구 종로".to_owned() }
}

fn new() -> NewDispatch {
    NewDispatch {
        id: DispatchId::parse("dispatch#00001").unwrap(),
        user: UserId::parse("user#00001").unwrap(),
        pickup: pickup(),
        destination: destination(),
        estimated_fare: 12_000,
        max_attempts: 3,
        search_until: NOW.plus_ms(60_000),
        now: NOW,
    }
}

fn driver_id() -> DriverId {
    DriverId::parse("driver#00001").unwrap()
}

fn driver_profile() -> DriverProfile {
    DriverProfile {
        phone: "01012341234".to_owned(),
        vehicle_info: VehicleInfo { manufacturer: "현대".to_owned(), license_plate: "12가3456".to_owned() },
        preferences: DriverPreferences {
            default_ride_type: None,
            preferred_regions: vec!["중구".to_owned()],
            max_distance: 20.0,
            auto_accept: false,
            minimum_fare: 8000,
        },
    }
}

fn user_profile() -> UserProfile {
    UserProfile {
        phone: "01056785678".to_owned(),
        payment_methods: Vec::new(),
        preferences: UserPreferences { default_ride_type: RideType::Standard, favorite_locations: Vec::new() },
        location: pickup(),
    }
}

/// A driver who is free in Jung-gu.
fn free_driver(codec: &Codec) -> DriverItem {
    let made = codec.apply_driver_profile(&driver_id(), None, driver_profile(), NOW);
    codec.at_place(&made, PersonStatus::Active, &pickup(), NOW)
}

/// No profile was read.
fn unread() -> StepPeople<DriverItem, UserItem> {
    StepPeople { driver: None, user: None }
}

/// The driver and the user on the dispatch of [`new`].
fn on_ride(codec: &Codec) -> StepPeople<DriverItem, UserItem> {
    let driver = codec.with_driver_status(&free_driver(codec), PersonStatus::Dispatched, Some(&new().id));
    let mut user = codec.apply_user_profile(&new().user, None, user_profile(), NOW);
    user = codec.with_user_status(&user, PersonStatus::Dispatched);
    user.current_status.current_dispatch_id = Some(new().id.to_string());
    StepPeople { driver: Some(driver), user: Some(user) }
}

/// A dispatch after these events, each a minute after the one before. The last step and what was stored before it.
fn after(codec: &Codec, events: Vec<Event>) -> (StoredDispatch, Step) {
    let mut stored = codec.stored(codec.new_dispatch(&new())).unwrap();
    let mut now = NOW;
    let mut last = None;
    for event in events {
        now = now.plus_ms(60_000);
        let decided = step(&stored.state, event, Rules { policy: &DispatchPolicy::default(), now }).unwrap();
        last = Some((stored.clone(), decided.clone()));
        stored = if decided.changed {
            let free = StepPeople { driver: Some(free_driver(codec)), user: None };
            let plan = codec.plan(&stored, &decided, None, &on_ride(codec));
            plan.or_else(|_| codec.plan(&stored, &decided, None, &free)).unwrap().after
        } else {
            StoredDispatch { state: decided.state, ..stored }
        };
    }
    last.unwrap()
}

fn offered() -> Vec<Event> {
    let candidate = |driver_id, auto_accept| CandidateRef { driver_id, auto_accept };
    let second = DriverId::parse("driver#00002").unwrap();
    let found = vec![candidate(driver_id(), false), candidate(second, true)];
    vec![Event::CandidatesFound(found), Event::DriverHeld(driver_id())]
}

fn accepted() -> Vec<Event> {
    [offered(), vec![Event::Accept { driver: driver_id(), offer_seq: 1 }]].concat()
}

const TOTALS: TripTotals = TripTotals { fare: 12_400, distance_m: 2500, duration_s: 900 };

fn completed() -> Vec<Event> {
    let picked_up = Event::Trip { driver: driver_id(), event: TripEvent::PassengerPickedUp };
    [accepted(), vec![picked_up, Event::TripCompleted { driver: driver_id(), bill: TOTALS.into() }]].concat()
}

fn json<T: Serialize>(item: &T) -> Value {
    from_item(write_item("TEST", item).unwrap())
}

fn from_item(item: Item) -> Value {
    serde_dynamo::from_item(item).unwrap()
}

fn from_values(values: &[AttributeValue]) -> Value {
    serde_dynamo::from_attribute_value(AttributeValue::L(values.to_vec())).unwrap()
}

fn planned(codec: &Codec, events: Vec<Event>, people: &StepPeople<DriverItem, UserItem>) -> Plan {
    let (before, step) = after(codec, events);
    codec.plan(&before, &step, None, people).unwrap()
}

#[test]
fn a_new_dispatch_is_the_item_of_the_specification_with_our_additions() {
    let expected = json!({
        "PK": "dispatch#00001", "SK": "METADATA", "EntityType": "DISPATCH",
        "userId": "user#00001", "driverId": null, "status": "REQUESTED",
        "createdAt": "2025-05-25T15:30:00+09:00", "updatedAt": "2025-05-25T15:30:00+09:00",
        "pickupLocation": { "lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동" },
        "destination": { "lat": 37.573, "lng": 126.9768, "address": "서울시 종로구 종로" },
        "estimatedFare": 12_000, "actualFare": 0, "route": [],
        "events": [{ "type": "CREATED", "timestamp": "2025-05-25T15:30:00+09:00", "details": "배차 요청 생성" }],
        "GSI1PK": "DISPATCH#REQUESTED", "GSI1SK": "2025-05-25T15:30:00.250#dispatch#00001",
        "GSI2PK": "USER#user#00001", "GSI2SK": "DISPATCH#2025-05-25T15:30:00.250",
        "offerSeq": 0, "ver": 1, "distanceMeters": 0, "durationSeconds": 0,
        "matching": {
            "candidateDrivers": [], "autoAcceptDrivers": [], "askedDrivers": [], "currentAttempt": 0, "maxAttempts": 3,
            "searchUntil": "2025-05-25T15:31:00.250+09:00",
        },
    });
    let codec = codec_for_tests();
    let item = codec.new_dispatch(&new());
    assert_eq!(json(&item), expected);
    let state = codec.stored(item).unwrap().state;
    assert_eq!((state.matching.max_attempts, state.matching.search_until), (3, NOW.plus_ms(60_000)));
    assert_eq!(state.pickup, Coordinate::new(37.5662, 126.9784).unwrap());
    assert_eq!((state.estimated_fare, state.created_at), (12_000, NOW.whole_seconds()));
}

#[test]
fn an_offer_changes_what_the_step_decided() {
    let codec = codec_for_tests();
    let plan = planned(&codec, offered(), &unread());
    // The offer is made two minutes after the request.
    let expected = json!({
        "status": "REQUESTED", "driverId": "driver#00001", "updatedAt": "2025-05-25T15:32:00+09:00",
        "offerSeq": 1, "ver": 2, "GSI1PK": "DISPATCH#REQUESTED",
        "matching": {
            "candidateDrivers": ["driver#00002"], "autoAcceptDrivers": ["driver#00002"],
            "searchedAt": "2025-05-25T15:31:00.250+09:00", "askedDrivers": ["driver#00001"],
            "currentAttempt": 1, "maxAttempts": 3, "offeredAt": "2025-05-25T15:32:00.250+09:00",
            "timeoutAt": "2025-05-25T15:34:00.250+09:00", "searchUntil": "2025-05-25T15:31:00.250+09:00",
        },
    });
    assert_eq!(from_item(plan.dispatch.set.clone()), expected);
    let events = json!([
        { "type": "DRIVER_ASSIGNED", "timestamp": "2025-05-25T15:32:00+09:00", "details": "드라이버 배정 완료" }
    ]);
    assert_eq!(from_values(&plan.dispatch.events), events);
    let keys = json!({
        "GSI1SK": "2025-05-25T15:30:00.000#dispatch#00001", "GSI2PK": "USER#user#00001",
        "GSI2SK": "DISPATCH#2025-05-25T15:30:00.000",
    });
    assert_eq!(from_item(plan.dispatch.set_if_missing.clone()), keys);
    assert!(plan.driver.is_none() && plan.user.is_none() && plan.driver_history.is_none());
    assert!(plan.user_history.is_none() && plan.ride.is_none());
    assert_eq!(plan.after.details.offer_timeout_at.as_deref(), Some("2025-05-25T15:34:00.250+09:00"));
    assert_eq!(plan.after.details.updated_at, "2025-05-25T15:32:00+09:00");
    assert_eq!(plan.after.details.events.len(), 2);
    // The changed item reads as the dispatch after the step.
    let mut item = write_item(DISPATCH, &codec.new_dispatch(&new())).unwrap();
    plan.dispatch.apply_to(&mut item);
    let read = codec.read_dispatch(item).unwrap();
    assert_eq!(read.state, plan.after.state);
    assert!(read.details == plan.after.details);
}

#[test]
fn a_change_applies_to_an_item_without_events_and_keeps_its_index_keys() {
    let plan = planned(&codec_for_tests(), offered(), &unread());
    let mut bare = Item::from([("GSI2PK".to_owned(), AttributeValue::S("of another service".to_owned()))]);
    plan.dispatch.apply_to(&mut bare);
    assert_eq!(bare["GSI2PK"], AttributeValue::S("of another service".to_owned()));
    assert_eq!(bare["GSI2SK"], AttributeValue::S("DISPATCH#2025-05-25T15:30:00.000".to_owned()));
    assert_eq!(bare["events"], AttributeValue::L(plan.dispatch.events.clone()));
    plan.dispatch.apply_to(&mut bare);
    let AttributeValue::L(events) = &bare["events"] else { panic!("a list") };
    assert_eq!(events.len(), 2, "events are appended");
}

#[test]
fn missing_index_keys_are_the_only_change_of_an_indexing() {
    let codec = codec_for_tests();
    let change = codec.indexing(&codec.stored(codec.new_dispatch(&new())).unwrap().state).unwrap();
    assert!(change.set.is_empty() && change.events.is_empty());
    let keys = json!({
        "GSI1PK": "DISPATCH#REQUESTED", "GSI1SK": "2025-05-25T15:30:00.000#dispatch#00001",
        "GSI2PK": "USER#user#00001", "GSI2SK": "DISPATCH#2025-05-25T15:30:00.000",
    });
    assert_eq!(from_item(change.set_if_missing), keys);
}

#[test]
fn accepting_occupies_a_driver_who_is_free() {
    let codec = codec_for_tests();
    let (before, step) = after(&codec, accepted());
    let people = step_people(&step);
    assert_eq!((people.driver, people.user), (Some(driver_id()), None));
    let free = free_driver(&codec);
    let people = |driver: DriverItem| StepPeople { driver: Some(driver), user: None };
    let plan = codec.plan(&before, &step, None, &people(free.clone())).unwrap();
    let set = from_item(plan.dispatch.set.clone());
    assert_eq!((&set["status"], &set["GSI1PK"]), (&json!("ACCEPTED"), &json!("DISPATCH#ACCEPTED")));
    assert_eq!(set.get("actualFare"), None, "totals are written at the end");
    let change = plan.driver.unwrap();
    assert_eq!(change.guard, Guard::Free);
    let mut expected = json(&free);
    expected["currentStatus"]["status"] = json!("DISPATCHED");
    expected["currentStatus"]["currentDispatchId"] = json!("dispatch#00001");
    expected["GSI1PK"] = json!("DRIVER#DISPATCHED");
    expected["ver"] = json!(free.ver + 1);
    assert_eq!((json(&change.before), json(&change.after)), (json(&free), expected));
    let history = json!({
        "PK": "driver#00001", "SK": "DISPATCHED#2025-05-25T15:33:00.250", "EntityType": "DRIVER_STATUS_HISTORY",
        "status": "DISPATCHED", "timestamp": "2025-05-25T15:33:00+09:00", "dispatchId": "dispatch#00001",
        "location": { "lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동" },
        "GSI2PK": "DRIVER#driver#00001", "GSI2SK": "STATUS#2025-05-25T15:33:00.250", "expiresAt": 1_779_690_780,
    });
    assert_eq!(json(&plan.driver_history.unwrap()), history);
    // Only a driver who is ACTIVE and on no dispatch is free.
    let mut held = free.clone();
    held.current_status.current_dispatch_id = Some("dispatch#00009".to_owned());
    let off = codec.at_place(&free, PersonStatus::Inactive, &pickup(), NOW);
    for busy in [people(held), people(off), unread()] {
        assert!(matches!(codec.plan(&before, &step, None, &busy), Err(PlanError::DriverNotFree)));
    }
}

#[test]
fn the_end_of_a_ride_is_written_to_every_item() {
    let codec = codec_for_tests();
    let (before, step) = after(&codec, completed());
    let people = step_people(&step);
    assert_eq!((people.driver, people.user), (Some(driver_id()), Some(new().user)));
    let mut people = on_ride(&codec);
    let rides: Vec<String> = (0..20).map(|ride| format!("dispatch#old-{ride}")).collect();
    if let Some(driver) = &mut people.driver {
        driver.completed_rides.clone_from(&rides);
    }
    let end = Coordinate::new(37.5735, 126.977).unwrap();
    let points =
        [RoutePoint { position: before.state.pickup, at: NOW }, RoutePoint { position: end, at: NOW.plus_ms(60_900) }];
    let plan = codec.plan(&before, &step, Some(&TravelledRoute { points: points.to_vec() }), &people).unwrap();

    let set = from_item(plan.dispatch.set.clone());
    let totals = ["status", "actualFare", "distanceMeters", "durationSeconds", "GSI1PK"].map(|name| set[name].clone());
    assert_eq!(json!(totals), json!(["COMPLETED", 12_400, 2500, 900, "DISPATCH#COMPLETED"]));
    let route = json!([
        { "lat": 37.5662, "lng": 126.9784, "timestamp": "2025-05-25T15:30:00+09:00", "distanceFromPrevious": 0 },
        { "lat": 37.5735, "lng": 126.977, "timestamp": "2025-05-25T15:31:01+09:00", "distanceFromPrevious": 821 },
    ]);
    assert_eq!(set["route"], route);
    assert_eq!(set.get("matching"), None, "the search did not change");
    assert_eq!(plan.after.state.trip_started_at, Some(NOW.plus_ms(240_000).whole_seconds()));

    let driver = plan.driver.unwrap();
    assert_eq!(driver.guard, Guard::On("dispatch#00001".to_owned()));
    let status = json(&driver.after)["currentStatus"].clone();
    let there = json!({ "lat": 37.5735, "lng": 126.977, "address": "서울시 종로구 종로" });
    let expected = json!({
        "status": "ACTIVE", "currentLocation": there, "lastLocationUpdate": "2025-05-25T15:35:00+09:00",
        "currentDispatchId": null,
    });
    assert_eq!(status, expected);
    let index = (driver.after.gsi1pk.as_deref(), driver.after.gsi1sk.as_deref());
    assert_eq!(index, (Some("DRIVER#ACTIVE"), Some("REGION#종로구#driver#00001")));
    assert_eq!(driver.after.completed_rides, [&rides[1..], &["dispatch#00001".to_owned()]].concat());
    assert_eq!(driver.after.ver, driver.before.ver + 1);
    let history = plan.driver_history.unwrap();
    assert_eq!((history.sk.as_str(), history.dispatch_id), ("ACTIVE#2025-05-25T15:35:00.250", None));

    let user = plan.user.unwrap();
    assert_eq!(
        (user.guard, user.after.gsi1pk.as_deref()),
        (Guard::On("dispatch#00001".to_owned()), Some("USER#ACTIVE"))
    );
    assert_eq!(user.after.current_status.status, PersonStatus::Active);
    assert_eq!(user.after.current_status.current_dispatch_id, None);
    let history = json!({
        "PK": "user#00001", "SK": "DISPATCH#2025-05-25T15:35:00.250#dispatch#00001",
        "EntityType": "USER_DISPATCH_HISTORY", "dispatchId": "dispatch#00001", "date": "2025-05-25T15:35:00+09:00",
        "from": "서울시 중구 명동", "to": "서울시 종로구 종로", "fare": 12_400, "status": "COMPLETED",
        "expiresAt": 1_779_690_900,
    });
    assert_eq!(json(&plan.user_history.unwrap()), history);
    let ride = json!({
        "PK": "driver#00001", "SK": "COMPLETED#2025-05-25T15:35:00.250#dispatch#00001",
        "EntityType": "DRIVER_COMPLETED_RIDE", "dispatchId": "dispatch#00001",
        "completedAt": "2025-05-25T15:35:00+09:00", "fare": 12_400, "distance": 2500, "duration": 900,
        "GSI2PK": "DRIVER#driver#00001", "GSI2SK": "DISPATCH#2025-05-25T15:35:00.250", "expiresAt": 1_779_690_900,
    });
    assert_eq!(json(&plan.ride.unwrap()), ride);
}

#[test]
fn after_a_ride_without_a_route_the_driver_is_at_the_destination() {
    let codec = codec_for_tests();
    let plan = planned(&codec, completed(), &on_ride(&codec));
    assert!(plan.driver.unwrap().after.current_status.current_location == destination());
}

#[test]
fn a_cancelled_dispatch_leaves_its_driver_where_it_is() {
    let codec = codec_for_tests();
    let cancelled = [accepted(), vec![Event::CancelByUser { user: new().user }]].concat();
    let plan = planned(&codec, cancelled.clone(), &on_ride(&codec));
    let driver = plan.driver.unwrap().after;
    assert_eq!(driver.current_status.status, PersonStatus::Active);
    assert!(driver.current_status.current_location == pickup() && driver.completed_rides.is_empty());
    assert!(plan.ride.is_none() && plan.after.details.route.is_empty());
    let history = plan.user_history.unwrap();
    assert_eq!((history.status, history.fare), (DispatchStatus::Cancelled, 0));
    assert_eq!(from_item(plan.dispatch.set).get("actualFare"), None);

    // People who are on another dispatch by now stay there.
    let mut others = on_ride(&codec);
    let elsewhere = Some("dispatch#00009".to_owned());
    if let (Some(driver), Some(user)) = (&mut others.driver, &mut others.user) {
        driver.current_status.current_dispatch_id.clone_from(&elsewhere);
        user.current_status.current_dispatch_id = elsewhere;
    }
    let plan = planned(&codec, cancelled, &others);
    assert!(plan.driver.is_none() && plan.user.is_none() && plan.driver_history.is_none());
}

#[test]
fn a_step_without_a_record_is_refused() {
    let codec = codec_for_tests();
    let (before, mut step) = after(&codec, offered());
    step.records.clear();
    let refused = codec.plan(&before, &step, None, &unread());
    assert!(matches!(refused, Err(PlanError::Item(ItemError::NoRecord))));
}

#[test]
fn the_search_of_a_dispatch_of_another_service_is_written_with_the_first_step() {
    let codec = codec_for_tests();
    let (mut before, step) = after(&codec, completed());
    assert_eq!(
        from_item(codec.plan(&before, &step, None, &on_ride(&codec)).unwrap().dispatch.set).get("matching"),
        None
    );
    before.state.ver = 0;
    let set = from_item(codec.plan(&before, &step, None, &on_ride(&codec)).unwrap().dispatch.set);
    assert_eq!(set["matching"]["askedDrivers"], json!(["driver#00001"]));
}

#[test]
fn a_profile_keeps_what_the_person_does_not_send() {
    let codec = codec_for_tests();
    let made = codec.apply_driver_profile(&driver_id(), None, driver_profile(), NOW);
    let expected = json!({
        "PK": "driver#00001", "SK": "PROFILE", "EntityType": "DRIVER", "phone": "01012341234",
        "createdAt": "2025-05-25T15:30:00+09:00",
        "vehicleInfo": { "manufacturer": "현대", "licensePlate": "12가3456" },
        "currentStatus": {
            "status": "INACTIVE", "currentLocation": { "lat": 0.0, "lng": 0.0, "address": "" },
            "lastLocationUpdate": "2025-05-25T15:30:00+09:00", "currentDispatchId": null,
        },
        "preferences": { "preferredRegions": ["중구"], "maxDistance": 20.0, "autoAccept": false, "minimumFare": 8000 },
        "completedRides": [], "ver": 1, "GSI1PK": "DRIVER#INACTIVE", "GSI1SK": "REGION#-#driver#00001",
    });
    let mut written = json(&made);
    for (path, number) in [
        ("/currentStatus/currentLocation/lat", 0.0),
        ("/currentStatus/currentLocation/lng", 0.0),
        ("/preferences/maxDistance", 20.0),
    ] {
        let found = written.pointer_mut(path).unwrap();
        assert!((found.as_f64().unwrap() - number).abs() < f64::EPSILON, "{path}");
        *found = json!(number);
    }
    assert_eq!(written, expected);

    let free = free_driver(&codec);
    assert_eq!((free.ver, free.gsi1sk.as_deref()), (2, Some("REGION#중구#driver#00001")));
    let later = NOW.plus_ms(60_000);
    let same = codec.apply_driver_profile(&driver_id(), Some(&free), driver_profile(), later);
    assert!(same == free, "an equal profile is not a new version");
    let renamed = DriverProfile { phone: "01099998888".to_owned(), ..driver_profile() };
    let changed = codec.apply_driver_profile(&driver_id(), Some(&free), renamed, later);
    assert_eq!((changed.phone.as_str(), changed.ver, &changed.created_at), ("01099998888", 3, &free.created_at));
    assert!(changed.current_status == free.current_status);

    let user = codec.apply_user_profile(&new().user, None, user_profile(), NOW);
    let expected = json!({
        "PK": "user#00001", "SK": "PROFILE", "EntityType": "USER", "phone": "01056785678",
        "createdAt": "2025-05-25T15:30:00+09:00",
        "currentStatus": {
            "status": "ACTIVE",
            "currentLocation": { "lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동" },
            "lastLocationUpdate": "2025-05-25T15:30:00+09:00", "currentDispatchId": null,
        },
        "paymentMethods": [], "preferences": { "defaultRideType": "STANDARD", "favoriteLocations": [] },
        "GSI1PK": "USER#ACTIVE", "GSI1SK": "REGION#중구#user#00001",
    });
    assert_eq!(json(&user), expected);
    let riding = on_ride(&codec).user.unwrap();
    let moved = UserProfile { location: destination(), ..user_profile() };
    let moved = codec.apply_user_profile(&new().user, Some(&riding), moved, later);
    assert_eq!(moved.current_status.status, PersonStatus::Dispatched);
    assert_eq!(moved.current_status.last_location_update, "2025-05-25T15:31:00+09:00");
    assert_eq!(moved.gsi1sk.as_deref(), Some("REGION#종로구#user#00001"));
    assert_eq!(moved.created_at, "2025-05-25T15:30:00+09:00");
}

#[test]
fn a_chunk_of_a_route_has_milliseconds_and_reads_back() {
    let codec = codec_for_tests();
    let points = [NOW, NOW.plus_ms(400)].map(|at| RoutePoint { position: Coordinate::new(37.5, 127.5).unwrap(), at });
    let mut chunk = codec.route_chunk(&new().id, 7, &points);
    let expected = json!({
        "PK": "dispatch#00001", "SK": "ROUTE#000007", "EntityType": "DISPATCH_ROUTE", "expiresAt": 1_750_746_600,
        "route": [
            { "lat": 37.5, "lng": 127.5, "timestamp": "2025-05-25T15:30:00.250+09:00", "distanceFromPrevious": 0 },
            { "lat": 37.5, "lng": 127.5, "timestamp": "2025-05-25T15:30:00.650+09:00", "distanceFromPrevious": 0 },
        ],
    });
    assert_eq!(json(&chunk), expected);
    let read: Vec<RoutePoint> = route_points(&chunk).map(Result::unwrap).collect();
    assert_eq!(read, points);
    chunk.route[0].lat = 91.0;
    chunk.route[1].timestamp = "now".to_owned();
    assert!(route_points(&chunk).all(|point| matches!(point, Err(ItemError::Value { attribute: "route", .. }))));
}

#[test]
fn a_stored_search_reads_as_it_was_written() {
    let codec = codec_for_tests();
    let (_, step) = after(&codec, offered());
    let mut item = codec.new_dispatch(&new());
    item.matching = codec.matching_item(&step.state.matching);
    assert_eq!(codec.stored(item.clone()).unwrap().state.matching, step.state.matching);
    // A dispatch of another service gets the city's number of attempts; any other number stays.
    for (stored, read) in [(0, 5), (1, 1), (50, 50)] {
        item.matching.max_attempts = stored;
        assert_eq!(codec.stored(item.clone()).unwrap().state.matching.max_attempts, read);
    }
}

#[test]
fn the_latest_trip_event_is_known_whatever_the_order_of_the_entries() {
    let codec = codec_for_tests();
    let (before, _) = after(&codec, completed());
    assert_eq!(before.state.last_trip_event, Some(TripEvent::PassengerPickedUp));
    let mut item = codec.new_dispatch(&new());
    item.events = before.details.events.clone();
    item.events.reverse();
    let state = codec.stored(item).unwrap().state;
    assert_eq!(state.last_trip_event, Some(TripEvent::PassengerPickedUp));
    assert_eq!(state.trip_started_at, Some(NOW.plus_ms(240_000).whole_seconds()));
}

#[test]
fn a_repair_keeps_what_can_be_read_and_knows_the_status_only_then() {
    let codec = codec_for_tests();
    let fresh = codec.apply_driver_profile(&driver_id(), None, driver_profile(), NOW.plus_ms(60_000));
    let mut stored = write_item("DRIVER", &free_driver(&codec)).unwrap();
    stored.insert("completedRides".to_owned(), AttributeValue::L(vec![AttributeValue::S("dispatch#7".to_owned())]));
    stored.insert("preferences".to_owned(), AttributeValue::S("broken".to_owned()));
    let kept = repaired(&stored, &fresh).unwrap();
    assert_eq!(kept.status, Some(PersonStatus::Active));
    assert_eq!(
        (kept.profile.created_at.as_str(), kept.profile.phone.as_str()),
        ("2025-05-25T15:30:00+09:00", "01012341234")
    );
    assert_eq!(
        (kept.profile.completed_rides, kept.profile.preferences),
        (vec!["dispatch#7".to_owned()], fresh.preferences.clone())
    );
    stored.insert("currentStatus".to_owned(), AttributeValue::S("broken".to_owned()));
    let kept = repaired(&stored, &fresh).unwrap();
    assert_eq!((kept.status, kept.profile.current_status.status), (None, PersonStatus::Inactive));
    assert_eq!(kept.profile.completed_rides, ["dispatch#7"]);
    assert_eq!(repaired(&Item::new(), &fresh).unwrap().status, None);
}
