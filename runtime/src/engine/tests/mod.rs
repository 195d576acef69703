//! The engine with in-memory ports. "The stream" is [`World::stream`]: it passes the stored dispatch to the algorithm,
//! as the consumer does for every change.

mod batching;
mod bills;
mod broken_items;
mod broken_messages;
mod broken_records;
mod deliveries;
mod foreign;
mod presence;
mod ranking;
mod repeated;
mod silent;

use std::sync::Arc;

use dispatch_core::dispatch::{DispatchStatus, Event, EventType, OfferOutcome, Refusal, TripEvent};
use dispatch_core::fare::FareTable;
use dispatch_core::geo::{Coordinate, Location};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::{DriverPreferences, PersonStatus, RideType, UserPreferences, VehicleInfo};
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::route::RoutePoint;
use dispatch_http_types::NotificationKind;
use jiff::tz::TimeZone;
use tokio::sync::watch;

use crate::adapters::eta::fake::FakeRouter;
use crate::adapters::fleet::fake::FakeFleet;
use crate::adapters::fleet::fleet_entry;
use crate::adapters::messaging::fake::{FakeDevices, FakeEvents, FakeNotifier, FakeResponses, FakeTimers};
use crate::adapters::messaging::{Handled, MessageHandler, Received};
use crate::adapters::store::fake::MemoryStore;
use crate::city::{City, Settings, parse_timestamp};
use crate::engine::{Engine, EngineError, Trigger};
use crate::ports::clock::FakeClock;
use crate::ports::{
    Clock, CreateOutcome, DispatchStore, DriverProfile, FleetPorts, NewDispatch, Ports, PositionSink as _,
    ProfileStore, RouteTails as _, StoredDispatch, UserProfile,
};
use crate::roles::{OfferTimeouts, sweep};
use crate::telemetry::metrics::Metrics;
use crate::testing::faults::{FailAt, Failing, Faults};

struct World {
    engine: Arc<Engine>,
    settings: watch::Sender<Arc<Settings>>,
    store: MemoryStore,
    fleet: Arc<FakeFleet>,
    clock: Arc<FakeClock>,
    router: Arc<FakeRouter>,
    timers: Arc<FakeTimers>,
    responses: Arc<FakeResponses>,
    notifier: Arc<FakeNotifier>,
    devices: Arc<FakeDevices>,
    push: Faults,
    redis: Faults,
    queues: Faults,
    table: Faults,
    profiles: Faults,
    roads: Faults,
}

/// Shared ports behind a fault plan.
struct Shared<P>(Arc<P>);

macro_rules! forward {
    ($port:ident for $fake:ident { $(async fn $call:ident(&self, $($arg:ident: $kind:ty),*) -> $result:ty;)* }) => {
        #[async_trait::async_trait]
        impl crate::ports::$port for Shared<$fake> {
            $(async fn $call(&self, $($arg: $kind),*) -> Result<$result, crate::ports::PortError> {
                self.0.$call($($arg),*).await
            })*
        }
    };
}

forward!(OfferTimers for FakeTimers {
    async fn start(&self, message: &crate::ports::TimerMessage, delay_ms: u64) -> ();
});
forward!(ResponseQueue for FakeResponses {
    async fn send(&self, message: &crate::ports::ResponseMessage) -> ();
});
forward!(Notifier for FakeNotifier {
    async fn publish(&self, notifications: &[dispatch_http_types::Notification]) -> ();
});
forward!(DevicePush for FakeDevices {
    async fn register(&self, person: &crate::ports::Person, token: &str) -> Option<crate::ports::Device>;
    async fn assign(&self, endpoint_arn: &str, person: &crate::ports::Person, token: &str) -> ();
    async fn unregister(&self, endpoint_arn: &str, person: &crate::ports::Person) -> ();
    async fn push(&self, endpoint_arn: &str, notification: &dispatch_http_types::Notification,
        expires_at: dispatch_core::time::EpochMs) -> crate::ports::PushOutcome;
});
forward!(Eta for FakeRouter {
    async fn seconds(&self, from: &[Coordinate], to: Coordinate) -> Vec<Option<u32>>;
});
forward!(PositionSink for FakeFleet {
    async fn put(&self, entries: &[crate::ports::FleetEntry]) -> ();
    async fn fill(&self, entries: &[crate::ports::FleetEntry]) -> ();
    async fn last_pings(&self, drivers: &[DriverId]) -> Vec<Option<dispatch_core::time::EpochMs>>;
    async fn last_signs(&self, drivers: &[DriverId]) -> Vec<Option<dispatch_core::time::EpochMs>>;
    async fn record(&self, pings: &[crate::ports::Ping]) -> Vec<crate::ports::PingOutcome>;
    async fn forget(&self, drivers: &[DriverId], routes: &[DispatchId]) -> ();
});
forward!(DriverSearch for FakeFleet {
    async fn nearby(&self, center: Coordinate, rings_m: &[u32], enough: usize, now: dispatch_core::time::EpochMs)
        -> Option<Vec<dispatch_core::candidate::DriverSnapshot>>;
});
forward!(Reservations for FakeFleet {
    async fn hold(&self, driver: &DriverId, token: &crate::ports::HoldToken, for_ms: u64) -> bool;
    async fn release(&self, driver: &DriverId, token: &crate::ports::HoldToken) -> ();
    async fn offer_ended(&self, driver: &DriverId, outcome: dispatch_core::dispatch::OfferOutcome, rest_ms: u64,
        now: dispatch_core::time::EpochMs) -> u32;
    async fn set_status(&self, driver: &DriverId, status: PersonStatus, dispatch: Option<&DispatchId>) -> ();
});
forward!(RouteTails for FakeFleet {
    async fn push(&self, points: &[(DispatchId, RoutePoint)]) -> Vec<(DispatchId, crate::ports::RouteTail)>;
    async fn trim(&self, id: &DispatchId, chunk: u32, count: usize) -> ();
    async fn tail(&self, id: &DispatchId) -> crate::ports::RouteTail;
});

fn settings() -> Settings {
    let fare = FareTable { night_surcharges: Vec::new(), ..FareTable::default() };
    Settings::new(DispatchPolicy::default(), fare)
}

fn place(lat: f64, address: &str) -> Location {
    Location { lat, lng: 126.9784, address: address.to_owned() }
}

fn driver_id(number: u32) -> DriverId {
    DriverId::parse(format!("driver#{number:05}")).unwrap()
}

fn user_id() -> UserId {
    UserId::parse("user#00001").unwrap()
}

impl World {
    fn new() -> Self {
        Self::by(settings())
    }

    fn by(settings: Settings) -> Self {
        let (settings, receiver) = watch::channel(Arc::new(settings));
        let city = City::new("seoul", "KRW", TimeZone::get("Asia/Seoul").unwrap(), receiver);
        let clock = Arc::new(FakeClock::at(parse_timestamp("2025-05-25T15:30:00+09:00").unwrap()));
        let store = MemoryStore::new(city.clone());
        let fleet = Arc::new(FakeFleet::new(city.clone(), clock.clone()));
        let (timers, responses) = (Arc::new(FakeTimers::default()), Arc::new(FakeResponses::default()));
        let notifier = Arc::new(FakeNotifier::default());
        let (redis, queues, table) = (Faults::default(), Faults::default(), Faults::default());
        let (profiles, push) = (Faults::default(), Faults::default());
        let devices = Arc::new(FakeDevices::default());
        let (router, roads) = (Arc::new(FakeRouter::default()), Faults::default());
        let ports = Ports {
            dispatches: Arc::new(Failing::new(store.clone(), table.clone())),
            profiles: Arc::new(Failing::new(store.clone(), profiles.clone())),
            fleet: FleetPorts::new(&Arc::new(Failing::new(Shared(fleet.clone()), redis.clone()))),
            timers: Arc::new(Failing::new(Shared(timers.clone()), queues.clone())),
            responses: Arc::new(Failing::new(Shared(responses.clone()), queues.clone())),
            notifier: Arc::new(Failing::new(Shared(notifier.clone()), queues.clone())),
            devices: Arc::new(Failing::new(Shared(devices.clone()), push.clone())),
            streams: Arc::new(Failing::new(FakeEvents::default(), redis.clone())),
            eta: Arc::new(Failing::new(Shared(router.clone()), roads.clone())),
            clock: clock.clone(),
        };
        let engine = Arc::new(Engine::new(ports, city, Arc::new(Metrics::new())));
        Self {
            engine,
            settings,
            store,
            fleet,
            clock,
            router,
            timers,
            responses,
            notifier,
            devices,
            push,
            redis,
            queues,
            table,
            profiles,
            roads,
        }
    }

    /// A world with a warm cache and drivers 1 to `count`, each about 330 m farther from the pickup.
    async fn with_drivers(count: u32) -> Self {
        Self::by_with_drivers(settings(), count).await
    }

    async fn by_with_drivers(settings: Settings, count: u32) -> Self {
        let world = Self::by(settings);
        world.fleet.fill(&[]).await.unwrap();
        for number in 1..=count {
            world.driver(number, false).await;
        }
        world
    }

    async fn driver(&self, number: u32, auto_accept: bool) {
        self.driver_at(number, auto_accept, 37.5662 + f64::from(number) * 0.003).await;
    }

    async fn driver_at(&self, number: u32, auto_accept: bool, lat: f64) {
        let id = driver_id(number);
        let preferences = DriverPreferences {
            default_ride_type: Some(RideType::Standard),
            preferred_regions: vec!["중구".to_owned()],
            max_distance: 20.0,
            auto_accept,
            minimum_fare: 0,
        };
        let vehicle_info =
            VehicleInfo { manufacturer: "현대".to_owned(), license_plate: "서울12가3456".to_owned() };
        let profile = DriverProfile { phone: "01012341234".to_owned(), vehicle_info, preferences };
        let now = self.clock.now();
        self.store.put_driver(&id, profile, now).await.unwrap();
        let at = place(lat, "서울시 중구 명동");
        self.store.set_availability(&id, PersonStatus::Active, &at, now).await.unwrap();
        self.fleet.put(&[fleet_entry(&self.driver_item(number).await).unwrap()]).await.unwrap();
    }

    async fn driver_item(&self, number: u32) -> crate::ports::Driver {
        self.store.drivers(&[driver_id(number)]).await.unwrap().remove(0)
    }

    async fn request(&self) -> DispatchId {
        self.request_at(1, 37.5662).await
    }

    /// A request of a separate user.
    async fn request_at(&self, number: u32, lat: f64) -> DispatchId {
        let user = UserId::parse(format!("user#{number:05}")).unwrap();
        let preferences = UserPreferences { default_ride_type: RideType::Standard, favorite_locations: Vec::new() };
        let location = place(lat, "서울시 중구 명동");
        let profile = UserProfile {
            phone: "01012341234".to_owned(),
            payment_methods: Vec::new(),
            preferences,
            location: location.clone(),
        };
        let now = self.clock.now();
        self.store.put_user(&user, profile, now).await.unwrap();
        let new = NewDispatch {
            id: DispatchId::parse(format!("dispatch#{number:05}")).unwrap(),
            user,
            pickup: location,
            destination: place(37.5730, "서울시 종로구 종로"),
            estimated_fare: 12_000,
            max_attempts: 5,
            search_until: now.plus_ms(60_000),
            now,
        };
        let CreateOutcome::Stored(stored) = self.engine.create(new).await.unwrap() else { panic!("stored") };
        stored.state.id
    }

    /// A message of the `offers` queue arrives and is handled.
    async fn deliver_timer(&self, body: String) {
        let message = Received { id: String::new(), body, attributes: std::collections::HashMap::new() };
        assert_eq!(OfferTimeouts(Arc::clone(&self.engine)).handle(&message).await, Handled::Done);
    }

    async fn stored(&self) -> StoredDispatch {
        self.store.load(&DispatchId::parse("dispatch#00001").unwrap()).await.unwrap().unwrap()
    }

    /// The stream delivers the current dispatch.
    async fn stream(&self) {
        self.engine.advance(self.stored().await, Trigger::Event).await.unwrap();
    }

    /// The number of the driver who has the open offer.
    async fn offered(&self) -> Option<u32> {
        let state = self.stored().await.state;
        let driver = state.driver.as_ref().filter(|_| state.has_live_offer())?;
        driver.suffix().parse().ok()
    }

    async fn events(&self) -> Vec<EventType> {
        self.stored().await.details.events.iter().filter_map(|event| event.event_type.known()).collect()
    }

    async fn answer(&self, event: impl FnOnce(DriverId, u32) -> Event) -> Result<crate::engine::Advance, EngineError> {
        let state = self.stored().await.state;
        let driver = state.driver.clone().unwrap();
        self.engine.apply(&state.id, event(driver, state.offer_seq)).await
    }

    fn notified(&self) -> Vec<(NotificationKind, String)> {
        self.notifier.published.all().iter().map(|sent| (sent.kind, sent.recipient.clone())).collect()
    }
}

fn accept(driver: DriverId, offer_seq: u32) -> Event {
    Event::Accept { driver, offer_seq }
}

fn reject(driver: DriverId, offer_seq: u32) -> Event {
    Event::Reject { driver, offer_seq }
}

#[tokio::test]
async fn a_rejected_offer_goes_to_the_next_driver_who_accepts() {
    let world = World::with_drivers(2).await;
    let id = world.request().await;
    world.stream().await;
    assert_eq!(world.offered().await, Some(1));
    let (timer, delay_ms) = world.timers.started.take().remove(0);
    assert_eq!((timer.offer_seq, timer.driver_id.as_deref(), delay_ms), (Some(1), Some("driver#00001"), 120_000));
    assert_eq!(timer.timeout_at, "2025-05-25T15:32:00+09:00");

    world.answer(reject).await.unwrap();
    assert_eq!(world.offered().await, None);
    world.stream().await;
    assert_eq!(world.offered().await, Some(2));
    let applied = world.answer(accept).await.unwrap();
    assert_eq!((applied.stored.state.status, applied.changed), (DispatchStatus::Accepted, true));

    let answers: Vec<_> = world.responses.sent.all().iter().map(|sent| (sent.offer_seq, sent.response)).collect();
    assert_eq!(answers, [(1, OfferOutcome::Rejected), (2, OfferOutcome::Accepted)]);
    let offers = world.notified();
    assert_eq!(offers[0], (NotificationKind::Offer, "driver#00001".to_owned()));
    assert_eq!(offers[1], (NotificationKind::Offer, "driver#00002".to_owned()));
    assert_eq!(world.driver_item(2).await.current_status.dispatch.as_ref(), Some(&id));
    let cached = world.fleet.entry(&driver_id(2)).unwrap();
    assert_eq!((cached.status, cached.dispatch), (PersonStatus::Dispatched, Some(id)));
    assert_eq!(world.fleet.holder(&driver_id(2)), None);
    let metrics = world.engine.metrics.encode().unwrap();
    for line in ["dispatch_requests_total 1", "dispatch_offers_total 2", "dispatch_accepted_total 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn the_offer_contains_the_message_of_the_specification() {
    let world = World::with_drivers(1).await;
    world.request().await;
    world.stream().await;
    let body = serde_json::to_value(&world.notifier.published.take()[0].body).unwrap();
    assert_eq!(body["message"], "새로운 배차 요청이 있습니다");
    assert_eq!(body["pickupAddress"], "서울시 중구 명동");
    assert_eq!(body["destinationAddress"], "서울시 종로구 종로");
    assert_eq!(body["estimatedFare"], 12000);
    assert_eq!(body["estimatedDistance"], "1.0km");
    assert!(body.get("lat").is_none() && !body.to_string().contains("37.5"), "{body}");
}

#[tokio::test]
async fn all_attempts_used_up_ends_the_request() {
    let world = World::with_drivers(6).await;
    world.request().await;
    for number in 1..=5 {
        world.stream().await;
        assert_eq!(world.offered().await, Some(number));
        world.answer(reject).await.unwrap();
    }
    world.stream().await;
    assert_eq!(world.stored().await.state.status, DispatchStatus::Cancelled);
}

#[tokio::test]
async fn a_driver_with_auto_accept_has_the_ride_at_once() {
    let world = World::with_drivers(0).await;
    world.driver(1, true).await;
    world.request().await;
    world.stream().await;
    let state = world.stored().await.state;
    assert_eq!((state.status, state.driver), (DispatchStatus::Accepted, Some(driver_id(1))));
    assert_eq!(world.responses.sent.all()[0].response, OfferOutcome::Accepted);
}

#[tokio::test]
async fn a_driver_who_is_busy_in_the_table_loses_the_offer_and_the_search_continues() {
    let world = World::with_drivers(2).await;
    world.request().await;
    world.stream().await;
    let at = place(37.5662, "서울시 중구 명동");
    world.store.set_availability(&driver_id(1), PersonStatus::Inactive, &at, world.clock.now()).await.unwrap();
    let refused = world.answer(accept).await;
    assert!(matches!(refused, Err(EngineError::Refused { refusal: Refusal::OfferOver, .. })), "{refused:?}");
    assert_eq!(world.fleet.entry(&driver_id(1)).unwrap().status, PersonStatus::Inactive);
    world.stream().await;
    assert_eq!(world.offered().await, Some(2));
}

#[tokio::test]
async fn a_cold_cache_is_filled_from_the_table() {
    let world = World::with_drivers(2).await;
    world.fleet.wipe();
    world.request().await;
    world.stream().await;
    assert_eq!(world.offered().await, Some(1));
    assert!(world.fleet.entry(&driver_id(2)).is_some());
}

#[tokio::test]
async fn dispatching_continues_without_redis_and_without_queues() {
    let world = World::with_drivers(1).await;
    world.request().await;
    world.redis.set_down(true);
    world.queues.set_down(true);
    world.stream().await;
    assert_eq!(world.offered().await, Some(1));
    let applied = world.answer(accept).await.unwrap();
    assert_eq!(applied.stored.state.status, DispatchStatus::Accepted);
    assert!(world.engine.metrics.encode().unwrap().contains("dispatch_port_errors_total"));
}

#[tokio::test]
async fn a_lost_answer_of_the_table_is_detected() {
    for at in [FailAt::Before, FailAt::After] {
        let world = World::with_drivers(1).await;
        world.request().await;
        world.table.fail_call(1, at);
        assert!(matches!(world.engine.advance(world.stored().await, Trigger::Event).await, Err(EngineError::Port(_))));
        world.stream().await;
        assert_eq!(world.offered().await, Some(1), "{at:?}");
        assert_eq!(world.stored().await.state.offer_seq, 1, "{at:?}");
    }
}

#[tokio::test]
async fn the_sweeper_continues_dispatches_whose_messages_were_lost() {
    let world = World::with_drivers(2).await;
    world.request().await;
    sweep(&world.engine).await;
    assert_eq!(world.offered().await, None, "a new request is left to the stream");
    world.clock.advance_ms(3_000);
    sweep(&world.engine).await;
    assert_eq!(world.offered().await, Some(1));
    world.clock.advance_ms(121_000);
    sweep(&world.engine).await;
    assert_eq!(world.offered().await, Some(1), "an offer that has just timed out is left to its timer");
    world.clock.advance_ms(1_000);
    sweep(&world.engine).await;
    assert_eq!(world.events().await.last(), Some(&EventType::DriverRejected));
}

#[tokio::test]
async fn a_cancelled_request_frees_and_notifies_its_driver() {
    let world = World::with_drivers(1).await;
    let id = world.request().await;
    world.stream().await;
    world.engine.apply(&id, Event::CancelByUser { user: user_id() }).await.unwrap();
    assert_eq!(world.fleet.holder(&driver_id(1)), None);
    assert_eq!(world.notified().last(), Some(&(NotificationKind::DispatchCancelled, "driver#00001".to_owned())));
    let late = world.engine.apply(&id, accept(driver_id(1), 1)).await;
    assert!(matches!(late, Err(EngineError::Refused { .. })));
}

#[tokio::test]
async fn a_completed_trip_is_measured_from_when_the_passenger_got_on_board() {
    let world = World::with_drivers(1).await;
    let id = world.request().await;
    world.stream().await;
    world.answer(accept).await.unwrap();
    let point = |step: i64| RoutePoint {
        position: Coordinate::new(37.5662 + 0.001 * step as f64, 126.9784).unwrap(),
        at: world.clock.now(),
    };
    world.fleet.push(&[(id.clone(), point(-50))]).await.unwrap();
    world.clock.advance_ms(60_000);
    let driver = driver_id(1);
    let report = |event| Event::Trip { driver: driver.clone(), event };
    for event in [TripEvent::DriverArrived, TripEvent::PassengerPickedUp, TripEvent::TripStarted] {
        world.engine.apply(&id, report(event)).await.unwrap();
    }
    for step in 0..=20 {
        world.fleet.push(&[(id.clone(), point(step))]).await.unwrap();
        world.clock.advance_ms(15_000);
    }
    let other = world.engine.complete_trip(&id, &driver_id(2)).await;
    assert!(matches!(other, Err(EngineError::Refused { refusal: Refusal::NotYours, .. })));
    let done = world.engine.complete_trip(&id, &driver).await.unwrap();
    assert_eq!(done.stored.state.status, DispatchStatus::Completed);
    let item = &done.stored.details;
    assert_eq!((item.duration_s, item.route.len()), (315, 21));
    assert!((2200..2250).contains(&item.distance_m), "{}", item.distance_m);
    // 4800 + 5 distance steps + 10 time steps.
    assert_eq!(item.actual_fare, 6300);
    assert!(!world.engine.complete_trip(&id, &driver).await.unwrap().changed);
    assert_eq!(world.fleet.entry(&driver).unwrap().status, PersonStatus::Active);
    assert_eq!(world.driver_item(1).await.current_status.status, PersonStatus::Active);
}

#[tokio::test]
async fn a_trip_without_a_route_costs_what_was_estimated() {
    let world = World::with_drivers(1).await;
    let id = world.request().await;
    world.stream().await;
    world.answer(accept).await.unwrap();
    let event = Event::Trip { driver: driver_id(1), event: TripEvent::PassengerPickedUp };
    world.engine.apply(&id, event).await.unwrap();
    let done = world.engine.complete_trip(&id, &driver_id(1)).await.unwrap();
    assert_eq!((done.stored.details.actual_fare, done.stored.details.route.len()), (12_000, 0));
}

#[tokio::test]
async fn an_unknown_dispatch_is_not_found() {
    let world = World::new();
    let id = DispatchId::parse("dispatch#unknown").unwrap();
    assert!(matches!(world.engine.apply(&id, Event::Wake).await, Err(EngineError::NotFound)));
}
