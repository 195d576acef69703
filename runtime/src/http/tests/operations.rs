//! What operations read and do.

use aws_sdk_dynamodb::types::AttributeValue;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{Answer, BEGIN, ISSUER, Who, World, ride_request, with_json};
use crate::city::parse_timestamp;

/// A completed ride without positions, which costs the estimate. Returns the id of its dispatch.
async fn ride_without_positions(world: &World) -> String {
    let created = world.post("/v1/dispatches", ride_request()).await.expect(StatusCode::CREATED);
    let id = created["dispatchId"].as_str().unwrap().to_owned();
    let parsed = dispatch_core::ids::DispatchId::parse(id.as_str()).unwrap();
    world.offer(&parsed, &dispatch_core::ids::DriverId::parse("driver#00001").unwrap()).await;
    let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
    world.post(&format!("/v1/dispatches/{}/response", parsed.suffix()), answer).await.expect(StatusCode::OK);
    for event in ["PASSENGER_PICKED_UP", "TRIP_COMPLETED"] {
        let report = json!({"driverId": "driver#00001", "type": event});
        world.post(&format!("/v1/dispatches/{}/events", parsed.suffix()), report).await.expect(StatusCode::OK);
        world.clock.advance_ms(60_000);
    }
    id
}

fn order() -> Value {
    json!({"reason": "교통사고"})
}

impl World {
    /// Acts on a dispatch as operations.
    async fn order(&self, id: &str, action: &str, body: Value) -> Answer {
        self.post(&format!("/v1/operations/dispatches/{id}/{action}"), body).await
    }

    async fn is_free(&self, person: &str) -> bool {
        let status = self.get(person).await.expect(StatusCode::OK)["currentStatus"].clone();
        status["status"] == "ACTIVE" && status["currentDispatchId"].is_null()
    }
}

#[tokio::test]
async fn operations_cancel_and_complete_rides_and_the_dispatch_says_who_and_why() {
    for (action, status, last) in
        [("cancel", "CANCELLED", "CANCELLED_BY_OPERATIONS"), ("complete", "COMPLETED", "COMPLETED_BY_OPERATIONS")]
    {
        let world = World::new();
        let id = world.has_offer().await;
        let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
        world.post(&format!("/v1/dispatches/{id}/response"), answer).await.expect(StatusCode::OK);
        let refused = world.order(&id, "complete", order()).await.expect(StatusCode::CONFLICT);
        assert_eq!(refused["type"], "tag:coactus.io,2026:dispatch/wrong-state");
        let report = json!({"driverId": "driver#00001", "type": "PASSENGER_PICKED_UP"});
        world.post(&format!("/v1/dispatches/{id}/events"), report).await.expect(StatusCode::OK);
        world.clock.advance_ms(60_000);
        let done = world.order(&id, action, order()).await.expect(StatusCode::OK);
        assert_eq!(done["status"], status);
        let event = done["events"].as_array().unwrap().last().unwrap();
        assert_eq!(event["type"], last);
        let details = event["details"].as_str().unwrap();
        assert!(details.ends_with("console: 교통사고"), "{details}");
        assert!(world.is_free("/v1/users/00001").await && world.is_free("/v1/drivers/00001").await, "{action}");
        assert_eq!(world.order(&id, action, order()).await.expect(StatusCode::OK), done, "repeated");
        let other = if action == "cancel" { "complete" } else { "cancel" };
        world.order(&id, other, order()).await.expect(StatusCode::CONFLICT);
    }
}

#[tokio::test]
async fn an_order_of_operations_needs_a_reason() {
    let world = World::new();
    let id = world.has_offer().await;
    for wrong in [json!({}), json!({"reason": ""}), json!({"reason": " "}), json!({"reason": "x".repeat(201)})] {
        let refused = world.order(&id, "cancel", wrong).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused["field"], "reason");
    }
    world.order("unknown", "cancel", order()).await.expect(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn operations_release_people_from_a_dispatch_that_is_gone_or_broken() {
    let names_a_dispatch = |world: &World, pk: &str, id: &str| {
        world.store.alter(pk, |item| {
            let status = item.get_mut("currentStatus").unwrap();
            let mut fields = status.as_m().unwrap().clone();
            fields.insert("status".to_owned(), AttributeValue::S("DISPATCHED".to_owned()));
            fields.insert("currentDispatchId".to_owned(), AttributeValue::S(format!("dispatch#{id}")));
            *status = AttributeValue::M(fields);
        })
    };
    let people = json!({"reason": "배차 기록 손상", "userId": "user#00001", "driverId": "driver#00001"});
    let world = World::new();
    let id = world.has_offer().await;
    world.order(&id, "release", order()).await.expect(StatusCode::CONFLICT);
    world.order(&id, "cancel", order()).await.expect(StatusCode::OK);
    // Over, but the driver's profile still names it.
    assert!(names_a_dispatch(&world, "user#00001", &id));
    let released = world.order(&id, "release", order()).await.expect(StatusCode::OK);
    assert_eq!(released, json!({"released": ["user#00001"]}));
    let read = world.get(&format!("/v1/dispatches/{id}")).await.expect(StatusCode::OK);
    assert_eq!(read["events"].as_array().unwrap().last().unwrap()["type"], "RELEASED_BY_OPERATIONS");
    // Not readable, then gone.
    for gone in [false, true] {
        assert!(names_a_dispatch(&world, "user#00001", &id) && names_a_dispatch(&world, "driver#00001", &id));
        if gone {
            world.store.delete(&format!("dispatch#{id}"));
        } else {
            let pk = format!("dispatch#{id}");
            world.store.alter(&pk, |item| drop(item.insert("status".to_owned(), AttributeValue::N("7".to_owned()))));
        }
        let released = world.order(&id, "release", people.clone()).await.expect(StatusCode::OK);
        assert_eq!(released, json!({"released": ["user#00001", "driver#00001"]}), "gone: {gone}");
        assert!(world.is_free("/v1/users/00001").await && world.is_free("/v1/drivers/00001").await);
        let again = world.order(&id, "release", people.clone()).await.expect(StatusCode::OK);
        assert_eq!(again, json!({"released": []}));
    }
}

#[tokio::test]
async fn a_closed_review_is_listed_no_longer() {
    let world = World::new();
    world.has_user("00001").await;
    world.has_active_driver("00001").await;
    let ride = ride_without_positions(&world).await;
    let id = &ride["dispatch#".len()..];
    let closed = world.order(id, "review", json!({"reason": "요금 확인"})).await.expect(StatusCode::OK);
    assert_eq!((&closed["review"], &closed["status"]), (&Value::Null, &json!("COMPLETED")));
    assert!(closed["events"].as_array().unwrap().last().unwrap()["details"].as_str().unwrap().contains("console"));
    assert_eq!(reviews(&world, "").await, json!({"reviews": [], "next": null}));
    let again = world.order(id, "review", json!({"reason": "요금 확인"})).await.expect(StatusCode::OK);
    assert_eq!(again, closed);
    let read = world.get(&format!("/v1/dispatches/{id}")).await.expect(StatusCode::OK);
    assert_eq!(read, closed);
}

/// A token of this scope with the claim `city`.
fn token_for(scope: &str, city: &Value) -> String {
    let issued = parse_timestamp(BEGIN).unwrap().0 / 1000;
    let claims = json!({
        "iss": "https://login.example.com", "aud": "dispatch", "sub": "staff", "scope": scope, "iat": issued,
        "exp": issued + 3600, "city": city,
    });
    let kid = ISSUER.jwks()["keys"][0]["kid"].clone();
    ISSUER.sign(&json!({"alg": "ES256", "kid": kid}), &claims).unwrap()
}

#[tokio::test]
async fn a_token_of_another_city_is_rejected() {
    let world = World::new();
    world.has_user("00001").await;
    let read = async |scope: &str, city: Value| {
        let token = token_for(scope, &city);
        let request = Request::get("/v1/operations/reviews").header("authorization", format!("Bearer {token}"));
        world.send(request.body(Body::empty()).unwrap()).await.status.as_u16()
    };
    assert_eq!(read("operations", json!("seoul")).await, 200);
    for other in [json!("busan"), json!("Seoul"), json!(""), json!(["seoul"]), json!(null), json!(7)] {
        assert_eq!(read("operations", other.clone()).await, 401, "{other}");
        assert_eq!(read("payments", other.clone()).await, 401, "{other}");
        assert_eq!(read("user operations", other.clone()).await, 401, "{other}");
    }
    assert_eq!(read("payments", json!("seoul")).await, 403, "this list needs operations");
}

#[tokio::test]
async fn only_payments_and_operations_pay_a_ride() {
    let world = World::new();
    world.has_user("00001").await;
    world.has_active_driver("00001").await;
    let ride = ride_without_positions(&world).await;
    let path = format!("/v1/dispatches/{}/events", &ride["dispatch#".len()..]);
    let paid = |driver: &str| json!({"driverId": driver, "type": "PAYMENT_COMPLETED"});
    let pay = async |who: Who, driver: &str| {
        let request = Request::post(&path).header("authorization", format!("Bearer {}", who.token()));
        world.send(with_json(request, &paid(driver))).await
    };
    let refused = pay(Who::Driver("00001".to_owned()), "driver#00001").await;
    assert_eq!(refused.header("www-authenticate"), "Bearer error=\"insufficient_scope\", scope=\"payments\"");
    refused.expect(StatusCode::FORBIDDEN);
    pay(Who::User("00001".to_owned()), "driver#00001").await.expect(StatusCode::FORBIDDEN);
    pay(Who::Payments, "driver#00002").await.expect(StatusCode::NOT_FOUND);
    let paid = pay(Who::Payments, "driver#00001").await.expect(StatusCode::OK);
    assert_eq!(paid["events"].as_array().unwrap().last().unwrap()["type"], "PAYMENT_COMPLETED");
    assert_eq!(pay(Who::Payments, "driver#00001").await.expect(StatusCode::OK), paid, "a repetition changes nothing");
    let again = pay(Who::Operations, "driver#00001").await.expect(StatusCode::OK);
    assert_eq!(again["events"], paid["events"], "operations may, too");
}

async fn reviews(world: &World, query: &str) -> Value {
    world.get(&format!("/v1/operations/reviews{query}")).await.expect(StatusCode::OK)
}

#[tokio::test]
async fn rides_under_review_are_listed_in_pages() {
    let world = World::new();
    world.has_user("00001").await;
    world.has_active_driver("00001").await;
    assert_eq!(reviews(&world, "").await, json!({"reviews": [], "next": null}));
    let mut rides = Vec::new();
    for _ in 0..3 {
        rides.push(ride_without_positions(&world).await);
    }
    let first = reviews(&world, "?limit=2").await;
    let ids = |page: &Value| -> Vec<String> {
        page["reviews"].as_array().unwrap().iter().map(|it| it["dispatchId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&first), rides[..2], "the oldest first");
    let rest = reviews(&world, &format!("?limit=2&after={}", first["next"].as_str().unwrap())).await;
    assert_eq!((ids(&rest), &rest["next"]), (rides[2..].to_vec(), &Value::Null));
    let entry = &first["reviews"][0];
    assert_eq!((&entry["reason"], &entry["status"]), (&json!("NO_TRACE"), &json!("COMPLETED")));
    assert_eq!((&entry["actualFare"], &entry["meteredFare"]), (&entry["estimatedFare"], &Value::Null));
    assert_eq!((&entry["userId"], &entry["driverId"]), (&json!("user#00001"), &json!("driver#00001")));
    assert!(!first.to_string().contains("37.5"), "a list for a review has no places");
    let wrong = world.get("/v1/operations/reviews?limit=0").await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(wrong["field"], "limit");
}
