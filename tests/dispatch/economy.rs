//! The AWS calls of a dispatch that its first driver accepts, counted at the endpoint.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};

use dispatch_tests::recorder::Recorded;
use dispatch_tests::support::until;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Duration;

use crate::bench::Bench;
use crate::process::number;
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

/// Finished dispatches in the table; `DISPATCH_HISTORY` sets another number.
const HISTORY: u64 = 1_500;
/// One in so many finished dispatches also has the items of its user and its driver.
const WITH_HISTORIES: u64 = 10;
/// Most items of one `BatchWriteItem`.
const BATCH_MAX: usize = 25;
/// Concurrent batches.
const BATCHES: usize = 4;
/// Queries of the sweeper that are measured.
const QUERIES: usize = 4;
/// Longest time until the worker has read the records of all of them.
const SEEN_WITHIN: Duration = Duration::from_mins(10);
const PAUSE: Duration = Duration::from_millis(200);

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

type Item = HashMap<String, AttributeValue>;

impl Bench {
    /// The calls of a dispatch that its first driver accepts, without the shared ones.
    async fn calls_of_one(&self, name: &str, key: &str) -> BTreeMap<String, usize> {
        self.apps.people(name).await;
        let (handled, offers) = (self.handled().await, self.worker.metric(OFFERS).await);
        self.recorder.clear();
        let ride = self.apps.ask_with_key(name, key).await;
        until("the process to know its offer", async || (self.worker.metric(OFFERS).await > offers).then_some(()))
            .await;
        let offered = until("the offer", async || self.offered(&ride).await).await;
        self.accept_first(&offered).await;
        self.all_messages_done(handled, 1).await;
        let mut counts = self.counts();
        counts.retain(|operation, _| !SHARED.contains(&operation.as_str()));
        counts
    }

    /// A dispatch with an offer, read from the table, past the recorder.
    async fn offered(&self, ride: &Ride) -> Option<Value> {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let request = self.city.dynamodb().get_item().table_name(&self.city.config.table.name).consistent_read(true);
        let answer = request.key("PK", text(&ride.dispatch)).key("SK", text("METADATA")).send().await.unwrap();
        let dispatch: Value = serde_dynamo::from_item(answer.item?).unwrap();
        dispatch["driverId"].is_string().then_some(dispatch)
    }

    /// How long the answers to the queries of some sweeper rounds are, bytes. A query that needs another page says so
    /// in a longer answer.
    async fn sweeps(&self) -> BTreeSet<u64> {
        self.recorder.clear();
        let queries = until("the sweeper", async || {
            let mut calls = self.recorder.calls();
            calls.retain(|call| call.operation == "Query" && call.ended.is_some());
            (calls.len() >= QUERIES).then_some(calls)
        });
        queries.await.iter().map(|query| query.answer_bytes.expect("a length")).collect()
    }

    /// Writes copies of a finished ride, its histories included, and waits until the worker has seen them.
    async fn add_history(&self, ride: &Ride, number: u64) {
        let records = "dispatch_stream_records_total";
        let seen = async || {
            let text = self.worker.metrics().await;
            let lines =
                text.lines().filter_map(|line| line.strip_prefix(records)?.rsplit(' ').next()?.parse::<u64>().ok());
            lines.sum::<u64>()
        };
        let before = seen().await;
        let own = self.city.scan(&self.city.config.table.name).await;
        let own: Vec<Value> = own.into_iter().filter(|item| item.to_string().contains(&ride.dispatch)).collect();
        let is_profile = |item: &Value| item["SK"] == "PROFILE";
        let templates: Vec<Value> = own.into_iter().filter(|item| !is_profile(item)).collect();
        assert!(templates.len() >= 3, "the dispatch and the histories of both");
        let copies = (0..number).flat_map(|copy| {
            let wanted =
                templates.iter().filter(move |item| item["EntityType"] == "DISPATCH" || copy % WITH_HISTORIES == 0);
            wanted.map(move |item| copy_of(item, &ride.dispatch, copy))
        });
        let items: Vec<Item> = copies.collect();
        let (client, table) = (self.city.dynamodb(), &self.city.config.table.name);
        for batches in items.chunks(BATCH_MAX * BATCHES) {
            let writes = batches.chunks(BATCH_MAX).map(|batch| {
                let puts = batch.iter().map(|item| {
                    let put = PutRequest::builder().set_item(Some(item.clone())).build().unwrap();
                    WriteRequest::builder().put_request(put).build()
                });
                client.batch_write_item().request_items(table, puts.collect()).send()
            });
            for written in join_all(writes).await {
                assert!(written.unwrap().unprocessed_items.unwrap_or_default().is_empty());
            }
        }
        let all = before + items.len() as u64;
        let seeing = async {
            while seen().await < all {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(SEEN_WITHIN, seeing).await.expect("the worker sees the history");
    }
}

/// An item of another ride of the same people.
fn copy_of(item: &Value, dispatch: &str, number: u64) -> Item {
    let text = item.to_string().replace(dispatch, &format!("dispatch#copy-{number:07}"));
    let mut copy: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in copy.as_object_mut().unwrap() {
        // The keys of histories begin with a time, which is the same for all copies.
        if matches!(key.as_str(), "SK" | "GSI2SK") && value != "METADATA" {
            *value = json!(format!("{}-{number:07}", value.as_str().unwrap()));
        }
    }
    serde_dynamo::to_item(copy).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finished_dispatches_make_a_new_one_and_a_sweep_no_dearer() {
    let bench = Bench::open("economy-history").await;
    let ride = bench.apps.ride("before").await;
    bench.apps.available("before", "INACTIVE").await;
    bench.at_rest().await;
    let (one, sweeps) = (bench.calls_of_one("one", "one").await, bench.sweeps().await);
    let history = number("DISPATCH_HISTORY", HISTORY);
    bench.add_history(&ride, history).await;
    let (other, sweeps_then) = (bench.calls_of_one("other", "other").await, bench.sweeps().await);
    println!(
        "beside {history} finished dispatches: {other:?}, answers to the sweeper {sweeps_then:?} bytes; alone {sweeps:?}"
    );
    assert_eq!(one, other);
    assert_eq!(other.values().sum::<usize>(), 8);
    assert_eq!(sweeps, sweeps_then);
    // Nor do the user and the driver of all of them pay for them.
    assert_eq!(bench.calls_of_one("before", "again").await, one);
    bench.surroundings.search();
}
