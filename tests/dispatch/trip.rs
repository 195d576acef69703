//! One ride after another, driven over the public API as patient apps do it: every call is repeated under its Idempotency-Key until it is
//! answered, and every answer is one the documents know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use dispatch_core::ids::DispatchId;
use dispatch_dev_keys::{Claims, SigningKey};
use dispatch_runtime::ports::Clock as _;
use dispatch_runtime::ports::clock::SystemClock;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::leaks::found_in;
use crate::support::City;

/// Longest time in which a call must be answered at last: the time a request's key is held by a process that is gone, and a restart.
pub const PATIENCE: Duration = Duration::from_secs(75);
const PAUSE: Duration = Duration::from_millis(150);
/// Time between two looks at the dispatch.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longer than the program lets a request take.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const TOKEN_LIFETIME: Duration = Duration::from_hours(1);
/// Time for which a token is used again: it costs a signature.
const TOKEN_USED_FOR: Duration = Duration::from_mins(30);

/// What must never be seen outside of documents: phone numbers, positions and places of these rides.
pub const CANARIES: [&str; 10] = [
    "01098761234",
    "01012348765",
    "37.512349",
    "127.012654",
    "37.513912",
    "127.013377",
    "37.521357",
    "127.024689",
    "카나리아로",
    "비밀골목",
];

const STEPS: [&str; 6] =
    ["PICKUP_STARTED", "DRIVER_ARRIVED", "PASSENGER_PICKED_UP", "TRIP_STARTED", "TRIP_COMPLETED", "PAYMENT_COMPLETED"];

fn pickup() -> Value {
    json!({ "lat": 37.512_349, "lng": 127.012_654, "address": "서울시 중구 카나리아로 7" })
}

fn destination() -> Value {
    json!({ "lat": 37.521_357, "lng": 127.024_689, "address": "서울시 중구 비밀골목 7" })
}

fn waiting_place() -> Value {
    json!({ "lat": 37.513_912, "lng": 127.013_377, "address": "서울시 중구 카나리아로 9" })
}

/// Who speaks.
#[derive(Clone, Copy, Debug)]
pub enum Speaker<'a> {
    User(&'a str),
    Driver(&'a str),
    Operations,
}

/// An answer, or that there was none.
pub enum Told {
    Answer { status: StatusCode, body: Value },
    Nothing,
}

/// A ride that was asked for.
#[derive(Clone, Debug)]
pub struct Ride {
    pub user: String,
    pub driver: String,
    /// `dispatch#…`.
    pub dispatch: String,
}

/// The apps of everybody.
pub struct Apps {
    client: reqwest::Client,
    base: String,
    key: SigningKey,
    /// Every token that was used, and how often each answer came.
    tokens: Mutex<Vec<String>>,
    current: Mutex<BTreeMap<String, (Instant, String)>>,
    answers: Mutex<BTreeMap<String, usize>>,
    /// Drivers on duty.
    drivers: Mutex<BTreeSet<String>>,
}

impl Apps {
    /// Apps of a city whose API listens on this port.
    pub fn of(city: &City, port: u16) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build().unwrap();
        Self {
            client,
            base: format!("http://127.0.0.1:{port}"),
            key: SigningKey::read(&city.signing_key()).unwrap(),
            tokens: Mutex::default(),
            current: Mutex::default(),
            answers: Mutex::default(),
            drivers: Mutex::default(),
        }
    }

    /// Every token that was used.
    pub fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap().clone()
    }

    /// How often each status was answered; `-` where there was no answer.
    pub fn answers(&self) -> BTreeMap<String, usize> {
        self.answers.lock().unwrap().clone()
    }

    /// A token of whoever speaks.
    pub fn token(&self, speaker: Speaker<'_>) -> String {
        let (subject, scope) = match speaker {
            Speaker::User(user) => (user, "user"),
            Speaker::Driver(driver) => (driver, "driver"),
            Speaker::Operations => ("operator", "operations"),
        };
        let mut current = self.current.lock().unwrap();
        if let Some((_, token)) = current.get(subject).filter(|(made, _)| made.elapsed() < TOKEN_USED_FOR) {
            return token.clone();
        }
        let claims = Claims { subject, scopes: &[scope], lifetime: TOKEN_LIFETIME };
        let token = self.key.token(&claims, SystemClock.now()).unwrap();
        self.tokens.lock().unwrap().push(token.clone());
        current.insert(subject.to_owned(), (Instant::now(), token.clone()));
        token
    }

    /// One call, once. Whoever is told to come again must be told when; nothing else than the documented is answered.
    pub async fn once(&self, speaker: Speaker<'_>, call: &Call) -> Told {
        let mut request = self.client.request(call.method.clone(), format!("{}{}", self.base, call.path));
        request = request.bearer_auth(self.token(speaker));
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let answered = request.send().await;
        let status = answered.as_ref().ok().map(reqwest::Response::status);
        let shown = status.map_or_else(|| "-".to_owned(), |status| status.as_u16().to_string());
        *self.answers.lock().unwrap().entry(shown).or_default() += 1;
        let Ok(answer) = answered else { return Told::Nothing };
        let (status, after) = (answer.status(), answer.headers().get(header::RETRY_AFTER).cloned());
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            assert!(after.is_some(), "{call:?} is told {status} and not when to come again");
        }
        let Ok(body) = answer.text().await else { return Told::Nothing };
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{call:?}: {body}");
        let body = serde_json::from_str(&body).unwrap_or(Value::Null);
        assert_eq!(told_by_problem(status, &body), [""; 0], "{call:?}");
        Told::Answer { status, body }
    }

    /// Repeats a call until it is done or refused for good; gives status and body.
    pub async fn settled(&self, speaker: Speaker<'_>, call: &Call) -> (StatusCode, Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.once(speaker, call).await {
                Told::Answer { status, body } if !passes(status, &body) => return (status, body),
                Told::Answer { .. } | Told::Nothing => {}
            }
            assert!(Instant::now() < deadline, "{call:?} was not answered within {PATIENCE:?}: {:?}", self.answers());
            sleep(PAUSE).await;
        }
    }

    async fn done(&self, speaker: Speaker<'_>, call: &Call) -> Value {
        let (status, body) = self.settled(speaker, call).await;
        assert!(status.is_success(), "{call:?}: {status} {body}");
        body
    }

    /// Signs on a user and a free driver beside them.
    pub async fn people(&self, name: &str) -> (String, String) {
        let (user, driver) = (format!("user#{name}"), format!("driver#{name}"));
        let call = Call::new(Method::PUT, format!("/v1/users/{name}")).body(user_document());
        self.done(Speaker::User(&user), &call).await;
        let body = json!({ "phone": "01012348765",
            "vehicleInfo": { "manufacturer": "현대", "licensePlate": "서울12가3456" },
            "preferences": { "preferredRegions": [], "maxDistance": 20, "autoAccept": false, "minimumFare": 0 } });
        self.done(Speaker::Driver(&driver), &Call::new(Method::PUT, format!("/v1/drivers/{name}")).body(body)).await;
        self.available(name, "ACTIVE").await;
        (user, driver)
    }

    /// Sends a driver on duty or home.
    pub async fn available(&self, name: &str, status: &str) {
        let driver = format!("driver#{name}");
        let body = json!({ "status": status, "location": waiting_place() });
        let call = Call::new(Method::PUT, format!("/v1/drivers/{name}/availability")).body(body);
        self.done(Speaker::Driver(&driver), &call).await;
        let mut drivers = self.drivers.lock().unwrap();
        let _ = if status == "ACTIVE" { drivers.insert(driver) } else { drivers.remove(&driver) };
    }

    /// Asks for a ride; it is stored when this returns.
    pub async fn ask(&self, name: &str) -> Ride {
        self.ask_under(name, &format!("ask-{name}")).await
    }

    /// Asks for a ride under a key of its own.
    pub async fn ask_under(&self, name: &str, key: &str) -> Ride {
        let (user, driver) = (format!("user#{name}"), format!("driver#{name}"));
        let stored = self.done(Speaker::User(&user), &asking(name).key(key.to_owned())).await;
        Ride { user, driver, dispatch: stored["dispatchId"].as_str().unwrap().to_owned() }
    }

    /// The head of a request that reads the ride, for a connection of its own.
    pub fn head_of_a_look(&self, ride: &Ride) -> String {
        let (id, token) = (suffix(&ride.dispatch), self.token(Speaker::Operations));
        format!(
            "GET /v1/dispatches/{id} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        )
    }

    /// The ride as it is.
    pub async fn look(&self, ride: &Ride) -> Value {
        let path = format!("/v1/dispatches/{}", suffix(&ride.dispatch));
        self.done(Speaker::Operations, &Call::new(Method::GET, path)).await
    }

    /// Takes the ride's offer as whoever it is made to, while all drivers go on telling where they are; returns when the ride is theirs.
    pub async fn accept(&self, ride: &mut Ride) {
        let deadline = Instant::now() + PATIENCE;
        let id = suffix(&ride.dispatch);
        loop {
            let now = self.look(ride).await;
            match (now["status"].as_str().unwrap_or_default(), now["driverId"].as_str()) {
                ("ACCEPTED", Some(driver)) => {
                    driver.clone_into(&mut ride.driver);
                    return;
                }
                ("REQUESTED", Some(driver)) => {
                    let body = json!({ "driverId": driver, "offerSeq": now["offerSeq"], "response": "ACCEPT" });
                    // Without a key: the offer's number makes it the same answer, and a key that a dead worker holds would outlast the
                    // offer. A refusal: the offer is over, the next one comes.
                    let call = Call::new(Method::POST, format!("/v1/dispatches/{id}/response")).body(body);
                    self.settled(Speaker::Driver(driver), &call).await;
                }
                ("REQUESTED", None) => {}
                (other, _) => panic!("{ride:?} is {other}: {now}"),
            }
            self.ping().await;
            assert!(Instant::now() < deadline, "{ride:?} found no driver: {now}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// Tells where the drivers are; whoever misses one hears the next.
    async fn ping(&self) {
        let (place, drivers) = (waiting_place(), self.drivers.lock().unwrap().clone());
        let at = |driver: &String| json!({ "driverId": driver, "lat": place["lat"], "lng": place["lng"] });
        let body = json!({ "locations": drivers.iter().map(at).collect::<Vec<_>>() });
        self.once(Speaker::Operations, &Call::new(Method::POST, "/v1/locations/batch".to_owned()).body(body)).await;
    }

    /// Drives from the acceptance to the payment. The last two reports go under keys.
    pub async fn drive(&self, ride: &Ride) {
        let id = suffix(&ride.dispatch);
        for (number, step) in STEPS.into_iter().enumerate() {
            let body = json!({ "driverId": ride.driver, "type": step });
            let mut call = Call::new(Method::POST, format!("/v1/dispatches/{id}/events")).body(body);
            if number + 2 >= STEPS.len() {
                call = call.key(format!("{step}-{id}"));
            }
            self.done(Speaker::Driver(&ride.driver), &call).await;
        }
    }

    /// A whole ride of people of its own.
    pub async fn ride(&self, name: &str) -> Ride {
        self.people(name).await;
        let mut ride = self.ask(name).await;
        self.accept(&mut ride).await;
        self.drive(&ride).await;
        ride
    }
}

/// What a user tells of themselves.
pub fn user_document() -> Value {
    json!({ "phone": "01098761234", "paymentMethods": [],
        "preferences": { "defaultRideType": "STANDARD", "favoriteLocations": [] }, "currentLocation": pickup() })
}

/// The request for a ride of `name`.
pub fn asking(name: &str) -> Call {
    let body = json!({ "userId": format!("user#{name}"), "pickupLocation": pickup(), "destination": destination() });
    Call::new(Method::POST, "/v1/dispatches".to_owned()).body(body).key(format!("ask-{name}"))
}

/// What a refusal tells of anybody, beside the caller's own dispatch as it is.
pub fn told_by_problem(status: StatusCode, body: &Value) -> Vec<String> {
    if status.is_success() {
        return Vec::new();
    }
    let mut problem = body.clone();
    if let Some(fields) = problem.as_object_mut() {
        fields.remove("current");
    }
    found_in("a refusal", &problem.to_string(), &[])
}

fn suffix(id: &str) -> &str {
    id.strip_prefix(DispatchId::PREFIX).or_else(|| id.strip_prefix("driver#")).unwrap_or(id)
}

/// Whether asking again will help. A key that is in use frees itself.
fn passes(status: StatusCode, body: &Value) -> bool {
    let kind = body["type"].as_str().unwrap_or_default();
    status == StatusCode::SERVICE_UNAVAILABLE
        || status == StatusCode::TOO_MANY_REQUESTS
        || kind.ends_with("idempotency-key-in-use")
}

/// A call.
#[derive(Clone)]
pub struct Call {
    method: Method,
    path: String,
    body: Option<Value>,
    key: Option<String>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Call {
    pub fn new(method: Method, path: String) -> Self {
        Self { method, path, body: None, key: None }
    }

    pub fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// What it says.
    pub fn document(&self) -> Value {
        self.body.clone().unwrap_or_default()
    }

    pub fn key(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }
}
