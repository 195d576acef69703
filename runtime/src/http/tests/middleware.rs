//! Request ids, admission, deadlines and the admin listener.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use dispatch_http_types::Notification;
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;

use super::{World, without_body};
use crate::http::{AdminState, Admission, HttpRole, Readiness, admin_router, router};
use crate::ports::{EventStreams, Person, PortError};
use crate::telemetry::heartbeat::SILENCE_MAX;

/// Event streams that never open, like a backend service that does not respond.
struct Stuck;

#[async_trait]
impl EventStreams for Stuck {
    async fn send(&self, _: &Notification) -> Result<(), PortError> {
        std::future::pending().await
    }

    async fn listen(&self, _: &Person) -> Result<mpsc::Receiver<Notification>, PortError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_times_out() {
    let world = World::with(|ports| ports.streams = Arc::new(Stuck));
    let begun = tokio::time::Instant::now();
    let problem = world.get("/v1/events?driver=00001").await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["type"], "tag:coactus.io,2026:dispatch/timed-out");
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_bound_are_shed_by_all_routes_together() {
    let mut world = World::with(|ports| ports.streams = Arc::new(Stuck));
    world.state.admission = Admission::new(1);
    world.api = router(world.state.clone(), &HttpRole::ALL.into());
    let api = world.api.clone();
    let stuck = without_body("GET", "/v1/events?driver=00001");
    let stuck = tokio::spawn(api.oneshot(stuck));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let shed = world.get("/v1/users/00001").await;
    assert_eq!(shed.header("retry-after"), "2");
    assert!(world.state.engine.metrics.is_shedding(), "the process reports that it is overloaded");
    assert_eq!(shed.expect(StatusCode::SERVICE_UNAVAILABLE)["type"], "tag:coactus.io,2026:dispatch/overloaded");
    assert_eq!(stuck.await.unwrap().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    world.get("/v1/users/00001").await.expect(StatusCode::NOT_FOUND);
    assert!(!world.state.engine.metrics.is_shedding());
}

#[tokio::test]
async fn a_harmless_request_id_is_kept() {
    let world = World::new();
    let with_id = |id: &str| Request::get("/v1/users/1").header("x-request-id", id).body(Body::empty()).unwrap();
    let kept = world.send(with_id("Root=1-67891233-abcdef012345678912345678")).await;
    assert_eq!(kept.header("x-request-id"), "Root=1-67891233-abcdef012345678912345678");
    for strange in ["a b", "", "\"quoted\"", &"x".repeat(129)] {
        let made = world.send(with_id(strange)).await;
        assert_eq!(made.header("x-request-id").len(), 26, "{strange}");
    }
}

#[tokio::test]
async fn requests_are_measured_by_route_and_never_by_path() {
    let world = World::new();
    world.get("/v1/users/stranger").await.expect(StatusCode::NOT_FOUND);
    world.get("/wp-login.php").await.expect(StatusCode::NOT_FOUND);
    let strange = Request::builder().method("BREW").uri("/v1/users/stranger").body(Body::empty()).unwrap();
    world.send(strange).await.expect(StatusCode::METHOD_NOT_ALLOWED);
    let (_sender, readiness) = watch::channel(Readiness::Ready);
    let admin = admin_router(AdminState { readiness, metrics: world.state.engine.metrics.clone() });
    let response = admin.oneshot(Request::get("/metrics").body(Body::empty()).unwrap()).await.unwrap();
    let text = String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap();
    let counted = |labels: &str| text.contains(&format!("dispatch_http_request_duration_seconds_count{{{labels}}} 1"));
    assert!(counted("method=\"GET\",route=\"/v1/users/{userId}\",status=\"404\""), "{text}");
    assert!(counted("method=\"GET\",route=\"unmatched\",status=\"404\""), "{text}");
    assert!(counted("method=\"other\",route=\"/v1/users/{userId}\",status=\"405\""), "{text}");
    assert!(!text.contains("stranger") && !text.contains("wp-login"), "{text}");
}

#[tokio::test]
async fn readiness_follows_the_process_and_liveness_does_not() {
    let world = World::new();
    let (sender, readiness) = watch::channel(Readiness::NotReady { waits_for: "the table" });
    let admin = admin_router(AdminState { readiness, metrics: world.state.engine.metrics.clone() });
    let status = |path: &'static str| {
        let admin = admin.clone();
        async move { admin.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap().status() }
    };
    assert_eq!((status("/livez").await, status("/readyz").await), (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE));
    sender.send_replace(Readiness::Ready);
    assert_eq!((status("/livez").await, status("/readyz").await), (StatusCode::OK, StatusCode::OK));
}

#[tokio::test(start_paused = true)]
async fn a_process_with_a_stuck_loop_is_not_live() {
    let world = World::new();
    let metrics = world.state.engine.metrics.clone();
    let (_sender, readiness) = watch::channel(Readiness::Ready);
    let admin = admin_router(AdminState { readiness, metrics: Arc::clone(&metrics) });
    let alive =
        || async { admin.clone().oneshot(Request::get("/livez").body(Body::empty()).unwrap()).await.unwrap().status() };
    let pulse = metrics.pulse("a loop");
    assert_eq!(alive().await, StatusCode::OK);
    tokio::time::advance(SILENCE_MAX + Duration::from_secs(1)).await;
    assert_eq!(alive().await, StatusCode::SERVICE_UNAVAILABLE);
    pulse.beat();
    assert_eq!(alive().await, StatusCode::OK);
}
