//! Fares that a driver tries to forge, and what the passenger learns of them.

use dispatch_runtime::ports::Clock as _;
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_tests::support::until;
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep, timeout};

use crate::process::{Process, Surroundings, free_port};
use crate::support::City;
use crate::trip::{Apps, Call, Caller, Ride};

/// A city with one worker.
pub(crate) struct Town {
    // Dropped first: the processes must end before the folder is searched and removed.
    pub worker: Process,
    pub surroundings: Surroundings,
    pub apps: Apps,
    pub port: u16,
    _city: City,
}

impl Town {
    /// A city whose configuration is changed by `change`.
    pub(crate) async fn open(change: impl FnOnce(&mut dispatch_api::worker_config::WorkerConfig)) -> Self {
        let mut city = City::create().await;
        change(&mut city.config);
        let config = city.config.to_json_pretty().unwrap();
        let surroundings = Surroundings::new(&config, city.ministack.endpoint(), None);
        let port = free_port();
        let worker = surroundings.start("fares", "all", port).await;
        let apps = Apps::new(&city, port);
        Self { worker, surroundings, apps, port, _city: city }
    }

    /// A ride whose passenger is on board.
    pub(crate) async fn on_board(&self, name: &str) -> Ride {
        self.apps.people(name).await;
        let mut ride = self.apps.ask(name).await;
        self.apps.accept(&mut ride).await;
        self.report(&ride, "PASSENGER_PICKED_UP").await;
        ride
    }

    /// Reports an event of the ride as its driver.
    pub(crate) async fn report(&self, ride: &Ride, event: &str) -> Value {
        let body = json!({ "driverId": ride.driver, "type": event });
        self.succeed(Caller::Driver(&ride.driver), "events", ride, body).await
    }

    /// Posts to a path of the ride.
    pub(crate) async fn succeed(&self, caller: Caller<'_>, path: &str, ride: &Ride, body: Value) -> Value {
        let path = format!("/v1/dispatches/{}/{path}", suffix(ride));
        let (status, body) = self.apps.settled(caller, &Call::new(Method::POST, path).body(body)).await;
        assert!(status.is_success(), "{status} {body}");
        body
    }

    /// The list of rides under review.
    pub(crate) async fn reviews(&self) -> Vec<Value> {
        let call = Call::new(Method::GET, "/v1/operations/reviews".to_owned());
        let (status, body) = self.apps.settled(Caller::Operations, &call).await;
        assert!(status.is_success(), "{status} {body}");
        body["reviews"].as_array().unwrap().clone()
    }

    /// Sends a position of the ride's driver.
    async fn ping(&self, ride: &Ride, lat: f64, timestamp: Option<String>) {
        let mut body = json!({ "lat": lat, "lng": 127.013_377 });
        if let Some(timestamp) = timestamp {
            body["timestamp"] = json!(timestamp);
        }
        let path = format!("/v1/drivers/{}/locations", ride.driver.trim_start_matches("driver#"));
        let call = Call::new(Method::POST, path).body(body);
        let (status, body) = self.apps.settled(Caller::Driver(&ride.driver), &call).await;
        assert_eq!((status.as_u16(), &body["accepted"]), (202, &json!(1)), "{body}");
    }
}

/// The id of the ride as it is in paths.
pub(crate) fn suffix(ride: &Ride) -> &str {
    ride.dispatch.trim_start_matches("dispatch#")
}

/// The types of the events of a dispatch.
pub(crate) fn events(dispatch: &Value) -> Vec<&str> {
    dispatch["events"].as_array().unwrap().iter().filter_map(|it| it["type"].as_str()).collect()
}

/// The driver alternates between two places 44 km apart, and the phone claims that an hour lies between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_trace_costs_the_estimate_and_waits_for_a_review() {
    let town = Town::open(|_| {}).await;
    let ride = town.on_board("forger").await;
    town.report(&ride, "TRIP_STARTED").await;
    let begin = SystemClock.now();
    for hop in 0..40_u32 {
        let timestamp = jiff::Timestamp::from_millisecond(begin.plus_ms(3_600_000 * u64::from(hop)).0).unwrap();
        town.ping(&ride, 37.513_912 + 0.4 * f64::from(hop % 2), Some(timestamp.to_string())).await;
    }
    let done = town.report(&ride, "TRIP_COMPLETED").await;
    assert_eq!((&done["status"], &done["review"]), (&json!("COMPLETED"), &json!("TOO_FAST")));
    assert_eq!((&done["actualFare"], &done["meteredFare"]), (&done["estimatedFare"], &Value::Null));
    let (metres, seconds) = (done["distanceMeters"].as_u64().unwrap(), done["durationSeconds"].as_u64().unwrap());
    assert!(metres * 3600 <= 150_000 * seconds, "{metres} m in {seconds} s");
    assert_eq!(events(&done).last(), Some(&"REVIEW_REQUESTED"));
    let entry = until("the review in the list", async || town.reviews().await.pop()).await;
    assert_eq!((&entry["dispatchId"], &entry["reason"]), (&json!(ride.dispatch), &json!("TOO_FAST")));
    assert_eq!(town.worker.metric("dispatch_reviews_total{reason=\"TOO_FAST\"}").await, 1);
    town.surroundings.search();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drivers_word_alone_does_not_pay() {
    let town = Town::open(|_| {}).await;
    let ride = town.on_board("payer").await;
    town.report(&ride, "TRIP_COMPLETED").await;
    let body = json!({ "driverId": ride.driver, "type": "PAYMENT_COMPLETED" });
    let path = format!("/v1/dispatches/{}/events", suffix(&ride));
    let call = Call::new(Method::POST, path).body(body.clone());
    for caller in [Caller::Driver(&ride.driver), Caller::User(&ride.user)] {
        let (status, problem) = town.apps.settled(caller, &call).await;
        assert_eq!(status.as_u16(), 403, "{caller:?}: {problem}");
    }
    assert!(!events(&town.apps.read(&ride).await).contains(&"PAYMENT_COMPLETED"));
    let paid = town.succeed(Caller::Payments, "events", &ride, body).await;
    assert_eq!(events(&paid).last(), Some(&"PAYMENT_COMPLETED"));
    town.surroundings.search();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_end_rides_and_the_audit_trail_says_who() {
    let town = Town::open(|_| {}).await;
    let order = json!({ "reason": "교통사고" });
    let act = async |ride: &Ride, action: &str, body: &Value| {
        let path = format!("/v1/operations/dispatches/{}/{action}", suffix(ride));
        let call = Call::new(Method::POST, path).body(body.clone());
        let (status, body) = town.apps.settled(Caller::Operations, &call).await;
        assert!(status.is_success(), "{action}: {status} {body}");
        body
    };
    let ride = town.on_board("ends").await;
    let done = act(&ride, "complete", &order).await;
    assert_eq!((&done["status"], &done["actualFare"]), (&json!("COMPLETED"), &done["estimatedFare"]));
    assert_eq!(events(&done).last(), Some(&"COMPLETED_BY_OPERATIONS"));
    let entry = until("the review in the list", async || town.reviews().await.pop()).await;
    assert_eq!(entry["dispatchId"], ride.dispatch.as_str());
    let closed = act(&ride, "review", &json!({ "reason": "요금 확인" })).await;
    assert_eq!(closed["review"], Value::Null);
    until("an empty list", async || town.reviews().await.is_empty().then_some(())).await;

    // Both are free, so that they ride again.
    let mut again = town.apps.ask_with_key("ends", "again").await;
    town.apps.accept(&mut again).await;
    town.report(&again, "PASSENGER_PICKED_UP").await;
    let cancelled = act(&again, "cancel", &order).await;
    assert_eq!(
        (&cancelled["status"], events(&cancelled).last()),
        (&json!("CANCELLED"), Some(&"CANCELLED_BY_OPERATIONS"))
    );
    assert_eq!(act(&again, "release", &order).await, json!({ "released": [] }));

    let log = std::fs::read_to_string(town.surroundings.folder.path().join("fares.log")).unwrap();
    for (operation, ride) in [("completeByOperations", &ride), ("cancelByOperations", &again)] {
        let line = log.lines().find(|line| line.contains("audit") && line.contains(operation));
        let line = line.unwrap_or_else(|| panic!("no audit line of {operation} in {log}"));
        assert!(["operator", ride.dispatch.as_str(), "done"].iter().all(|part| line.contains(part)), "{line}");
        assert!(!line.contains("교통사고"), "{line}");
    }
    town.surroundings.search();
}

/// One ride waits for its driver, the other one has its passenger on board, when both drivers fall silent. Two workers
/// sweep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_rides_are_flagged_once_and_ended_by_rule() {
    let town = Town::open(|config| {
        config.dispatch.rides.silent_after_ms = 8_000;
        config.dispatch.rides.end_silent_after_ms = 5_000;
    })
    .await;
    let _another = town.surroundings.start("beside", "all", free_port()).await;
    town.apps.people("waits").await;
    town.apps.people("rides").await;
    let (mut waits, mut rides) = (town.apps.ask("waits").await, town.apps.ask("rides").await);
    town.apps.accept(&mut waits).await;
    town.apps.accept(&mut rides).await;
    town.report(&rides, "PASSENGER_PICKED_UP").await;
    until("both rides to be flagged", async || (town.reviews().await.len() == 2).then_some(())).await;
    let over = async |ride: &Ride| {
        until("the ride to end", async || {
            let read = town.apps.read(ride).await;
            ["CANCELLED", "COMPLETED"].iter().any(|status| read["status"] == *status).then_some(read)
        })
        .await
    };
    let (cancelled, completed) = (over(&waits).await, over(&rides).await);
    assert_eq!(cancelled["status"], "CANCELLED");
    assert_eq!(events(&cancelled)[3..], ["NO_SIGN_OF_LIFE", "CANCELLED_BY_SYSTEM"]);
    assert_eq!((&completed["status"], &completed["review"]), (&json!("COMPLETED"), &json!("NO_SIGN_OF_LIFE")));
    assert_eq!(completed["actualFare"], completed["estimatedFare"]);
    assert_eq!(events(&completed).iter().filter(|it| **it == "NO_SIGN_OF_LIFE").count(), 1);
    for ride in [&waits, &rides] {
        let name = ride.user.trim_start_matches("user#");
        let call = Call::new(Method::GET, format!("/v1/users/{name}"));
        let (_, user) = town.apps.settled(Caller::User(&ride.user), &call).await;
        assert_eq!(user["currentStatus"]["status"], "ACTIVE", "{name}");
        let driver = ride.driver.trim_start_matches("driver#");
        let call = Call::new(Method::GET, format!("/v1/drivers/{driver}"));
        let (_, driver) = town.apps.settled(Caller::Driver(&ride.driver), &call).await;
        assert!(driver["currentStatus"]["currentDispatchId"].is_null(), "{driver}");
    }
    assert_eq!(town.reviews().await.len(), 2);
    town.surroundings.search();
}

/// The notifications that a user receives, until one has this status.
async fn notified(town: &Town, user: &str, status: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://127.0.0.1:{}/v1/events?user={}", town.port, user.trim_start_matches("user#"));
    let answer = client.get(url).bearer_auth(town.apps.token(Caller::User(user))).send().await.unwrap();
    let (mut stream, mut text) = (answer.bytes_stream(), String::new());
    while let Some(chunk) = stream.next().await {
        text.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
        let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
        let mut heard = lines.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        if let Some(found) = heard.find(|it| it["body"]["status"] == status) {
            return found;
        }
    }
    panic!("the stream ended: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passenger_who_is_driven_elsewhere_receives_both_fares() {
    let town = Town::open(|config| config.dispatch.fare.night_surcharges.clear()).await;
    let ride = town.on_board("elsewhere").await;
    // The car stays where it is, 1.3 km from the destination.
    for _ in 0..3 {
        town.ping(&ride, 37.513_912, None).await;
        sleep(Duration::from_millis(20)).await;
    }
    let (heard, done) =
        tokio::join!(timeout(Duration::from_secs(20), notified(&town, &ride.user, "TRIP_COMPLETED")), async {
            // The stream opens first.
            sleep(Duration::from_secs(1)).await;
            town.report(&ride, "TRIP_COMPLETED").await
        });
    let body = heard.expect("a notification")["body"].clone();
    let estimated = done["estimatedFare"].as_u64().unwrap();
    assert_eq!(
        (&done["actualFare"], &done["meteredFare"], &done["review"]),
        (&json!(4800), &json!(4800), &Value::Null)
    );
    assert!(estimated > 4800, "{done}");
    assert_eq!((&body["estimatedFare"], &body["meteredFare"]), (&json!(estimated), &json!(4800)));
    let text = body["message"].as_str().unwrap();
    assert!(text.contains(&estimated.to_string()) && text.contains("4800"), "{text}");
    let read = town.apps.read(&ride).await;
    assert_eq!(read["farFromDestination"], true);
    assert_eq!(events(&read).last(), Some(&"ENDED_FAR_FROM_DESTINATION"));
    town.surroundings.search();
}
