//! Users who request rides and drivers who accept them. The rides end there: no driver reports a trip.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_tests::recorder::Recorded;
use dispatch_tests::support::sdk;
use futures::future::{join_all, try_join_all};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use super::city::{City, Worker};
use super::profile::Profiler;

/// Table of `examples/seoul.yaml`.
const TABLE: &str = "coactus-default-seoul";
/// Users and drivers signed on concurrently.
const AT_ONCE: usize = 8;
/// Interval of reads of a dispatch, in the table itself, so that the runtime serves only users and drivers.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const OFFERED_WITHIN: Duration = Duration::from_secs(30);
/// Time before a driver answers. The offer has been pushed by then, and every process knows it.
const ANSWER_DELAY: Duration = Duration::from_millis(200);
/// Dispatches that run one after another to measure the time to the push.
const ONE_BY_ONE: usize = 40;
/// Pause after each of these, in which its messages are handled.
const PAUSE: Duration = Duration::from_millis(500);
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Time until all timers have expired: an offer of `examples/seoul.yaml` lasts 15 s.
const TIMERS_EXPIRE_WITHIN: Duration = Duration::from_secs(18);
/// Time over which the idle load is measured.
const IDLE_FOR: Duration = Duration::from_secs(10);
/// Distance between two users, in columns from south to north, each with a driver nearby, m.
const APART_M: f64 = 150.0;

pub(super) struct Load {
    pub dispatches: usize,
    pub per_second: f64,
    pub profiled: bool,
}

/// The measurements of a load.
pub(super) struct Outcome {
    pub accepted: usize,
    /// CPU time of the runtime over `seconds`.
    pub cpu_ms: f64,
    pub seconds: f64,
    pub idle_ms_a_second: f64,
    /// Time from sending a request to the publication of its first offer, for the dispatches one after another.
    pub push_ms: Vec<f64>,
    pub calls: Vec<Recorded>,
    /// Shares of CPU time by part, greatest first; empty without a profiler.
    pub profile: Vec<(String, f64)>,
}

struct Apps<'a> {
    city: &'a City,
    worker: &'a Worker,
    client: Client,
    operations: String,
    table: aws_sdk_dynamodb::Client,
    dispatches: usize,
}

fn place(number: usize) -> Value {
    let (column, row) = (number / 40, number % 40);
    let lat = 37.45 + row as f64 * APART_M / 111_226.0;
    let lng = 126.85 + column as f64 * APART_M / 88_000.0;
    json!({ "lat": lat, "lng": lng, "address": "서울시 중구 명동" })
}

impl Apps<'_> {
    async fn call(&self, token: &str, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.client.request(method, format!("{}{path}", self.worker.api)).bearer_auth(token).json(body);
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        anyhow::ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Signs on a user and a free driver nearby.
    async fn sign_on(&self, number: usize) -> anyhow::Result<()> {
        let (user, driver) = self.tokens(number)?;
        let body = json!({ "phone": "01000000000", "paymentMethods": [],
            "preferences": { "defaultRideType": "STANDARD", "favoriteLocations": [] },
            "currentLocation": place(number) });
        self.call(&user, Method::PUT, &format!("/v1/users/{number}"), &body).await?;
        let body = json!({ "phone": "01000000000",
            "vehicleInfo": { "manufacturer": "현대", "licensePlate": "서울12가3456" },
            "preferences": { "preferredRegions": [], "maxDistance": 20, "autoAccept": false, "minimumFare": 0 } });
        self.call(&driver, Method::PUT, &format!("/v1/drivers/{number}"), &body).await?;
        let body = json!({ "status": "ACTIVE", "location": place(number) });
        self.call(&driver, Method::PUT, &format!("/v1/drivers/{number}/availability"), &body).await?;
        Ok(())
    }

    fn tokens(&self, number: usize) -> anyhow::Result<(String, String)> {
        let user = self.city.token(&format!("user#{number}"), "user")?;
        Ok((user, self.city.token(&format!("driver#{number}"), "driver")?))
    }

    async fn ping(&self) -> anyhow::Result<()> {
        let at = |number: usize| {
            let place = place(number);
            json!({ "driverId": format!("driver#{number}"), "lat": place["lat"], "lng": place["lng"] })
        };
        let all: Vec<Value> = (0..self.dispatches).map(at).collect();
        for some in all.chunks(500) {
            self.call(&self.operations, Method::POST, "/v1/locations/batch", &json!({ "locations": some })).await?;
        }
        Ok(())
    }

    async fn keep_pinging(&self) -> anyhow::Result<()> {
        let mut ticks = interval(PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.ping().await?;
        }
    }

    /// Requests and accepts one dispatch; returns the time of the request.
    async fn dispatch(&self, number: usize) -> anyhow::Result<Instant> {
        let (user, _) = self.tokens(number)?;
        let body = json!({ "userId": format!("user#{number}"), "pickupLocation": place(number),
            "destination": { "lat": 37.5730, "lng": 126.9794, "address": "서울시 종로구 종로" } });
        let requested_at = Instant::now();
        let stored = self.call(&user, Method::POST, "/v1/dispatches", &body).await?;
        let id = stored["dispatchId"].as_str().context("an id")?.to_owned();
        let (driver, offer_seq) = self.offered(&id).await?;
        sleep(ANSWER_DELAY).await;
        let token = self.city.token(&driver, "driver")?;
        let path = format!("/v1/dispatches/{}/response", id.trim_start_matches("dispatch#"));
        let body = json!({ "driverId": driver, "offerSeq": offer_seq, "response": "ACCEPT" });
        self.call(&token, Method::POST, &path, &body).await?;
        Ok(requested_at)
    }

    /// Waits until the table contains an offer; returns its driver and number.
    async fn offered(&self, id: &str) -> anyhow::Result<(String, u32)> {
        let deadline = Instant::now() + OFFERED_WITHIN;
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let key = HashMap::from([("PK".to_owned(), text(id)), ("SK".to_owned(), text("METADATA"))]);
        loop {
            let item = self.table.get_item().table_name(TABLE).set_key(Some(key.clone())).send().await?;
            let item: Value = serde_dynamo::from_item(item.item.context("it was stored")?)?;
            if let (Some(driver), Some(offer_seq)) = (item["driverId"].as_str(), item["offerSeq"].as_u64()) {
                return Ok((driver.to_owned(), u32::try_from(offer_seq)?));
            }
            anyhow::ensure!(Instant::now() < deadline, "no offer came");
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Runs the dispatches of these people, started at a fixed rate.
    async fn all(&self, people: Range<usize>, per_second: f64) -> anyhow::Result<usize> {
        let began = tokio::time::Instant::now();
        let dispatches = people.enumerate().map(|(place, number)| async move {
            sleep_until(began + Duration::from_secs_f64(place as f64 / per_second)).await;
            self.dispatch(number).await
        });
        Ok(try_join_all(dispatches).await?.len())
    }

    /// Times from request to push, ms, of dispatches that do not overlap: the first publication after a request is that
    /// of its offer.
    async fn pushes(&self, people: Range<usize>) -> anyhow::Result<Vec<f64>> {
        self.city.recorder.clear();
        let mut asked = Vec::new();
        for number in people {
            asked.push(self.dispatch(number).await?);
            sleep(PAUSE).await;
        }
        let calls = self.city.recorder.calls();
        let mut published: Vec<Instant> =
            calls.iter().filter(|call| call.service == "sns").map(|call| call.begun).collect();
        published.sort_unstable();
        let first_after = |asked: &Instant| published.get(published.partition_point(|at| at < asked));
        let pushed = asked.iter().map(|asked| first_after(asked).map(|at| at.duration_since(*asked)));
        let pushed: Option<Vec<Duration>> = pushed.collect();
        Ok(pushed.context("a push for each offer")?.iter().map(|time| time.as_secs_f64() * 1000.0).collect())
    }
}

/// Runs a load and measures the worker during it.
pub(super) async fn run(city: &City, load: &Load) -> anyhow::Result<Outcome> {
    let worker = city.worker().await?;
    let apps = Apps {
        city,
        worker: &worker,
        client: Client::builder().no_proxy().build()?,
        operations: city.token("operator", "operations")?,
        table: aws_sdk_dynamodb::Client::new(&sdk(&city.emulator.endpoint()).await),
        dispatches: load.dispatches + ONE_BY_ONE,
    };
    let numbers: Vec<usize> = (0..apps.dispatches).collect();
    for some in numbers.chunks(AT_ONCE) {
        for signed_on in join_all(some.iter().map(|number| apps.sign_on(*number))).await {
            signed_on?;
        }
    }
    tokio::select! {
        outcome = measured(&apps, load) => outcome,
        pinged = apps.keep_pinging() => pinged.and_then(|()| anyhow::bail!("pings never end")),
    }
}

async fn measured(apps: &Apps<'_>, load: &Load) -> anyhow::Result<Outcome> {
    let (rest_began, idle_from) = (Instant::now(), apps.worker.cpu_ms()?);
    sleep(IDLE_FOR).await;
    let idle_ms_a_second = (apps.worker.cpu_ms()? - idle_from) / rest_began.elapsed().as_secs_f64();

    let push_ms = apps.pushes(0..ONE_BY_ONE).await?;
    sleep(TIMERS_EXPIRE_WITHIN).await;
    apps.city.recorder.clear();
    let (began, cpu_from) = (Instant::now(), apps.worker.cpu_ms()?);
    let profiler = if load.profiled { Profiler::start(apps.worker.pid()) } else { None };
    let accepted = apps.all(ONE_BY_ONE..apps.dispatches, load.per_second).await?;
    let profile = profiler.map_or_else(Vec::new, Profiler::shares);
    sleep(TIMERS_EXPIRE_WITHIN).await;
    let (cpu_ms, seconds) = (apps.worker.cpu_ms()? - cpu_from, began.elapsed().as_secs_f64());
    let calls = apps.city.recorder.calls();
    Ok(Outcome { accepted, cpu_ms, seconds, idle_ms_a_second, push_ms, calls, profile })
}
