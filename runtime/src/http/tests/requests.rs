//! Requests that the rules of the city refuse.

use axum::http::{Request, StatusCode};
use dispatch_core::service_area::ServiceArea;
use serde_json::{Value, json};

use super::{Who, World, ride_request, with_json};

/// Requests a ride and cancels it at once.
async fn cancelled(world: &World) {
    let created = world.post("/v1/dispatches", ride_request()).await.expect(StatusCode::CREATED);
    let id = created["dispatchId"].as_str().unwrap().trim_start_matches("dispatch#").to_owned();
    let cancel = json!({ "userId": "user#00001" });
    world.post(&format!("/v1/dispatches/{id}/cancel"), cancel).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_user_who_cancels_often_is_told_when_to_come_again() {
    let world = World::new();
    world.has_user("00001").await;
    for _ in 0..3 {
        cancelled(&world).await;
        world.clock.advance_ms(1000);
    }
    let refused = world.post("/v1/dispatches", ride_request()).await;
    assert_eq!(refused.header("retry-after"), "299");
    let problem = refused.expect(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(problem["type"], "tag:coactus.io,2026:dispatch/cancelled-too-often");
    let until = world.state.engine.city.timestamp(world.now().plus_ms(299_000));
    assert_eq!(problem["retryAt"], until);
    let detail =
        format!("the user cancelled too many requests in a short time; the next request is possible at {until}");
    assert_eq!(problem["detail"], detail);
    world.clock.advance_ms(299_000);
    cancelled(&world).await;
    world.post("/v1/dispatches", ride_request()).await.expect(StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn after_the_last_cancellation_of_a_day_the_next_day_counts() {
    let world = World::new();
    world.has_user("00001").await;
    for _ in 0..20 {
        cancelled(&world).await;
        world.clock.advance_ms(310_000);
    }
    let refused = world.post("/v1/dispatches", ride_request()).await;
    let after_s: i64 = refused.header("retry-after").parse().unwrap();
    let problem = refused.expect(StatusCode::TOO_MANY_REQUESTS);
    let midnight = problem["retryAt"].as_str().unwrap();
    assert!(midnight.ends_with("T00:00:00+09:00"), "{midnight}");
    assert!(problem["detail"].as_str().unwrap().contains("too many requests today"));
    world.clock.advance_ms(after_s * 1000);
    assert_eq!(world.state.engine.city.timestamp(world.now()), midnight);
    cancelled(&world).await;
}

fn place(lat: f64, lng: f64) -> Value {
    json!({ "lat": lat, "lng": lng, "address": "서울시 중구 명동" })
}

/// A request between two places.
fn trip(from: &Value, to: &Value) -> Value {
    json!({ "userId": "user#00001", "pickupLocation": from, "destination": to })
}

/// The last part of the type, the field and the detail of a refused request.
async fn refused(world: &World, request: Value) -> (String, String, String) {
    let problem = world.post("/v1/dispatches", request).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    (text("type").rsplit('/').next().unwrap().to_owned(), text("field"), text("detail"))
}

fn expected(kind: &str, field: &str, detail: &str) -> (String, String, String) {
    (kind.to_owned(), field.to_owned(), detail.to_owned())
}

#[tokio::test]
async fn a_trip_has_two_places_and_an_end_within_reach() {
    let world = World::new();
    world.has_user("00001").await;
    let from = || place(37.5662, 126.9784);
    let same = expected("same-place", "destination", "the destination must be more than 10 m from the pickup");
    assert_eq!(refused(&world, trip(&from(), &from())).await, same);
    assert_eq!(refused(&world, trip(&from(), &place(37.566_25, 126.9784))).await, same);
    let far = "the destination must be at most 200000 m from the pickup in a straight line";
    let far = expected("trip-too-long", "destination", far);
    assert_eq!(refused(&world, trip(&from(), &place(35.1151, 129.0415))).await, far, "Busan");
    assert_eq!(refused(&world, trip(&from(), &place(48.8566, 2.3522))).await, far, "Paris");
    // What is not the caller's is not found, whatever the trip.
    let mut others = trip(&from(), &from());
    others["userId"] = json!("user#00002");
    let request = Request::post("/v1/dispatches")
        .header("authorization", format!("Bearer {}", Who::User("00001".to_owned()).token()));
    world.send(with_json(request, &others)).await.expect(StatusCode::NOT_FOUND);
    world.post("/v1/dispatches", trip(&from(), &place(37.5664, 126.9784))).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn both_ends_of_a_trip_are_in_the_service_area() {
    let rectangle = |w: f64, s: f64, e: f64, n: f64| vec![vec![w, s], vec![e, s], vec![e, n], vec![w, n], vec![w, s]];
    let hole = rectangle(126.9, 37.5, 126.95, 37.55);
    let area = ServiceArea::from_polygons(&[vec![rectangle(126.76, 37.42, 127.19, 37.7), hole]]).unwrap();
    let world = World::with_settings(|settings| settings.service_area = Some(area));
    world.has_user("00001").await;
    let inside = || place(37.5662, 126.9784);
    let pickup = "pickupLocation must be in the area that the city serves";
    let pickup = expected("outside-service-area", "pickupLocation", pickup);
    let destination = "destination must be in the area that the city serves";
    let destination = expected("outside-service-area", "destination", destination);
    assert_eq!(refused(&world, trip(&place(37.39, 126.95), &inside())).await, pickup);
    assert_eq!(refused(&world, trip(&inside(), &place(37.39, 126.95))).await, destination);
    assert_eq!(refused(&world, trip(&inside(), &place(37.52, 126.92))).await, destination, "in the hole");
    world.post("/v1/dispatches", trip(&inside(), &place(37.42, 126.95))).await.expect(StatusCode::CREATED);
}
