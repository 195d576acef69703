//! The worker is killed at the AWS calls of a ride, before or after the call takes effect, and started again. Every
//! acknowledged request ends exactly once and stores what an undisturbed ride stores. A campaign kills the worker
//! before and after every call, by name, that a ride or a starting worker makes.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dispatch_tests::dice::Dice;
use dispatch_tests::recorder::{Fate, Recorded};
use futures::future::join_all;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::bench::Bench;
use crate::ledger;
use crate::process::number;
use crate::trip::{PATIENCE, Ride};

/// Concurrent cities: a run mostly waits for leases, keys and the sweeper.
const LANES: usize = 3;
/// Kills in the short run. `DISPATCH_KILLS=0` selects all points, `DISPATCH_KILLS_SEED` other ones.
const POINTS: u64 = 6;
const SEED: u64 = 11;
/// More calls than any ride makes; the first number that a ride does not reach ends the enumeration.
const CALLS_MAX: u64 = 150;
/// Time in which the process finishes its work after the last answer of a ride.
const AFTERMATH: Duration = Duration::from_millis(500);

/// Longest time until a worker repeats each of its periodic calls: it lists shards every ten seconds.
const REPEATED_WITHIN: Duration = Duration::from_secs(15);
/// Attempts to hit a call by its name. Some calls are rare, such as the read after a write that lost a race.
const ATTEMPTS: usize = 6;
/// A call that at least one in so many rides makes must be hit; for rarer ones the table shows how often they occurred.
const COMMON_SHARE: usize = 4;
const SIDES: [Side; 2] = [Side::Before, Side::After];

/// Calls that a worker makes when it starts, or repeats without any ride.
const POLLS: [&str; 6] =
    ["ReceiveMessage", "GetRecords", "DescribeStream", "GetShardIterator", "lease read", "lease write"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The call with this number among those that the ride causes.
    Call(u64),
    /// The first call with this name, and the number of the attempt. In every second attempt the worker starts together
    /// with the ride.
    Named(String, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Before,
    After,
}

struct Lane {
    bench: Bench,
    /// Number of calls held so far.
    held: usize,
    undisturbed: Vec<Value>,
    /// Names of the calls made since they were last noted.
    seen: BTreeSet<String>,
}

/// The name of a call in the table of outcomes.
fn name_of(call: &Recorded, leases: &str) -> String {
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

    /// Notes the names of the recorded calls and clears the recorder.
    fn note_calls(&mut self) {
        let leases = &self.bench.city.config.lease_table;
        self.seen.extend(self.bench.recorder.calls().iter().map(|call| name_of(call, leases)));
        self.bench.recorder.clear();
    }

    /// Audits the city after a ride and returns what the ride stored. Its driver goes off duty, so that each ride has a
    /// driver of its own.
    async fn end(&mut self, ride: Ride) -> Vec<Value> {
        self.bench.rides.push(ride.clone());
        self.bench.audit().await;
        let stored = ledger::items_of(&self.bench.city, &ride).await;
        self.bench.apps.available(ride.driver.trim_start_matches("driver#"), "INACTIVE").await;
        stored
    }

    /// Holds one call without end; its name is set when it is held.
    fn hold(&self, place: &Place, side: Side) -> Arc<Mutex<Option<String>>> {
        let (count, done) = (AtomicU64::new(0), AtomicBool::new(false));
        let (leases, held) = (self.bench.city.config.lease_table.clone(), Arc::new(Mutex::new(None)));
        let (holding, place) = (Arc::clone(&held), place.clone());
        self.bench.recorder.interfere(move |call| {
            let name = name_of(call, &leases);
            let polls = POLLS.contains(&name.as_str());
            let here = match &place {
                Place::Call(number) => !polls && count.fetch_add(1, Ordering::SeqCst) + 1 == *number,
                Place::Named(wanted, _) => name == *wanted,
            };
            if !here || done.swap(true, Ordering::SeqCst) {
                return Fate::Pass;
            }
            *holding.lock() = Some(name);
            match side {
                Side::Before => Fate::HoldBefore,
                Side::After => Fate::HoldAfter,
            }
        });
        held
    }

    /// Plays one ride with one kill. Returns the call at which the worker was killed and the duration, or `None` if the
    /// ride made no such call.
    async fn ride_with_kill(&mut self, point: &(Place, Side)) -> Option<(String, Duration)> {
        let name = format!("{}-{}", self.bench.name, self.bench.rides.len());
        self.bench.apps.people(&name).await;
        let begun = Instant::now();
        let (held, (ride, killed)) = match &point.0 {
            Place::Call(_) => {
                let held = self.hold(&point.0, point.1);
                (held, self.ride_until_held(&name, Duration::ZERO).await)
            }
            Place::Named(_, attempt) => {
                let starts_with_ride = attempt % 2 == 0;
                if starts_with_ride {
                    self.bench.worker.kill();
                }
                let held = self.hold(&point.0, point.1);
                if starts_with_ride {
                    self.start_worker().await;
                }
                (held, self.ride_until_held(&name, REPEATED_WITHIN).await)
            }
        };
        self.bench.recorder.stop_interfering();
        self.note_calls();
        let stored = self.end(ride).await;
        let call = held.lock().take();
        let missing: Vec<String> =
            self.undisturbed.iter().filter(|item| !stored.contains(item)).map(Value::to_string).collect();
        let extra: Vec<String> =
            stored.iter().filter(|item| !self.undisturbed.contains(item)).map(Value::to_string).collect();
        assert!(stored == self.undisturbed, "{point:?}, at {call:?}: {missing:#?} is missing, {extra:#?} is extra");
        call.filter(|_| killed).map(|call| (call, begun.elapsed()))
    }
}

impl Lane {
    async fn start_worker(&mut self) {
        self.bench.worker = self.bench.surroundings.start(&self.bench.name, "all", self.bench.port).await;
    }

    /// Plays a ride. If a call is held during the ride, or within `more` after it, kills and restarts the worker.
    /// Returns the ride and whether the worker was killed.
    async fn ride_until_held(&mut self, name: &str, more: Duration) -> (Ride, bool) {
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
            held = self.bench.recorder.until_held(self.held + 1, PATIENCE) => {
                held.unwrap();
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

/// The kills of one cell of the table.
#[derive(Default)]
struct Outcome {
    runs: usize,
    longest: Duration,
}

/// The remaining points and the outcomes so far, shared by all lanes.
#[derive(Default)]
struct Plan {
    /// Points by number that remain.
    remaining: Vec<(Place, Side)>,
    /// The smallest number that no ride reached.
    beyond: Option<u64>,
    /// Maximum attempts for each name and side; 0 in the short run.
    attempts_max: usize,
    /// Attempts so far.
    attempts: BTreeMap<(String, Side), usize>,
    /// Rides so far, and the number of them that made each call.
    rides: usize,
    seen: BTreeMap<String, usize>,
    outcomes: BTreeMap<(String, Side), Outcome>,
}

impl Plan {
    fn all() -> Self {
        let calls = (1..=CALLS_MAX).map(Place::Call);
        let remaining = calls.flat_map(|place| SIDES.map(|side| (place.clone(), side))).rev().collect();
        Self { remaining, attempts_max: ATTEMPTS, ..Self::default() }
    }

    /// A random selection of points that every ride reaches.
    fn some(count: u64, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let side = |dice: &mut Dice| if dice.below(2) == 0 { Side::Before } else { Side::After };
        let remaining = (0..count).map(|_| (Place::Call(1 + dice.below(24)), side(&mut dice))).collect();
        Self { remaining, ..Self::default() }
    }

    /// The next point: first those by number, then one for each cell of the table that is still empty.
    fn next(&mut self) -> Option<(Place, Side)> {
        while let Some(point) = self.remaining.pop() {
            match point.0 {
                Place::Call(number) if self.beyond.is_some_and(|beyond| number > beyond) => {}
                _ => return Some(point),
            }
        }
        let cells: Vec<(String, Side)> =
            self.seen.keys().flat_map(|name| SIDES.map(|side| (name.clone(), side))).collect();
        for cell in cells {
            let attempts = self.attempts.entry(cell.clone()).or_default();
            if !self.outcomes.contains_key(&cell) && *attempts < self.attempts_max {
                *attempts += 1;
                return Some((Place::Named(cell.0, *attempts), cell.1));
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

    /// Cells of common calls that were never hit.
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
        let missed = self.attempts.iter().filter(|(cell, count)| **count > 0 && !self.outcomes.contains_key(cell));
        for (cell, attempts) in missed {
            let seen = self.seen.get(&cell.0).copied().unwrap_or_default();
            writeln!(
                f,
                "{:<27} {:<7}    0         -  not met in {attempts} attempts; in {seen} of {} rides",
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

async fn run_lane(name: String, plan: Arc<Mutex<Plan>>) {
    let mut lane = Lane::open(&name).await;
    plan.lock().note_seen(std::mem::take(&mut lane.seen));
    loop {
        let Some(point) = plan.lock().next() else { return };
        let hit = lane.ride_with_kill(&point).await;
        let mut plan = plan.lock();
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
    join_all((0..LANES).map(|lane| run_lane(format!("lane{lane}"), Arc::clone(&plan)))).await;
    let plan = plan.lock();
    println!("{plan}");
    let runs: usize = plan.outcomes.values().map(|outcome| outcome.runs).sum();
    if count == 0 {
        assert_eq!(plan.empty(), [""; 0], "calls at which no worker was killed");
    } else {
        assert_eq!(runs as u64, count, "points at which a worker was killed");
    }
}
