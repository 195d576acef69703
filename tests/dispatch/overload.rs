//! Several times the load a process takes, on real services: what it cannot take it refuses at once and says when to come again, what it
//! takes it answers in time, and when the load is gone it is as before.

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
use crate::trip::{Apps, Call, Speaker, Told, asking, user_document};

/// Load of the short run; `DISPATCH_OVERLOAD_SECONDS` asks for more.
const SECONDS: u64 = 10;
/// People who ask at once. A process serves 512 requests at a time; against the emulator each takes seconds.
const CROWD: usize = 1_200;
/// One of them whose app has gone mad: it asks with so many hands at once.
const HANDS: usize = 32;
/// What one person may ask: more than people do who wait for answers, and less than the mad one does.
const SHARE: RateConfig = RateConfig { per_second: 2, burst: 10 };
/// For so many that are accepted at least one is refused, or there was no overload. How many are depends on how fast the emulator is.
const REFUSED_AT_LEAST_OF: usize = 4;
/// Pause of somebody who was refused. They do not wait for as long as they were told to, so the load stays.
const IMPATIENCE: Duration = Duration::from_millis(200);
/// How long a request may take by the program's own rule, ten seconds, and the way there and back on a busy machine. Apps wait for fifteen.
const ANSWERED_WITHIN: Duration = Duration::from_secs(13);
/// Memory a worker's Pod is given where the manifest says nothing, KiB.
const MEMORY_MAX_KIB: u64 = 256 * 1024;
/// Time between two looks at the process.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Longest time until a process that is no longer overloaded answers as if it never had been.
const RECOVERS_WITHIN: Duration = Duration::from_secs(20);
/// What counts as such an answer.
const QUICK: Duration = Duration::from_secs(1);
/// Longest time until everything that was taken has come to its end: the search, the sweeper, and their share of a slow emulator.
const ENDS_WITHIN: Duration = Duration::from_mins(3);
/// How long a driver is looked for. There are none.
const SEARCHED_FOR_MS: u64 = 5_000;

/// What became of the requests.
#[derive(Default)]
struct Counts {
    accepted: Mutex<Vec<Duration>>,
    /// Told to come again: 429 and 503.
    too_many: AtomicUsize,
    unavailable: AtomicUsize,
    /// Refused for good, as a second ride is.
    refused: AtomicUsize,
    silent: AtomicUsize,
    slowest: Mutex<Duration>,
    /// Dispatches that somebody was told of.
    stored: Mutex<BTreeSet<String>>,
}

impl Counts {
    /// One request; gives its status and body.
    async fn ask(&self, apps: &Apps, speaker: Speaker<'_>, call: &Call) -> Option<(StatusCode, Value)> {
        let asked = Instant::now();
        let told = apps.once(speaker, call).await;
        let took = asked.elapsed();
        let Told::Answer { status, body } = told else {
            one_more(&self.silent);
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
            StatusCode::TOO_MANY_REQUESTS => one_more(&self.too_many),
            StatusCode::SERVICE_UNAVAILABLE => one_more(&self.unavailable),
            _ => one_more(&self.refused),
        }
        Some((status, body))
    }
}

fn one_more(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::SeqCst);
}

fn of(count: &AtomicUsize) -> usize {
    count.load(Ordering::SeqCst)
}

/// Somebody who signs on, asks for rides, and looks at them, without end.
async fn person(number: usize, apps: Arc<Apps>, counts: Arc<Counts>, end: Instant) {
    let (name, user) = (format!("crowd-{number}"), format!("user#crowd-{number}"));
    let (mut known, mut ride, mut asked) = (false, None::<String>, 0_u32);
    while Instant::now() < end {
        let call = match &ride {
            _ if !known => Call::new(Method::PUT, format!("/v1/users/{name}")).body(user_document()),
            None => asking(&name).key(format!("ask-{name}-{asked}")),
            Some(id) => Call::new(Method::GET, format!("/v1/dispatches/{id}")),
        };
        match counts.ask(&apps, Speaker::User(&user), &call).await {
            Some((status, body)) if status.is_success() => {
                known = true;
                let id = body["dispatchId"].as_str().map(|id| id.trim_start_matches("dispatch#").to_owned());
                // One that has ended is followed by another.
                let open = id.is_some() && body["status"] == "REQUESTED";
                asked += u32::from(ride.is_some() && !open);
                ride = id.filter(|_| open);
            }
            _ => sleep(IMPATIENCE).await,
        }
    }
}

/// Asks the same thing over and over with one of many hands.
async fn hand(apps: Arc<Apps>, counts: Arc<Counts>, end: Instant) {
    let call = Call::new(Method::GET, "/v1/users/mad".to_owned());
    while Instant::now() < end {
        if counts.ask(&apps, Speaker::User("user#mad"), &call).await.is_none_or(|(status, _)| !status.is_success()) {
            sleep(IMPATIENCE).await;
        }
    }
}

/// Looks at the process until the end; gives the most memory it had.
async fn watch(worker: &Process, end: Instant) -> u64 {
    let mut most = 0;
    while Instant::now() < end {
        assert_eq!(worker.admin("livez").await, Some(200), "nobody restarts a process for its load");
        most = most.max(worker.memory_kib());
        sleep(LOOK_EVERY).await;
    }
    most
}

/// Signs on somebody new and asks for a ride, until both are answered as quickly as ever; gives how long that took.
async fn recovered(apps: &Apps, counts: &Counts) -> Duration {
    let begun = Instant::now();
    for number in 0.. {
        let (name, user) = (format!("after-{number}"), format!("user#after-{number}"));
        let asked = Instant::now();
        let sign_on = Call::new(Method::PUT, format!("/v1/users/{name}")).body(user_document());
        let mut quick = true;
        for call in [sign_on, asking(&name)] {
            let told = counts.ask(apps, Speaker::User(&user), &call).await;
            quick &= told.is_some_and(|(status, _)| status.is_success());
        }
        if quick && asked.elapsed() < QUICK {
            break;
        }
        assert!(begun.elapsed() < RECOVERS_WITHIN, "still slow after {RECOVERS_WITHIN:?}");
        sleep(LOOK_EVERY).await;
    }
    begun.elapsed()
}

/// Waits until every dispatch has come to its end, and those that were acknowledged are there.
async fn all_end(city: &City, stored: &BTreeSet<String>) -> usize {
    let deadline = Instant::now() + ENDS_WITHIN;
    loop {
        let dispatches = city.dispatches().await;
        let open = dispatches.iter().filter(|item| item["status"] != "CANCELLED").count();
        if open == 0 {
            let lost = stored.iter().filter(|id| !dispatches.iter().any(|item| item["PK"] == id.as_str()));
            assert_eq!(lost.collect::<Vec<_>>(), [""; 0], "acknowledged and gone");
            return dispatches.len();
        }
        assert!(Instant::now() < deadline, "{open} of {} are still open", dispatches.len());
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_times_the_load_is_refused_in_time_and_leaves_nothing_behind() {
    let seconds = number("DISPATCH_OVERLOAD_SECONDS", SECONDS);
    let mut city = City::create().await;
    city.config.limits.per_subject = SHARE;
    city.config.dispatch.search_budget_ms = SEARCHED_FOR_MS;
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let port = free_port();
    let worker = surroundings.start("overloaded", "all", port).await;
    let (apps, counts) = (Arc::new(Apps::of(&city, port)), Arc::new(Counts::default()));
    let before = worker.memory_kib();
    let end = Instant::now() + Duration::from_secs(seconds);
    let people = (0..CROWD).map(|number| tokio::spawn(person(number, Arc::clone(&apps), Arc::clone(&counts), end)));
    let hands = (0..HANDS).map(|_| tokio::spawn(hand(Arc::clone(&apps), Arc::clone(&counts), end)));
    let (ended, most) = tokio::join!(join_all(people.chain(hands).collect::<Vec<_>>()), watch(&worker, end));
    for ended in ended {
        ended.unwrap();
    }

    let recovery = recovered(&apps, &counts).await;
    until("the process to be ready", async || (worker.admin("readyz").await == Some(200)).then_some(())).await;
    let stored = counts.stored.lock().await.clone();
    let dispatches = all_end(&city, &stored).await;
    let mut accepted = counts.accepted.lock().await.clone();
    accepted.sort();
    let share = |percent: usize| accepted.get(accepted.len() * percent / 100).copied().unwrap_or_default();
    let (too_many, unavailable, slowest) =
        (of(&counts.too_many), of(&counts.unavailable), *counts.slowest.lock().await);
    println!(
        "overload: {seconds} s, {} people: {} accepted (p50 {:?} p99 {:?}), {too_many} told 429, {unavailable} told 503, {} refused, {} \
         unanswered, slowest answer {slowest:?}; {} MiB before, {} MiB at most; quick again after {recovery:?}; {} requests \
         acknowledged, {dispatches} stored, all ended",
        CROWD + 1,
        accepted.len(),
        share(50),
        share(99),
        of(&counts.refused),
        of(&counts.silent),
        before / 1024,
        most / 1024,
        stored.len(),
    );
    assert!(too_many > 0 && unavailable > 0 && !accepted.is_empty() && !stored.is_empty());
    assert!((too_many + unavailable) * REFUSED_AT_LEAST_OF >= accepted.len(), "that was no overload");
    assert_eq!(of(&counts.silent), 0, "somebody was not answered");
    assert!(share(99) < ANSWERED_WITHIN, "{:?}", share(99));
    assert!(most < MEMORY_MAX_KIB, "{most} KiB");
}
