//! What a driver sees of a ride before, during and after it.

use axum::http::StatusCode;
use dispatch_core::privacy::{OfferAddresses, PrivacyPolicy};
use serde_json::{Value, json};

use super::{Who, World, with_json, without_body};

const HOUR_MS: i64 = 60 * 60 * 1000;

fn district() -> PrivacyPolicy {
    PrivacyPolicy { offer_addresses: OfferAddresses::District, ..PrivacyPolicy::default() }
}

/// Requests a dispatch as someone.
async fn read(world: &World, who: &Who, id: &str) -> Value {
    let mut request = without_body("GET", &format!("/v1/dispatches/{id}"));
    request.headers_mut().insert("authorization", format!("Bearer {}", who.token()).parse().unwrap());
    world.send(request).await.expect(StatusCode::OK)
}

fn user() -> Who {
    Who::User("00001".to_owned())
}

fn driver() -> Who {
    Who::Driver("00001".to_owned())
}

/// Checks that a document shows districts only.
fn assert_shortened(document: &Value) {
    assert_eq!(document["pickupLocation"], json!({"lat": 37.57, "lng": 126.98, "address": "서울시 중구"}));
    assert_eq!(document["destination"], json!({"lat": 37.57, "lng": 126.98, "address": "서울시 종로구"}));
    assert_eq!(document["userId"], "");
    for exact in ["명동", "37.5662", "126.9784", "37.573", "126.9768"] {
        assert!(!document.to_string().contains(exact), "{exact} in {document}");
    }
}

fn assert_exact(document: &Value) {
    assert_eq!(document["pickupLocation"]["address"], "서울시 중구 명동");
    assert_eq!((&document["pickupLocation"]["lat"], &document["userId"]), (&json!(37.5662), &json!("user#00001")));
}

#[tokio::test]
async fn a_driver_sees_exact_addresses_only_after_accepting_where_the_city_has_it_so() {
    let world = World::with_rules(district(), |_| {});
    let id = world.has_offer().await;
    assert_shortened(&read(&world, &driver(), &id).await);
    assert_exact(&read(&world, &user(), &id).await);
    assert_exact(&read(&world, &Who::Operations, &id).await);
    // A conflict shows the dispatch too.
    let early = json!({"driverId": "driver#00001", "type": "PICKUP_STARTED"});
    let conflict = world.post(&format!("/v1/dispatches/{id}/events"), early).await.expect(StatusCode::CONFLICT);
    assert_shortened(&conflict["current"]);
    let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
    let accepted = world.post(&format!("/v1/dispatches/{id}/response"), answer).await.expect(StatusCode::OK);
    assert_exact(&accepted);
    assert_exact(&read(&world, &driver(), &id).await);
}

#[tokio::test]
async fn a_driver_who_rejects_an_offer_sees_no_more_of_it() {
    let world = World::with_rules(district(), |_| {});
    let id = world.has_offer().await;
    let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "REJECT"});
    assert_shortened(&world.post(&format!("/v1/dispatches/{id}/response"), answer).await.expect(StatusCode::OK));
}

#[tokio::test]
async fn by_default_an_offer_has_the_addresses_of_the_specification() {
    let world = World::new();
    let id = world.has_offer().await;
    assert_exact(&read(&world, &driver(), &id).await);
}

#[tokio::test]
async fn a_finished_ride_blurs_after_some_time_for_its_driver_only() {
    let policy = PrivacyPolicy { blur_rides_after_ms: HOUR_MS.unsigned_abs(), ..PrivacyPolicy::default() };
    let world = World::with_rules(policy, |_| {});
    let id = world.has_ride().await;
    assert_exact(&read(&world, &driver(), &id).await);
    world.clock.advance_ms(HOUR_MS - 1000);
    assert_exact(&read(&world, &driver(), &id).await);
    world.clock.advance_ms(1000);
    let stored = world.store.partition(&format!("dispatch#{id}"));
    assert_shortened(&read(&world, &driver(), &id).await);
    assert_exact(&read(&world, &user(), &id).await);
    assert_exact(&read(&world, &Who::Operations, &id).await);
    let listed = world.get("/v1/drivers/00001/dispatches").await.expect(StatusCode::OK);
    assert_shortened(&listed["dispatches"][0]);
    assert!(listed["dispatches"][0]["actualFare"].as_u64().unwrap() > 0, "fares stay");
    assert_eq!(world.store.partition(&format!("dispatch#{id}")), stored, "stored entities do not change");
}

#[tokio::test]
async fn a_stored_response_shows_no_more_than_a_read() {
    let world = World::with_rules(PrivacyPolicy { blur_rides_after_ms: 60_000, ..district() }, |_| {});
    let id = world.has_offer().await;
    let accept = || {
        let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
        let request = axum::http::Request::post(format!("/v1/dispatches/{id}/response"));
        world.send(with_json(request.header("idempotency-key", "one"), &answer))
    };
    assert_exact(&accept().await.expect(StatusCode::OK));
    world.clock.advance_ms(120_000);
    let again = accept().await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_exact(&again.expect(StatusCode::OK));
    for event in ["PASSENGER_PICKED_UP", "TRIP_COMPLETED"] {
        let report = json!({"driverId": "driver#00001", "type": event});
        world.post(&format!("/v1/dispatches/{id}/events"), report).await.expect(StatusCode::OK);
    }
    assert_exact(&accept().await.expect(StatusCode::OK));
    world.clock.advance_ms(61_000);
    assert_shortened(&accept().await.expect(StatusCode::OK));
}
