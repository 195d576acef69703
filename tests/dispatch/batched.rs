//! Batched matching on a running worker.

use std::time::Duration;

use dispatch_api::worker_config::{MatchingConfig, MatchingModeConfig};
use dispatch_tests::support::until;
use futures::future::join_all;

use crate::bench::Bench;

/// Concurrent requests, each with one driver nearby: a window matters only while drivers are this scarce.
const CONCURRENT: usize = 6;

impl Bench {
    /// Changes the matching mode of the running worker, and waits until it has applied the change.
    async fn set_matching(&mut self, mode: MatchingModeConfig, changes: usize) {
        self.city.config.dispatch.matching = MatchingConfig { mode, window_ms: 500 };
        let folder = self.surroundings.folder.path();
        std::fs::write(folder.join("worker.json"), self.city.config.to_json_pretty().unwrap()).unwrap();
        until("the worker to apply the change", async || {
            let log = std::fs::read_to_string(folder.join(format!("{}.log", self.name))).unwrap();
            (log.matches("dispatch rules changed").count() >= changes).then_some(())
        })
        .await;
    }

    /// Plays `CONCURRENT` rides at the same time, each to its end.
    async fn concurrent_rides(&mut self, name: &str) {
        let names: Vec<String> = (0..CONCURRENT).map(|number| format!("{name}{number}")).collect();
        for name in &names {
            self.apps.people(name).await;
        }
        let mut rides = join_all(names.iter().map(|name| self.apps.ask(name))).await;
        let (apps, within) = (&self.apps, Duration::from_mins(1));
        let whole = join_all(rides.iter_mut().map(async |ride| {
            apps.accept(ride).await;
            apps.drive(ride).await;
        }));
        tokio::time::timeout(within, whole).await.expect("every ride ends");
        for name in &names {
            self.apps.available(name, "INACTIVE").await;
        }
        self.rides.append(&mut rides);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_worker_switches_to_batched_matching_and_back_and_keeps_every_invariant() {
    let mut bench = Bench::open("batched").await;
    let batches = "dispatch_matching_batches_total ";
    bench.concurrent_rides("before").await;
    assert_eq!(bench.worker.metric(batches).await, 0);

    bench.set_matching(MatchingModeConfig::Batched, 1).await;
    bench.concurrent_rides("batched").await;
    let matched = bench.worker.metric(batches).await;
    let alone = bench.worker.metric("dispatch_matching_fallbacks_total{reason=\"single\"} ").await;
    println!("{matched} windows, {alone} of them with one request");
    assert!(matched > alone);

    bench.set_matching(MatchingModeConfig::Sequential, 2).await;
    bench.concurrent_rides("after").await;
    assert_eq!(bench.worker.metric(batches).await, matched);
    bench.audit().await;
}
