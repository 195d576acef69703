//! Several times the load that a process can serve, on real services: it refuses the excess at once with `Retry-After`,
//! answers accepted requests in time, and recovers when the load ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dispatch_api::worker_config::RateConfig;
use dispatch_tests::support::until;
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant, sleep};

use crate::process::{Process, Surroundings, free_port, number};
use crate::support::City;
use crate::trip::{Apps, Call, Caller, Reply, ride_request, user_document};

/// Duration of the short run; `DISPATCH_OVERLOAD_SECONDS` sets another one.
const SECONDS: u64 = 10;
/// Concurrent users. A process serves 512 requests at a time, and against the emulator each takes seconds.
const USERS: usize = 1_200;
/// Concurrent connections of one more user, whose app misbehaves.
const MISBEHAVING_CONNECTIONS: usize = 32;
/// Rate limit of a user: above the rate of users who wait for answers, and below that of the misbehaving app.
const LIMIT_PER_USER: RateConfig = RateConfig { per_second: 2, burst: 10 };
/// At least one request is refused for so many accepted ones, or it was no overload. The share depends on the speed of
/// the emulator.
const ACCEPTED_PER_REFUSED_MAX: usize = 4;
/// Pause after a refusal: less than `Retry-After` says, so that the load stays high.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The program's own limit for a request, ten seconds, and the transfer on a busy machine. Apps wait for fifteen.
const ANSWERED_WITHIN: Duration = Duration::from_secs(13);
/// Default memory limit of a worker's Pod, KiB.
const MEMORY_MAX_KIB: u64 = 256 * 1024;
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// Longest time until a process is quick again after the load has ended.
const RECOVERS_WITHIN: Duration = Duration::from_secs(20);
/// Time for two requests, one after the other, that counts as quick.
const QUICK: Duration = Duration::from_secs(1);
/// Longest time until every accepted request has ended: the search, the sweeper, and a slow emulator.
const ENDS_WITHIN: Duration = Duration::from_mins(3);
/// Search budget. There are no drivers.
const SEARCH_BUDGET_MS: u64 = 5_000;

/// Requests by their outcome.
#[derive(Default)]
struct Counts {
    accepted: Mutex<Vec<Duration>>,
    /// Answered 429.
    too_many: AtomicUsize,
    /// Answered 503.
    unavailable: AtomicUsize,
    /// Refused finally, as a user's second ride is.
    refused: AtomicUsize,
    unanswered: AtomicUsize,
    slowest: Mutex<Duration>,
    /// Acknowledged dispatches.
    stored: Mutex<BTreeSet<String>>,
}

impl Counts {
    /// Makes one request and counts it; returns status and body.
    async fn call(&self, apps: &Apps, caller: Caller<'_>, call: &Call) -> Option<(StatusCode, Value)> {
        let sent = Instant::now();
        let reply = apps.once(caller, call).await;
        let took = sent.elapsed();
        let Reply::Answer { status, body } = reply else {
            increment(&self.unanswered);
            return None;
        };
        let mut slowest = self.slowest.lock().await;
        *slowest = (*slowest).max(took);
        drop(slowest);
        match status {
            status if status.is_success() => {
                self.accepted.lock().await.push(took);
                self.stored.lock().await.extend(body["dispatchId"].as_str().map(str::to_owned));
            }
            StatusCode::TOO_MANY_REQUESTS => increment(&self.too_many),
            StatusCode::SERVICE_UNAVAILABLE => increment(&self.unavailable),
            _ => increment(&self.refused),
        }
        Some((status, body))
    }
}

fn increment(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::SeqCst);
}

fn value(count: &AtomicUsize) -> usize {
    count.load(Ordering::SeqCst)
}

/// A user who signs on, requests rides and reads them, until `end`.
async fn user(number: usize, apps: Arc<Apps>, counts: Arc<Counts>, end: Instant) {
    let (name, user) = (format!("crowd-{number}"), format!("user#crowd-{number}"));
    let (mut signed_on, mut ride, mut requested) = (false, None::<String>, 0_u32);
    while Instant::now() < end {
        let call = match &ride {
            _ if !signed_on => Call::new(Method::PUT, format!("/v1/users/{name}")).body(user_document()),
            None => ride_request(&name).key(format!("ask-{name}-{requested}")),
            Some(id) => Call::new(Method::GET, format!("/v1/dispatches/{id}")),
        };
        match counts.call(&apps, Caller::User(&user), &call).await {
            Some((status, body)) if status.is_success() => {
                signed_on = true;
                let id = body["dispatchId"].as_str().map(|id| id.trim_start_matches("dispatch#").to_owned());
                // After a ride has ended, the next one is requested.
                let open = id.is_some() && body["status"] == "REQUESTED";
                requested += u32::from(ride.is_some() && !open);
                ride = id.filter(|_| open);
            }
            _ => sleep(RETRY_PAUSE).await,
        }
    }
}

/// One connection of the misbehaving app, which repeats one request without a pause.
async fn misbehaving_connection(apps: Arc<Apps>, counts: Arc<Counts>, end: Instant) {
    let call = Call::new(Method::GET, "/v1/users/misbehaving".to_owned());
    while Instant::now() < end {
        let reply = counts.call(&apps, Caller::User("user#misbehaving"), &call).await;
        if reply.is_none_or(|(status, _)| !status.is_success()) {
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Probes the process until `end`; returns its peak memory, KiB.
async fn watch(worker: &Process, end: Instant) -> u64 {
    let mut most = 0;
    while Instant::now() < end {
        assert_eq!(worker.admin("livez").await, Some(200), "an overloaded process must stay alive");
        most = most.max(worker.memory_kib());
        sleep(PROBE_INTERVAL).await;
    }
    most
}

/// Signs on new users who request a ride, until both are answered quickly; returns how long that took.
async fn recovery_time(apps: &Apps, counts: &Counts) -> Duration {
    let started = Instant::now();
    for number in 0.. {
        let (name, user) = (format!("after-{number}"), format!("user#after-{number}"));
        let sent = Instant::now();
        let sign_on = Call::new(Method::PUT, format!("/v1/users/{name}")).body(user_document());
        let mut quick = true;
        for call in [sign_on, ride_request(&name)] {
            let reply = counts.call(apps, Caller::User(&user), &call).await;
            quick &= reply.is_some_and(|(status, _)| status.is_success());
        }
        if quick && sent.elapsed() < QUICK {
            break;
        }
        assert!(started.elapsed() < RECOVERS_WITHIN, "still slow after {RECOVERS_WITHIN:?}");
        sleep(PROBE_INTERVAL).await;
    }
    started.elapsed()
}

/// Waits until every dispatch has ended, and checks that the acknowledged ones exist; returns their number.
async fn wait_for_ends(city: &City, stored: &BTreeSet<String>) -> usize {
    let deadline = Instant::now() + ENDS_WITHIN;
    loop {
        let dispatches = city.dispatches().await;
        let open = dispatches.iter().filter(|item| item["status"] != "CANCELLED").count();
        if open == 0 {
            let lost = stored.iter().filter(|id| !dispatches.iter().any(|item| item["PK"] == id.as_str()));
            assert_eq!(lost.collect::<Vec<_>>(), [""; 0], "acknowledged and missing");
            return dispatches.len();
        }
        assert!(Instant::now() < deadline, "{open} of {} are still open", dispatches.len());
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn excess_load_is_refused_in_time_and_every_accepted_request_ends() {
    let seconds = number("DISPATCH_OVERLOAD_SECONDS", SECONDS);
    let mut city = City::create().await;
    city.config.limits.per_subject = LIMIT_PER_USER;
    // All users have one address here.
    city.config.limits.address_share_percent = 100;
    city.config.dispatch.search_budget_ms = SEARCH_BUDGET_MS;
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let port = free_port();
    let worker = surroundings.start("overloaded", "all", port).await;
    let (apps, counts) = (Arc::new(Apps::new(&city, port)), Arc::new(Counts::default()));
    let before = worker.memory_kib();
    let end = Instant::now() + Duration::from_secs(seconds);
    let users = (0..USERS).map(|number| tokio::spawn(user(number, Arc::clone(&apps), Arc::clone(&counts), end)));
    let misbehaving = (0..MISBEHAVING_CONNECTIONS)
        .map(|_| tokio::spawn(misbehaving_connection(Arc::clone(&apps), Arc::clone(&counts), end)));
    let (ended, most) = tokio::join!(join_all(users.chain(misbehaving).collect::<Vec<_>>()), watch(&worker, end));
    for ended in ended {
        ended.unwrap();
    }

    let recovery = recovery_time(&apps, &counts).await;
    until("the process to be ready", async || (worker.admin("readyz").await == Some(200)).then_some(())).await;
    let stored = counts.stored.lock().await.clone();
    let dispatches = wait_for_ends(&city, &stored).await;
    let mut accepted = counts.accepted.lock().await.clone();
    accepted.sort();
    let share = |percent: usize| accepted.get(accepted.len() * percent / 100).copied().unwrap_or_default();
    let (too_many, unavailable, slowest) =
        (value(&counts.too_many), value(&counts.unavailable), *counts.slowest.lock().await);
    println!(
        "overload: {seconds} s, {} users: {} accepted (p50 {:?} p99 {:?}), {too_many} answered 429, {unavailable} \
         answered 503, {} refused, {} unanswered, slowest answer {slowest:?}; {} MiB before, {} MiB at most; quick \
         again after {recovery:?}; {} requests acknowledged, {dispatches} stored, all ended",
        USERS + 1,
        accepted.len(),
        share(50),
        share(99),
        value(&counts.refused),
        value(&counts.unanswered),
        before / 1024,
        most / 1024,
        stored.len(),
    );
    // Whether the bound of a subject, an address or the process refuses first depends on the speed of the machine; each
    // has unit tests.
    assert!(too_many > 0 && !accepted.is_empty() && !stored.is_empty());
    assert!((too_many + unavailable) * ACCEPTED_PER_REFUSED_MAX >= accepted.len(), "the load was no overload");
    assert_eq!(value(&counts.unanswered), 0, "requests without an answer");
    assert!(share(99) < ANSWERED_WITHIN, "{:?}", share(99));
    assert!(most < MEMORY_MAX_KIB, "{most} KiB");
}
