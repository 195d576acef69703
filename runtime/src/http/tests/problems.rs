//! Every kind of error, as the client receives it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use dispatch_core::dispatch::Step;
use dispatch_core::ids::DispatchId;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use serde_json::{Value, json};

use super::{Answer, World, driver_profile, pickup, ride_request, user_profile, with_json};
use crate::ports::{
    Commit, CreateOutcome, DispatchStore, NewDispatch, OngoingRide, OpenReview, Owner, Page, PortError, StoredDispatch,
    TravelledRoute,
};

/// Asserts what holds for every problem, and returns its document.
fn problem(answer: Answer) -> Value {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.body);
    assert_eq!(answer.body["status"], answer.status.as_u16());
    assert!(!answer.header("x-request-id").is_empty());
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(!answer.header("retry-after").is_empty(), answer.status == StatusCode::SERVICE_UNAVAILABLE);
    answer.body
}

#[tokio::test]
async fn unreadable_requests_get_a_problem_that_says_why() {
    let world = World::new();
    let mut problems = BTreeMap::new();
    let plain = Request::post("/v1/dispatches").body(Body::from("{}")).unwrap();
    problems.insert("no content type", problem(world.send(plain).await));
    let json = || Request::post("/v1/dispatches").header("content-type", "application/json; charset=utf-8");
    let broken = json().body(Body::from("{\"userId\": ")).unwrap();
    problems.insert("not JSON", problem(world.send(broken).await));
    let doubled = json().body(Body::from(format!("{} {{}}", ride_request()))).unwrap();
    problems.insert("more than one document", problem(world.send(doubled).await));
    let long = json().body(Body::from(" ".repeat(64 * 1024 + 1))).unwrap();
    problems.insert("too long", problem(world.send(long).await));
    let batch = Request::post("/v1/locations/batch").header("content-type", "application/json");
    let long = batch.body(Body::from(" ".repeat(256 * 1024 + 1))).unwrap();
    problems.insert("too long a batch", problem(world.send(long).await));
    problems.insert("no such path", problem(world.get("/v2/dispatches").await));
    let delete = Request::delete("/v1/dispatches/00001").body(Body::empty()).unwrap();
    let refused = world.send(delete).await;
    assert_eq!(refused.header("allow"), "GET,HEAD");
    problems.insert("no such method", problem(refused));
    insta::assert_json_snapshot!(problems);
}

#[tokio::test]
async fn a_batch_may_be_longer_than_other_bodies() {
    let world = World::new();
    let request = Request::post("/v1/locations/batch").header("content-type", "application/json");
    let padded = format!("{}{{\"locations\": []}}", " ".repeat(100 * 1024));
    let refused = problem(world.send(request.body(Body::from(padded)).unwrap()).await);
    assert_eq!(refused["field"], "locations");
}

/// `base` with one value replaced, or removed if the new value is `null`.
fn but(mut base: Value, pointer: &str, value: Value) -> Value {
    if value.is_null() {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        base.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
    } else if let Some(place) = base.pointer_mut(pointer) {
        *place = value;
    } else {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        base.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
    }
    base
}

#[tokio::test]
async fn wrong_fields_are_named_and_their_values_not_repeated() {
    let world = World::new();
    let secret = "010-9876-5432";
    let posts = [
        ("/v1/dispatches", but(ride_request(), "/userId", json!(null))),
        ("/v1/dispatches", but(ride_request(), "/userId", json!("driver#00001"))),
        ("/v1/dispatches", but(ride_request(), "/userId", json!(secret))),
        ("/v1/dispatches", but(ride_request(), "/fare", json!(1))),
        ("/v1/dispatches", but(ride_request(), "/pickupLocation/lat", json!(91))),
        ("/v1/dispatches", but(ride_request(), "/pickupLocation/lat", json!(secret))),
        ("/v1/dispatches", but(ride_request(), "/pickupLocation/floor", json!(3))),
        ("/v1/dispatches", but(ride_request(), "/pickupLocation", json!([37.5, 127.0]))),
        ("/v1/dispatches", json!([1])),
        ("/v1/dispatches", but(ride_request(), "/destination/lng", json!(-180.5))),
        ("/v1/dispatches", but(ride_request(), "/destination/address", json!("  "))),
        ("/v1/dispatches", but(ride_request(), "/destination/address", json!("서울\u{0}시"))),
        ("/v1/dispatches/00001/response", json!({"driverId": "driver#1", "offerSeq": 0, "response": "ACCEPT"})),
        ("/v1/dispatches/00001/response", json!({"driverId": "driver#1", "offerSeq": 1, "response": "MAYBE"})),
        ("/v1/dispatches/00001/response", json!({"driverId": "driver#1", "offerSeq": -1, "response": "ACCEPT"})),
        ("/v1/dispatches/00001/events", json!({"driverId": "driver#1", "type": "CREATED"})),
        ("/v1/dispatches/00001/cancel", json!({})),
        ("/v1/dispatches/00001/cancel", json!({"userId": "user#1", "driverId": "driver#1"})),
        ("/v1/dispatches/driver%2300001/cancel", json!({"userId": "user#1"})),
        ("/v1/drivers/00001/locations", json!({"lat": 37.5, "lng": 127, "accuracyMeters": -1})),
        ("/v1/drivers/00001/locations", json!({"lat": 37.5, "lng": 127, "timestamp": "now"})),
        ("/v1/locations/batch", json!({"locations": [{"driverId": "driver#1", "lat": 37.5}]})),
        ("/v1/locations/batch", json!({"locations": [{"driverId": "driver#1", "lat": 37.5, "lng": 500}]})),
    ];
    let puts = [
        ("/v1/users/00001", but(user_profile(), "/phone", json!(secret))),
        ("/v1/users/00001", but(user_profile(), "/status", json!("ACTIVE"))),
        ("/v1/users/00001", but(user_profile(), "/paymentMethods/0/type", json!("CASH"))),
        (
            "/v1/users/00001",
            but(
                user_profile(),
                "/preferences/favoriteLocations",
                json!(vec![
                    json!({
            "id": "1", "name": "집", "address": "서울", "lat": 0, "lng": 0});
                    51
                ]),
            ),
        ),
        ("/v1/drivers/00001", but(driver_profile(), "/preferences/maxDistance", json!(0))),
        ("/v1/drivers/00001", but(driver_profile(), "/vehicleInfo/licensePlate", json!(""))),
        ("/v1/drivers/00001/availability", json!({"status": "DISPATCHED", "location": pickup()})),
        ("/v1/users/00001/device", json!({"token": "two words"})),
    ];
    let mut problems = Vec::new();
    for (path, body) in posts {
        problems.push(problem(world.post(path, body).await));
    }
    for (path, body) in puts {
        problems.push(problem(world.put(path, body).await));
    }
    for path in [
        "/v1/users/00001/dispatches?limit=0",
        "/v1/users/00001/dispatches?limit=many",
        "/v1/users/00001/dispatches?page=2",
        "/v1/users/00001/dispatches?after=yesterday",
        "/v1/events",
        "/v1/events?driver=1&user=1",
        "/v1/events?driver=a%20b",
    ] {
        problems.push(problem(world.get(path).await));
    }
    let keyed = Request::post("/v1/dispatches").header("idempotency-key", "two words");
    problems.push(problem(world.send(with_json(keyed, &ride_request())).await));
    assert!(problems.iter().all(|problem| problem["status"] == 422 && problem["field"].is_string()), "{problems:#?}");
    let all = serde_json::to_string(&problems).unwrap();
    assert!(!all.contains(secret), "{all}");
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}: {}", problem["field"].as_str().unwrap(), problem["detail"].as_str().unwrap()))
        .collect();
    insta::assert_yaml_snapshot!(lines);
}

#[tokio::test]
async fn a_batch_has_a_bound() {
    let world = World::new();
    let ping = json!({"driverId": "driver#1", "lat": 37.5, "lng": 127.0});
    let refused = problem(world.post("/v1/locations/batch", json!({"locations": vec![ping; 501]})).await);
    assert_eq!(refused["detail"], "must have 1 to 500 entries");
}

#[tokio::test]
async fn conflicts_show_the_dispatch_as_it_is() {
    let world = World::new();
    let id = world.has_offer().await;
    let mut problems = BTreeMap::new();
    problems.insert("user busy", problem(world.post("/v1/dispatches", ride_request()).await));
    let answer = |seq: u32| json!({"driverId": "driver#00001", "offerSeq": seq, "response": "ACCEPT"});
    let response = format!("/v1/dispatches/{id}/response");
    problems.insert("offer over", problem(world.post(&response, answer(2)).await));
    let early = json!({"driverId": "driver#00001", "type": "DRIVER_ARRIVED"});
    let events = format!("/v1/dispatches/{id}/events");
    problems.insert("wrong state", problem(world.post(&events, early.clone()).await));
    world.post(&response, answer(1)).await.expect(StatusCode::OK);
    world.post(&events, early).await.expect(StatusCode::OK);
    let back = json!({"driverId": "driver#00001", "type": "PICKUP_STARTED"});
    problems.insert("out of order", problem(world.post(&events, back).await));
    for problem in problems.values_mut() {
        assert_eq!(problem["current"]["dispatchId"], format!("dispatch#{id}"));
        let current = problem["current"]["status"].clone();
        problem["current"] = json!({"status": current});
    }
    insta::assert_json_snapshot!(problems);
}

#[tokio::test]
async fn missing_objects_and_objects_of_other_callers_get_the_same_problem() {
    let world = World::new();
    let id = world.has_offer().await;
    let stranger = json!({"driverId": "driver#00009", "offerSeq": 1, "response": "ACCEPT"});
    let foreign = problem(world.post(&format!("/v1/dispatches/{id}/response"), stranger.clone()).await);
    let missing = problem(world.post("/v1/dispatches/00000/response", stranger).await);
    assert_eq!(foreign, missing);
    let report = json!({"driverId": "driver#00009", "type": "TRIP_COMPLETED"});
    assert_eq!(problem(world.post(&format!("/v1/dispatches/{id}/events"), report).await), missing);
    let problems = BTreeMap::from([
        ("dispatch", missing),
        ("user", problem(world.get("/v1/users/00009").await)),
        ("driver", problem(world.get("/v1/drivers/00009").await)),
    ]);
    insta::assert_json_snapshot!(problems);
    let unknown = but(ride_request(), "/userId", json!("user#00009"));
    assert_eq!(problem(world.post("/v1/dispatches", unknown).await), problems["user"]);
    let change = json!({"status": "ACTIVE", "location": pickup()});
    assert_eq!(problem(world.put("/v1/drivers/00009/availability", change).await), problems["driver"]);
}

/// A table whose every call fails with the same error.
struct Failing(fn() -> PortError);

#[async_trait]
impl DispatchStore for Failing {
    async fn create(&self, _: NewDispatch) -> Result<CreateOutcome, PortError> {
        Err(self.0())
    }

    async fn load(&self, _: &DispatchId) -> Result<Option<StoredDispatch>, PortError> {
        Err(self.0())
    }

    async fn commit(&self, _: &StoredDispatch, _: &Step, _: Option<TravelledRoute>) -> Result<Commit, PortError> {
        Err(self.0())
    }

    async fn index(&self, _: &dispatch_core::dispatch::Dispatch) -> Result<(), PortError> {
        Err(self.0())
    }

    async fn list(&self, _: &Owner, _: u16, _: Option<String>) -> Result<Page<StoredDispatch>, PortError> {
        Err(self.0())
    }

    async fn open_since_before(
        &self,
        _: EpochMs,
        _: u16,
        _: &HashSet<DispatchId>,
    ) -> Result<Vec<DispatchId>, PortError> {
        Err(self.0())
    }

    async fn rides_unchanged_since(&self, _: EpochMs, _: &HashSet<DispatchId>) -> Result<Vec<OngoingRide>, PortError> {
        Err(self.0())
    }

    async fn reviews(&self, _: u16, _: Option<String>) -> Result<Page<OpenReview>, PortError> {
        Err(self.0())
    }

    async fn append_route(&self, _: &DispatchId, _: u32, _: &[RoutePoint]) -> Result<(), PortError> {
        Err(self.0())
    }

    async fn read_route(&self, _: &DispatchId) -> Result<Vec<RoutePoint>, PortError> {
        Err(self.0())
    }
}

const INSIDE: &str = "AccessDenied: arn:aws:dynamodb:ap-northeast-2:000000000000:table/coactus";

#[tokio::test]
async fn errors_of_backend_services_are_not_shown_to_clients() {
    let unavailable = || PortError::Unavailable { action: "reading a dispatch", source: INSIDE.into() };
    let failed = || PortError::Failed { action: "reading a dispatch", source: INSIDE.into() };
    let mut problems = BTreeMap::new();
    for (name, failure) in [("unavailable", unavailable as fn() -> PortError), ("failed", failed)] {
        let world = World::with(|ports| ports.dispatches = Arc::new(Failing(failure)));
        let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
        let read = problem(world.get("/v1/dispatches/00001").await);
        assert_eq!(problem(world.post("/v1/dispatches", ride_request()).await), read);
        assert_eq!(problem(world.post("/v1/dispatches/00001/response", answer).await), read);
        assert_eq!(problem(world.get("/v1/users/00001/dispatches").await), read);
        assert!(!read.to_string().contains("arn:"), "{read}");
        problems.insert(name, read);
    }
    insta::assert_json_snapshot!(problems);
}
