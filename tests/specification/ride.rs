//! The ride of spec §7, played by the engine on the stack that the operator creates from `examples/seoul.yaml`. At each
//! step the table, the cache and the queues contain what the text shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use dispatch_api::worker_config::{CacheConfig, WorkerConfig};
use dispatch_core::dispatch::{Event, TripEvent};
use dispatch_core::fare::FareTable;
use dispatch_core::geo::{Coordinate, Location};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use dispatch_operator::cloud::aws::AwsClients;
use dispatch_operator::engine::progress::Silent;
use dispatch_operator::engine::reconcile::reconcile;
use dispatch_operator::engine::settings;
use dispatch_operator::engine::worker_config::{WorkerOverrides, worker_config};
use dispatch_runtime::adapters::eta::StraightLine;
use dispatch_runtime::adapters::fleet::{RedisConnector, RedisFleet, fleet_entry};
use dispatch_runtime::adapters::messaging::fake::{FakeDevices, FakeEvents, FakeResponses, FakeTimers};
use dispatch_runtime::adapters::messaging::{SnsNotifier, SqsTimers};
use dispatch_runtime::adapters::store::DynamoStore;
use dispatch_runtime::adapters::store::entity::{DriverItem, UserItem};
use dispatch_runtime::city::{City, Settings, parse_timestamp};
use dispatch_runtime::engine::{Engine, Trigger};
use dispatch_runtime::ports::clock::{FakeClock, SystemClock};
use dispatch_runtime::ports::{
    AvailabilityChange, Clock, CreateOutcome, DriverProfile, FleetPorts, NewDispatch, OfferTimers as _, Ping,
    PingOutcome, Ports, ProfileStore as _, UserProfile,
};
use dispatch_runtime::telemetry::metrics::Metrics;
use dispatch_tests::ministack::{Ministack, REGION};
use dispatch_tests::redis::RedisServer;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{fixture, numbers_as_floats, without_additions};

const DELIVERED_WITHIN: Duration = Duration::from_secs(20);

struct Story {
    engine: Engine,
    stack: Stack,
    store: Arc<DynamoStore>,
    /// Records timers without starting them, because the specification's offers last two minutes.
    timers: Arc<FakeTimers>,
    clock: Arc<FakeClock>,
    redis: RedisServer,
    user: UserId,
    driver: DriverId,
    dispatch: DispatchId,
}

fn at(text: &str) -> EpochMs {
    parse_timestamp(&format!("2025-05-25T{text}+09:00")).unwrap()
}

/// A city whose settings yield the specification's numbers: a straight line of 769 m is its `2.5km` of road.
fn city() -> City {
    let fare = FareTable { night_surcharges: Vec::new(), road_factor_percent: 325, ..FareTable::default() };
    // The specification's driver was last seen 90 s before the offer, and answers by hand although `autoAccept` is set.
    let policy = DispatchPolicy { stale_after_ms: 120_000, auto_accept: false, ..DispatchPolicy::default() };
    let (_, settings) = watch::channel(Arc::new(Settings::new(policy, fare)));
    City::new("seoul", "KRW", TimeZone::get("Asia/Seoul").unwrap(), settings)
}

/// The city's AWS environment, created by the operator.
struct Stack {
    _ministack: Ministack,
    clients: AwsClients,
    config: WorkerConfig,
}

impl Stack {
    async fn create() -> Self {
        let ministack = Ministack::start().await.expect("ministack starts");
        let clients = AwsClients::emulated(REGION, &ministack.endpoint()).await;
        let manifests = read_manifests(include_str!("../../examples/seoul.yaml")).unwrap();
        let system = ValidatedSystem::try_from_raw(&manifests[0]).unwrap();
        let settings = settings::Settings::default();
        let made = reconcile(&system, &clients.ports(), &settings, &mut Silent).await.unwrap();
        let config = worker_config(&system, &made.outputs.unwrap(), &WorkerOverrides::default());
        Self { _ministack: ministack, clients, config }
    }

    fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(self.clients.config())
    }

    fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(self.clients.config())
    }

    /// Receives the next message of a queue.
    async fn next_of(&self, queue_url: &str) -> Value {
        let deadline = Instant::now() + DELIVERED_WITHIN;
        loop {
            let answer = self.sqs().receive_message().queue_url(queue_url).wait_time_seconds(2).send().await.unwrap();
            if let Some(body) = answer.messages().first().and_then(|message| message.body()) {
                return serde_json::from_str(body).unwrap();
            }
            assert!(Instant::now() < deadline, "nothing came from {queue_url}");
        }
    }
}

impl Story {
    async fn begin() -> Self {
        let (stack, redis) = (Stack::create().await, RedisServer::start().await.expect("redis starts"));
        let (city, clock) = (city(), Arc::new(FakeClock::at(at("15:29:00"))));
        let store = Arc::new(DynamoStore::new(stack.dynamodb(), &stack.config.table.name, 1, city.clone()));
        let connector = RedisConnector::new(&CacheConfig { url: redis.url(), auth_token_env: None }).unwrap();
        let fleet = RedisFleet::new(&connector, city.clone(), clock.clone());
        let timers = Arc::new(FakeTimers::default());
        let sns = aws_sdk_sns::Client::new(stack.clients.config());
        let ports = Ports {
            dispatches: store.clone(),
            profiles: store.clone(),
            fleet: FleetPorts::new(&Arc::new(fleet)),
            timers: timers.clone(),
            responses: Arc::new(FakeResponses::default()),
            notifier: Arc::new(SnsNotifier::new(sns, &stack.config.notifications.topic_arn)),
            devices: Arc::new(FakeDevices::default()),
            streams: Arc::new(FakeEvents::default()),
            eta: Arc::new(StraightLine::new(city.clone())),
            clock: clock.clone(),
        };
        let engine = Engine::new(ports, city, Arc::new(Metrics::new()));
        let begun = Self {
            engine,
            stack,
            store,
            timers,
            clock,
            redis,
            user: UserId::parse("user#00001").unwrap(),
            driver: DriverId::parse("driver#00001").unwrap(),
            dispatch: DispatchId::parse("dispatch#00001").unwrap(),
        };
        begun.people().await;
        begun
    }

    /// Registers the specification's user and driver; the driver is free and was seen at 15:29.
    async fn people(&self) {
        let user: UserItem = serde_json::from_value(fixture("6-user")).unwrap();
        let now = self.clock.now();
        let profile = UserProfile {
            phone: user.phone,
            payment_methods: user.payment_methods,
            preferences: user.preferences,
            location: user.current_status.current_location,
        };
        self.store.put_user(&self.user, profile, now).await.unwrap();
        let mut driver = fixture("6-driver");
        driver["preferences"] = fixture("7.3-driver-preferences")["preferences"].clone();
        let driver: DriverItem = serde_json::from_value(driver).unwrap();
        let profile =
            DriverProfile { phone: driver.phone, vehicle_info: driver.vehicle_info, preferences: driver.preferences };
        self.store.put_driver(&self.driver, profile, now).await.unwrap();
        let here = Location { lat: 37.5650, lng: 126.9780, address: "서울시 중구 명동".to_owned() };
        let active = self.store.set_availability(&self.driver, PersonStatus::Active, &here, now).await.unwrap();
        let AvailabilityChange::Done(driver) = active else { panic!("the driver is not free") };
        self.engine.ports.fleet.positions.fill(&[fleet_entry(&driver).unwrap()]).await.unwrap();
    }

    fn advance_to(&self, text: &str) {
        self.clock.advance_ms(at(text).0 - self.clock.now().0);
    }

    async fn request_at_15_30(&self) {
        self.advance_to("15:30:00");
        let asked = fixture("7.1-dispatch-requested");
        let now = self.clock.now();
        let new = NewDispatch {
            id: self.dispatch.clone(),
            user: self.user.clone(),
            pickup: serde_json::from_value(asked["pickupLocation"].clone()).unwrap(),
            destination: serde_json::from_value(asked["destination"].clone()).unwrap(),
            estimated_fare: 12_000,
            max_attempts: 5,
            search_until: now.plus_ms(60_000),
            now,
        };
        assert!(matches!(self.engine.create(new).await.unwrap(), CreateOutcome::Stored(_)));
    }

    async fn offer_at_15_30_30(&self) {
        self.advance_to("15:30:30");
        self.engine.advance_by_id(&self.dispatch, Trigger::Event).await.unwrap();
    }

    async fn apply(&self, event: Event) {
        assert!(self.engine.apply(&self.dispatch, event).await.unwrap().changed);
    }

    async fn item(&self, pk: &str, sk: &str) -> Value {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let read = self.stack.dynamodb().get_item().table_name(&self.stack.config.table.name).consistent_read(true);
        let found = read.key("PK", text(pk)).key("SK", text(sk)).send().await.unwrap().item;
        serde_dynamo::from_item(found.unwrap_or_else(|| panic!("no {pk} {sk}"))).unwrap()
    }

    async fn stored_dispatch(&self) -> Value {
        self.item("dispatch#00001", "METADATA").await
    }

    /// The driver's entry in Redis, in the form of spec §7.3.
    async fn cached(&self) -> Value {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let fields: BTreeMap<String, String> =
            redis::cmd("HGETALL").arg("drv:{seoul}:driver#00001").query_async(&mut connection).await.unwrap();
        let number = |name: &str| fields[name].parse::<f64>().unwrap();
        json!({ "driver#00001": {
            "lat": number("lat"), "lng": number("lng"), "lastUpdate": fields["lastUpdate"], "status": fields["status"]
        } })
    }
}

/// Fails unless `item` contains what the specification shows: maps may have more members, `events` earlier entries.
fn assert_contains(item: &Value, shown: &Value) {
    match (item, shown) {
        (Value::Object(item), Value::Object(shown)) => {
            for (name, value) in shown {
                let found = item.get(name).unwrap_or_else(|| panic!("{name} is missing in {item:#?}"));
                match (found, value) {
                    (Value::Array(events), Value::Array(new)) if name == "events" => {
                        assert!(events.ends_with(new), "{new:#?} does not end {events:#?}");
                    }
                    _ => assert_contains(found, value),
                }
            }
        }
        (item, shown) => {
            let (mut item, mut shown) = (item.clone(), shown.clone());
            numbers_as_floats(&mut item);
            numbers_as_floats(&mut shown);
            assert_eq!(item, shown);
        }
    }
}

/// The item without index keys and without the milliseconds of its sort key; the examples of spec §7 have neither.
fn as_the_example(mut item: Value) -> Value {
    item["SK"] = json!(item["SK"].as_str().unwrap().replace(".000", ""));
    item.as_object_mut().unwrap().retain(|name, _| !name.starts_with("GSI"));
    without_additions(item)
}

#[tokio::test]
async fn a_ride_stores_and_sends_what_the_specification_shows() {
    let story = Story::begin().await;
    assert_eq!(story.cached().await, fixture("7.3-cached-driver"));
    assert_contains(&story.item("driver#00001", "PROFILE").await, &fixture("7.3-driver-preferences"));

    story.request_at_15_30().await;
    let mut expected = fixture("7.1-dispatch-requested");
    numbers_as_floats(&mut expected);
    assert_eq!(as_the_example(story.stored_dispatch().await), expected);
    assert_contains(&story.item("user#00001", "PROFILE").await, &fixture("7.1-user-dispatched"));

    story.offer_at_15_30_30().await;
    assert_contains(&story.stored_dispatch().await, &fixture("7.4-dispatch-assigned"));
    assert_messages(&story).await;

    story.advance_to("15:31:00");
    story.apply(Event::Accept { driver: story.driver.clone(), offer_seq: 1 }).await;
    assert_contains(&story.stored_dispatch().await, &fixture("7.5-dispatch-accepted"));
    assert_contains(&story.item("driver#00001", "PROFILE").await, &fixture("7.5-driver-dispatched"));
    let history = story.item("driver#00001", "DISPATCHED#2025-05-25T15:31:00.000").await;
    let keys = |item: &Value| item.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&as_the_example(history)), keys(&fixture("6-driver-status-history")));

    story.advance_to("15:35:00");
    let seen = fixture("7.6-route-entry");
    let position = Coordinate::new(seen["lat"].as_f64().unwrap(), seen["lng"].as_f64().unwrap()).unwrap();
    let now = story.clock.now();
    let recorded = story
        .engine
        .ports
        .fleet
        .positions
        .record(&[Ping { driver: story.driver.clone(), position, at: now, phone_at: None }])
        .await;
    assert_eq!(recorded.unwrap(), [PingOutcome::OnDispatch(story.dispatch.clone())]);
    // Pings are dated by the clock of Redis, which this story cannot set.
    let (mut cached, expected) = (story.cached().await, fixture("7.6-cached-driver"));
    let dated = cached["driver#00001"]["lastUpdate"].take();
    let dated = parse_timestamp(dated.as_str().unwrap()).expect("a time in the format of the specification");
    assert!(SystemClock.now().0.abs_diff(dated.0) < 60_000);
    cached["driver#00001"]["lastUpdate"] = expected["driver#00001"]["lastUpdate"].clone();
    assert_eq!(cached, expected);
    story.apply(Event::Trip { driver: story.driver.clone(), event: TripEvent::PassengerPickedUp }).await;
    let point = (story.dispatch.clone(), RoutePoint { position, at: now });
    story.engine.ports.fleet.routes.push(&[point]).await.unwrap();

    story.advance_to("15:45:00");
    story.engine.complete_trip(&story.dispatch, &story.driver).await.unwrap();
    assert_histories(&story).await;
    let stored = story.stored_dispatch().await;
    let route = &stored["route"];
    assert_eq!(keys(&route[0]), keys(&seen));
    assert_eq!((&route[0]["lat"], &route[0]["timestamp"]), (&seen["lat"], &seen["timestamp"]));
}

async fn assert_messages(story: &Story) {
    let queues = &story.stack.config.queues;
    assert_contains(&story.stack.next_of(&queues.notifications_url).await, &fixture("7.4-sns-message"));
    let (timer, delay_ms) = story.timers.started.all().pop().unwrap();
    assert_eq!(delay_ms, 120_000);
    // Sends the same message through the real queue without a delay.
    SqsTimers::new(story.stack.sqs(), &queues.offers_url).start(&timer, 0).await.unwrap();
    let mut timer = story.stack.next_of(&queues.offers_url).await;
    assert_eq!(timer.as_object_mut().unwrap().remove("offerSeq"), Some(json!(1)));
    assert_eq!(timer, fixture("7.4-sqs-message"));
}

async fn assert_histories(story: &Story) {
    let history = story.item("user#00001", "DISPATCH#2025-05-25T15:45:00.000#dispatch#00001").await;
    let mut expected = fixture("7.6-user-dispatch-history");
    numbers_as_floats(&mut expected);
    assert_eq!(as_the_example(history), expected);
    let ride = story.item("driver#00001", "COMPLETED#2025-05-25T15:45:00.000#dispatch#00001").await;
    let mut expected = fixture("7.6-driver-completed-ride");
    // The specification's ride lasts 900 s and ends at 15:45, so its pickup would precede the acceptance at 15:31. This
    // one begins at 15:35.
    expected["duration"] = json!(600);
    numbers_as_floats(&mut expected);
    assert_eq!(as_the_example(ride), expected);
}

#[tokio::test]
async fn a_rejection_appends_the_event_of_section_7_5() {
    let story = Story::begin().await;
    story.request_at_15_30().await;
    story.offer_at_15_30_30().await;
    story.advance_to("15:31:00");
    story.apply(Event::Reject { driver: story.driver.clone(), offer_seq: 1 }).await;
    let item = story.stored_dispatch().await;
    assert_eq!(item["events"].as_array().unwrap().last(), Some(&fixture("7.5-event-rejected")));
    assert_eq!((&item["status"], &item["driverId"]), (&json!("REQUESTED"), &Value::Null));
}
