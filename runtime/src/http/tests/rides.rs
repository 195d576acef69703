//! Rides, profiles and devices as apps use them.

use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{World, destination, driver_profile, pickup, ride_request, user_profile, with_json};

#[tokio::test]
async fn a_request_is_stored_with_its_fare_and_read_back() {
    let world = World::new();
    world.has_user("00001").await;
    let answer = world.post("/v1/dispatches", ride_request()).await;
    let location = answer.header("location").to_owned();
    let created = answer.expect(StatusCode::CREATED);
    let suffix = created["dispatchId"].as_str().unwrap().strip_prefix("dispatch#").unwrap();
    assert_eq!(location, format!("/v1/dispatches/{suffix}"));
    assert_eq!(suffix.len(), 26);
    assert_eq!(created["status"], "REQUESTED");
    assert_eq!(created["createdAt"], "2025-05-25T15:30:00+09:00");
    // A straight line of 769 m is 1.0 km of road and 143 s: the base fare and four time steps.
    assert_eq!(created["estimatedFare"], 5200);
    assert_eq!(created["pickupLocation"], pickup());
    assert_eq!(created["destination"], destination());
    assert_eq!(created["events"][0]["details"], "배차 요청 생성");
    assert!(!created.to_string().contains("0101234"), "no phone number in a dispatch");
    assert_eq!(world.get(&location).await.expect(StatusCode::OK), created);
    let user = world.get("/v1/users/00001").await.expect(StatusCode::OK);
    assert_eq!(user["currentStatus"]["status"], "DISPATCHED");
    assert_eq!(user["currentStatus"]["currentDispatchId"], created["dispatchId"]);
}

async fn create_with_key(world: &World, key: &str, body: &Value) -> super::Answer {
    world.send(with_json(Request::post("/v1/dispatches").header("idempotency-key", key), body)).await
}

#[tokio::test]
async fn a_repeated_idempotency_key_returns_the_same_dispatch() {
    let world = World::new();
    world.has_user("00001").await;
    let first = create_with_key(&world, "key-1", &ride_request()).await;
    let location = first.header("location").to_owned();
    let first = first.expect(StatusCode::CREATED);
    let again = create_with_key(&world, "key-1", &ride_request()).await;
    assert_eq!(again.header("location"), location);
    assert_eq!(again.expect(StatusCode::OK), first);
}

#[tokio::test]
async fn an_idempotency_key_belongs_to_one_user_and_one_body() {
    let world = World::new();
    world.has_user("00001").await;
    world.has_user("00002").await;
    let mine = create_with_key(&world, "key-1", &ride_request()).await.expect(StatusCode::CREATED);
    let mut other_user = ride_request();
    other_user["userId"] = json!("user#00002");
    let theirs = create_with_key(&world, "key-1", &other_user).await.expect(StatusCode::CREATED);
    assert_ne!(mine["dispatchId"], theirs["dispatchId"]);
    let mut other_body = ride_request();
    other_body["destination"]["address"] = json!("서울시 종로구 청계천로");
    let refused = create_with_key(&world, "key-1", &other_body).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused["field"], "Idempotency-Key");
}

#[tokio::test]
async fn a_ride_goes_from_offer_to_payment() {
    let world = World::new();
    let id = world.has_offer().await;
    let offered = world.get(&format!("/v1/dispatches/{id}")).await.expect(StatusCode::OK);
    assert_eq!((&offered["offerSeq"], &offered["driverId"]), (&json!(1), &json!("driver#00001")));
    assert_eq!(offered["offerTimeoutAt"], "2025-05-25T15:32:00.000+09:00");
    let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
    let path = format!("/v1/dispatches/{id}/response");
    let accepted = world.post(&path, answer.clone()).await.expect(StatusCode::OK);
    assert_eq!((&accepted["status"], &accepted["offerTimeoutAt"]), (&json!("ACCEPTED"), &Value::Null));
    assert_eq!(world.post(&path, answer).await.expect(StatusCode::OK), accepted, "a repeated answer changes nothing");
    let steps = [
        ("PICKUP_STARTED", "ACCEPTED"),
        ("DRIVER_ARRIVED", "ACCEPTED"),
        ("PASSENGER_PICKED_UP", "IN_PROGRESS"),
        ("TRIP_STARTED", "IN_PROGRESS"),
        ("TRIP_COMPLETED", "COMPLETED"),
        ("PAYMENT_COMPLETED", "COMPLETED"),
    ];
    for (event, status) in steps {
        world.clock.advance_ms(60_000);
        let report = json!({"driverId": "driver#00001", "type": event});
        let reported = world.post(&format!("/v1/dispatches/{id}/events"), report).await.expect(StatusCode::OK);
        assert_eq!(reported["status"], status, "{event}");
    }
    let done = world.get(&format!("/v1/dispatches/{id}")).await.expect(StatusCode::OK);
    assert_eq!(done["actualFare"], done["estimatedFare"], "without pings the user pays the estimate");
    let of_user = world.get("/v1/users/00001/dispatches?limit=5").await.expect(StatusCode::OK);
    let of_driver = world.get("/v1/drivers/00001/dispatches").await.expect(StatusCode::OK);
    assert_eq!(of_user, json!({"dispatches": [done], "next": null}));
    assert_eq!(of_driver, of_user);
    let driver = world.get("/v1/drivers/00001").await.expect(StatusCode::OK);
    assert_eq!(driver["completedRides"], json!([format!("dispatch#{id}")]));
    assert_eq!(driver["currentStatus"]["status"], "ACTIVE");
}

#[tokio::test]
async fn a_rejected_offer_is_over_and_the_dispatch_still_requested() {
    let world = World::new();
    let id = world.has_offer().await;
    let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "REJECT"});
    let path = format!("/v1/dispatches/{id}/response");
    let rejected = world.post(&path, answer.clone()).await.expect(StatusCode::OK);
    assert_eq!((&rejected["status"], &rejected["driverId"]), (&json!("REQUESTED"), &Value::Null));
    let late = world.post(&path, answer).await.expect(StatusCode::CONFLICT);
    assert_eq!(late["type"], "tag:coactus.io,2026:dispatch/offer-over");
    assert!(late.get("current").is_none(), "the driver may no longer read the dispatch");
}

#[tokio::test]
async fn each_party_can_cancel_its_own_dispatch() {
    let world = World::new();
    let id = world.has_offer().await;
    let path = format!("/v1/dispatches/{id}/cancel");
    world.post(&path, json!({"userId": "user#00002"})).await.expect(StatusCode::NOT_FOUND);
    let cancelled = world.post(&path, json!({"userId": "user#00001"})).await.expect(StatusCode::OK);
    assert_eq!(cancelled["status"], "CANCELLED");
    let again = world.post(&path, json!({"userId": "user#00001"})).await.expect(StatusCode::OK);
    assert_eq!(again, cancelled);

    let world = World::new();
    let id = world.has_offer().await;
    let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
    world.post(&format!("/v1/dispatches/{id}/response"), answer).await.expect(StatusCode::OK);
    let cancel = json!({"driverId": "driver#00001"});
    let cancelled = world.post(&format!("/v1/dispatches/{id}/cancel"), cancel).await.expect(StatusCode::OK);
    assert_eq!(cancelled["status"], "CANCELLED");
}

#[tokio::test]
async fn lists_are_paginated() {
    let world = World::new();
    world.has_user("00001").await;
    let mut made = Vec::new();
    for _ in 0..3 {
        world.clock.advance_ms(1000);
        let created = world.post("/v1/dispatches", ride_request()).await.expect(StatusCode::CREATED);
        let id = created["dispatchId"].as_str().unwrap().to_owned();
        let path = format!("/v1/dispatches/{}/cancel", &id["dispatch#".len()..]);
        world.post(&path, json!({"userId": "user#00001"})).await.expect(StatusCode::OK);
        made.insert(0, id);
    }
    let ids = |page: &Value| -> Vec<String> {
        let entries = page["dispatches"].as_array().unwrap().iter();
        entries.map(|entry| entry["dispatchId"].as_str().unwrap().to_owned()).collect()
    };
    let first = world.get("/v1/users/00001/dispatches?limit=2").await.expect(StatusCode::OK);
    assert_eq!(ids(&first), made[..2]);
    let next = first["next"].as_str().unwrap();
    let second = world.get(&format!("/v1/users/00001/dispatches?limit=2&after={next}")).await.expect(StatusCode::OK);
    assert_eq!(ids(&second), made[2..]);
    assert_eq!(second["next"], Value::Null);
}

#[tokio::test]
async fn profiles_are_created_changed_and_read() {
    let world = World::new();
    let made = world.put("/v1/users/00001", user_profile()).await.expect(StatusCode::OK);
    assert_eq!((&made["userId"], &made["phone"]), (&json!("user#00001"), &json!("01012341234")));
    assert_eq!(made["currentStatus"]["status"], "ACTIVE");
    assert!(made.get("PK").is_none() && made.get("GSI1PK").is_none());
    world.clock.advance_ms(5000);
    let mut changed = user_profile();
    changed["phone"] = json!("+821012345678");
    let changed = world.put("/v1/users/00001", changed).await.expect(StatusCode::OK);
    assert_eq!((&changed["phone"], &changed["createdAt"]), (&json!("+821012345678"), &made["createdAt"]));
    assert_eq!(world.get("/v1/users/00001").await.expect(StatusCode::OK), changed);
    let driver = world.put("/v1/drivers/00001", driver_profile()).await.expect(StatusCode::OK);
    assert_eq!((&driver["driverId"], &driver["vehicleInfo"]["manufacturer"]), (&json!("driver#00001"), &json!("현대")));
    assert_eq!(driver["currentStatus"]["status"], "INACTIVE");
    assert_eq!(world.get("/v1/drivers/00001").await.expect(StatusCode::OK), driver);
}

#[tokio::test]
async fn a_device_belongs_to_one_person() {
    let world = World::new();
    world.has_user("00001").await;
    world.has_active_driver("00001").await;
    let token = json!({"token": "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1"});
    let endpoint =
        |pk: &str| world.store.partition(pk).into_iter().find_map(|item| item.get("deviceEndpointArn").cloned());
    world.put("/v1/users/00001/device", token.clone()).await.expect(StatusCode::OK);
    assert!(endpoint("user#00001").is_some());
    world.put("/v1/drivers/00001/device", token).await.expect(StatusCode::OK);
    assert_eq!(endpoint("user#00001"), None, "the phone is the driver's now");
    assert!(endpoint("driver#00001").is_some());
}

#[tokio::test]
async fn a_device_is_registered_only_for_an_existing_profile() {
    let world = World::new();
    let token = json!({"token": "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1"});
    world.put("/v1/users/00001/device", token.clone()).await.expect(StatusCode::NOT_FOUND);
    world.put("/v1/drivers/00001/device", token.clone()).await.expect(StatusCode::NOT_FOUND);
    world.has_user("00001").await;
    world.has_active_driver("00001").await;
    for path in ["/v1/users/00001/device", "/v1/drivers/00001/device"] {
        let token = json!({"token": format!("token-of{}", path.replace('/', "-"))});
        assert_eq!(world.put(path, token).await.expect(StatusCode::OK), json!({"push": true}));
    }
    let profile = world.get("/v1/users/00001").await.expect(StatusCode::OK);
    assert!(!profile.to_string().contains("arn:"), "the push endpoint is not returned");
    let stored = &world.store.partition("user#00001")[0]["deviceEndpointArn"];
    assert!(stored.as_str().unwrap().starts_with("arn:aws:sns:"), "{stored}");
}

#[tokio::test]
async fn a_removed_device_stays_removed_however_often_it_is_removed() {
    let world = World::new();
    world.has_user("00001").await;
    world.has_active_driver("00001").await;
    for (path, pk) in [("/v1/users/00001/device", "user#00001"), ("/v1/drivers/00001/device", "driver#00001")] {
        let endpoint = || world.store.partition(pk).into_iter().find_map(|item| item.get("deviceEndpointArn").cloned());
        world.delete(path).await.expect(StatusCode::NO_CONTENT);
        let token = json!({"token": format!("token-of{}", path.replace('/', "-"))});
        world.put(path, token.clone()).await.expect(StatusCode::OK);
        assert!(endpoint().is_some());
        for _ in 0..2 {
            world.delete(path).await.expect(StatusCode::NO_CONTENT);
            assert_eq!(endpoint(), None);
        }
        world.put(path, token).await.expect(StatusCode::OK);
        assert!(endpoint().is_some(), "the same device can be registered again");
    }
    world.delete("/v1/users/never-seen/device").await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn removing_a_device_does_not_take_it_from_its_new_owner() {
    let world = World::new();
    world.has_user("00001").await;
    world.has_active_driver("00001").await;
    let token = json!({"token": "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1"});
    world.put("/v1/users/00001/device", token.clone()).await.expect(StatusCode::OK);
    world.put("/v1/drivers/00001/device", token).await.expect(StatusCode::OK);
    world.delete("/v1/users/00001/device").await.expect(StatusCode::NO_CONTENT);
    assert!(world.store.partition("driver#00001").iter().any(|item| item.get("deviceEndpointArn").is_some()));
}
