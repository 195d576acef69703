//! Duplicated, reordered and lost stream records, with a real table, Redis and engine and a scripted stream.

use std::sync::Arc;
use std::time::Duration;

use dispatch_core::fare::FareTable;
use dispatch_core::geo::Location;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::time::EpochMs;
use dispatch_runtime::adapters::eta::StraightLine;
use dispatch_runtime::adapters::fleet::{RedisConnector, RedisFleet, fleet_entry};
use dispatch_runtime::adapters::messaging::fake::{FakeDevices, FakeEvents, FakeNotifier, FakeResponses, FakeTimers};
use dispatch_runtime::adapters::messaging::{Handled, MessageHandler as _, Received, SqsDeadLetters};
use dispatch_runtime::adapters::store::DynamoStore;
use dispatch_runtime::adapters::store::entity::{DriverItem, UserItem};
use dispatch_runtime::city::{Settings, parse_timestamp};
use dispatch_runtime::engine::Engine;
use dispatch_runtime::ports::clock::{FakeClock, SystemClock};
use dispatch_runtime::ports::{
    AvailabilityChange, Clock as _, CreateOutcome, DriverProfile, FleetPorts, NewDispatch, Ports, ProfileStore as _,
    UserProfile,
};
use dispatch_runtime::roles::{Algorithm, OfferTimeouts, sweep};
use dispatch_runtime::stream::{Leases, Pace, StreamConsumer, StreamSource};
use dispatch_runtime::telemetry::metrics::Metrics;
use dispatch_tests::streams::FakeStreams;
use dispatch_tests::support::{sdk, seoul, until};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::support::{City, Tap, item_of};

const SHARD: &str = "shard";

struct World {
    city: City,
    store: Arc<DynamoStore>,
    engine: Arc<Engine>,
    timers: Arc<FakeTimers>,
    clock: Arc<FakeClock>,
}

fn noon() -> EpochMs {
    parse_timestamp("2025-05-25T12:00:00+09:00").unwrap()
}

fn fixture<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

impl World {
    async fn start() -> Self {
        let city = City::create().await;
        let fare = FareTable { night_surcharges: Vec::new(), ..FareTable::default() };
        let policy = DispatchPolicy { auto_accept: false, ..DispatchPolicy::default() };
        let (_, settings) = watch::channel(Arc::new(Settings::new(policy, fare)));
        let zone = jiff::tz::TimeZone::get("Asia/Seoul").unwrap();
        let of_city = dispatch_runtime::city::City::new("seoul", "KRW", zone, settings);
        let clock = Arc::new(FakeClock::at(noon()));
        let store = Arc::new(DynamoStore::new(city.dynamodb(), &city.config.table.name, 1, of_city.clone()));
        let connector = RedisConnector::new(&city.config.cache).unwrap();
        let fleet = RedisFleet::new(&connector, of_city.clone(), clock.clone());
        let timers = Arc::new(FakeTimers::default());
        let ports = Ports {
            dispatches: store.clone(),
            profiles: store.clone(),
            fleet: FleetPorts::new(&Arc::new(fleet)),
            timers: timers.clone(),
            responses: Arc::new(FakeResponses::default()),
            notifier: Arc::new(FakeNotifier::default()),
            devices: Arc::new(FakeDevices::default()),
            streams: Arc::new(FakeEvents::default()),
            eta: Arc::new(StraightLine::new(of_city.clone())),
            clock: clock.clone(),
        };
        let engine = Arc::new(Engine::new(ports, of_city, Arc::new(Metrics::new())));
        Self { city, store, engine, timers, clock }
    }

    /// Registers a free driver in Myeong-dong.
    async fn driver(&self, number: usize) {
        let id = DriverId::parse(format!("driver#{number:05}")).unwrap();
        let driver: DriverItem = fixture(include_str!("../fixtures/specification/6-driver.json"));
        let profile =
            DriverProfile { phone: driver.phone, vehicle_info: driver.vehicle_info, preferences: driver.preferences };
        self.store.put_driver(&id, profile, self.clock.now()).await.unwrap();
        let here = Location { lat: 37.5650, lng: 126.9780, address: "서울시 중구 명동".to_owned() };
        let now = self.clock.now();
        let change = self.store.set_availability(&id, PersonStatus::Active, &here, now).await.unwrap();
        let AvailabilityChange::Done(driver) = change else { panic!("the driver is not free") };
        self.engine.ports.fleet.positions.fill(&[fleet_entry(&driver).unwrap()]).await.unwrap();
    }

    /// Stores a request of a new user.
    async fn request(&self, number: usize) -> DispatchId {
        let (user, id) = (format!("user#{number:05}"), format!("dispatch#{number:05}"));
        let (user, id) = (UserId::parse(user).unwrap(), DispatchId::parse(id).unwrap());
        let item: UserItem = fixture(include_str!("../fixtures/specification/6-user.json"));
        let profile = UserProfile {
            phone: item.phone,
            payment_methods: item.payment_methods,
            preferences: item.preferences,
            location: item.current_status.current_location,
        };
        let now = self.clock.now();
        self.store.put_user(&user, profile, now).await.unwrap();
        let asked: Value = fixture(include_str!("../fixtures/specification/7.1-dispatch-requested.json"));
        let new = NewDispatch {
            id: id.clone(),
            user,
            pickup: serde_json::from_value(asked["pickupLocation"].clone()).unwrap(),
            destination: serde_json::from_value(asked["destination"].clone()).unwrap(),
            estimated_fare: 12_000,
            max_attempts: 5,
            search_until: now.plus_ms(60_000),
            now,
        };
        assert!(matches!(self.engine.create(new).await.unwrap(), CreateOutcome::Stored(_)));
        id
    }

    /// The number of offers of each dispatch; fails if two offers have one number.
    async fn offers(&self) -> Vec<usize> {
        let dispatches = self.city.dispatches().await;
        let offered = dispatches.iter().map(|dispatch| {
            let events = dispatch["events"].as_array().unwrap();
            let made = events.iter().filter(|event| event["type"] == "DRIVER_ASSIGNED").count();
            assert_eq!(Some(made as u64), dispatch["offerSeq"].as_u64(), "{}", dispatch["PK"]);
            made
        });
        offered.collect()
    }

    /// A consumer that passes a scripted stream to the algorithm, and the token that stops it.
    async fn consumer(&self, fake: &FakeStreams, arn: &str, name: &str) -> (StreamConsumer, CancellationToken) {
        let streams = sdk(&fake.endpoint()).await;
        let sqs = aws_sdk_sqs::Client::new(self.city.clients.config());
        let source = StreamSource {
            client: aws_sdk_dynamodbstreams::Client::new(&streams),
            stream_arn: watch::channel(arn.to_owned()).1,
            leases: Leases::new(self.city.dynamodb(), &self.city.config.lease_table, name, Arc::new(SystemClock)),
            codec: DynamoStore::new(self.city.dynamodb(), &self.city.config.table.name, 1, seoul()).codec().clone(),
            dead_letters: Arc::new(SqsDeadLetters::new(sqs, &self.city.config.queues.offers_dead_letters_url)),
            gap: Arc::new(Notify::new()),
            clock: Arc::new(SystemClock),
            metrics: Arc::new(Metrics::new()),
            pace: Pace { round: Duration::from_millis(100), failover: Duration::from_secs(2), ..Pace::default() },
        };
        (StreamConsumer::new(source, Arc::new(Algorithm(Arc::clone(&self.engine)))), CancellationToken::new())
    }
}

/// Shuffles the records, but keeps the order of the records of each item.
fn shuffled(records: Vec<Value>, seed: u64) -> Vec<Value> {
    let mut state = seed;
    let mut remaining = records;
    let mut order = Vec::new();
    while !remaining.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let index = usize::try_from(state >> 33).unwrap() % remaining.len();
        let first_of_item = remaining.iter().position(|record| item_of(record) == item_of(&remaining[index])).unwrap();
        order.push(remaining.remove(first_of_item));
    }
    order
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_delivered_five_times_and_in_any_order_make_one_offer_each() {
    let world = World::start().await;
    for number in 0..6 {
        world.driver(number).await;
    }
    for number in 0..5 {
        world.request(number).await;
    }
    let mut tap = Tap::open(&world.city, &world.city.config.table.stream_arn).await;
    let records = tap.next().await;
    assert!(records.len() > 20, "{}", records.len());
    for (round, (seed, repeat)) in [(1, 1), (2, 5), (3, 2)].into_iter().enumerate() {
        let fake = FakeStreams::start().await.unwrap();
        let arn = fake.open_stream(&format!("2025-05-25T00:00:00.00{round}"), &[SHARD]);
        fake.set_repeat(repeat);
        for record in shuffled(records.clone(), seed) {
            fake.append(SHARD, record);
        }
        let (consumer, shutdown) = world.consumer(&fake, &arn, &format!("worker-{round}")).await;
        let end = shutdown.clone();
        let running = tokio::spawn(async move { consumer.run(&end).await });
        until("an offer for each request", async || (world.offers().await == [1; 5]).then_some(())).await;
        // The records of the offers themselves are delivered as well.
        for record in tap.next().await {
            fake.append(SHARD, record);
        }
        fake.split(SHARD, &[]);
        until("the end of the shard", async || {
            let rows = world.city.scan(&world.city.config.lease_table).await;
            rows.iter()
                .any(|row| {
                    row["leaseKey"] == format!("2025-05-25T00:00:00.00{round}/{SHARD}")
                        && row["checkpoint"] == "SHARD_END"
                })
                .then_some(())
        })
        .await;
        shutdown.cancel();
        running.await.unwrap();
        assert_eq!(world.offers().await, [1; 5]);
    }
    let drivers: std::collections::HashSet<String> =
        world.city.dispatches().await.iter().map(|dispatch| dispatch["driverId"].to_string()).collect();
    assert_eq!(drivers.len(), 5, "no driver was offered two rides");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweepers_process_lost_requests_once_and_make_no_unnecessary_write() {
    let world = World::start().await;
    world.driver(1).await;
    world.request(1).await;
    let mut tap = Tap::open(&world.city, &world.city.config.table.stream_arn).await;
    tap.next().await;
    sweep(&world.engine).await;
    assert_eq!(world.offers().await, [0], "a young request is left to the stream");
    world.clock.advance_ms(5_000);
    tokio::join!(sweep(&world.engine), sweep(&world.engine), sweep(&world.engine), sweep(&world.engine));
    assert_eq!(world.offers().await, [1]);
    let of_dispatch = |records: &[Value]| records.iter().filter(|record| item_of(record) == "dispatch#00001").count();
    assert_eq!(of_dispatch(&tap.next().await), 1, "the offer is the one write");
    sweep(&world.engine).await;
    assert_eq!(of_dispatch(&tap.next().await), 0, "a live offer is not written to");
    // Its timer is lost: after the time-out the sweeper ends the offer, once.
    world.clock.advance_ms(123_000);
    sweep(&world.engine).await;
    let events = world.city.dispatches().await[0]["events"].clone();
    let ended = events.as_array().unwrap().iter().filter(|event| event["type"] == "DRIVER_REJECTED");
    assert_eq!(ended.count(), 1, "{events}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_late_and_duplicate_timers_and_redriven_dead_letters_end_an_offer_once() {
    let world = World::start().await;
    world.driver(1).await;
    let id = world.request(1).await;
    let timeouts = OfferTimeouts(Arc::clone(&world.engine));
    // A record that was set aside is redriven twice: its dispatch gets one offer.
    let letter = json!({ "dispatchId": id.as_str(), "requestTime": "", "timeoutAt": "", "reason": "failed",
        "shard": "s", "record": { "eventName": "INSERT" } });
    for _ in 0..2 {
        assert_eq!(timeouts.handle(&received(&letter.to_string())).await, Handled::Done);
    }
    assert_eq!(world.offers().await, [1]);
    let (timer, delay_ms) = world.timers.started.take().pop().unwrap();
    let timer = received(&serde_json::to_string(&timer).unwrap());
    world.clock.advance_ms(60_000);
    assert_eq!(timeouts.handle(&timer).await, Handled::Done);
    let (_, left_ms) = world.timers.started.take().pop().unwrap();
    assert_eq!((delay_ms, left_ms), (120_000, 60_000), "an early timer is started again for the rest");
    world.clock.advance_ms(90_000);
    for _ in 0..2 {
        assert_eq!(timeouts.handle(&timer).await, Handled::Done);
    }
    let dispatch = world.city.dispatches().await.remove(0);
    assert_eq!((&dispatch["offerSeq"], &dispatch["driverId"]), (&json!(1), &Value::Null));
    assert_eq!(timeouts.handle(&received("no JSON")).await, Handled::Unreadable);
}

fn received(body: &str) -> Received {
    Received { id: "m".to_owned(), body: body.to_owned(), attributes: std::collections::HashMap::default() }
}
