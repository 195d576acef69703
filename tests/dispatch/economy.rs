//! The AWS calls of a dispatch that its first driver accepts, counted at the endpoint.

use std::collections::BTreeMap;

use dispatch_tests::recorder::Recorded;
use dispatch_tests::support::until;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::trip::{Call, Caller, Ride};

/// Calls that any number of dispatches share: one call receives or deletes up to ten messages of a queue, one call
/// reads up to a thousand stream records, and the sweeper reads all open dispatches with one query.
const SHARED: [&str; 6] =
    ["ReceiveMessage", "DeleteMessageBatch", "GetRecords", "DescribeStream", "GetShardIterator", "Query"];
/// Searches that the index answered, and all others.
const BY_INDEX: &str = "dispatch_fleet_searches_total{source=\"index\"}";
const NOT_BY_INDEX: [&str; 2] =
    ["dispatch_fleet_searches_total{source=\"redis\"}", "dispatch_fleet_searches_total{source=\"table\"}"];

/// Stored offers.
const OFFERS: &str = "dispatch_offers_total";

const CONCURRENT_DISPATCHES: usize = 40;

fn counted(calls: &[Recorded], leases: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls.iter().filter(|call| call.resource != leases) {
        *counts.entry(call.operation.clone()).or_default() += 1;
    }
    counts
}

impl Bench {
    fn counts(&self) -> BTreeMap<String, usize> {
        counted(&self.recorder.calls(), &self.city.config.lease_table)
    }

    /// Opens a bench and plays one ride, so that the cache is warm.
    async fn warm(name: &str) -> Self {
        let bench = Self::open(name).await;
        bench.apps.ride("before").await;
        bench.apps.available("before", "INACTIVE").await;
        bench
    }

    /// Waits until every dispatch has an offer and the process knows all of them, then accepts all. Reads the table and
    /// not the API, which would add calls of its own. In reality no driver answers before the process knows its offer.
    async fn take_first_offers(&self, rides: &[Ride], before: u64) {
        until("the process to know its offers", async || {
            (self.worker.metric(OFFERS).await >= before + rides.len() as u64).then_some(())
        })
        .await;
        let offers = until("all offers", async || {
            let mut offered = self.city.dispatches().await;
            offered.retain(|dispatch| rides.iter().any(|ride| dispatch["PK"] == ride.dispatch.as_str()));
            offered.iter().all(|dispatch| dispatch["driverId"].is_string()).then_some(offered)
        });
        let offers = offers.await;
        assert_eq!(offers.len(), rides.len());
        join_all(offers.iter().map(|dispatch| self.accept_first(dispatch))).await;
    }

    async fn accept_first(&self, dispatch: &Value) {
        let (driver, id) = (dispatch["driverId"].as_str().unwrap(), dispatch["PK"].as_str().unwrap());
        let body = json!({ "driverId": driver, "offerSeq": dispatch["offerSeq"], "response": "ACCEPT" });
        let path = format!("/v1/dispatches/{}/response", id.trim_start_matches("dispatch#"));
        let (status, _) = self.apps.settled(Caller::Driver(driver), &Call::new(Method::POST, path).body(body)).await;
        assert!(status.is_success(), "{status}");
    }

    /// Waits until the timer, the answer and the three notifications of each of `count` dispatches are handled.
    async fn all_messages_done(&self, before: [u64; 3], count: u64) {
        let wanted = std::iter::zip(before, [1, 1, 3]).map(|(before, messages)| before + count * messages);
        let wanted: Vec<u64> = wanted.collect();
        until("all messages to be handled", async || {
            std::iter::zip(self.handled().await, &wanted).all(|(handled, wanted)| handled >= *wanted).then_some(())
        })
        .await;
    }

    /// Messages handled so far in the queues `offers`, `responses` and `notifications`.
    async fn handled(&self) -> [u64; 3] {
        let mut handled = [0; 3];
        for (handled, queue) in std::iter::zip(&mut handled, ["offers", "responses", "notifications"]) {
            let line = format!("dispatch_queue_messages_total{{queue=\"{queue}\",outcome=\"handled\"}}");
            *handled = self.worker.metric(&line).await;
        }
        handled
    }

    /// Waits until the messages of the rides so far are handled; returns their numbers.
    async fn at_rest(&self) -> [u64; 3] {
        until("the timer of the previous ride", async || (self.handled().await[0] >= 1).then_some(())).await;
        self.handled().await
    }

    async fn searches_elsewhere(&self) -> u64 {
        let mut count = 0;
        for line in NOT_BY_INDEX {
            count += self.worker.metric(line).await;
        }
        count
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatch_accepted_by_its_first_driver_makes_eight_calls_and_no_read_for_the_search() {
    let bench = Bench::warm("economy").await;
    bench.apps.people("one").await;
    let (handled, by_index, elsewhere) =
        (bench.at_rest().await, bench.worker.metric(BY_INDEX).await, bench.searches_elsewhere().await);
    let offers = bench.worker.metric(OFFERS).await;
    bench.recorder.clear();
    let ride = bench.apps.ask("one").await;
    bench.take_first_offers(&[ride], offers).await;
    bench.all_messages_done(handled, 1).await;
    assert_eq!((bench.worker.metric(BY_INDEX).await, bench.searches_elsewhere().await), (by_index + 1, elsewhere));
    let mut counts = bench.counts();
    println!("one dispatch: {counts:?}");
    counts.retain(|operation, _| !SHARED.contains(&operation.as_str()));
    let expected = [
        // The driver's profile, for its history.
        ("BatchGetItem", 1),
        // The offer, to the driver; the acceptance, to both.
        ("PublishBatch", 2),
        // The offer's timer; the answer, for the notification of both.
        ("SendMessageBatch", 2),
        // The request; the acceptance.
        ("TransactWriteItems", 2),
        // The offer.
        ("UpdateItem", 1),
    ];
    assert_eq!(counts, expected.map(|(operation, count)| (operation.to_owned(), count)).into());
    assert_eq!(counts.values().sum::<usize>(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_dispatches_share_batched_calls() {
    let bench = Bench::warm("economy-busy").await;
    let names: Vec<String> = (0..CONCURRENT_DISPATCHES).map(|number| format!("many{number}")).collect();
    for name in &names {
        bench.apps.people(name).await;
    }
    let handled = bench.at_rest().await;
    let offers = bench.worker.metric(OFFERS).await;
    bench.recorder.clear();
    let asked = join_all(names.iter().map(|name| bench.apps.ask(name))).await;
    bench.take_first_offers(&asked, offers).await;
    bench.all_messages_done(handled, CONCURRENT_DISPATCHES as u64).await;
    let counts = bench.counts();
    let all: usize = counts.values().sum();
    println!(
        "{CONCURRENT_DISPATCHES} dispatches at once: {all} calls, {:.1} each: {counts:?}",
        all as f64 / CONCURRENT_DISPATCHES as f64
    );
    assert_eq!(counts["TransactWriteItems"], 2 * CONCURRENT_DISPATCHES, "{counts:?}");
    // A stream record waits for a local wake-up that processes the same dispatch, and then finds nothing to do.
    assert_eq!(counts["UpdateItem"], CONCURRENT_DISPATCHES, "{counts:?}");
    // All requests come from one place. A search that finds its candidates reserved is repeated at once; few have to
    // wait two seconds and read again.
    assert!(counts.get("GetItem").is_none_or(|reads| *reads < CONCURRENT_DISPATCHES / 4), "{counts:?}");
    assert!(counts["PublishBatch"] < 2 * CONCURRENT_DISPATCHES, "{counts:?}");
}
