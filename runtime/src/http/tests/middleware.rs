//! Request ids, admission, deadlines and the admin listener.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use dispatch_api::worker_config::AuthConfig;
use dispatch_http_types::Notification;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, watch};
use tower::ServiceExt as _;

use super::canary::Log;
use super::{ISSUER, World, with_json, without_body};
use crate::auth::Authenticator;
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
    let (_sender, readiness) = watch::channel(Readiness::Ready);
    let admin = admin_router(AdminState { readiness, metrics: world.state.engine.metrics.clone() });
    let ready = admin.oneshot(Request::get("/readyz").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK, "an overload of the whole city must not empty its Services");
    assert_eq!(shed.expect(StatusCode::SERVICE_UNAVAILABLE)["type"], "tag:coactus.io,2026:dispatch/overloaded");
    assert_eq!(stuck.await.unwrap().unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    world.get("/v1/users/00001").await.expect(StatusCode::NOT_FOUND);
}

/// An issuer that accepts connections; the test answers.
async fn silent_issuer() -> (String, tokio::net::TcpListener) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    (format!("http://{}/keys", listener.local_addr().unwrap()), listener)
}

#[tokio::test]
async fn requests_that_wait_for_the_issuer_take_no_place_from_others() {
    const PLACES: usize = 4;
    let mut world = World::new();
    let (url, issuer) = silent_issuer().await;
    let config = AuthConfig { jwks_url: Some(url), jwks_file: None, ..ISSUER.trusted_by("unused") };
    world.state.access.authenticator = Arc::new(Authenticator::new(&config).unwrap());
    world.state.admission = Admission::new(PLACES);
    world.api = router(world.state.clone(), &HttpRole::ALL.into());
    let begun = tokio::time::Instant::now();
    let flood: Vec<_> =
        (0..10 * PLACES).map(|_| tokio::spawn(world.api.clone().oneshot(without_body("GET", "/v1/users/1")))).collect();
    let (mut stream, _) = issuer.accept().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(flood.iter().all(|call| !call.is_finished()), "all of them wait, and none was shed");
    let other = Request::get("/v1/users/1").header("authorization", "").body(Body::empty()).unwrap();
    world.send(other).await.expect(StatusCode::UNAUTHORIZED);
    let keys = ISSUER.jwks().to_string();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{keys}", keys.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
    for call in flood {
        let status = call.await.unwrap().unwrap().status();
        assert!(matches!(status.as_u16(), 404 | 503), "{status}");
    }
    assert!(begun.elapsed() < Duration::from_secs(3));
    world.get("/v1/users/1").await.expect(StatusCode::NOT_FOUND);
}

/// The log lines of a request, without those of the audit trail.
async fn lines_of(world: &World, request: Request<Body>, level: tracing::Level) -> (StatusCode, String) {
    let log = Log::default();
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(log.clone()).with_ansi(false);
    let guard = tracing::subscriber::set_default(lines.finish());
    let status = world.send(request).await.status;
    drop(guard);
    let lines = log.text();
    (status, lines.split_inclusive('\n').filter(|line| !line.contains(": audit: ")).collect())
}

#[tokio::test]
async fn positions_have_no_access_line_unless_they_fail() {
    let world = World::new();
    world.has_active_driver("00001").await;
    let ping = || with_json(Request::post("/v1/drivers/00001/locations"), &json!({"lat": 37.5, "lng": 127.0}));
    let batch = json!({"locations": [{"driverId": "driver#00001", "lat": 37.5, "lng": 127.0}]});
    let batch = || with_json(Request::post("/v1/locations/batch"), &batch);
    for request in [&ping, &batch] as [&dyn Fn() -> Request<Body>; 2] {
        let (status, lines) = lines_of(&world, request(), tracing::Level::INFO).await;
        assert_eq!((status, lines.as_str()), (StatusCode::ACCEPTED, ""));
        let (_, lines) = lines_of(&world, request(), tracing::Level::DEBUG).await;
        assert!(lines.contains("dispatch_runtime::access") && lines.contains("status=202"), "{lines}");
    }
    let read = without_body("GET", "/v1/drivers/00001");
    let (status, lines) = lines_of(&world, read, tracing::Level::INFO).await;
    assert!(status == StatusCode::OK && lines.contains("path=\"/v1/drivers/{driverId}\" status=200"), "{lines}");
    let mut shedding = World::new();
    shedding.state.admission = Admission::new(0);
    shedding.api = router(shedding.state.clone(), &HttpRole::ALL.into());
    let (status, lines) = lines_of(&shedding, ping(), tracing::Level::INFO).await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && lines.contains("status=503"), "{lines}");
    let text = world.state.engine.metrics.encode().unwrap();
    let route = "method=\"POST\",route=\"/v1/drivers/{driverId}/locations\",status=\"202\"";
    assert!(text.contains(&format!("dispatch_http_request_duration_seconds_count{{{route}}} 2")), "{text}");
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
    let (sender, readiness) =
        watch::channel(Readiness::NotReady { waits_for: "the table (refused: AccessDenied)".into() });
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
