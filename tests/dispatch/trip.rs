//! Rides over the public API, played by patient apps: they repeat every call, with its Idempotency-Key, until it is
//! answered, and accept only documented answers.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};

use dispatch_core::ids::DispatchId;
use dispatch_dev_keys::{Claims, SigningKey};
use dispatch_runtime::ports::Clock as _;
use dispatch_runtime::ports::clock::SystemClock;
use futures::StreamExt as _;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::leaks::found_in;
use crate::support::City;

/// Longest time until a repeated call is answered: a restart, and the time for which a dead process blocks the key.
pub(crate) const PATIENCE: Duration = Duration::from_secs(75);
const PAUSE: Duration = Duration::from_millis(150);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Longer than the program's own limit for a request.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const TOKEN_LIFETIME: Duration = Duration::from_hours(1);
/// Time for which a token is reused, to save signatures.
const TOKEN_USED_FOR: Duration = Duration::from_mins(30);

/// Longest time until an event, with the longest time that a test lets pass before.
const EVENT_WITHIN: Duration = Duration::from_secs(30);

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

/// The caller of a request, by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller<'a> {
    User(&'a str),
    Driver(&'a str),
    Payments,
    Operations,
}

/// The outcome of one call.
pub(crate) enum Reply {
    Answer { status: StatusCode, body: Value },
    NoAnswer,
}

/// A requested ride.
#[derive(Clone, Debug)]
pub(crate) struct Ride {
    pub user: String,
    pub driver: String,
    /// `dispatch#…`.
    pub dispatch: String,
}

/// The apps of all users and drivers, and operations.
pub(crate) struct Apps {
    client: reqwest::Client,
    base: String,
    key: SigningKey,
    /// All tokens so far.
    tokens: Mutex<Vec<String>>,
    /// The token of each caller, and when it was made.
    current: Mutex<BTreeMap<String, (Instant, String)>>,
    /// Number of answers by status.
    answers: Mutex<BTreeMap<String, usize>>,
    /// Drivers on duty.
    drivers: Mutex<BTreeSet<String>>,
}

impl Apps {
    /// Apps of a city whose API listens on `port`.
    pub(crate) fn new(city: &City, port: u16) -> Self {
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

    /// All tokens so far.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.tokens.lock().clone()
    }

    /// Number of answers by status; `-` counts calls without an answer.
    pub(crate) fn answers(&self) -> BTreeMap<String, usize> {
        self.answers.lock().clone()
    }

    /// A token of the caller.
    pub(crate) fn token(&self, caller: Caller<'_>) -> String {
        let (subject, scope) = match caller {
            Caller::User(user) => (user, "user"),
            Caller::Driver(driver) => (driver, "driver"),
            Caller::Payments => ("payments", "payments"),
            Caller::Operations => ("operator", "operations"),
        };
        let mut current = self.current.lock();
        if let Some((_, token)) = current.get(subject).filter(|(made, _)| made.elapsed() < TOKEN_USED_FOR) {
            return token.clone();
        }
        let claims = Claims { subject, scopes: &[scope], lifetime: TOKEN_LIFETIME };
        let token = self.key.token(&claims, SystemClock.now()).unwrap();
        self.tokens.lock().push(token.clone());
        current.insert(subject.to_owned(), (Instant::now(), token.clone()));
        token
    }

    /// Makes a call once. Fails if a 429 or 503 has no `Retry-After`, and on a 500 or a secret in a problem document.
    pub(crate) async fn once(&self, caller: Caller<'_>, call: &Call) -> Reply {
        let reply = self.reply(caller, call).await;
        if let Reply::Answer { status, body } = &reply {
            assert_ne!(*status, StatusCode::INTERNAL_SERVER_ERROR, "{call:?}: {body}");
        }
        reply
    }

    /// Like [`Self::once`], and leaves it to the caller what a 500 means.
    pub(crate) async fn reply(&self, caller: Caller<'_>, call: &Call) -> Reply {
        let mut request = self.client.request(call.method.clone(), format!("{}{}", self.base, call.path));
        request = request.bearer_auth(self.token(caller));
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let answered = request.send().await;
        let status = answered.as_ref().ok().map(reqwest::Response::status);
        let shown = status.map_or_else(|| "-".to_owned(), |status| status.as_u16().to_string());
        *self.answers.lock().entry(shown).or_default() += 1;
        let Ok(answer) = answered else { return Reply::NoAnswer };
        let (status, after) = (answer.status(), answer.headers().get(header::RETRY_AFTER).cloned());
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            assert!(after.is_some(), "{call:?}: {status} without Retry-After");
        }
        let Ok(body) = answer.text().await else { return Reply::NoAnswer };
        let body = serde_json::from_str(&body).unwrap_or(Value::Null);
        assert_eq!(secrets_in_problem(status, &body), [""; 0], "{call:?}");
        Reply::Answer { status, body }
    }

    /// Repeats a call until it succeeds or is refused finally; returns status and body.
    pub(crate) async fn settled(&self, caller: Caller<'_>, call: &Call) -> (StatusCode, Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.once(caller, call).await {
                Reply::Answer { status, body } if !is_retryable(status, &body) => return (status, body),
                Reply::Answer { .. } | Reply::NoAnswer => {}
            }
            assert!(Instant::now() < deadline, "{call:?} was not answered within {PATIENCE:?}: {:?}", self.answers());
            sleep(PAUSE).await;
        }
    }

    async fn succeed(&self, caller: Caller<'_>, call: &Call) -> Value {
        let (status, body) = self.settled(caller, call).await;
        assert!(status.is_success(), "{call:?}: {status} {body}");
        body
    }

    /// Signs on a user and a free driver nearby.
    pub(crate) async fn people(&self, name: &str) -> (String, String) {
        let (user, driver) = (format!("user#{name}"), format!("driver#{name}"));
        let call = Call::new(Method::PUT, format!("/v1/users/{name}")).body(user_document());
        self.succeed(Caller::User(&user), &call).await;
        let call = Call::new(Method::PUT, format!("/v1/drivers/{name}")).body(driver_document());
        self.succeed(Caller::Driver(&driver), &call).await;
        self.available(name, "ACTIVE").await;
        (user, driver)
    }

    /// Sets a driver's availability, `ACTIVE` or `INACTIVE`.
    pub(crate) async fn available(&self, name: &str, status: &str) {
        let driver = format!("driver#{name}");
        self.succeed(Caller::Driver(&driver), &Self::availability(name, status)).await;
        if status == "ACTIVE" { self.on_duty(&driver) } else { self.off_duty(&driver) }
    }

    /// The call that sets a driver's availability.
    pub(crate) fn availability(name: &str, status: &str) -> Call {
        let body = json!({ "status": status, "location": waiting_place() });
        Call::new(Method::PUT, format!("/v1/drivers/{name}/availability")).body(body)
    }

    /// From now on the driver sends positions.
    pub(crate) fn on_duty(&self, driver: &str) {
        self.drivers.lock().insert(driver.to_owned());
    }

    /// From now on the driver sends no positions.
    pub(crate) fn off_duty(&self, driver: &str) {
        self.drivers.lock().remove(driver);
    }

    /// The drivers who send positions.
    pub(crate) fn drivers_on_duty(&self) -> BTreeSet<String> {
        self.drivers.lock().clone()
    }

    /// Requests a ride; it is stored when this returns.
    pub(crate) async fn ask(&self, name: &str) -> Ride {
        self.ask_with_key(name, &format!("ask-{name}")).await
    }

    /// Requests a ride with this idempotency key.
    pub(crate) async fn ask_with_key(&self, name: &str, key: &str) -> Ride {
        let (user, driver) = (format!("user#{name}"), format!("driver#{name}"));
        let stored = self.succeed(Caller::User(&user), &ride_request(name).key(key.to_owned())).await;
        Ride { user, driver, dispatch: stored["dispatchId"].as_str().unwrap().to_owned() }
    }

    /// The head of a request that reads the ride, for a caller that writes to the connection itself.
    pub(crate) fn read_request_head(&self, ride: &Ride) -> String {
        let (id, token) = (suffix(&ride.dispatch), self.token(Caller::Operations));
        format!(
            "GET /v1/dispatches/{id} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\n\r\n"
        )
    }

    /// The current state of the ride.
    pub(crate) async fn read(&self, ride: &Ride) -> Value {
        let path = format!("/v1/dispatches/{}", suffix(&ride.dispatch));
        self.succeed(Caller::Operations, &Call::new(Method::GET, path)).await
    }

    /// Accepts each offer of the ride as the driver that it is made to, until the ride is accepted. All drivers keep
    /// sending their positions.
    pub(crate) async fn accept(&self, ride: &mut Ride) {
        let deadline = Instant::now() + PATIENCE;
        let id = suffix(&ride.dispatch);
        loop {
            let now = self.read(ride).await;
            match (now["status"].as_str().unwrap_or_default(), now["driverId"].as_str()) {
                ("ACCEPTED", Some(driver)) => {
                    driver.clone_into(&mut ride.driver);
                    return;
                }
                ("REQUESTED", Some(driver)) => {
                    let body = json!({ "driverId": driver, "offerSeq": now["offerSeq"], "response": "ACCEPT" });
                    // Without a key: the offer's number already makes repetitions safe, and a key held by a dead worker
                    // would outlast the offer. A refusal means that the offer has ended; the next one follows.
                    let call = Call::new(Method::POST, format!("/v1/dispatches/{id}/response")).body(body);
                    self.settled(Caller::Driver(driver), &call).await;
                }
                ("REQUESTED", None) => {}
                (other, _) => panic!("{ride:?} is {other}: {now}"),
            }
            self.ping().await;
            assert!(Instant::now() < deadline, "{ride:?} found no driver: {now}");
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Opens the event stream of a driver. The result waits for an event of this kind, and has everything that came
    /// until then.
    pub(crate) async fn first_event(&self, driver: &str, kind: &str) -> impl Future<Output = String> + use<> {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/v1/events?driver={}", self.base, driver.trim_start_matches("driver#"));
        let answer = client.get(url).bearer_auth(self.token(Caller::Driver(driver))).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let event = format!("event: {kind}");
        async move {
            let (mut body, mut text) = (answer.bytes_stream(), String::new());
            while !text.contains(&event) || !text.ends_with("\n\n") {
                let chunk = timeout(EVENT_WITHIN, body.next()).await.expect("an event in time");
                text.push_str(&String::from_utf8_lossy(&chunk.expect("an open stream").unwrap()));
            }
            text
        }
    }

    /// Sends the positions of all drivers on duty, once: a lost ping is followed by the next one.
    pub(crate) async fn ping(&self) {
        let (place, drivers) = (waiting_place(), self.drivers.lock().clone());
        let at = |driver: &String| json!({ "driverId": driver, "lat": place["lat"], "lng": place["lng"] });
        let body = json!({ "locations": drivers.iter().map(at).collect::<Vec<_>>() });
        self.once(Caller::Operations, &Call::new(Method::POST, "/v1/locations/batch".to_owned()).body(body)).await;
    }

    /// Reports every trip event as the driver, and the payment as a payment service, the last two with idempotency
    /// keys.
    pub(crate) async fn drive(&self, ride: &Ride) {
        let id = suffix(&ride.dispatch);
        for (number, step) in STEPS.into_iter().enumerate() {
            let body = json!({ "driverId": ride.driver, "type": step });
            let mut call = Call::new(Method::POST, format!("/v1/dispatches/{id}/events")).body(body);
            if number + 2 >= STEPS.len() {
                call = call.key(format!("{step}-{id}"));
            }
            let caller = if step == "PAYMENT_COMPLETED" { Caller::Payments } else { Caller::Driver(&ride.driver) };
            self.succeed(caller, &call).await;
        }
    }

    /// Plays a whole ride of a new user and a new driver.
    pub(crate) async fn ride(&self, name: &str) -> Ride {
        self.people(name).await;
        let mut ride = self.ask(name).await;
        self.accept(&mut ride).await;
        self.drive(&ride).await;
        ride
    }
}

/// The body of a user's sign-on.
pub(crate) fn user_document() -> Value {
    json!({ "phone": "01098761234", "paymentMethods": [],
        "preferences": { "defaultRideType": "STANDARD", "favoriteLocations": [] }, "currentLocation": pickup() })
}

/// The body of a driver's sign-on.
pub(crate) fn driver_document() -> Value {
    json!({ "phone": "01012348765", "vehicleInfo": { "manufacturer": "현대", "licensePlate": "서울12가3456" },
        "preferences": { "preferredRegions": [], "maxDistance": 20, "autoAccept": false, "minimumFare": 0 } })
}

/// A ride request of the user `name`.
pub(crate) fn ride_request(name: &str) -> Call {
    let body = json!({ "userId": format!("user#{name}"), "pickupLocation": pickup(), "destination": destination() });
    Call::new(Method::POST, "/v1/dispatches".to_owned()).body(body).key(format!("ask-{name}"))
}

/// The secrets in a problem document, apart from the caller's own dispatch in `current`.
pub(crate) fn secrets_in_problem(status: StatusCode, body: &Value) -> Vec<String> {
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

/// Whether a repetition may succeed. A key in use is released after some time.
fn is_retryable(status: StatusCode, body: &Value) -> bool {
    let kind = body["type"].as_str().unwrap_or_default();
    status == StatusCode::SERVICE_UNAVAILABLE
        || status == StatusCode::TOO_MANY_REQUESTS
        || kind.ends_with("idempotency-key-in-use")
}

#[derive(Clone)]
pub(crate) struct Call {
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
    pub(crate) fn new(method: Method, path: String) -> Self {
        Self { method, path, body: None, key: None }
    }

    pub(crate) fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// The body.
    pub(crate) fn document(&self) -> Value {
        self.body.clone().unwrap_or_default()
    }

    pub(crate) fn key(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }
}
