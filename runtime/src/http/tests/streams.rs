//! Event streams.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode};
use dispatch_dev_keys::Claims;
use dispatch_http_types::{Notification, NotificationBody, NotificationKind};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{ISSUER, World, without_body};
use crate::http::{HttpRole, StreamPlaces, router};
use crate::ports::EventStreams as _;

fn offer(recipient: &str) -> Notification {
    Notification {
        id: "dispatch#00001:1:OFFER".to_owned(),
        recipient: recipient.to_owned(),
        kind: NotificationKind::Offer,
        body: NotificationBody {
            message: "새로운 배차 요청이 있습니다".to_owned(),
            dispatch_id: Some("dispatch#00001".to_owned()),
            pickup_address: Some("서울시 중구 명동".to_owned()),
            destination_address: Some("서울시 종로구 종로".to_owned()),
            estimated_fare: Some(12000),
            metered_fare: None,
            actual_fare: None,
            estimated_distance: Some("2.5km".to_owned()),
            offer_seq: Some(1),
            timeout_at: None,
            status: None,
        },
    }
}

async fn open(world: &World, query: &str) -> BodyDataStream {
    let request = without_body("GET", &format!("/v1/events?{query}"));
    let response = world.api.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no", "a proxy must not hold events back");
    response.into_body().into_data_stream()
}

/// The next piece of a stream. Fails after a second.
async fn next(stream: &mut BodyDataStream) -> Option<String> {
    let piece = tokio::time::timeout(Duration::from_secs(1), stream.next()).await.expect("a piece in time");
    piece.map(|bytes| String::from_utf8(bytes.unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn a_stream_carries_only_the_notifications_of_its_recipient() {
    let world = World::new();
    let mut driver = open(&world, "driver=00001").await;
    let mut user = open(&world, "user=00001").await;
    world.events.send(&offer("driver#00001")).await.unwrap();
    let piece = next(&mut driver).await.unwrap();
    let lines: Vec<&str> = piece.lines().collect();
    assert_eq!(lines[0], "event: OFFER");
    assert_eq!(lines[1], "id: dispatch#00001:1:OFFER");
    let data: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(data["body"]["message"], "새로운 배차 요청이 있습니다");
    assert_eq!(data["body"]["estimatedDistance"], json!("2.5km"));
    assert_eq!(data["recipient"], "driver#00001");
    world.state.shutdown.cancel();
    assert_eq!(next(&mut user).await, None, "nothing but its end");
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_has_a_heartbeat() {
    let world = World::new();
    let mut stream = open(&world, "driver=00001").await;
    let begun = tokio::time::Instant::now();
    let piece = stream.next().await.unwrap().unwrap();
    assert_eq!((&piece[..], begun.elapsed().as_secs()), (&b":\n\n"[..], 15));
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_token() {
    let world = World::new();
    let claims = Claims { subject: "driver#00001", scopes: &["driver"], lifetime: Duration::from_mins(1) };
    let token = ISSUER.token(&claims, world.now()).unwrap();
    let request = Request::get("/v1/events?driver=00001")
        .header("host", "dispatch")
        .header("authorization", format!("Bearer {token}"));
    let response = world.api.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let mut stream = response.into_body().into_data_stream();
    let mut heartbeats = 0;
    while stream.next().await.is_some() {
        heartbeats += 1;
    }
    assert!((3..=4).contains(&heartbeats), "{heartbeats}");
    assert_eq!(begun.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn a_person_has_five_streams_and_a_sixth_one_ends_the_oldest() {
    let world = World::new();
    let mut other = open(&world, "user=00001").await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(open(&world, "driver=00001").await);
    }
    for ended in streams.drain(..3) {
        assert_eq!(ended.collect::<Vec<_>>().await.len(), 0, "nothing but its end");
    }
    world.events.send(&offer("driver#00001")).await.unwrap();
    for stream in &mut streams {
        assert!(next(stream).await.unwrap().starts_with("event: OFFER"));
    }
    // A closed stream leaves its place.
    drop(streams.pop());
    streams.push(open(&world, "driver=00001").await);
    world.events.send(&offer("driver#00001")).await.unwrap();
    for stream in &mut streams {
        assert!(next(stream).await.unwrap().starts_with("event: OFFER"));
    }
    world.events.send(&offer("user#00001")).await.unwrap();
    assert!(next(&mut other).await.unwrap().starts_with("event: OFFER"), "each person has their own five");
}

#[tokio::test]
async fn open_streams_are_limited_and_return_their_permit() {
    let mut world = World::new();
    world.state.stream_places = StreamPlaces::new(1, 1);
    world.api = router(world.state.clone(), &HttpRole::ALL.into());
    let first = open(&world, "driver=00001").await;
    let refused = world.get("/v1/events?driver=00002").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    drop(first);
    drop(open(&world, "driver=00002").await);
}
