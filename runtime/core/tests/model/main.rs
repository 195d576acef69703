//! Model checking of every interleaving: core's own `step`, called by two workers for two dispatches and two drivers.
//!
//! * A worker reads, decides and writes in separate steps, and may pause for any time, or crash, between any two of
//!   them.
//! * The table behaves like the runtime's transaction: it writes the dispatch on condition that it is as it was read,
//!   and the driver on condition that the driver is free, all or nothing. The answer to a write may be lost.
//! * Drivers answer old and new offers, their own and others', any number of times. Users and drivers cancel. Rides
//!   progress.
//! * Timers and stream records arrive late, early, twice or never, in any order. The sweeper runs at any time.
//! * Redis is not trusted: a search returns any drivers, and a reservation succeeds or fails arbitrarily, so every hold
//!   may have been lost.
//! * Clocks are arbitrary: each decision may find the offer's time, the search budget and the candidates' freshness
//!   expired or not.
//!
//! A message that may be lost and may be repeated needs no place in the state, which keeps the model small enough to
//! explore completely. Termination is checked from every state: even if all messages and all work in progress are lost,
//! the sweeper alone ends every request.
//!
//! `MODEL_WORKERS=3` uses three workers, for at most `MODEL_MINUTES`.

#![cfg(test)]

mod mutants;
mod promise;
mod properties;
mod row;
mod seen;
mod state;
mod task;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use row::Setting;
use seen::{BRANCHES, Seen};
use state::State;
use world::{Action, World};

/// Drivers who answer themselves, and two equal dispatches: states that differ only in names are explored once.
const SYMMETRIC: Setting = Setting { auto_accept: [false, false], attempts: [2, 2], workers: 2 };
/// One driver who accepts automatically, and one dispatch that may be offered only once.
const ASYMMETRIC: Setting = Setting { auto_accept: [false, true], attempts: [2, 1], workers: 2 };

fn number_in(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

/// The properties that can be violated in the fewest steps, each with its counterexample.
fn shortest_counterexamples(world: World) -> Vec<(&'static str, Path<State, Action>)> {
    let checker = world.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut found: Vec<_> = checker.discoveries().into_iter().collect();
    let length = |path: &Path<State, Action>| path.clone().into_actions().len();
    let fewest = found.iter().map(|(_, path)| length(path)).min();
    found.retain(|(_, path)| Some(length(path)) == fewest);
    found.sort_unstable_by_key(|(promise, _)| *promise);
    found
}

/// Explores every state of a setting, as far as the time allows, and prints the result. Returns whether the time was
/// enough.
fn explore(name: &str, setting: Setting, seen: &Arc<Seen>) -> bool {
    let begin = Instant::now();
    let longest = Duration::from_mins(number_in("MODEL_MINUTES", 10));
    let checker = World::new(setting, seen.clone()).checker().threads(2).timeout(longest).spawn_dfs().join();
    let complete = begin.elapsed() < longest;
    println!(
        "{name}, {} workers: {} states, {} transitions, depth {}, in {:.1} s{}",
        setting.workers,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begin.elapsed().as_secs_f64(),
        if complete { "" } else { " (incomplete: the time limit was reached)" }
    );
    let discoveries = checker.discoveries();
    for property in checker.model().properties() {
        assert_eq!(property.expectation, Expectation::Always);
        let verdict = if discoveries.contains_key(property.name) { "VIOLATED" } else { "holds" };
        println!("  {verdict}: {}", property.name);
    }
    if !discoveries.is_empty() {
        for (promise, path) in shortest_counterexamples(World::new(setting, Arc::default())) {
            println!("violated: {promise}, after\n{path:#?}");
        }
        panic!("properties are violated: {:?}", discoveries.keys());
    }
    complete
}

#[test]
fn every_interleaving_keeps_every_property() {
    let workers = usize::try_from(number_in("MODEL_WORKERS", 2)).unwrap();
    let seen = Arc::new(Seen::default());
    let settings = [("drivers who answer", SYMMETRIC), ("a driver who accepts automatically", ASYMMETRIC)];
    let complete = settings.map(|(name, setting)| explore(name, Setting { workers, ..setting }, &seen));
    for (branch, words) in BRANCHES {
        println!("  {} times {words}", seen.count(*branch));
    }
    let never: Vec<_> = BRANCHES.iter().filter(|(branch, _)| seen.count(*branch) == 0).collect();
    if !never.is_empty() && complete.contains(&false) {
        println!("  within the time limit, these branches were not reached: {never:?}");
        return;
    }
    assert!(never.is_empty(), "branches never taken: {never:?}");
}
