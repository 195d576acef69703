//! Counts calls to a failing service: one layer retries, so that attempts do not multiply.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use axum::http::{StatusCode, header};
use dispatch_api::worker_config::AwsEndpoint;
use dispatch_core::dispatch::{CandidateRef, Event, Rules, step};
use dispatch_core::fare::FareTable;
use dispatch_core::geo::Location;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::time::EpochMs;
use jiff::tz::TimeZone;
use tokio::sync::watch;

use crate::adapters::store::DynamoStore;
use crate::city::{City, Settings};
use crate::ports::{
    DispatchStore as _, IdempotencyStore as _, IdempotentRequest, NewDispatch, PortError, StoredDispatch,
};

const CONFLICT: &str = r#"{"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException", "Message": "cancelled",
    "CancellationReasons": [{"Code": "TransactionConflict", "Message": "busy"}, {"Code": "None"}]}"#;
const THROTTLED: &str = r#"{"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "slow down"}"#;
const BROKEN: &str = r#"{"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError", "message": "sorry"}"#;

/// A table that answers every call in the same way and counts the calls.
struct Failing {
    store: DynamoStore,
    calls: Arc<AtomicUsize>,
}

impl Failing {
    async fn with(status: StatusCode, body: &'static str) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let routes = Router::new().fallback(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body) }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint_url = Some(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let sdk =
            crate::adapters::aws::sdk_config(&AwsEndpoint { region: "ap-northeast-2".to_owned(), endpoint_url }).await;
        let nobody = SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test"));
        let client = Client::new(&sdk.into_builder().credentials_provider(nobody).build());
        Self { store: DynamoStore::new(client, "table", 1, city()), calls }
    }

    /// The number of calls that `work` makes until it fails as unavailable.
    async fn calls<T>(&self, work: impl Future<Output = Result<T, PortError>>) -> usize {
        let before = self.calls.load(Ordering::SeqCst);
        assert!(matches!(work.await, Err(PortError::Unavailable { .. })));
        self.calls.load(Ordering::SeqCst) - before
    }
}

fn city() -> City {
    let (_, settings) = watch::channel(Arc::new(Settings::new(DispatchPolicy::default(), FareTable::default())));
    City::new("seoul", "KRW", TimeZone::get("Asia/Seoul").unwrap(), settings)
}

const NOW: EpochMs = EpochMs(1_750_000_000_000);

fn new() -> NewDispatch {
    let place = Location { lat: 37.5, lng: 127.0, address: "서울시 중구 명동".to_owned() };
    NewDispatch {
        id: DispatchId::parse("dispatch#1").unwrap(),
        user: UserId::parse("user#1").unwrap(),
        pickup: place.clone(),
        destination: place,
        estimated_fare: 4800,
        max_attempts: 5,
        search_until: NOW.plus_ms(60_000),
        now: NOW,
    }
}

fn stored(store: &DynamoStore) -> StoredDispatch {
    store.codec().stored(store.codec().new_dispatch(&new())).unwrap()
}

#[tokio::test]
async fn one_layer_retries() {
    let keyed = IdempotentRequest { key: "k".to_owned(), asked: "a".to_owned(), holder: "h".to_owned() };
    // The store retries a cancelled transaction, never the SDK.
    let conflict = Failing::with(StatusCode::BAD_REQUEST, CONFLICT).await;
    assert_eq!(conflict.calls(conflict.store.create(new())).await, 5);

    // The same for a throttled write. The SDK retries a throttled read.
    let throttled = Failing::with(StatusCode::BAD_REQUEST, THROTTLED).await;
    assert_eq!(throttled.calls(throttled.store.create(new())).await, 5);
    assert_eq!(throttled.calls(throttled.store.begin(&keyed, NOW)).await, 5);
    assert_eq!(throttled.calls(throttled.store.load(&new().id)).await, 3);

    // In doubt: five attempts and one lookup, which is a read of up to three seconds.
    let broken = Failing::with(StatusCode::INTERNAL_SERVER_ERROR, BROKEN).await;
    assert!((6..=8).contains(&broken.calls(broken.store.create(new())).await));
    let before = stored(&broken.store);
    let policy = DispatchPolicy::default();
    let rules = Rules { policy: &policy, now: NOW };
    let driver = DriverId::parse("driver#1").unwrap();
    let found = vec![CandidateRef { driver_id: driver.clone(), auto_accept: false }];
    let searched = step(&before.state, Event::CandidatesFound(found), rules).unwrap();
    let offered = step(&searched.state, Event::DriverHeld(driver), rules).unwrap();
    assert!((6..=8).contains(&broken.calls(broken.store.commit(&before, &offered, None)).await));
}
