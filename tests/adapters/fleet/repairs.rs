//! Keys of another type, and values that no worker writes: each costs its own driver at most, and is repaired.

use std::time::Duration;

use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use dispatch_runtime::ports::{FleetEntry, HoldToken, PingOutcome};
use dispatch_tests::redis::RedisServer;
use redis::Value;

use super::failover::Worker;
use super::{dispatch, driver, free, north, now, ping};
use crate::support::until;

/// Drivers of a test. Number 1 is the one whose keys are broken.
const DRIVERS: u32 = 8;

/// The broken driver's dispatch in tests of routes.
const ON_DISPATCH: u32 = 7;

struct City {
    server: RedisServer,
    worker: Worker,
}

impl City {
    async fn start() -> Self {
        let server = RedisServer::start().await.unwrap();
        let worker = Worker::start(&server.url(), None);
        let city = Self { server, worker };
        city.fill().await;
        city
    }

    async fn fill(&self) {
        let entries: Vec<FleetEntry> = (1..=DRIVERS).map(|number| free(number, f64::from(number) * 50.0)).collect();
        self.worker.fleet.positions.fill(&entries).await.unwrap();
    }

    async fn send(&self, words: &[&str]) {
        let mut connection =
            redis::Client::open(self.server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        redis::cmd(words[0]).arg(&words[1..]).query_async::<Value>(&mut connection).await.unwrap();
    }

    /// Replaces a key by a text.
    async fn spoil(&self, key: &str) {
        self.send(&["SET", key, "x"]).await;
    }

    fn repairs(&self, kind: &str) -> u64 {
        self.worker.metric(&format!("dispatch_cache_repairs_total{{kind=\"{kind}\"}} "))
    }

    /// A ping of each driver in one call. As the service does, loads a driver that the cache does not know, and sends
    /// the ping again.
    async fn everybody_pings(&self) {
        let pings: Vec<_> = (1..=DRIVERS).map(|number| ping(number, f64::from(number) * 50.0 + 1.0, now())).collect();
        let outcomes = self.worker.fleet.positions.record(&pings).await.unwrap();
        assert!(outcomes[1..].iter().all(|outcome| *outcome == PingOutcome::Seen), "neighbours: {outcomes:?}");
        if outcomes[0] == PingOutcome::Unknown {
            self.worker.fleet.positions.put(&[free(1, 50.0)]).await.unwrap();
            let again = self.worker.fleet.positions.record(&[ping(1, 51.0, now())]).await.unwrap();
            assert_eq!(again, [PingOutcome::Seen]);
        }
    }

    /// Waits until searches find every driver.
    async fn everybody_is_found(&self) {
        until("every driver to be found", async || {
            let near = self.worker.fleet.search.nearby(north(0.0), &[5000], 50, now()).await.ok()??;
            (near.len() == DRIVERS as usize).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_type_costs_its_own_driver_at_most_and_is_repaired() {
    let city = City::start().await;
    for (key, kind) in
        [("drv:{seoul}:driver#00001", "drv"), ("geo:{seoul}", "geo"), ("seen:{seoul}", "seen"), ("loc:{seoul}", "loc")]
    {
        let before = city.repairs(kind);
        city.spoil(key).await;
        city.everybody_pings().await;
        city.everybody_is_found().await;
        assert!(city.repairs(kind) > before, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_repairs_the_keys_it_needs() {
    let city = City::start().await;
    let fleet = &city.worker.fleet;
    let keys = ["geo:{seoul}", "seen:{seoul}", "loc:{seoul}", "drv:{seoul}:driver#00001", "acc:{seoul}:driver#00001"];
    let token = HoldToken::for_offer(&dispatch(1), 1);
    let spoil = async || {
        for key in keys {
            city.spoil(key).await;
        }
    };
    spoil().await;
    fleet.positions.put(&[free(1, 50.0)]).await.unwrap();
    spoil().await;
    fleet.reservations.set_status(&driver(1), PersonStatus::Dispatched, Some(&dispatch(1))).await.unwrap();
    spoil().await;
    assert!(fleet.reservations.hold(&driver(1), &token, 1000).await.unwrap(), "an unknown driver can be held");
    spoil().await;
    fleet.reservations.release(&driver(1), &token).await.unwrap();
    spoil().await;
    fleet.reservations.offer_ended(&driver(1), OfferOutcome::Accepted, 0, now()).await.unwrap();
    spoil().await;
    city.everybody_pings().await;
    city.spoil("acc:{seoul}:driver#00001").await;
    city.everybody_is_found().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_that_would_never_end_is_repaired() {
    let city = City::start().await;
    let reservations = &city.worker.fleet.reservations;
    let token = HoldToken::for_offer(&dispatch(1), 1);
    for (key, kind) in [("hold:{seoul}:driver#00001", "hold"), ("rest:{seoul}:driver#00001", "rest")] {
        city.spoil(key).await;
        assert!(reservations.hold(&driver(1), &token, 50_000).await.unwrap(), "{kind}");
        reservations.release(&driver(1), &token).await.unwrap();
        city.send(&["RPUSH", key, "x"]).await;
        assert!(reservations.hold(&driver(1), &token, 50_000).await.unwrap(), "{kind}");
        reservations.release(&driver(1), &token).await.unwrap();
        assert_eq!(city.repairs(kind), 2, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_of_a_warm_cache_that_would_never_end_makes_it_cold() {
    let city = City::start().await;
    city.spoil("warm:{seoul}").await;
    until("a cold cache", async || {
        let near = city.worker.fleet.search.nearby(north(0.0), &[5000], 50, now()).await.unwrap();
        near.is_none().then_some(())
    })
    .await;
    assert!(city.repairs("warm") > 0);
    city.fill().await;
    city.everybody_is_found().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_of_answers_that_are_no_numbers_are_replaced() {
    let city = City::start().await;
    let today = crate::support::seoul().day(now());
    city.send(&["HSET", "acc:{seoul}:driver#00001", &format!("{today}:o"), "many", "rubbish", "x"]).await;
    // The change of the driver lets the index read it again.
    city.everybody_pings().await;
    city.everybody_is_found().await;
    city.worker.fleet.reservations.offer_ended(&driver(1), OfferOutcome::Accepted, 0, now()).await.unwrap();
    assert_eq!(city.repairs("acc"), 1);
    until("the new count", async || {
        let near = city.worker.fleet.search.nearby(north(0.0), &[5000], 50, now()).await.ok()??;
        let counts = near.iter().find(|found| found.id == driver(1))?.acceptance;
        (counts.offered == 1 && counts.accepted == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_value_of_a_drivers_entry_fails_a_call() {
    let city = City::start().await;
    let fields = ["lat", "lng", "ts", "phone", "status", "disp", "doubt", "maxD", "auto", "minFare", "idleSince"];
    let far = (now().0 + 3_600_000).to_string();
    let values = ["", "x", "-1", "1e400", "NaN", "9 9 x x 1 -", "9999999999999999999999", far.as_str()];
    for field in fields {
        for value in values {
            city.send(&["HSET", "drv:{seoul}:driver#00001", field, value]).await;
            let (fleet, token) = (&city.worker.fleet, HoldToken::for_offer(&dispatch(1), 1));
            city.worker.fleet.reservations.set_status(&driver(1), PersonStatus::Active, None).await.unwrap();
            city.send(&["HSET", "drv:{seoul}:driver#00001", field, value]).await;
            fleet.reservations.hold(&driver(1), &token, 1000).await.unwrap();
            fleet.reservations.release(&driver(1), &token).await.unwrap();
            let pings: Vec<_> = (1..=DRIVERS).map(|number| ping(number, f64::from(number) * 50.0, now())).collect();
            let outcomes = fleet.positions.record(&pings).await.unwrap();
            assert!(outcomes[1..].iter().all(|outcome| *outcome == PingOutcome::Seen), "{field}={value}: {outcomes:?}");
            city.send(&["HSET", "drv:{seoul}:driver#00001", field, value]).await;
            fleet.positions.put(&[free(1, 50.0)]).await.unwrap();
            city.send(&["DEL", "drv:{seoul}:driver#00001"]).await;
            fleet.positions.put(&[free(1, 50.0)]).await.unwrap();
        }
    }
    city.everybody_is_found().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_with_an_unreadable_entry_is_loaded_again_with_the_next_ping() {
    let city = City::start().await;
    for (field, value) in [("status", "x"), ("maxD", "far"), ("minFare", "8000.5"), ("lat", "91"), ("auto", "")] {
        city.send(&["HSET", "drv:{seoul}:driver#00001", field, value]).await;
        let is_unreadable = field != "auto";
        // It reads the entries of all drivers.
        let other =
            City { server: RedisServer::start().await.unwrap(), worker: Worker::start(&city.server.url(), None) };
        until("a repair", async || (!is_unreadable || other.repairs("drv") > 0).then_some(())).await;
        city.everybody_pings().await;
        other.everybody_is_found().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_in_the_future_is_repaired_and_bounded() {
    let city = City::start().await;
    let far = (now().0 + 3_600_000).to_string();
    city.send(&["HSET", "drv:{seoul}:driver#00001", "ts", &far]).await;
    city.send(&["ZADD", "seen:{seoul}", &far, "driver#00001"]).await;
    city.everybody_pings().await;
    assert!(city.repairs("drv") > 0);
    city.everybody_is_found().await;
    // A worker whose clock is an hour ahead for a moment.
    let ahead = ping(2, 100.0, now().plus_ms(3_600_000));
    city.worker.fleet.positions.record(&[ahead]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    city.everybody_pings().await;
    // A table with such a time.
    for seen_at in [now().plus_ms(3_600_000), EpochMs(-1)] {
        city.send(&["DEL", "drv:{seoul}:driver#00001"]).await;
        city.worker.fleet.positions.put(&[FleetEntry { seen_at, ..free(1, 50.0) }]).await.unwrap();
        city.everybody_pings().await;
        city.everybody_is_found().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_of_another_type_loses_its_tail_and_keeps_its_chunks() {
    let city = City::start().await;
    let (routes, id) = (&city.worker.fleet.routes, dispatch(ON_DISPATCH));
    let point = |number: u32| (id.clone(), RoutePoint { position: north(f64::from(number)), at: now() });
    for key in ["route:{seoul}:dispatch#00007", "chunks:{seoul}:dispatch#00007"] {
        for words in [["SET", key, "x"], ["SADD", key, "x"]] {
            city.send(&["DEL", key]).await;
            city.send(&words).await;
            let tail = routes.tail(&id).await.unwrap();
            assert!(tail.next_chunk >= 1);
            city.send(&["DEL", key]).await;
            city.send(&words).await;
            let tails = routes.push(&(0..60).map(point).collect::<Vec<_>>()).await.unwrap();
            for (_, tail) in tails {
                routes.trim(&id, tail.next_chunk, tail.points.len()).await.unwrap();
            }
        }
    }
    // A counter that was unreadable counts as lost: the next chunk overwrites none.
    city.spoil("chunks:{seoul}:dispatch#00007").await;
    assert!(routes.tail(&id).await.unwrap().next_chunk > 1_000_000);
}
