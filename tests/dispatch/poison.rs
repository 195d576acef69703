//! A city in which stored items, keys of Redis, messages and stream records are broken at random while rides run: what
//! is broken fails alone, and everyone else's rides complete.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::ledger::Ledger;
use crate::mutator::{Mutator, Strike};
use crate::process::{Process, Surroundings, free_port, number};
use crate::support::City;
use crate::trip::{Apps, Call, Caller, Reply, driver_document, ride_request, user_document};

/// Duration of the short run; `DISPATCH_POISON_SECONDS` sets another one, `DISPATCH_POISON_SEED` other mutations.
const SECONDS: u64 = 20;
const SEED: u64 = 12;
/// Rides at a time.
const LANES: usize = 4;
/// Drivers on duty from the beginning, so that a broken one costs a ride an offer and not its only driver.
const SPARE_DRIVERS: usize = 4;
const PAUSE_BETWEEN_STRIKES: Duration = Duration::from_millis(300);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The shortest time-out of an offer that the rules allow, more attempts than there are broken drivers at a time, and a
/// search budget that a slow emulator does not use up.
const OFFER_TIMEOUT_MS: u64 = 5_000;
const ATTEMPTS: u8 = 20;
const SEARCH_BUDGET_MS: u64 = 60_000;
/// Longest time until a ride without any broken part is completed.
const PATIENCE: Duration = Duration::from_secs(100);
/// Time after which a ride with a broken part is given up that makes no progress.
const PATIENCE_IF_STRUCK: Duration = Duration::from_secs(12);
/// Ids of rides of late that mutations choose from.
const RECENT: usize = 14;
/// Most lines of one text, which names its record. A record has a line in each period of ten minutes.
const LINES_MAX: usize = 2;

const STEPS: [&str; 5] = ["PICKUP_STARTED", "DRIVER_ARRIVED", "PASSENGER_PICKED_UP", "TRIP_STARTED", "TRIP_COMPLETED"];

/// How a ride ended for its people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Completed,
    /// The search ended without a driver.
    Cancelled,
    /// A call was refused for good, or failed for as long as the app tried.
    Refused(&'static str),
    /// It made no progress for as long as the app waited.
    Stuck(&'static str),
}

/// A ride that was played.
#[derive(Debug)]
struct Played {
    user: String,
    dispatch: Option<String>,
    driver: Option<String>,
    /// When its driver was first seen.
    offered: Instant,
    ended: Instant,
    end: End,
}

impl Played {
    /// The ids of its parts.
    fn parts(&self) -> impl Iterator<Item = &String> {
        [Some(&self.user), self.dispatch.as_ref(), self.driver.as_ref()].into_iter().flatten()
    }
}

/// Everything of one run.
struct Scene {
    // Fields are dropped in this order: the process ends before its output is searched.
    worker: Process,
    surroundings: Surroundings,
    apps: Apps,
    city: City,
    strikes: Mutex<Vec<Strike>>,
    recent: Mutex<Vec<String>>,
    played: Mutex<Vec<Played>>,
    violations: Mutex<Vec<String>>,
    /// Broken drivers and how their own repair ended.
    repairs: Mutex<BTreeMap<String, &'static str>>,
}

impl Scene {
    async fn open() -> Self {
        let mut city = City::create().await;
        city.config.dispatch.offer_timeout_ms = OFFER_TIMEOUT_MS;
        city.config.dispatch.max_attempts = ATTEMPTS;
        city.config.dispatch.search_budget_ms = SEARCH_BUDGET_MS;
        let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
        let port = free_port();
        let worker = surroundings.start("poisoned", "all", port).await;
        Self {
            worker,
            surroundings,
            apps: Apps::new(&city, port),
            city,
            strikes: Mutex::default(),
            recent: Mutex::default(),
            played: Mutex::default(),
            violations: Mutex::default(),
            repairs: Mutex::default(),
        }
    }

    fn is_struck(&self, ids: &[&str]) -> bool {
        self.strikes.lock().iter().any(|strike| strike.owner.as_deref().is_some_and(|owner| ids.contains(&owner)))
    }

    fn note(&self, id: &str) {
        let mut recent = self.recent.lock();
        recent.push(id.to_owned());
        let surplus = recent.len().saturating_sub(RECENT);
        recent.drain(..surplus);
    }

    /// Makes a call until it succeeds or is refused for good. `ids` are the parts that it concerns: while one of them
    /// is broken the call may fail, and is given up in time.
    async fn settle(&self, caller: Caller<'_>, call: &Call, ids: &[&str]) -> Result<Value, StatusCode> {
        let begun = Instant::now();
        loop {
            let status = match self.apps.reply(caller, call).await {
                Reply::Answer { status, body } if status.is_success() => return Ok(body),
                Reply::Answer { status, .. } => status,
                Reply::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
            };
            let struck = self.is_struck(ids);
            if status == StatusCode::INTERNAL_SERVER_ERROR && !struck {
                self.violations.lock().push(format!("{call:?} of {ids:?}: {status}"));
            }
            let patience = if struck { PATIENCE_IF_STRUCK } else { PATIENCE };
            if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS || begun.elapsed() > patience {
                return Err(status);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn sign_on_driver(&self, name: &str) -> Result<(), StatusCode> {
        let id = format!("driver#{name}");
        self.note(&id);
        let call = Call::new(Method::PUT, format!("/v1/drivers/{name}")).body(driver_document());
        self.settle(Caller::Driver(&id), &call, &[&id]).await?;
        self.settle(Caller::Driver(&id), &Apps::availability(name, "ACTIVE"), &[&id]).await?;
        self.apps.on_duty(&id);
        Ok(())
    }

    /// Plays a ride of a new user, with a new driver on duty.
    async fn ride(&self, name: &str) {
        let user = format!("user#{name}");
        let begun = Instant::now();
        let mut ride = Played { user, dispatch: None, driver: None, offered: begun, ended: begun, end: End::Completed };
        if self.sign_on_driver(name).await.is_err() && !self.is_struck(&[&format!("driver#{name}")]) {
            self.violations.lock().push(format!("driver#{name} could not sign on"));
        }
        ride.end = self.play(name, &mut ride).await;
        ride.ended = Instant::now();
        self.played.lock().push(ride);
    }

    async fn play(&self, name: &str, ride: &mut Played) -> End {
        let user = ride.user.clone();
        self.note(&user);
        let call = Call::new(Method::PUT, format!("/v1/users/{name}")).body(user_document());
        let signed_on = self.settle(Caller::User(&user), &call, &[&user]).await;
        if signed_on.is_err() {
            return End::Refused("the user's profile");
        }
        let Ok(stored) = self.settle(Caller::User(&user), &ride_request(name), &[&user]).await else {
            return End::Refused("the request");
        };
        let id = stored["dispatchId"].as_str().unwrap().to_owned();
        self.note(&id);
        ride.dispatch = Some(id.clone());
        match self.accepted(&id, ride).await {
            Ok(driver) => self.drive(&id, &driver, ride).await,
            Err(end) => end,
        }
    }

    /// Accepts each offer as its driver, until the ride is accepted.
    async fn accepted(&self, id: &str, ride: &mut Played) -> Result<String, End> {
        let suffix = id.trim_start_matches("dispatch#");
        let begun = Instant::now();
        loop {
            let read = Call::new(Method::GET, format!("/v1/dispatches/{suffix}"));
            let Ok(now) = self.settle(Caller::Operations, &read, &[id]).await else {
                return Err(End::Refused("reading the dispatch"));
            };
            let driver = now["driverId"].as_str().map(str::to_owned);
            if driver.is_some() && ride.driver != driver {
                (ride.driver, ride.offered) = (driver.clone(), Instant::now());
            }
            match (now["status"].as_str().unwrap_or_default(), driver) {
                ("REQUESTED", None) => {}
                ("REQUESTED", Some(driver)) => {
                    let body = json!({ "driverId": driver, "offerSeq": now["offerSeq"], "response": "ACCEPT" });
                    let call = Call::new(Method::POST, format!("/v1/dispatches/{suffix}/response")).body(body);
                    // A refusal means that the offer has ended, or that its driver is broken and it will.
                    let _ = self.settle(Caller::Driver(&driver), &call, &[&driver, id, &ride.user]).await;
                }
                ("CANCELLED", _) => return Err(End::Cancelled),
                ("COMPLETED", _) => return Err(End::Completed),
                (_, Some(driver)) => return Ok(driver),
                (_, None) => return Err(End::Stuck("without a driver")),
            }
            if begun.elapsed() > PATIENCE {
                return Err(End::Stuck("REQUESTED"));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn drive(&self, id: &str, driver: &str, ride: &Played) -> End {
        let suffix = id.trim_start_matches("dispatch#");
        for step in STEPS {
            let body = json!({ "driverId": driver, "type": step });
            let call = Call::new(Method::POST, format!("/v1/dispatches/{suffix}/events")).body(body);
            if self.settle(Caller::Driver(driver), &call, &[driver, id, &ride.user]).await.is_err() {
                return End::Refused("a step of the ride");
            }
        }
        End::Completed
    }

    /// Breaks something in every pause until `end`.
    async fn mutate(&self, seed: u64, end: Instant) {
        let mut mutator = Mutator::new(&self.city, seed).await;
        while Instant::now() < end {
            let ids = self.recent.lock().clone();
            if !ids.is_empty()
                && let Some(strike) = mutator.strike(&ids).await
            {
                self.strikes.lock().push(strike);
            }
            sleep(PAUSE_BETWEEN_STRIKES).await;
        }
    }

    /// Drivers who are broken repair their profile and go off duty, as a driver does who gets no rides.
    async fn repair(&self) {
        loop {
            sleep(Duration::from_secs(2)).await;
            for id in self.apps.drivers_on_duty() {
                let struck = |strike: &Strike| strike.owner.as_ref() == Some(&id) && strike.at.elapsed().as_secs() > 4;
                if !self.strikes.lock().iter().any(struck) {
                    continue;
                }
                let name = id.trim_start_matches("driver#");
                let call = Call::new(Method::PUT, format!("/v1/drivers/{name}")).body(driver_document());
                let put = self.settle(Caller::Driver(&id), &call, &[&id]).await;
                let off = self.settle(Caller::Driver(&id), &Apps::availability(name, "INACTIVE"), &[&id]).await;
                let outcome = match (put, off) {
                    (Ok(_), Ok(_)) => "repaired",
                    (Ok(_), Err(StatusCode::CONFLICT)) => "repaired, on a ride",
                    (Ok(_), Err(_)) => "repaired, not off duty",
                    (Err(_), _) => "not repaired",
                };
                self.repairs.lock().insert(id.clone(), outcome);
                self.apps.off_duty(&id);
            }
        }
    }

    /// Sends positions and watches the process.
    async fn watch(&self) {
        loop {
            self.apps.ping().await;
            for probe in ["livez", "readyz"] {
                assert_eq!(self.worker.admin(probe).await, Some(200), "{probe}");
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// What became of a strike.
fn outcome(strike: &Strike, played: &[Played], repairs: &BTreeMap<String, &'static str>) -> String {
    let Some(owner) = &strike.owner else {
        return if strike.kind.starts_with("queue") { "sent" } else { "kept" }.to_owned();
    };
    let concerned = played.iter().filter(|ride| ride.ended > strike.at && ride.parts().any(|part| part == owner));
    match concerned.map(|ride| ride.end).max() {
        Some(End::Completed) => "kept".to_owned(),
        Some(End::Cancelled) => "ended".to_owned(),
        Some(End::Refused(what)) => format!("refused: {what}"),
        Some(End::Stuck(what)) => format!("stuck: {what}"),
        None => repairs.get(owner).copied().unwrap_or("not met").to_owned(),
    }
}

/// Warnings and errors of a log by their text, without times and what differs from request to request.
fn lines(log: &str) -> BTreeMap<String, usize> {
    let own = regex::Regex::new(r"request_id=\S+|took_ms=\d+|sequence=\S+|failures=\d+|outages=\d+").unwrap();
    let mut found = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR ")) {
        let text = line.split_once(' ').map_or(line, |(_, text)| text).trim();
        *found.entry(own.replace_all(text, "").into_owned()).or_default() += 1;
    }
    found
}

/// Rides without a broken part that did not complete. A driver who was broken before the ride is no excuse.
fn innocent(played: &[Played], strikes: &[Strike]) -> Vec<String> {
    let excused = |ride: &Played| {
        strikes.iter().filter(|strike| strike.at < ride.ended).any(|strike| match &strike.owner {
            Some(owner) if Some(owner) == ride.driver.as_ref() => strike.at > ride.offered,
            Some(owner) => ride.parts().any(|part| part == owner),
            None => false,
        })
    };
    let failed = played.iter().filter(|ride| ride.end != End::Completed && !excused(ride));
    failed.map(|ride| format!("{ride:?}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_broken_while_rides_run_fails_alone() {
    let (seconds, seed) = (number("DISPATCH_POISON_SECONDS", SECONDS), number("DISPATCH_POISON_SEED", SEED));
    println!("{seconds} s of mutations, seed {seed}");
    let scene = Scene::open().await;
    let mut ledger = Ledger::open(&scene.city, &scene.city.config.table.stream_arn).await;
    for spare in 0..SPARE_DRIVERS {
        scene.sign_on_driver(&format!("spare-{spare}")).await.unwrap();
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let lane = async |lane: usize| {
        for number in 0.. {
            if Instant::now() > end {
                break;
            }
            scene.ride(&format!("p{lane}-{number}")).await;
        }
    };
    let lanes = futures::future::join_all((0..LANES).map(lane));
    let run = async { tokio::join!(lanes, scene.mutate(seed, end)) };
    tokio::select! {
        _ = run => {}
        () = scene.watch() => {}
        () = scene.repair() => {}
    }
    // Nothing is broken any more.
    let after: Vec<String> = (0..LANES).map(|number| format!("after-{number}")).collect();
    tokio::select! {
        _ = futures::future::join_all(after.iter().map(|name| scene.ride(name))) => {}
        () = scene.watch() => {}
    }
    judge(&scene, &mut ledger).await;
}

async fn judge(scene: &Scene, ledger: &mut Ledger) {
    let (played, strikes) = (std::mem::take(&mut *scene.played.lock()), std::mem::take(&mut *scene.strikes.lock()));
    let repairs = scene.repairs.lock().clone();
    let mut table: BTreeMap<(String, String), usize> = BTreeMap::new();
    for strike in &strikes {
        *table.entry((strike.kind.clone(), outcome(strike, &played, &repairs))).or_default() += 1;
    }
    let completed = played.iter().filter(|ride| ride.end == End::Completed).count();
    println!("poison: {} mutations, {} rides, {completed} completed", strikes.len(), played.len());
    for ((kind, outcome), count) in &table {
        println!("poison: {kind:<28} {outcome:<36} {count:>5}");
    }
    let log = std::fs::read_to_string(scene.surroundings.folder.path().join("poisoned.log")).unwrap();
    let mut lines: Vec<(usize, String)> = lines(&log).into_iter().map(|(text, count)| (count, text)).collect();
    lines.sort();
    for (count, text) in lines.iter().rev().take(30) {
        println!("{count:>5} {}", text.chars().take(220).collect::<String>());
    }
    let innocent = innocent(&played, &strikes);
    if !innocent.is_empty() {
        for Strike { kind, owner, what, at } in &strikes {
            println!("{at:?} {kind} of {owner:?}: {what}");
        }
    }
    assert_eq!(innocent, [""; 0], "rides without a broken part did not complete");
    assert_eq!(*scene.violations.lock(), [""; 0]);
    ledger.read().await;
    let owners: BTreeSet<&str> = strikes.iter().filter_map(|strike| strike.owner.as_deref()).collect();
    let is_whole = |fault: &String| fault.split(' ').next().is_some_and(|id| !owners.contains(id));
    let faults: Vec<String> = ledger.faults().into_iter().filter(is_whole).collect();
    assert_eq!(faults, [""; 0]);
    lines.retain(|(count, _)| *count > LINES_MAX);
    assert!(lines.is_empty(), "more than one line about one record: {lines:?}");
}
