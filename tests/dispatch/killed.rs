//! The worker is killed at every call of AWS a ride makes, before the call takes effect and after, and started again. Whatever was
//! acknowledged comes to its end, once, and leaves what an undisturbed ride leaves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dispatch_tests::recorder::{Fate, Recorded};
use futures::future::join_all;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::bench::Bench;
use crate::ledger;
use crate::process::{Dice, number};
use crate::trip::{PATIENCE, Ride};

/// Cities that suffer side by side: most of the time of a run is waiting for leases, keys and the sweeper.
const LANES: usize = 3;
/// Points of the short run; `DISPATCH_KILLS=0` asks for all, `DISPATCH_KILLS_SEED` for others.
const POINTS: u64 = 6;
const SEED: u64 = 11;
/// Calls a ride surely has less of; a run at a call beyond the last one ends the search.
const CALLS_MAX: u64 = 150;
/// What still happens after the last answer of a ride.
const AFTERMATH: Duration = Duration::from_millis(500);

/// Calls a worker repeats whether there is a ride or not.
const POLLS: [&str; 7] =
    ["ReceiveMessage", "GetRecords", "DescribeStream", "GetShardIterator", "ListStreams", "lease read", "lease write"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The call of this number among those the ride causes.
    Call(u64),
    /// The first call of this name.
    Poll(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Before,
    After,
}

struct Lane {
    bench: Bench,
    killed: usize,
    undisturbed: Vec<Value>,
}

/// What a call is called in the table of outcomes.
fn called(call: &Recorded, leases: &str) -> String {
    match call.resource == leases {
        true if call.operation.starts_with("BatchGet") || call.operation == "GetItem" => "lease read".to_owned(),
        true => "lease write".to_owned(),
        false => call.operation.clone(),
    }
}

impl Lane {
    async fn open(name: &str) -> Self {
        let mut lane = Self { bench: Bench::open(name).await, killed: 0, undisturbed: Vec::new() };
        let ride = lane.bench.apps.ride(&format!("{name}-undisturbed")).await;
        lane.undisturbed = lane.end(ride).await;
        lane
    }

    /// A ride's end: what must hold of the city, and what the ride left. Its driver goes home, so that the next ride has its own.
    async fn end(&mut self, ride: Ride) -> Vec<Value> {
        self.bench.rides.push(ride.clone());
        self.bench.audit().await;
        let left = ledger::remains(&self.bench.city, &ride).await;
        self.bench.apps.available(ride.driver.trim_start_matches("driver#"), "INACTIVE").await;
        left
    }

    /// Holds one call for ever; gives what it is called once it is held.
    fn hold(&self, place: Place, side: Side) -> Arc<Mutex<Option<String>>> {
        let (count, struck) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (leases, held) = (self.bench.city.config.lease_table.clone(), Arc::new(Mutex::new(None)));
        let holding = Arc::clone(&held);
        self.bench.recorder.interfere(move |call| {
            let name = called(call, &leases);
            let polls = POLLS.contains(&name.as_str());
            let here = match place {
                Place::Call(number) => !polls && count.fetch_add(1, Ordering::SeqCst) as u64 + 1 == number,
                Place::Poll(wanted) => name == wanted,
            };
            if !here || struck.swap(true, Ordering::SeqCst) {
                return Fate::Pass;
            }
            *holding.lock().unwrap() = Some(name);
            match side {
                Side::Before => Fate::HoldBefore,
                Side::After => Fate::HoldAfter,
            }
        });
        held
    }

    /// One ride with one kill; gives the call at which it was, and `None` where the ride had no such call.
    async fn suffer(&mut self, point: (Place, Side)) -> Option<(String, Duration)> {
        let name = format!("{}-{}", self.bench.name, self.bench.rides.len());
        self.bench.apps.people(&name).await;
        let held = self.hold(point.0, point.1);
        let begun = Instant::now();
        let (ride, struck) = self.ride_and_be_killed(&name).await;
        self.bench.recorder.stop_interfering();
        self.bench.recorder.clear();
        let left = self.end(ride).await;
        let call = held.lock().unwrap().take();
        let lost: Vec<String> =
            self.undisturbed.iter().filter(|item| !left.contains(item)).map(Value::to_string).collect();
        let new: Vec<String> =
            left.iter().filter(|item| !self.undisturbed.contains(item)).map(Value::to_string).collect();
        assert!(left == self.undisturbed, "{point:?}, at {call:?}: instead of {lost:#?} there is {new:#?}");
        call.filter(|_| struck).map(|call| (call, begun.elapsed()))
    }
}

impl Lane {
    /// A ride, and whether a call of it was held: then the worker was killed and started again meanwhile.
    async fn ride_and_be_killed(&mut self, name: &str) -> (Ride, bool) {
        let apps = &self.bench.apps;
        let riding = async {
            let mut ride = apps.ask(name).await;
            apps.accept(&mut ride).await;
            apps.drive(&ride).await;
            tokio::time::sleep(AFTERMATH).await;
            ride
        };
        tokio::pin!(riding);
        tokio::select! {
            ride = &mut riding => return (ride, false),
            struck = self.bench.recorder.until_held(self.killed + 1, PATIENCE) => struck.unwrap(),
        }
        self.killed += 1;
        self.bench.worker.kill();
        self.bench.recorder.stop_interfering();
        let (worker, ride) =
            tokio::join!(self.bench.surroundings.start(&self.bench.name, "all", self.bench.port), &mut riding);
        self.bench.worker = worker;
        (ride, true)
    }
}

/// The points still to be tried, for all lanes together.
struct Points {
    left: Mutex<Vec<(Place, Side)>>,
    /// A call no ride has.
    beyond: AtomicUsize,
}

impl Points {
    fn all() -> Vec<(Place, Side)> {
        let calls = (1..=CALLS_MAX).map(Place::Call);
        let places = POLLS.into_iter().map(Place::Poll).chain(calls);
        places.flat_map(|place| [(place, Side::Before), (place, Side::After)]).rev().collect()
    }

    /// Some of those every ride has.
    fn some(count: u64, seed: u64) -> Vec<(Place, Side)> {
        let mut dice = Dice(seed);
        let side = |dice: &mut Dice| if dice.below(2) == 0 { Side::Before } else { Side::After };
        (0..count).map(|_| (Place::Call(1 + dice.below(24)), side(&mut dice))).collect()
    }

    fn next(&self) -> Option<(Place, Side)> {
        loop {
            let point = self.left.lock().unwrap().pop()?;
            match point.0 {
                Place::Call(number) if number > self.beyond.load(Ordering::SeqCst) as u64 => {}
                _ => return Some(point),
            }
        }
    }
}

/// Runs, and the longest of them, by call and side.
type Outcomes = BTreeMap<(String, Side), (usize, Duration)>;

struct Table<'a>(&'a Outcomes);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<22} {:<7} {:>4} {:>8}  outcome", "killed at", "effect", "runs", "longest")?;
        for ((call, side), (runs, longest)) in self.0 {
            let side = if *side == Side::Before { "before" } else { "after" };
            writeln!(f, "{call:<22} {side:<7} {runs:>4} {:>6.1} s  as undisturbed", longest.as_secs_f64())?;
        }
        Ok(())
    }
}

async fn work_off(name: String, points: Arc<Points>, outcomes: Arc<Mutex<Outcomes>>) {
    let mut lane = Lane::open(&name).await;
    while let Some(point) = points.next() {
        match lane.suffer(point).await {
            Some((call, took)) => {
                let mut outcomes = outcomes.lock().unwrap();
                let outcome = outcomes.entry((call, point.1)).or_default();
                (outcome.0, outcome.1) = (outcome.0 + 1, outcome.1.max(took));
            }
            None => {
                if let Place::Call(number) = point.0 {
                    points.beyond.fetch_min(usize::try_from(number).unwrap(), Ordering::SeqCst);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_at_any_call_loses_no_acknowledged_request_and_does_nothing_twice() {
    let (count, seed) = (number("DISPATCH_KILLS", POINTS), number("DISPATCH_KILLS_SEED", SEED));
    println!("{count} points, seed {seed}");
    let left = if count == 0 { Points::all() } else { Points::some(count, seed) };
    let wanted = left.len();
    let points = Arc::new(Points { left: Mutex::new(left), beyond: AtomicUsize::new(usize::MAX) });
    let outcomes = Arc::new(Mutex::new(Outcomes::new()));
    let lanes = (0..LANES).map(|lane| work_off(format!("lane{lane}"), Arc::clone(&points), Arc::clone(&outcomes)));
    join_all(lanes).await;
    let outcomes = outcomes.lock().unwrap();
    println!("{}", Table(&outcomes));
    let runs: usize = outcomes.values().map(|(runs, _)| runs).sum();
    let enough = if count == 0 { 2 * POLLS.len() } else { wanted };
    assert!(runs >= enough, "{runs} runs of {wanted} points were killed at all");
}
