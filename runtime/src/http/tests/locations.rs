//! Positions and availability.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use serde_json::{Value, json};

use super::{World, authorized, pickup};
use crate::ports::{DriverSearch as _, PositionSink as _};
use crate::testing::faults::FailAt;

fn at(lat: f64) -> Value {
    json!({"lat": lat, "lng": 126.9785, "accuracyMeters": 8.5, "timestamp": "1999-01-01T00:00:00Z"})
}

fn driver() -> DriverId {
    DriverId::parse("driver#00001").unwrap()
}

#[tokio::test]
async fn availability_is_stored_and_updated_in_the_cache() {
    let world = World::new();
    world.has_active_driver("00001").await;
    let known = world.fleet.entry(&driver()).unwrap();
    assert_eq!((known.status, known.seen_at), (PersonStatus::Active, world.now()));
    let change = json!({"status": "INACTIVE", "location": pickup()});
    let away = world.put("/v1/drivers/00001/availability", change).await.expect(StatusCode::OK);
    assert_eq!(away["currentStatus"]["status"], "INACTIVE");
    assert_eq!(world.fleet.entry(&driver()).unwrap().status, PersonStatus::Inactive);
}

#[tokio::test]
async fn a_ping_counts_from_when_it_arrives_whatever_the_device_says() {
    let world = World::new();
    world.has_active_driver("00001").await;
    world.clock.advance_ms(4000);
    let taken = world.post("/v1/drivers/00001/locations", at(37.5655)).await.expect(StatusCode::ACCEPTED);
    assert_eq!(taken, json!({"accepted": 1, "dropped": 0}));
    let known = world.fleet.entry(&driver()).unwrap();
    assert_eq!(known.seen_at, world.now());
    assert!((known.position.lat() - 37.5655).abs() < 1e-9);
    assert_eq!(world.store.partition("driver#00001").len(), 2, "the profile and one status entry: no ping is stored");
}

#[tokio::test]
async fn unusable_positions_are_dropped_and_counted_by_reason() {
    let world = World::new();
    for suffix in ["00001", "00002", "00003"] {
        world.has_active_driver(suffix).await;
    }
    let at = |driver: u32, lat: f64, second: u32, accuracy: f64| {
        json!({"driverId": format!("driver#{driver:05}"), "lat": lat, "lng": 126.9785, "accuracyMeters": accuracy,
            "timestamp": format!("1999-01-01T00:00:{second:02}Z")})
    };
    world.clock.advance_ms(4000);
    let batch = json!({"locations": [
        at(1, 37.5662, 10, 50.0), at(1, 37.5663, 14, 50.5), at(1, 37.5664, 9, 5.0),
        at(2, 37.5662, 10, 5.0), at(2, 38.5662, 14, 5.0), at(2, 38.5662, 18, 5.0),
        at(4, 37.5662, 10, 5.0),
    ]});
    let taken = world.post("/v1/locations/batch", batch).await.expect(StatusCode::ACCEPTED);
    assert_eq!(taken, json!({"accepted": 2, "dropped": 5}));
    let text = world.state.engine.metrics.encode().unwrap();
    for (outcome, count) in [("taken", 2), ("outdated", 1), ("inaccurate", 1), ("implausible", 2), ("unknown", 1)] {
        let line = format!("dispatch_pings_total{{outcome=\"{outcome}\"}} {count}");
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    world.fleet.fill(&[]).await.unwrap();
    let center = Coordinate::new(37.5662, 126.9784).unwrap();
    let near = world.fleet.nearby(center, &[700], 9, world.now()).await.unwrap().unwrap();
    let mut near: Vec<&str> = near.iter().map(|driver| driver.id.suffix()).collect();
    near.sort_unstable();
    assert_eq!(near, ["00001", "00003"], "a driver who jumps twice is not found");
}

/// Entries that are not valid, with the field that is named, as JSON texts.
const WRONG_ENTRIES: [(&str, &str); 19] = [
    (r#"{"driverId": "driver#00001", "lat": 91, "lng": 127}"#, ".lat"),
    (r#"{"driverId": "driver#00001", "lat": 37.5, "lng": 127, "timestamp": "yesterday"}"#, ".timestamp"),
    (r#"{"driverId": "driver#00001", "lat": 37.5, "lng": 127, "accuracyMeters": -1}"#, ".accuracyMeters"),
    (r#"{"driverId": "00001", "lat": 37.5, "lng": 127}"#, ".driverId"),
    (r#"{"driverId": "driver#00001", "lat": 37.5, "lng": 127, "speed": 3}"#, ".speed"),
    (r#"{"driverId": "driver#00001", "lat": 37.5}"#, ".lng"),
    (r#"{"lat": 37.5, "lng": 127}"#, ".driverId"),
    (r#"{"driverId": "driver#00001", "lat": 37.5, "lat": 37.5, "lng": 127}"#, ".lat"),
    (r#"{"driverId": "driver#00001", "lat": "37.5", "lng": 127}"#, ".lat"),
    (r#"{"driverId": "driver#00001", "lat": null, "lng": 127}"#, ".lat"),
    (r#"{"driverId": "driver#00001", "lat": 1e-200, "lng": 127}"#, ".lat"),
    (r#"{"driverId": "driver#00001", "lat": 1e400, "lng": 127}"#, ""),
    (r#"{"driverId": {"driver": "00001"}, "lat": 37.5, "lng": 127}"#, ".driverId"),
    (r#"["driver#00001", 37.5, 127]"#, ""),
    ("{}", ".driverId"),
    ("[]", ""),
    ("null", ""),
    ("7", ""),
    (r#""driver#00001""#, ""),
];

#[tokio::test]
async fn a_batch_applies_its_valid_entries_and_names_the_others() {
    let world = World::new();
    world.has_active_driver("00001").await;
    world.clock.advance_ms(4000);
    let entry = |lat: f64| format!(r#"{{"driverId": "driver#00001", "lat": {lat}, "lng": 126.9785}}"#);
    let mut batch = vec![entry(37.5655)];
    for (wrong, _) in WRONG_ENTRIES {
        batch.push(wrong.to_owned());
    }
    batch.push(r#"{"driverId": "driver#00009", "lat": 37.5, "lng": 127}"#.to_owned());
    batch.push(entry(37.5656));
    let send = async |entries: &[String]| {
        let body = format!(r#"{{"locations": [{}]}}"#, entries.join(", "));
        let request = Request::post("/v1/locations/batch").header("content-type", "application/json");
        world.send(authorized(request.body(Body::from(body)).unwrap(), &Value::Null)).await
    };
    let taken = send(&batch).await.expect(StatusCode::ACCEPTED);
    assert_eq!((&taken["accepted"], &taken["dropped"]), (&json!(2), &json!(1)), "{taken}");
    let rejected = taken["rejected"].as_array().unwrap();
    assert_eq!(rejected.len(), WRONG_ENTRIES.len());
    for (number, (entry, (wrong, field))) in rejected.iter().zip(WRONG_ENTRIES).enumerate() {
        let index = number + 1;
        assert_eq!(entry["index"], index, "{wrong}");
        assert_eq!(entry["field"], format!("locations[{index}]{field}"), "{wrong}");
        let detail = entry["detail"].as_str().unwrap();
        assert!(detail.len() > 10 && !detail.contains("yesterday"), "{wrong}: {detail}");
    }
    let known = world.fleet.entry(&driver()).unwrap();
    assert!((known.position.lat() - 37.5656).abs() < 1e-9, "the last valid entry counts");
    let text = world.state.engine.metrics.encode().unwrap();
    assert!(text.contains("dispatch_pings_total{outcome=\"invalid\"} 19"), "{text}");

    for (wrong, field) in WRONG_ENTRIES {
        let problem = send(&[wrong.to_owned()]).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem["field"], format!("locations[0]{field}"), "{wrong}");
    }
    let inaccurate = r#"{"driverId": "driver#00001", "lat": 37.5, "lng": 127, "accuracyMeters": 51}"#.to_owned();
    let none = send(&[inaccurate, "7".to_owned()]).await.expect(StatusCode::ACCEPTED);
    assert_eq!((&none["accepted"], &none["dropped"]), (&json!(0), &json!(1)), "a valid position was discarded");
    let many = vec!["7".to_owned(); 501];
    assert_eq!(send(&many).await.expect(StatusCode::UNPROCESSABLE_ENTITY)["field"], "locations");
    send(&["{".to_owned(), entry(37.5)]).await.expect(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_wiped_cache_learns_a_driver_again_from_its_ping() {
    let world = World::new();
    world.has_active_driver("00001").await;
    world.fleet.wipe();
    world.clock.advance_ms(4000);
    let batch = json!({"locations": [
        {"driverId": "driver#00001", "lat": 37.5655, "lng": 126.9785},
        {"driverId": "driver#stranger", "lat": 37.5655, "lng": 126.9785},
    ]});
    let taken = world.post("/v1/locations/batch", batch).await.expect(StatusCode::ACCEPTED);
    assert_eq!(taken, json!({"accepted": 1, "dropped": 1}));
    let known = world.fleet.entry(&driver()).unwrap();
    assert_eq!((known.status, known.seen_at), (PersonStatus::Active, world.now()));
}

/// Starts a ride of driver 00001 with the passenger on board, and returns the suffix of the dispatch's id.
async fn has_trip(world: &World) -> String {
    let id = world.has_offer().await;
    let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
    world.post(&format!("/v1/dispatches/{id}/response"), answer).await.expect(StatusCode::OK);
    let boarded = json!({"driverId": "driver#00001", "type": "PASSENGER_PICKED_UP"});
    world.post(&format!("/v1/dispatches/{id}/events"), boarded).await.expect(StatusCode::OK);
    id
}

#[tokio::test]
async fn pings_cost_the_table_one_write_in_sixty_of_a_trip_and_a_failed_write_is_repeated() {
    let world = World::new();
    let id = has_trip(&world).await;
    world.has_active_driver("00002").await;
    let (calls, profiles) = (world.table.calls(), world.store.partition("driver#00002"));
    let ping_rounds = async |count: u32| {
        for _ in 0..count {
            world.clock.advance_ms(4000);
            let both = [1, 2].map(|n| json!({"driverId": format!("driver#{n:05}"), "lat": 37.5662, "lng": 126.9785}));
            let taken = world.post("/v1/locations/batch", json!({"locations": both})).await;
            assert_eq!(taken.expect(StatusCode::ACCEPTED), json!({"accepted": 2, "dropped": 0}));
        }
        world.table.calls() - calls
    };
    assert_eq!(ping_rounds(59).await, 0);
    world.table.fail_call(1, FailAt::Before);
    assert_eq!(ping_rounds(1).await, 1, "the write that fails");
    assert_eq!(ping_rounds(60).await, 3, "the failed chunk and the next one");
    assert_eq!(ping_rounds(60).await, 4);
    assert_eq!(world.store.partition("driver#00002"), profiles);
    let dispatch = DispatchId::from_suffix(&id).unwrap();
    let stored = world.state.engine.ports.dispatches.read_route(&dispatch).await.unwrap();
    assert_eq!(stored.len(), 180);
    assert!(stored.windows(2).all(|pair| pair[1].at.since_ms(pair[0].at) == 4000), "each point once, and in order");
}

#[tokio::test]
async fn pings_of_a_trip_become_chunks_of_its_route_and_then_the_fare() {
    let world = World::new();
    let id = has_trip(&world).await;
    for point in 0..60 {
        world.clock.advance_ms(4000);
        let ping = at(37.5662 + f64::from(point) * 0.001);
        world.post("/v1/drivers/00001/locations", ping).await.expect(StatusCode::ACCEPTED);
    }
    let dispatch = DispatchId::from_suffix(&id).unwrap();
    let ports = &world.state.engine.ports;
    let stored = ports.dispatches.read_route(&dispatch).await.unwrap();
    let tail = ports.fleet.routes.tail(&dispatch).await.unwrap();
    assert!(!stored.is_empty(), "complete chunks are in the table");
    assert_eq!(stored.len() + tail.points.len(), 60);
    let ended = json!({"driverId": "driver#00001", "type": "TRIP_COMPLETED"});
    let done = world.post(&format!("/v1/dispatches/{id}/events"), ended).await.expect(StatusCode::OK);
    // 59 times 0.001 degrees of latitude.
    let distance = done["distanceMeters"].as_u64().unwrap();
    assert!((6550..6575).contains(&distance), "{distance}");
    assert_eq!(done["durationSeconds"], 240);
    assert!(done["route"].as_array().unwrap().len() >= 2);
}

#[tokio::test]
async fn a_driver_on_a_dispatch_cannot_become_inactive() {
    let world = World::new();
    let id = world.has_offer().await;
    let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
    world.post(&format!("/v1/dispatches/{id}/response"), answer).await.expect(StatusCode::OK);
    let change = json!({"status": "INACTIVE", "location": pickup()});
    let refused = world.put("/v1/drivers/00001/availability", change).await.expect(StatusCode::CONFLICT);
    assert_eq!(refused["current"]["dispatchId"], json!(format!("dispatch#{id}")));
}
