//! The shares of one client address.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use dispatch_api::worker_config::LimitsConfig;
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::wire::Slow;
use super::{Who, World, access, wide_limits};
use crate::http::{Admission, HttpRole, StreamPlaces, router};

/// A request for a user's stream that a proxy passes on for a client.
fn stream_of(user: &str, address: &str) -> Request<Body> {
    Request::get(format!("/v1/events?user={user}"))
        .header("host", "dispatch")
        .header("authorization", format!("Bearer {}", Who::User(user.to_owned()).token()))
        // What the client wrote, and what the proxy added.
        .header("x-forwarded-for", format!("198.51.100.9, {address}"))
        .body(Body::empty())
        .unwrap()
}

/// A city behind a proxy that adds the client's address.
fn behind_a_proxy(mut world: World) -> World {
    let limits = LimitsConfig { client_address_header: Some("x-forwarded-for".to_owned()), ..wide_limits() };
    world.state.access = access(&limits);
    world.state.admission = Admission::new(8).with_address_share(world.state.access.rates.address_share(8));
    world.state.stream_places = StreamPlaces::new(8, world.state.access.rates.address_share(8));
    world.api = router(world.state.clone(), &HttpRole::ALL.into());
    world
}

#[tokio::test]
async fn one_address_holds_half_of_the_concurrent_requests() {
    let (go, going) = watch::channel(false);
    let slow = Arc::new(Slow { waiting: AtomicUsize::new(0), most: AtomicUsize::new(0), go: going });
    let streams = slow.clone();
    let world = behind_a_proxy(World::with(|ports| ports.streams = streams));
    let mut calls = tokio::task::JoinSet::new();
    let mut send = |number: usize, address: &str| {
        let (api, request) = (world.api.clone(), stream_of(&format!("{number}"), address));
        calls.spawn(async move { api.oneshot(request).await.unwrap() });
    };
    for number in 0..10 {
        send(number, "203.0.113.7");
    }
    while slow.waiting.load(Ordering::SeqCst) < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (number, address) in [(10, "203.0.113.8"), (11, "2001:db8:1:2::1"), (12, "2001:db8:1:3::1")] {
        send(number, address);
    }
    while slow.waiting.load(Ordering::SeqCst) < 7 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    go.send_replace(true);
    let mut refused = 0;
    while let Some(answer) = calls.join_next().await {
        let answer = answer.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.headers()["retry-after"], "2");
            refused += 1;
        }
    }
    assert_eq!((refused, slow.most.load(Ordering::SeqCst)), (6, 7));
}

#[tokio::test]
async fn one_address_holds_half_of_the_event_streams() {
    let world = behind_a_proxy(World::new());
    let open = async |user: &str, address: &str| world.api.clone().oneshot(stream_of(user, address)).await.unwrap();
    let mut held = Vec::new();
    for number in 0..4 {
        let stream = open(&format!("{number}"), "203.0.113.7").await;
        assert_eq!(stream.status(), StatusCode::OK);
        held.push(stream);
    }
    let refused = open("4", "203.0.113.7").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let body = axum::body::to_bytes(refused.into_body(), 4096).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["type"], "tag:coactus.io,2026:dispatch/too-many-requests");
    for number in 4..8 {
        let stream = open(&format!("{number}"), "203.0.113.8").await;
        assert_eq!(stream.status(), StatusCode::OK);
        held.push(stream);
    }
    assert_eq!(open("8", "203.0.113.9").await.status(), StatusCode::SERVICE_UNAVAILABLE, "the process has no more");
    held.truncate(3);
    assert_eq!(open("8", "203.0.113.7").await.status(), StatusCode::OK);
}
