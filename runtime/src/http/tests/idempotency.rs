//! Requests with an Idempotency-Key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::http::{Request, StatusCode};
use dispatch_core::time::EpochMs;
use serde_json::{Value, json};

use crate::adapters::store::fake::MemoryStore;
use crate::http::tests::{Answer, World, with_json};
use crate::http::{HttpRole, router};
use crate::ports::{IdempotencyState, IdempotencyStore, IdempotentRequest, PortError, StoredAnswer};

async fn post(world: &World, path: &str, key: &str, body: &Value) -> Answer {
    world.send(with_json(Request::post(path).header("idempotency-key", key), body)).await
}

fn answer(word: &str) -> Value {
    json!({"driverId": "driver#00001", "offerSeq": 1, "response": word})
}

#[tokio::test]
async fn the_first_response_is_replayed_even_if_the_dispatch_has_changed_since() {
    let world = World::new();
    let id = world.has_offer().await;
    let path = format!("/v1/dispatches/{id}/response");
    let first = post(&world, &path, "key-1", &answer("ACCEPT")).await;
    assert_eq!(first.header("idempotent-replayed"), "");
    let first = first.expect(StatusCode::OK);
    let cancel = json!({"userId": "user#00001"});
    world.post(&format!("/v1/dispatches/{id}/cancel"), cancel).await.expect(StatusCode::OK);
    let again = post(&world, &path, "key-1", &answer("ACCEPT")).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.header("content-type"), "application/json");
    assert_eq!(again.expect(StatusCode::OK), first);
    let now = world.get(&format!("/v1/dispatches/{id}")).await.expect(StatusCode::OK);
    assert_eq!(now["status"], "CANCELLED", "reading shows the current state");
    let without = world.post(&path, answer("ACCEPT")).await;
    without.expect(StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_key_belongs_to_one_caller_one_operation_and_one_request() {
    let world = World::new();
    let id = world.has_offer().await;
    let response = format!("/v1/dispatches/{id}/response");
    post(&world, &response, "key-1", &answer("ACCEPT")).await.expect(StatusCode::OK);
    let other = post(&world, &response, "key-1", &answer("REJECT")).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other["type"], "tag:coactus.io,2026:dispatch/idempotency-key-reused");
    let elsewhere = post(&world, "/v1/dispatches/00000/response", "key-1", &answer("ACCEPT")).await;
    elsewhere.expect(StatusCode::UNPROCESSABLE_ENTITY);
    // Another operation and another caller can use the same key.
    let report = json!({"driverId": "driver#00001", "type": "PICKUP_STARTED"});
    let reported = post(&world, &format!("/v1/dispatches/{id}/events"), "key-1", &report).await.expect(StatusCode::OK);
    assert_eq!(reported["events"].as_array().unwrap().len(), 4);
    let cancel = json!({"userId": "user#00001"});
    let cancelled = post(&world, &format!("/v1/dispatches/{id}/cancel"), "key-1", &cancel).await.expect(StatusCode::OK);
    assert_eq!(cancelled["status"], "CANCELLED");
}

#[tokio::test]
async fn a_request_without_effect_can_be_repeated_with_its_key() {
    let world = World::new();
    let id = world.has_offer().await;
    let events = format!("/v1/dispatches/{id}/events");
    let report = json!({"driverId": "driver#00001", "type": "PICKUP_STARTED"});
    post(&world, &events, "key-1", &report).await.expect(StatusCode::CONFLICT);
    let wrong = json!({"driverId": "driver#00001", "type": "WALKED_AWAY"});
    post(&world, &events, "key-2", &wrong).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    world.post(&format!("/v1/dispatches/{id}/response"), answer("ACCEPT")).await.expect(StatusCode::OK);
    post(&world, &events, "key-1", &report).await.expect(StatusCode::OK);
    let arrived = json!({"driverId": "driver#00001", "type": "DRIVER_ARRIVED"});
    post(&world, &events, "key-2", &arrived).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_second_attempt_waits_for_the_first_and_follows_one_that_died() {
    let world = World::new();
    let id = world.has_offer().await;
    let path = format!("/v1/dispatches/{id}/response");
    // A process that died between begin and end: its request is in the table and will never be ended.
    let seen = Arc::new(Seen::default());
    let mut dying = World { state: world.state.clone(), ..World::new() };
    dying.state.answers = Arc::new(Dying { inner: world.store.clone(), seen: seen.clone() });
    dying.api = router(dying.state.clone(), &HttpRole::ALL.into());
    post(&dying, &path, "key-1", &answer("ACCEPT")).await.expect(StatusCode::OK);
    assert_eq!((seen.begun.load(Ordering::SeqCst), seen.lost.load(Ordering::SeqCst)), (1, 1));

    let waiting = post(&world, &path, "key-1", &answer("ACCEPT")).await;
    assert_eq!(waiting.header("retry-after"), "12");
    let problem = waiting.expect(StatusCode::CONFLICT);
    assert_eq!(problem["type"], "tag:coactus.io,2026:dispatch/idempotency-key-in-use");
    world.clock.advance_ms(11_999);
    post(&world, &path, "key-1", &answer("ACCEPT")).await.expect(StatusCode::CONFLICT);
    world.clock.advance_ms(1);
    post(&world, &path, "key-1", &answer("REJECT")).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    let followed = post(&world, &path, "key-1", &answer("ACCEPT")).await.expect(StatusCode::OK);
    assert_eq!(followed["status"], "ACCEPTED");
    assert_eq!(followed["events"].as_array().unwrap().len(), 3, "nothing happened twice");
}

#[tokio::test]
async fn a_key_is_free_again_after_a_day() {
    let world = World::new();
    let id = world.has_offer().await;
    let path = format!("/v1/dispatches/{id}/response");
    post(&world, &path, "key-1", &answer("REJECT")).await.expect(StatusCode::OK);
    // A world's tokens are valid for twelve hours and keys for a day, so the rest of the day is tested on the store.
    world.clock.advance_ms(11 * 3_600_000);
    let kept = post(&world, &path, "key-1", &answer("REJECT")).await;
    assert_eq!(kept.header("idempotent-replayed"), "true");
    let request = IdempotentRequest { key: "k".to_owned(), asked: "a".to_owned(), holder: "1".to_owned() };
    let (day, now) = (24 * 3_600_000, world.now());
    let kept = StoredAnswer { status: 200, body: "{}".to_owned() };
    assert!(matches!(world.store.begin(&request, now).await, Ok(IdempotencyState::New)));
    world.store.keep(&request, &kept, now).await.unwrap();
    let another = IdempotentRequest { asked: "b".to_owned(), holder: "2".to_owned(), ..request };
    assert!(matches!(world.store.begin(&another, now.plus_ms(day - 1000)).await, Ok(IdempotencyState::KeyReused)));
    assert!(matches!(world.store.begin(&another, now.plus_ms(day)).await, Ok(IdempotencyState::New)));
}

#[tokio::test]
async fn requests_without_a_key_and_pings_never_use_the_idempotency_store() {
    let world = World::new();
    let seen = Arc::new(Seen::default());
    let mut counted = World { state: world.state.clone(), ..World::new() };
    counted.state.answers = Arc::new(Dying { inner: world.store.clone(), seen: seen.clone() });
    counted.api = router(counted.state.clone(), &HttpRole::ALL.into());
    let id = world.has_offer().await;
    counted.post(&format!("/v1/dispatches/{id}/response"), answer("ACCEPT")).await.expect(StatusCode::OK);
    let ping = json!({"lat": 37.5655, "lng": 126.9785});
    post(&counted, "/v1/drivers/00001/locations", "key-1", &ping).await.expect(StatusCode::ACCEPTED);
    assert_eq!(seen.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn without_the_idempotency_store_a_request_fails_before_it_takes_effect() {
    let world = World::new();
    let id = world.has_offer().await;
    let mut down = World { state: world.state.clone(), ..World::new() };
    down.state.answers = Arc::new(Down);
    down.api = router(down.state.clone(), &HttpRole::ALL.into());
    let path = format!("/v1/dispatches/{id}/response");
    let refused = post(&down, &path, "key-1", &answer("ACCEPT")).await;
    assert_eq!(refused.header("retry-after"), "2");
    refused.expect(StatusCode::SERVICE_UNAVAILABLE);
    let dispatch = world.get(&format!("/v1/dispatches/{id}")).await.expect(StatusCode::OK);
    assert_eq!(dispatch["status"], "REQUESTED");
}

#[derive(Default)]
struct Seen {
    begun: AtomicUsize,
    lost: AtomicUsize,
}

/// The store of a process that dies before it can keep a response.
struct Dying {
    inner: MemoryStore,
    seen: Arc<Seen>,
}

#[async_trait]
impl IdempotencyStore for Dying {
    async fn begin(&self, request: &IdempotentRequest, now: EpochMs) -> Result<IdempotencyState, PortError> {
        self.seen.begun.fetch_add(1, Ordering::SeqCst);
        self.inner.begin(request, now).await
    }

    async fn keep(&self, _: &IdempotentRequest, _: &StoredAnswer, _: EpochMs) -> Result<(), PortError> {
        self.seen.lost.fetch_add(1, Ordering::SeqCst);
        unavailable()
    }

    async fn forget(&self, _: &IdempotentRequest) -> Result<(), PortError> {
        unavailable()
    }
}

struct Down;

#[async_trait]
impl IdempotencyStore for Down {
    async fn begin(&self, _: &IdempotentRequest, _: EpochMs) -> Result<IdempotencyState, PortError> {
        unavailable()
    }

    async fn keep(&self, _: &IdempotentRequest, _: &StoredAnswer, _: EpochMs) -> Result<(), PortError> {
        unavailable()
    }

    async fn forget(&self, _: &IdempotentRequest) -> Result<(), PortError> {
        unavailable()
    }
}

fn unavailable<T>() -> Result<T, PortError> {
    Err(PortError::Unavailable { action: "keeping an answer", source: "away".into() })
}
