//! Every order of everything, checked: core's own `step`, called by two workers for two dispatches and two drivers, where
//!
//! * a worker reads, decides and writes in separate moments, and may stop for as long as it likes, or die, between any two of them;
//! * the table does what the runtime's transaction does: the dispatch on condition that it is as it was read, the driver on condition
//!   that it is free, all or nothing; the answer to a write may be lost;
//! * drivers answer offers old and new, their own and others', as often as they like; users and drivers cancel; rides go on;
//! * timers and stream records come late, early, twice, or never, in any order, and the sweeper whenever it likes;
//! * Redis is not trusted at all: a search finds anybody, a reservation is given or not, so every hold may have been lost;
//! * clocks show anything: whoever decides may see an offer's time, the search's time and the candidates' age as over or not.
//!
//! A message that nobody has to deliver and anybody may deliver again needs no place in the state, which keeps the model small enough
//! to look at all of it. That every request ends is checked from each of its states: with all messages and all work in hand lost, the
//! sweeper alone brings it to an end.
//!
//! `MODEL_WORKERS=3` lets three workers loose, for `MODEL_MINUTES` at most.

#![cfg(test)]

mod mutants;
mod promise;
mod row;
mod seen;
mod task;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use row::Setting;
use seen::{BRANCHES, Seen};
use world::{Action, State, World};

/// Drivers who have to be asked, and dispatches that are alike: what differs in names only is looked at once.
const ALIKE: Setting = Setting { auto_accept: [false, false], attempts: [2, 2], workers: 2 };
/// A driver who accepts by itself, and a dispatch that may be offered once.
const UNLIKE: Setting = Setting { auto_accept: [false, true], attempts: [2, 1], workers: 2 };

fn number_in(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

/// The promises that can be broken in the fewest steps, each with its way there.
fn soonest_broken(world: World) -> Vec<(&'static str, Path<State, Action>)> {
    let checker = world.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut found: Vec<_> = checker.discoveries().into_iter().collect();
    let length = |path: &Path<State, Action>| path.clone().into_actions().len();
    let fewest = found.iter().map(|(_, path)| length(path)).min();
    found.retain(|(_, path)| Some(length(path)) == fewest);
    found.sort_unstable_by_key(|(promise, _)| *promise);
    found
}

/// Looks at every state of a setting, as far as the time allows, and prints what was found.
fn explore(name: &str, setting: Setting, seen: &Arc<Seen>) {
    let begin = Instant::now();
    let longest = Duration::from_mins(number_in("MODEL_MINUTES", 10));
    let checker = World::new(setting, seen.clone()).checker().threads(2).timeout(longest).spawn_dfs().join();
    println!(
        "{name}, {} workers: {} states by {} steps, up to {} deep, in {:.1} s{}",
        setting.workers,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begin.elapsed().as_secs_f64(),
        if begin.elapsed() < longest { "" } else { " (not all of them: the time was up)" }
    );
    let discoveries = checker.discoveries();
    for property in checker.model().properties() {
        assert_eq!(property.expectation, Expectation::Always);
        let verdict = if discoveries.contains_key(property.name) { "BROKEN" } else { "kept" };
        println!("  {verdict}: {}", property.name);
    }
    if !discoveries.is_empty() {
        for (promise, path) in soonest_broken(World::new(setting, Arc::default())) {
            println!("{promise}? Not after\n{path:#?}");
        }
        panic!("promises are broken: {:?}", discoveries.keys());
    }
}

#[test]
fn whatever_happens_in_whatever_order_every_promise_is_kept() {
    let workers = usize::try_from(number_in("MODEL_WORKERS", 2)).unwrap();
    let seen = Arc::new(Seen::default());
    explore("drivers who are asked", Setting { workers, ..ALIKE }, &seen);
    explore("a driver who accepts by itself", Setting { workers, ..UNLIKE }, &seen);
    for (branch, words) in BRANCHES {
        println!("  {} times {words}", seen.count(*branch));
    }
    let never: Vec<_> = BRANCHES.iter().filter(|(branch, _)| seen.count(*branch) == 0).collect();
    assert!(never.is_empty(), "never taken: {never:?}");
}
