//! Workers whose clocks differ share the cache: its times are those of the server.

use std::sync::Arc;

use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::time::EpochMs;
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::ports::{Clock, Ping, PingOutcome};
use dispatch_tests::redis::RedisServer;

use super::failover::Worker;
use super::{driver, free, north, ping};
use crate::support::until;

/// A clock that is ahead of the machine's, or behind.
struct Shifted(i64);

impl Clock for Shifted {
    fn now(&self) -> EpochMs {
        EpochMs(SystemClock.now().0 + self.0)
    }
}

impl Shifted {
    fn ping(&self, metres: f64) -> Ping {
        ping(1, metres, self.now())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_whose_clocks_differ_take_each_others_pings_and_find_each_others_drivers() {
    for shift in [45_000, -45_000, 3_600_000] {
        let server = RedisServer::start().await.unwrap();
        let (right, wrong) = (Shifted(0), Shifted(shift));
        let good = Worker::start(&server.url(), None);
        let other = Worker::with_clock(&server.url(), None, Arc::new(Shifted(shift)));
        good.fleet.positions.fill(&[free(1, 100.0)]).await.unwrap();
        // The first probe of each measures the difference.
        until("probes", async || {
            let _ = other.fleet.positions.record(&[wrong.ping(100.0)]).await;
            let near = other.fleet.search.nearby(north(0.0), &[1000], 5, wrong.now()).await.ok()??;
            near.iter().any(|found| found.seen_at.0.abs_diff(wrong.now().0) < 3000).then_some(())
        })
        .await;
        for turn in 0..6 {
            let metres = 100.0 + f64::from(turn);
            // Within the error of the measurement, some milliseconds, a ping may count as older than the one before.
            for (worker, clock) in [(&good, &right), (&other, &wrong)] {
                until("a ping that is taken", async || {
                    let taken = worker.fleet.positions.record(&[clock.ping(metres)]).await.ok()?;
                    (taken == [PingOutcome::Seen]).then_some(())
                })
                .await;
            }
            for (worker, clock) in [(&good, &right), (&other, &wrong)] {
                until("the driver, seen now", async || {
                    let near = worker.fleet.search.nearby(north(0.0), &[1000], 5, clock.now()).await.ok()??;
                    let found = near.iter().find(|found| found.id == driver(1))?;
                    (found.seen_at.0.abs_diff(clock.now().0) < 3000).then_some(())
                })
                .await;
            }
        }
        // A cooldown is as long for both.
        other.fleet.reservations.offer_ended(&driver(1), OfferOutcome::Rejected, 60_000, wrong.now()).await.unwrap();
        for (worker, clock) in [(&good, &right), (&other, &wrong)] {
            until("a resting driver", async || {
                let near = worker.fleet.search.nearby(north(0.0), &[1000], 5, clock.now()).await.ok()??;
                near.iter().any(|found| found.resting).then_some(())
            })
            .await;
        }
    }
}
