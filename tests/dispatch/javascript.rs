//! A service in JavaScript, written after the specification alone, beside the workers on one table.

use std::path::{Path, PathBuf};
use std::process::Command;

use dispatch_tests::ministack::REGION;
use dispatch_tests::support::until;
use redis::AsyncCommands as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::process::{Surroundings, free_port};
use crate::support::City;
use crate::trip::{Apps, Call, Caller, Reply};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("javascript")
}

/// Whether Node and the packages are installed.
fn is_installed() -> bool {
    let node = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
    node && folder().join("node_modules").exists()
}

/// The other service.
struct Service<'a>(&'a City);

impl Service<'_> {
    fn plays(&self, arguments: &[&str]) {
        let output = Command::new("node")
            .arg("service.mjs")
            .args(arguments)
            .current_dir(folder())
            .env("TABLE", &self.0.config.table.name)
            .env("AWS_ENDPOINT_URL", self.0.ministack.endpoint())
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl City {
    async fn dispatch(&self, id: &str) -> Value {
        self.dispatches().await.into_iter().find(|item| item["PK"] == id).unwrap_or_default()
    }

    async fn profile(&self, id: &str) -> Value {
        let items = self.scan(&self.config.table.name).await;
        items.into_iter().find(|item| item["PK"] == id && item["SK"] == "PROFILE").unwrap_or_default()
    }

    /// A driver's status in the cache.
    async fn cached_status(&self, driver: &str) -> Option<String> {
        let client = redis::Client::open(self.redis.lock().await.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<String> = connection.keys(format!("*{driver}")).await.unwrap();
        let entry = keys.into_iter().find(|key| key.starts_with("drv:"))?;
        connection.hget(entry, "status").await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_in_another_language_shares_the_table() {
    assert!(
        is_installed(),
        "Node or the packages of tests/javascript are missing; `make test` then leaves this test out"
    );
    let city = City::create().await;
    let service = Service(&city);
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let port = free_port();
    let _worker = surroundings.start("beside", "all", port).await;
    let apps = Apps::new(&city, port);
    // The cache is warm, so that a new driver is found only if the change of the table is noticed.
    apps.ride("warm").await;
    apps.available("warm", "INACTIVE").await;

    let (driver, user, dispatch) = ("driver#js1", "user#js1", "dispatch#js1");
    service.plays(&["driver", driver, "ACTIVE"]);
    until("the driver in the cache", async || {
        (city.cached_status(driver).await.as_deref() == Some("ACTIVE")).then_some(())
    })
    .await;
    service.plays(&["request", dispatch, user]);
    until("an offer", async || (city.dispatch(dispatch).await["driverId"] == driver).then_some(())).await;
    let offered = city.dispatch(dispatch).await;
    assert_eq!((&offered["promotion"], &offered["GSI1PK"]), (&json!("여름"), &json!("DISPATCH#REQUESTED")));

    service.plays(&["accept", dispatch, driver]);
    until("a busy driver in the cache", async || {
        (city.cached_status(driver).await.as_deref() == Some("DISPATCHED")).then_some(())
    })
    .await;
    for step in ["PICKUP_STARTED", "DRIVER_ARRIVED"] {
        report(&apps, driver, step).await;
    }
    service.plays(&["pickup", dispatch]);
    report(&apps, driver, "TRIP_STARTED").await;
    service.plays(&["route", dispatch]);
    report(&apps, driver, "TRIP_COMPLETED").await;

    let done = city.dispatch(dispatch).await;
    assert_eq!((&done["status"], &done["promotion"]), (&json!("COMPLETED"), &json!("여름")));
    let metres = done["distanceMeters"].as_u64().unwrap();
    assert!((950..1_050).contains(&metres), "nine times 111 m, and not {metres} m");
    let events: Vec<&str> = done["events"].as_array().unwrap().iter().filter_map(|it| it["type"].as_str()).collect();
    assert!(["COUPON_APPLIED", "DRIVER_ACCEPTED", "TRIP_COMPLETED"].iter().all(|it| events.contains(it)), "{events:?}");
    for person in [driver, user] {
        let status = city.profile(person).await["currentStatus"].clone();
        assert_eq!((&status["status"], &status["currentDispatchId"]), (&json!("ACTIVE"), &Value::Null), "{person}");
    }
    assert_eq!(city.profile(driver).await["vehicleInfo"]["colour"], "white");

    service.plays(&["status", driver, "INACTIVE"]);
    until("a driver off duty in the cache", async || {
        (city.cached_status(driver).await.as_deref() == Some("INACTIVE")).then_some(())
    })
    .await;
    surroundings.search();
}

async fn report(apps: &Apps, driver: &str, step: &str) {
    let body = json!({ "driverId": driver, "type": step });
    let call = Call::new(Method::POST, "/v1/dispatches/js1/events".to_owned()).body(body);
    match apps.once(Caller::Driver(driver), &call).await {
        Reply::Answer { status, body } => assert!(status.is_success(), "{step}: {status} {body}"),
        Reply::NoAnswer => panic!("{step}: no answer"),
    }
}
