//! The worker is killed at every call of AWS a ride makes, before the call takes effect and after, and started again. Whatever was
//! acknowledged comes to its end, once, and leaves what an undisturbed ride leaves. At length, every call a ride or a beginning worker
//! was seen to make is hit by its name on both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Longest time in which a worker makes each of its calls again: it looks for shards every ten seconds.
const AGAIN_WITHIN: Duration = Duration::from_secs(15);
/// Tries to hit a call by its name. Some come in few rides only, as a look for a write that lost a race.
const TRIES: usize = 6;
/// A call that one of so many rides has must be hit in the end; of a rarer one it is told how often it was seen.
const COMMON_SHARE: usize = 4;
const SIDES: [Side; 2] = [Side::Before, Side::After];

/// Calls a worker repeats whether there is a ride or not, or makes when it begins.
const POLLS: [&str; 6] =
    ["ReceiveMessage", "GetRecords", "DescribeStream", "GetShardIterator", "lease read", "lease write"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The call of this number among those the ride causes.
    Call(u64),
    /// The first call of this name, and which try it is. Every other one is made with a worker that begins with the ride.
    Named(String, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Before,
    After,
}

struct Lane {
    bench: Bench,
    /// Calls that were held.
    held: usize,
    undisturbed: Vec<Value>,
    /// Names of the calls it has seen.
    seen: BTreeSet<String>,
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
        let mut lane = Self { bench: Bench::open(name).await, held: 0, undisturbed: Vec::new(), seen: BTreeSet::new() };
        let ride = lane.bench.apps.ride(&format!("{name}-undisturbed")).await;
        lane.note_calls();
        lane.undisturbed = lane.end(ride).await;
        lane
    }

    /// Notes which calls there were, and forgets them.
    fn note_calls(&mut self) {
        let leases = &self.bench.city.config.lease_table;
        self.seen.extend(self.bench.recorder.calls().iter().map(|call| called(call, leases)));
        self.bench.recorder.clear();
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
    fn hold(&self, place: &Place, side: Side) -> Arc<Mutex<Option<String>>> {
        let (count, struck) = (AtomicU64::new(0), AtomicBool::new(false));
        let (leases, held) = (self.bench.city.config.lease_table.clone(), Arc::new(Mutex::new(None)));
        let (holding, place) = (Arc::clone(&held), place.clone());
        self.bench.recorder.interfere(move |call| {
            let name = called(call, &leases);
            let polls = POLLS.contains(&name.as_str());
            let here = match &place {
                Place::Call(number) => !polls && count.fetch_add(1, Ordering::SeqCst) + 1 == *number,
                Place::Named(wanted, _) => name == *wanted,
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
    async fn suffer(&mut self, point: &(Place, Side)) -> Option<(String, Duration)> {
        let name = format!("{}-{}", self.bench.name, self.bench.rides.len());
        self.bench.apps.people(&name).await;
        let begun = Instant::now();
        let (held, (ride, struck)) = match &point.0 {
            Place::Call(_) => {
                let held = self.hold(&point.0, point.1);
                (held, self.ride_and_be_killed(&name, Duration::ZERO).await)
            }
            Place::Named(_, tried) => {
                let begins = tried % 2 == 0;
                if begins {
                    self.bench.worker.kill();
                }
                let held = self.hold(&point.0, point.1);
                if begins {
                    self.begin().await;
                }
                (held, self.ride_and_be_killed(&name, AGAIN_WITHIN).await)
            }
        };
        self.bench.recorder.stop_interfering();
        self.note_calls();
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
    /// Starts the worker again.
    async fn begin(&mut self) {
        self.bench.worker = self.bench.surroundings.start(&self.bench.name, "all", self.bench.port).await;
    }

    /// A ride, and whether a call was held meanwhile, or within `more`: then the worker was killed and started again.
    async fn ride_and_be_killed(&mut self, name: &str, more: Duration) -> (Ride, bool) {
        let apps = &self.bench.apps;
        let riding = async {
            let mut ride = apps.ask(name).await;
            apps.accept(&mut ride).await;
            apps.drive(&ride).await;
            tokio::time::sleep(AFTERMATH).await;
            ride
        };
        tokio::pin!(riding);
        let over = tokio::select! {
            ride = &mut riding => {
                if more.is_zero() || self.bench.recorder.until_held(self.held + 1, more).await.is_err() {
                    return (ride, false);
                }
                Some(ride)
            }
            struck = self.bench.recorder.until_held(self.held + 1, PATIENCE) => {
                struck.unwrap();
                None
            }
        };
        self.held += 1;
        self.bench.worker.kill();
        self.bench.recorder.stop_interfering();
        let start = self.bench.surroundings.start(&self.bench.name, "all", self.bench.port);
        let (worker, ride) = if let Some(ride) = over { (start.await, ride) } else { tokio::join!(start, &mut riding) };
        self.bench.worker = worker;
        (ride, true)
    }
}

/// What became of the points of one kind.
#[derive(Default)]
struct Outcome {
    runs: usize,
    longest: Duration,
}

/// What is to be tried and what came of it, for all lanes together.
#[derive(Default)]
struct Plan {
    /// Points by number that are left.
    left: Vec<(Place, Side)>,
    /// A number no ride has.
    beyond: Option<u64>,
    /// Tries there may be of each name and side; none in the short run.
    tries: usize,
    /// Tries so far.
    tried: BTreeMap<(String, Side), usize>,
    /// Rides so far, and in how many of them each call was seen.
    rides: usize,
    seen: BTreeMap<String, usize>,
    outcomes: BTreeMap<(String, Side), Outcome>,
}

impl Plan {
    fn all() -> Self {
        let calls = (1..=CALLS_MAX).map(Place::Call);
        let left = calls.flat_map(|place| SIDES.map(|side| (place.clone(), side))).rev().collect();
        Self { left, tries: TRIES, ..Self::default() }
    }

    /// Some of those every ride has.
    fn some(count: u64, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let side = |dice: &mut Dice| if dice.below(2) == 0 { Side::Before } else { Side::After };
        let left = (0..count).map(|_| (Place::Call(1 + dice.below(24)), side(&mut dice))).collect();
        Self { left, ..Self::default() }
    }

    /// The next point: those by number, then the cells of the table that are still empty.
    fn next(&mut self) -> Option<(Place, Side)> {
        while let Some(point) = self.left.pop() {
            match point.0 {
                Place::Call(number) if self.beyond.is_some_and(|beyond| number > beyond) => {}
                _ => return Some(point),
            }
        }
        let cells: Vec<(String, Side)> =
            self.seen.keys().flat_map(|name| SIDES.map(|side| (name.clone(), side))).collect();
        for cell in cells {
            let tried = self.tried.entry(cell.clone()).or_default();
            if !self.outcomes.contains_key(&cell) && *tried < self.tries {
                *tried += 1;
                return Some((Place::Named(cell.0, *tried), cell.1));
            }
        }
        None
    }

    fn note_seen(&mut self, names: BTreeSet<String>) {
        self.rides += 1;
        for name in names {
            *self.seen.entry(name).or_default() += 1;
        }
    }

    fn note(&mut self, point: &(Place, Side), hit: Option<(String, Duration)>) {
        match (hit, &point.0) {
            (Some((call, took)), _) => {
                let outcome = self.outcomes.entry((call, point.1)).or_default();
                (outcome.runs, outcome.longest) = (outcome.runs + 1, outcome.longest.max(took));
            }
            (None, Place::Call(number)) => {
                self.beyond = Some(self.beyond.map_or(*number, |beyond| beyond.min(*number)));
            }
            (None, Place::Named(..)) => {}
        }
    }

    /// Cells of calls that many rides have and that were never hit.
    fn empty(&self) -> Vec<String> {
        let common = self.seen.iter().filter(|(_, rides)| **rides * COMMON_SHARE >= self.rides);
        let cells = common.flat_map(|(name, _)| SIDES.map(|side| (name.clone(), side)));
        let empty = cells.filter(|cell| !self.outcomes.contains_key(cell));
        empty.map(|(name, side)| format!("{name} {side}")).collect()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<27} {:<7} {:>4} {:>8}  outcome", "killed at", "effect", "runs", "longest")?;
        for (cell, Outcome { runs, longest }) in &self.outcomes {
            writeln!(f, "{:<27} {:<7} {runs:>4} {:>6.1} s  as undisturbed", cell.0, cell.1, longest.as_secs_f64())?;
        }
        for (cell, tried) in self.tried.iter().filter(|(cell, tried)| **tried > 0 && !self.outcomes.contains_key(cell))
        {
            let seen = self.seen.get(&cell.0).copied().unwrap_or_default();
            writeln!(
                f,
                "{:<27} {:<7}    0         -  not met in {tried} tries; in {seen} of {} rides",
                cell.0, cell.1, self.rides
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Self::Before { "before" } else { "after" })
    }
}

async fn work_off(name: String, plan: Arc<Mutex<Plan>>) {
    let mut lane = Lane::open(&name).await;
    plan.lock().unwrap().note_seen(std::mem::take(&mut lane.seen));
    loop {
        let Some(point) = plan.lock().unwrap().next() else { return };
        let hit = lane.suffer(&point).await;
        let mut plan = plan.lock().unwrap();
        plan.note_seen(std::mem::take(&mut lane.seen));
        plan.note(&point, hit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_at_any_call_loses_no_acknowledged_request_and_does_nothing_twice() {
    let (count, seed) = (number("DISPATCH_KILLS", POINTS), number("DISPATCH_KILLS_SEED", SEED));
    println!("{count} points, seed {seed}");
    let plan = if count == 0 { Plan::all() } else { Plan::some(count, seed) };
    let plan = Arc::new(Mutex::new(plan));
    join_all((0..LANES).map(|lane| work_off(format!("lane{lane}"), Arc::clone(&plan)))).await;
    let plan = plan.lock().unwrap();
    println!("{plan}");
    let runs: usize = plan.outcomes.values().map(|outcome| outcome.runs).sum();
    if count == 0 {
        assert_eq!(plan.empty(), [""; 0], "calls that nobody was killed at");
    } else {
        assert_eq!(runs as u64, count, "points at which a worker was killed");
    }
}
