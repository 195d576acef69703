//! Requests that are matched together by a running worker.

use std::time::Duration;

use dispatch_api::worker_config::{MatchingConfig, MatchingModeConfig};
use dispatch_tests::support::until;
use futures::future::join_all;

use crate::bench::Bench;

/// Requests at once, each of which has a driver beside it: as few drivers as a window still matters for.
const TOGETHER: usize = 6;

impl Bench {
    /// Changes how requests are matched, and waits until the worker has taken that over; it goes on running.
    async fn match_by(&mut self, mode: MatchingModeConfig, changes: usize) {
        self.city.config.dispatch.matching = MatchingConfig { mode, window_ms: 500 };
        let folder = self.surroundings.folder.path();
        std::fs::write(folder.join("worker.json"), self.city.config.to_json_pretty().unwrap()).unwrap();
        until("the worker to take the change over", async || {
            let log = std::fs::read_to_string(folder.join(format!("{}.log", self.name))).unwrap();
            (log.matches("dispatch rules changed").count() >= changes).then_some(())
        })
        .await;
    }

    /// As many rides at once, to their ends.
    async fn rides_at_once(&mut self, name: &str) {
        let names: Vec<String> = (0..TOGETHER).map(|number| format!("{name}{number}")).collect();
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
async fn a_running_worker_begins_to_match_requests_together_and_ends_it_with_every_promise_kept() {
    let mut bench = Bench::open("batched").await;
    let batches = "dispatch_matching_batches_total ";
    bench.rides_at_once("before").await;
    assert_eq!(bench.worker.metric(batches).await, 0);

    bench.match_by(MatchingModeConfig::Batched, 1).await;
    bench.rides_at_once("gathered").await;
    let matched = bench.worker.metric(batches).await;
    let alone = bench.worker.metric("dispatch_matching_fallbacks_total{reason=\"single\"} ").await;
    println!("{matched} windows, {alone} of them with one request");
    assert!(matched > alone);

    bench.match_by(MatchingModeConfig::Sequential, 2).await;
    bench.rides_at_once("after").await;
    assert_eq!(bench.worker.metric(batches).await, matched);
    bench.audit().await;
}
