//! Keys of Redis that are broken at random: each costs its own driver at most, every call succeeds, and neighbours are
//! found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_runtime::adapters::fleet::{RedisConnector, RedisFleet};
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::ports::{FleetEntry, FleetPorts, HoldToken, PingOutcome};
use dispatch_runtime::telemetry::metrics::Metrics;
use dispatch_tests::broken_keys::{EXPIRES_IN_MS, break_a_key};
use dispatch_tests::dice::Dice;
use dispatch_tests::redis::RedisServer;

use super::failover::Worker;
use super::{dispatch, driver, free, north, now, ping};
use crate::support::{seoul, until};

/// Mutations in the short run. `BROKEN_KEYS` sets another number, `BROKEN_SEED` other mutations.
const MUTATIONS: u64 = 200;
const SEED: u64 = 20_250_525;
/// Drivers of the city. Each mutation hits the keys of one, who is on a dispatch in half of the cases, or of the city.
const DRIVERS: u32 = 6;
const RINGS_M: [u32; 1] = [5_000];
/// Mutations between two checks of an index that follows the changes.
const INDEX_EVERY: u64 = 100;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn metres(number: u32) -> f64 {
    f64::from(number) * 50.0
}

/// What was broken since the cache was filled. A mutation can show its effect later: a time far ahead, a short expiry.
#[derive(Debug, Default)]
struct Hits {
    drivers: BTreeSet<u32>,
    /// A key that all drivers share, with the last mutation.
    shared: bool,
}

impl Hits {
    fn include(&self, number: u32) -> bool {
        self.shared || self.drivers.contains(&number)
    }
}

/// Pings of all drivers in one call. Those whom the cache does not know are loaded from the table, as the service does.
async fn everybody_pings(fleet: &FleetPorts, hits: &Hits) -> bool {
    let pings: Vec<_> = (1..=DRIVERS).map(|number| ping(number, metres(number), now())).collect();
    let mut reloaded = false;
    for (number, outcome) in (1..).zip(fleet.positions.record(&pings).await.unwrap()) {
        let is_hit = hits.include(number);
        match outcome {
            PingOutcome::Seen | PingOutcome::OnDispatch(_) => {}
            PingOutcome::Unknown if is_hit => {
                reloaded = true;
                fleet.positions.put(&[free(number, metres(number))]).await.unwrap();
            }
            // Its own stored times or positions contradict the ping.
            PingOutcome::Outdated | PingOutcome::Implausible if is_hit => {}
            other => panic!("driver {number}, while {hits:?} are broken: {other:?}"),
        }
    }
    reloaded
}

/// Everything that a ride does with a driver.
async fn serve(fleet: &FleetPorts, number: u32) {
    let (id, on, token) = (driver(number), dispatch(number), HoldToken::for_offer(&dispatch(number), 1));
    let (reservations, routes) = (&fleet.reservations, &fleet.routes);
    if reservations.hold(&id, &token, 500).await.unwrap() {
        reservations.offer_ended(&id, OfferOutcome::Accepted, 0, now()).await.unwrap();
    }
    reservations.release(&id, &token).await.unwrap();
    reservations.set_status(&id, PersonStatus::Dispatched, Some(&on)).await.unwrap();
    let point = RoutePoint { position: north(metres(number)), at: now() };
    for (_, tail) in routes.push(&[(on.clone(), point)]).await.unwrap() {
        routes.trim(&on, tail.next_chunk, tail.points.len()).await.unwrap();
    }
    routes.tail(&on).await.unwrap();
    reservations.set_status(&id, PersonStatus::Active, None).await.unwrap();
}

/// The drivers that a search finds; `None` if the cache is cold, so that it would be filled from the table.
async fn found(fleet: &FleetPorts) -> Option<Vec<u32>> {
    let near = fleet.search.nearby(north(0.0), &RINGS_M, 50, now()).await.unwrap()?;
    Some(near.iter().filter_map(|found| found.id.suffix().parse().ok()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broken_key_costs_its_own_driver_at_most() {
    let (mutations, seed) = (number("BROKEN_KEYS", MUTATIONS), number("BROKEN_SEED", SEED));
    let server = RedisServer::start().await.unwrap();
    let worker = Worker::start(&server.url(), None);
    let metrics = Arc::new(Metrics::new());
    let connector = RedisConnector::with_token(&server.url(), None).unwrap().counting(Arc::clone(&metrics));
    let direct = FleetPorts::new(&Arc::new(RedisFleet::new(&connector, seoul(), Arc::new(SystemClock))));
    let mut redis = server.connection(None).await.unwrap();
    let mut dice = Dice(seed);
    let all: Vec<FleetEntry> = (1..=DRIVERS).map(|number| free(number, metres(number))).collect();
    let mut outcomes = BTreeMap::<(String, &str), u64>::new();
    let mut hits = Hits::default();
    for count in 1..=mutations {
        if count % 20 == 1 {
            // What was broken before must not hide what is broken next.
            redis::cmd("FLUSHALL").query_async::<()>(&mut redis).await.unwrap();
            direct.positions.fill(&all).await.unwrap();
            hits = Hits::default();
            for number in 1..=DRIVERS {
                serve(&direct, number).await;
            }
        }
        let hit = u32::try_from(dice.below(u64::from(DRIVERS))).unwrap() + 1;
        let owner = if dice.one_in(3) { dispatch(hit).to_string() } else { driver(hit).to_string() };
        let broken = break_a_key(&mut redis, &mut dice, "seoul", &owner).await.unwrap();
        if broken.command.starts_with("PEXPIRE") {
            // The probe of the worker may write its key again before that.
            until("the key has expired, or was written again", async || {
                let left = redis::cmd("PTTL").arg(&broken.key).query_async::<i64>(&mut redis.clone()).await.unwrap();
                (!(0..=EXPIRES_IN_MS).contains(&left)).then_some(())
            })
            .await;
        }
        let hit = (1..=DRIVERS).find(|number| {
            broken.key.ends_with(driver(*number).as_str()) || broken.key.ends_with(dispatch(*number).as_str())
        });
        hits.shared = hit.is_none();
        hits.drivers.extend(hit);
        let kind = broken.key.split(':').next().unwrap_or_default().to_owned();
        let repairs = repairs_in(&metrics);
        for number in 1..=DRIVERS {
            serve(&direct, number).await;
        }
        let reloaded = everybody_pings(&direct, &hits).await;
        let outcome = match found(&direct).await {
            None => {
                direct.positions.fill(&all).await.unwrap();
                "cold, filled again"
            }
            Some(near) => {
                let missing: Vec<u32> = (1..=DRIVERS).filter(|number| !near.contains(number)).collect();
                let is_excused = |number: &u32| hits.drivers.contains(number);
                assert!(missing.iter().all(is_excused), "{missing:?} not found after {broken:?}");
                match (missing.is_empty(), repairs_in(&metrics) > repairs) {
                    (false, _) => "driver not found",
                    (true, true) => "repaired",
                    (true, false) if reloaded => "loaded again",
                    (true, false) => "kept",
                }
            }
        };
        *outcomes.entry((kind, outcome)).or_default() += 1;
        if count % INDEX_EVERY == 0 {
            direct.positions.fill(&all).await.unwrap();
            until("an index with every driver who is not broken", async || {
                everybody_pings(&direct, &Hits { shared: true, ..Hits::default() }).await;
                let near = found(&worker.fleet).await?;
                (near.len() + 1 >= DRIVERS as usize).then_some(())
            })
            .await;
        }
    }
    for ((kind, outcome), count) in &outcomes {
        println!("broken: redis {kind:<18} {outcome:<20} {count:>7}");
    }
    assert!(outcomes.keys().any(|(_, outcome)| *outcome == "repaired"));
}

fn repairs_in(metrics: &Metrics) -> u64 {
    let text = metrics.encode().unwrap();
    let values = text.lines().filter(|line| line.starts_with("dispatch_cache_repairs_total{"));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
