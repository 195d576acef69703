//! Tests of the API as clients see it.

mod access;
mod audit;
mod canary;
mod documents;
mod heads;
mod idempotency;
mod locations;
mod middleware;
mod operations;
mod persons;
mod privacy;
mod problems;
mod requests;
mod rides;
mod roles;
mod routes;
mod shares;
mod streams;
mod strict;
mod wire;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use dispatch_api::worker_config::LimitsConfig;
use dispatch_core::dispatch::{CandidateRef, Event};
use dispatch_core::fare::FareTable;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::privacy::PrivacyPolicy;
use dispatch_core::time::EpochMs;
use dispatch_dev_keys::{Claims, SigningKey};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::adapters::eta::StraightLine;
use crate::adapters::fleet::fake::FakeFleet;
use crate::adapters::messaging::fake::{FakeDevices, FakeEvents, FakeNotifier, FakeResponses, FakeTimers};
use crate::adapters::store::fake::MemoryStore;
use crate::auth::{Authenticator, KeySource};
use crate::city::{City, Settings, parse_timestamp};
use crate::engine::Engine;
use crate::http::{Access, AppState, HttpRole, Rates, router};
use crate::ports::clock::FakeClock;
use crate::ports::{FleetPorts, Ports};
use crate::telemetry::metrics::Metrics;
use crate::testing::faults::{Failing, Faults};

/// The start time of every world.
const BEGIN: &str = "2025-05-25T15:30:00+09:00";

/// The issuer of every world.
static ISSUER: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate("https://login.example.com", "dispatch").unwrap());

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    User(String),
    Driver(String),
    Payments,
    Operations,
}

impl Who {
    fn token(&self) -> String {
        let (subject, scope) = match self {
            Self::User(suffix) => (format!("user#{suffix}"), "user"),
            Self::Driver(suffix) => (format!("driver#{suffix}"), "driver"),
            Self::Payments => ("payments".to_owned(), "payments"),
            Self::Operations => ("console".to_owned(), "operations"),
        };
        let claims = Claims { subject: &subject, scopes: &[scope], lifetime: Duration::from_hours(12) };
        ISSUER.token(&claims, parse_timestamp(BEGIN).unwrap()).unwrap()
    }

    /// The caller to expect for a request: the user or driver that it names.
    fn new(path: &str, query: &str, body: &Value) -> Self {
        let parts: Vec<&str> = path.split('/').collect();
        let named = |name: &str, prefix: &str| Some(body[name].as_str()?.strip_prefix(prefix)?.to_owned());
        let asked = |name: &str| {
            let given = query.split('&').find_map(|pair| pair.strip_prefix(name));
            given.filter(|id| !id.contains('%')).map(ToOwned::to_owned)
        };
        match parts.as_slice() {
            ["", "v1", "users", user, ..] => Self::User((*user).to_owned()),
            ["", "v1", "drivers", driver, ..] => Self::Driver((*driver).to_owned()),
            ["", "v1", "events"] => match (asked("driver="), asked("user=")) {
                (None, Some(user)) => Self::User(user),
                (driver, _) => Self::Driver(driver.unwrap_or_else(|| "00001".to_owned())),
            },
            ["", "v1", "dispatches", _, "events"] if body["type"] == "PAYMENT_COMPLETED" => Self::Payments,
            ["", "v1", "dispatches", _, "response" | "events"] => {
                Self::Driver(named("driverId", "driver#").unwrap_or_else(|| "00001".to_owned()))
            }
            ["", "v1", "dispatches", _, "cancel"] if body["userId"].is_null() && body["driverId"].is_string() => {
                Self::Driver(named("driverId", "driver#").unwrap_or_else(|| "00001".to_owned()))
            }
            ["", "v1", "dispatches"] | ["", "v1", "dispatches", _, "cancel"] => {
                Self::User(named("userId", "user#").unwrap_or_else(|| "00001".to_owned()))
            }
            _ => Self::Operations,
        }
    }
}

/// Adds a host, and a token of the expected caller, unless the request has them.
fn authorized(mut request: Request<Body>, body: &Value) -> Request<Body> {
    request.headers_mut().entry("host").or_insert_with(|| "dispatch".parse().unwrap());
    if !request.headers().contains_key("authorization") {
        let uri = request.uri();
        let token = Who::new(uri.path(), uri.query().unwrap_or_default(), body).token();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

fn without_body(method: &str, uri: &str) -> Request<Body> {
    authorized(Request::builder().method(method).uri(uri).body(Body::empty()).unwrap(), &Value::Null)
}

/// Authenticates tokens of [`ISSUER`].
fn access(limits: &LimitsConfig) -> Access {
    let keys = KeySource::document(ISSUER.jwks().to_string().as_bytes()).unwrap();
    let authenticator = Authenticator::with_keys(&ISSUER.trusted_by("unused"), keys);
    Access { authenticator: Arc::new(authenticator), rates: Arc::new(Rates::new(limits)) }
}

/// Limits that no test reaches unintentionally.
fn wide_limits() -> LimitsConfig {
    LimitsConfig { per_subject: LimitsConfig::default().per_address, ..LimitsConfig::default() }
}

/// A city in memory with its API.
struct World {
    state: AppState,
    api: Router,
    clock: Arc<FakeClock>,
    fleet: Arc<FakeFleet>,
    store: MemoryStore,
    /// Counts the calls of the dispatch store and injects failures.
    table: Faults,
    events: Arc<FakeEvents>,
}

/// A response of the API.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Checks the status and returns the body.
    fn expect(self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// A city with changed ports.
    fn with(change: impl FnOnce(&mut Ports)) -> Self {
        Self::create(|_| {}, change)
    }

    /// A city with changed settings.
    fn with_settings(change: impl FnOnce(&mut Settings)) -> Self {
        Self::create(change, |_| {})
    }

    /// A city with other rules of privacy and changed ports.
    fn with_rules(privacy: PrivacyPolicy, change: impl FnOnce(&mut Ports)) -> Self {
        Self::create(|settings| settings.privacy = privacy, change)
    }

    fn create(settle: impl FnOnce(&mut Settings), change: impl FnOnce(&mut Ports)) -> Self {
        let fare = FareTable { night_surcharges: Vec::new(), ..FareTable::default() };
        let mut settings = Settings::new(DispatchPolicy::default(), fare);
        settle(&mut settings);
        // The sender may be dropped: the settings never change.
        let (_, settings) = watch::channel(Arc::new(settings));
        let city = City::new("seoul", "KRW", TimeZone::get("Asia/Seoul").unwrap(), settings);
        let clock = Arc::new(FakeClock::at(parse_timestamp(BEGIN).unwrap()));
        let store = MemoryStore::new(city.clone());
        let fleet = Arc::new(FakeFleet::new(city.clone(), clock.clone()));
        let (events, table) = (Arc::new(FakeEvents::default()), Faults::default());
        let mut ports = Ports {
            dispatches: Arc::new(Failing::new(store.clone(), table.clone())),
            profiles: Arc::new(store.clone()),
            fleet: FleetPorts::new(&fleet),
            timers: Arc::new(FakeTimers::default()),
            responses: Arc::new(FakeResponses::default()),
            notifier: Arc::new(FakeNotifier::default()),
            devices: Arc::new(FakeDevices::default()),
            streams: events.clone(),
            eta: Arc::new(StraightLine::new(city.clone())),
            clock: clock.clone(),
        };
        change(&mut ports);
        let engine = Arc::new(Engine::new(ports, city, Arc::new(Metrics::new())));
        let state = AppState::new(engine, access(&wide_limits()), Arc::new(store.clone()), CancellationToken::new());
        let api = router(state.clone(), &HttpRole::ALL.into());
        Self { state, api, clock, fleet, store, table, events }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.api.clone().oneshot(authorized(request, &Value::Null)).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(without_body("GET", path)).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(with_json(Request::put(path), &body)).await
    }

    /// Plays a ride of user 00001 with driver 00001 from the open offer to its completion.
    async fn has_ride(&self) -> String {
        let id = self.has_offer().await;
        let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
        self.post(&format!("/v1/dispatches/{id}/response"), answer).await.expect(StatusCode::OK);
        for event in ["PASSENGER_PICKED_UP", "TRIP_COMPLETED"] {
            let report = json!({"driverId": "driver#00001", "type": event});
            self.post(&format!("/v1/dispatches/{id}/events"), report).await.expect(StatusCode::OK);
        }
        id
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(with_json(Request::post(path), &body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(without_body("DELETE", path)).await
    }

    async fn has_user(&self, suffix: &str) {
        self.put(&format!("/v1/users/{suffix}"), user_profile()).await.expect(StatusCode::OK);
    }

    async fn has_active_driver(&self, suffix: &str) {
        self.put(&format!("/v1/drivers/{suffix}"), driver_profile()).await.expect(StatusCode::OK);
        let change = json!({"status": "ACTIVE", "location": pickup()});
        self.put(&format!("/v1/drivers/{suffix}/availability"), change).await.expect(StatusCode::OK);
    }

    /// Creates a dispatch of user 00001 with an open offer to driver 00001, and returns the suffix of its id.
    async fn has_offer(&self) -> String {
        self.has_user("00001").await;
        self.has_active_driver("00001").await;
        let created = self.post("/v1/dispatches", ride_request()).await.expect(StatusCode::CREATED);
        let id = DispatchId::parse(created["dispatchId"].as_str().unwrap()).unwrap();
        let driver = DriverId::parse("driver#00001").unwrap();
        self.offer(&id, &driver).await;
        id.suffix().to_owned()
    }

    /// Makes the next offer as the algorithm does, without a search.
    async fn offer(&self, id: &DispatchId, driver: &DriverId) {
        let ports = &self.state.engine.ports;
        let before = ports.dispatches.load(id).await.unwrap().unwrap();
        let settings = self.state.engine.city.settings();
        let rules = dispatch_core::dispatch::Rules { policy: &settings.policy, now: ports.clock.now() };
        let found = vec![CandidateRef { driver_id: driver.clone(), auto_accept: false }];
        let searched = dispatch_core::dispatch::step(&before.state, Event::CandidatesFound(found), rules).unwrap();
        let offered = dispatch_core::dispatch::step(&searched.state, Event::DriverHeld(driver.clone()), rules).unwrap();
        let committed = ports.dispatches.commit(&before, &offered, None).await.unwrap();
        assert!(matches!(committed, crate::ports::Commit::Applied(_)));
    }

    fn now(&self) -> EpochMs {
        self.state.engine.ports.clock.now()
    }
}

fn with_json(request: axum::http::request::Builder, body: &Value) -> Request<Body> {
    let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
    authorized(request, body)
}

fn pickup() -> Value {
    json!({"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"})
}

fn destination() -> Value {
    json!({"lat": 37.5730, "lng": 126.9768, "address": "서울시 종로구 종로"})
}

fn ride_request() -> Value {
    json!({"userId": "user#00001", "pickupLocation": pickup(), "destination": destination()})
}

fn user_profile() -> Value {
    json!({
        "phone": "01012341234",
        "paymentMethods": [{"id": "pm-1", "type": "CREDIT_CARD", "isDefault": true}],
        "preferences": {"defaultRideType": "STANDARD", "favoriteLocations": []},
        "currentLocation": pickup(),
    })
}

fn driver_profile() -> Value {
    json!({
        "phone": "01012341234",
        "vehicleInfo": {"manufacturer": "현대", "licensePlate": "서울12가3456"},
        "preferences": {
            "preferredRegions": ["중구", "종로구"], "maxDistance": 20.0, "autoAccept": false, "minimumFare": 0,
        },
    })
}
