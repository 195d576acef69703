//! Services that accept connections and never answer: every call ends within the time limit of its adapter.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::worker_config::{AwsEndpoint, CacheConfig};
use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_http_types::{Notification, NotificationBody, NotificationKind};
use dispatch_runtime::adapters::fleet::{RedisConnector, RedisFleet};
use dispatch_runtime::adapters::messaging::{RedisEvents, SnsDevicePush, SnsNotifier, SqsResponses, SqsTimers};
use dispatch_runtime::adapters::store::DynamoStore;
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::ports::{
    ActiveCursor, Clock as _, DevicePush as _, DispatchStore as _, DriverSearch as _, EventStreams as _, HoldToken,
    IdempotencyStore as _, IdempotentRequest, Notifier as _, OfferTimers as _, Person, PortError, PositionSink as _,
    ProfileStore as _, Reservations as _, ResponseMessage, ResponseQueue as _, RouteTails as _, StoredAnswer,
    TimerMessage,
};
use dispatch_runtime::telemetry::metrics::Metrics;
use dispatch_tests::ministack::REGION;
use tokio::net::TcpListener;

use crate::support::seoul;

/// Time limit of an AWS call: two attempts of three seconds and a lookup of three, below the ten seconds of a request.
const AWS_WITHIN: Duration = Duration::from_secs(10);

/// Time limit of a Redis call: a connection and an answer of 800 ms each, twice, and a margin for a loaded machine.
const REDIS_WITHIN: Duration = Duration::from_secs(5);

/// A listener that accepts every connection, keeps it open and never answers.
async fn black_hole() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    address
}

async fn ends<T>(what: &str, within: Duration, call: impl Future<Output = Result<T, PortError>>) {
    let answer = tokio::time::timeout(within, call).await.unwrap_or_else(|_| panic!("{what} never ends"));
    assert!(matches!(answer, Err(PortError::Unavailable { .. })), "{what}: {:?}", answer.err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_aws_ends_in_time() {
    let url = format!("http://{}", black_hole().await);
    let endpoint = AwsEndpoint { region: REGION.to_owned(), endpoint_url: Some(url.clone()) };
    let sdk = dispatch_runtime::adapters::aws::sdk_config(&endpoint).await;
    let nobody = aws_sdk_dynamodb::config::Credentials::new("test", "test", None, None, "test");
    let sdk = sdk
        .into_builder()
        .credentials_provider(aws_sdk_dynamodb::config::SharedCredentialsProvider::new(nobody))
        .build();
    let dynamo = DynamoStore::new(aws_sdk_dynamodb::Client::new(&sdk), "table", 1, seoul());
    let sqs = aws_sdk_sqs::Client::new(&sdk);
    let sns = aws_sdk_sns::Client::new(&sdk);
    let now = SystemClock.now();
    let (user, driver) = (UserId::parse("user#1").unwrap(), DriverId::parse("driver#1").unwrap());
    let id = DispatchId::parse("dispatch#1").unwrap();
    let person = Person::Driver(driver.clone());
    let keyed = IdempotentRequest { key: "k".to_owned(), asked: "a".to_owned(), holder: "h".to_owned() };
    let timer = TimerMessage {
        dispatch_id: id.to_string(),
        driver_id: None,
        request_time: String::new(),
        timeout_at: String::new(),
        offer_seq: None,
        ver: None,
    };
    let response = ResponseMessage {
        dispatch_id: id.to_string(),
        driver_id: driver.to_string(),
        user_id: user.to_string(),
        offer_seq: 1,
        response: OfferOutcome::Rejected,
        responded_at: String::new(),
    };
    let new = crate::store::a_request(&user, now);
    let (timers, responses) = (SqsTimers::new(sqs.clone(), &url), SqsResponses::new(sqs, &url));
    let notifier = SnsNotifier::new(sns.clone(), "arn:aws:sns:::topic");
    let devices = SnsDevicePush::new(sns, Some("arn:aws:sns:::app"));
    let drivers = [driver.clone()];
    let notification = notification();
    let (profile, place) = (crate::store::a_user(), new.pickup.clone());
    let kept = StoredAnswer { status: 200, body: "{}".to_owned() };
    let none = HashSet::new();
    tokio::join!(
        ends("create", AWS_WITHIN, dynamo.create(new)),
        ends("load", AWS_WITHIN, dynamo.load(&id)),
        ends("put_user", AWS_WITHIN, dynamo.put_user(&user, profile, now)),
        ends("set_availability", AWS_WITHIN, dynamo.set_availability(&driver, PersonStatus::Active, &place, now)),
        ends("keep", AWS_WITHIN, dynamo.keep(&keyed, &kept, now)),
        ends("append_route", AWS_WITHIN, dynamo.append_route(&id, 1, &[])),
        ends("open_since_before", AWS_WITHIN, dynamo.open_since_before(now, 10, &none)),
        ends("user", AWS_WITHIN, dynamo.user(&user)),
        ends("drivers", AWS_WITHIN, dynamo.drivers(&drivers)),
        ends("active_drivers", AWS_WITHIN, dynamo.active_drivers(None, ActiveCursor::default())),
        ends("set_device", AWS_WITHIN, dynamo.set_device(&person, "arn")),
        ends("begin", AWS_WITHIN, dynamo.begin(&keyed, now)),
        ends("forget", AWS_WITHIN, dynamo.forget(&keyed)),
        ends("start", AWS_WITHIN, timers.start(&timer, 1000)),
        ends("send", AWS_WITHIN, responses.send(&response)),
        ends("publish", AWS_WITHIN, notifier.publish(std::slice::from_ref(&notification))),
        ends("register", AWS_WITHIN, devices.register(&person, "token")),
    );
}

fn notification() -> Notification {
    Notification {
        id: "n".to_owned(),
        recipient: "driver#1".to_owned(),
        kind: NotificationKind::Offer,
        body: NotificationBody {
            message: "새로운 배차 요청이 있습니다".to_owned(),
            dispatch_id: Some("dispatch#1".to_owned()),
            pickup_address: None,
            destination_address: None,
            estimated_fare: None,
            metered_fare: None,
            actual_fare: None,
            estimated_distance: None,
            offer_seq: None,
            timeout_at: None,
            status: None,
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_redis_ends_in_time() {
    let url = format!("redis://{}", black_hole().await);
    let connector = RedisConnector::new(&CacheConfig { url, auth_token_env: None }).unwrap();
    let fleet = RedisFleet::new(&connector, seoul(), Arc::new(SystemClock));
    let events = RedisEvents::new(connector, "seoul", Arc::new(Metrics::new()));
    let (driver, id) = (DriverId::parse("driver#1").unwrap(), DispatchId::parse("dispatch#1").unwrap());
    let (token, now) = (HoldToken::for_offer(&id, 1), SystemClock.now());
    let center = dispatch_core::geo::Coordinate::new(37.5, 127.0).unwrap();
    let ping = [dispatch_runtime::ports::Ping { driver: driver.clone(), position: center, at: now, phone_at: None }];
    let notification = notification();
    tokio::join!(
        ends("record", REDIS_WITHIN, fleet.record(&ping)),
        ends("nearby", REDIS_WITHIN, fleet.nearby(center, &[700], 5, now)),
        ends("hold", REDIS_WITHIN, fleet.hold(&driver, &token, 1000)),
        ends("release", REDIS_WITHIN, fleet.release(&driver, &token)),
        ends("tail", REDIS_WITHIN, fleet.tail(&id)),
        ends("send", REDIS_WITHIN, events.send(&notification)),
    );
}
