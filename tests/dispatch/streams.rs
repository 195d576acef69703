//! Stream consumers that share a scripted stream by leases in a real table.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use dispatch_runtime::adapters::messaging::SqsDeadLetters;
use dispatch_runtime::adapters::store::DynamoStore;
use dispatch_runtime::engine::EngineError;
use dispatch_runtime::ports::PortError;
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::stream::{DispatchHandler, Leases, Pace, StreamChange, StreamConsumer, StreamSource};
use dispatch_runtime::telemetry::metrics::Metrics;
use dispatch_tests::ministack::Ministack;
use dispatch_tests::streams::{FakeStreams, Hidden, dispatch_record};
use dispatch_tests::support::{sdk, seoul, until};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const LEASES: &str = "leases";

/// Faster than the default; the fail-over time is still longer than any call of the emulator.
const PACE: Pace = Pace {
    round: Duration::from_millis(100),
    failover: Duration::from_secs(3),
    discovery: Duration::from_millis(300),
    unread: Duration::from_secs(2),
};

/// Records the dispatches and versions that it handles. Fails, panics or blocks for dispatches in the sets.
#[derive(Default)]
struct RecordingHandler {
    handled: Mutex<Vec<(String, u32)>>,
    failing: Mutex<HashSet<String>>,
    panicking: Mutex<HashSet<String>>,
    /// Stay in progress until removed from this set.
    blocked: Mutex<HashSet<String>>,
}

impl RecordingHandler {
    /// Versions of a dispatch in the order of arrival.
    fn of(&self, id: &str) -> Vec<u32> {
        self.handled.lock().iter().filter(|(seen, _)| seen == id).map(|(_, ver)| *ver).collect()
    }

    fn count(&self) -> usize {
        self.handled.lock().len()
    }

    /// Versions of a dispatch in the order of arrival, without repetitions.
    fn distinct(&self, id: &str) -> Vec<u32> {
        let mut seen = HashSet::new();
        self.of(id).into_iter().filter(|ver| seen.insert(*ver)).collect()
    }
}

#[async_trait]
impl DispatchHandler for RecordingHandler {
    async fn handle(&self, change: StreamChange) -> Result<(), EngineError> {
        let StreamChange::Waiting { stored, .. } = change else { return Ok(()) };
        let id = stored.state.id.to_string();
        if self.failing.lock().contains(&id) {
            return Err(PortError::Failed { action: "a test", source: "on purpose".into() }.into());
        }
        while self.blocked.lock().contains(&id) {
            sleep(Duration::from_millis(20)).await;
        }
        let breaks = self.panicking.lock().contains(&id);
        assert!(!breaks, "on purpose");
        self.handled.lock().push((id, stored.state.ver));
        Ok(())
    }
}

struct World {
    fake: FakeStreams,
    _ministack: Ministack,
    dynamo: Client,
    sqs: aws_sdk_sqs::Client,
    dead_letters_url: String,
    stream_arn: watch::Sender<String>,
    seen: Arc<RecordingHandler>,
    gap: Arc<Notify>,
}

/// A consumer that runs in this process.
struct Worker {
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Worker {
    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }

    /// Ends it like a crash: work in progress is lost and leases are not released.
    fn crash(self) {
        self.running.abort();
    }

    fn has_metric(&self, line: &str) -> bool {
        self.metrics.encode().unwrap().lines().any(|found| found == line)
    }
}

impl World {
    async fn start(shards: &[&str]) -> Self {
        let (fake, ministack) = (FakeStreams::start().await.unwrap(), Ministack::start().await.unwrap());
        let config = sdk(&ministack.endpoint()).await;
        let (dynamo, sqs) = (Client::new(&config), aws_sdk_sqs::Client::new(&config));
        let key = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build().unwrap();
        let attribute = AttributeDefinition::builder().attribute_name("leaseKey");
        let attribute = attribute.attribute_type(ScalarAttributeType::S).build().unwrap();
        let table = dynamo.create_table().table_name(LEASES).key_schema(key).attribute_definitions(attribute);
        table.billing_mode(BillingMode::PayPerRequest).send().await.unwrap();
        let dead_letters_url = sqs.create_queue().queue_name("offers-dlq").send().await.unwrap().queue_url.unwrap();
        let (stream_arn, _) = watch::channel(fake.open_stream("2025-05-25T00:00:00.000", shards));
        let (seen, gap) = (Arc::default(), Arc::new(Notify::new()));
        Self { fake, _ministack: ministack, dynamo, sqs, dead_letters_url, stream_arn, seen, gap }
    }

    async fn worker(&self, name: &str) -> Worker {
        let streams = sdk(&self.fake.endpoint()).await;
        let store = DynamoStore::new(self.dynamo.clone(), "dispatch", 1, seoul());
        let metrics = Arc::new(Metrics::new());
        let source = StreamSource {
            client: aws_sdk_dynamodbstreams::Client::new(&streams),
            stream_arn: self.stream_arn.subscribe(),
            leases: Leases::new(self.dynamo.clone(), LEASES, name, Arc::new(SystemClock)),
            codec: store.codec().clone(),
            dead_letters: Arc::new(SqsDeadLetters::new(self.sqs.clone(), &self.dead_letters_url)),
            gap: Arc::clone(&self.gap),
            clock: Arc::new(SystemClock),
            metrics: Arc::clone(&metrics),
            pace: PACE,
        };
        let consumer = StreamConsumer::new(source, Arc::clone(&self.seen) as Arc<dyn DispatchHandler>);
        let shutdown = CancellationToken::new();
        let end = shutdown.clone();
        let running = tokio::spawn(async move { consumer.run(&end).await });
        Worker { metrics, shutdown, running }
    }

    /// Appends versions of ten dispatches to a shard.
    fn append(&self, shard: &str, versions: std::ops::Range<u32>) {
        for ver in versions {
            for number in 0..10 {
                self.fake.append(shard, dispatch_record(&format!("dispatch#{shard}-{number}"), ver));
            }
        }
    }

    /// Waits until the versions below `count` of a shard's dispatches are handled, those of each dispatch in order.
    async fn all_handled(&self, shard: &str, count: u32) {
        let whole: Vec<u32> = (0..count).collect();
        for number in 0..10 {
            let id = format!("dispatch#{shard}-{number}");
            until(&format!("{id} up to {count}"), async || {
                (self.seen.distinct(&id).len() == whole.len()).then_some(())
            })
            .await;
            assert_eq!(self.seen.distinct(&id), whole, "{id}");
        }
    }

    /// Lease rows by key, without the list of streams.
    async fn leases(&self) -> BTreeMap<String, Value> {
        let items = self.dynamo.scan().table_name(LEASES).send().await.unwrap().items.unwrap_or_default();
        let rows = items.into_iter().map(|item| serde_dynamo::from_item::<_, Value>(item).unwrap());
        let rows = rows.map(|row| (row["leaseKey"].as_str().unwrap().to_owned(), row));
        rows.filter(|(key, _)| key != "streams").collect()
    }

    async fn lease_of(&self, shard: &str) -> Option<Value> {
        self.leases().await.into_iter().find(|(key, _)| key.ends_with(&format!("/{shard}"))).map(|(_, row)| row)
    }

    async fn until_ended(&self, shard: &str) {
        until(&format!("the end of {shard}"), async || {
            self.lease_of(shard).await.filter(|row| row["checkpoint"] == "SHARD_END").map(|_| ())
        })
        .await;
    }

    /// Waits until each worker owns that number of leases.
    async fn until_owned(&self, expected: &[(&str, usize)]) {
        let expected: BTreeMap<&str, usize> = expected.iter().copied().collect();
        until(&format!("{expected:?}"), async || {
            let mut owners: BTreeMap<String, usize> = BTreeMap::new();
            for row in self.leases().await.values().filter(|row| row["checkpoint"] != "SHARD_END") {
                *owners.entry(row["leaseOwner"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
            }
            owners.iter().map(|(owner, count)| (owner.as_str(), *count)).eq(expected.clone()).then_some(())
        })
        .await;
    }

    async fn write_lease(&self, shard: &str, expression: &str, values: &[(&str, AttributeValue)]) {
        let key = self.lease_of(shard).await.unwrap()["leaseKey"].as_str().unwrap().to_owned();
        let request = self.dynamo.update_item().table_name(LEASES).key("leaseKey", AttributeValue::S(key));
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        request.update_expression(expression).set_expression_attribute_values(Some(values)).send().await.unwrap();
    }

    /// Receives at least `count` dead letters.
    async fn dead_letters(&self, count: usize) -> Vec<Value> {
        let mut letters = Vec::new();
        until(&format!("{count} dead letters"), async || {
            let answer =
                self.sqs.receive_message().queue_url(&self.dead_letters_url).max_number_of_messages(10).send().await;
            let messages = answer.unwrap().messages.unwrap_or_default().into_iter();
            letters.extend(messages.map(|message| serde_json::from_str::<Value>(&message.body.unwrap()).unwrap()));
            (letters.len() >= count).then_some(())
        })
        .await;
        letters
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_are_read_after_their_parent_and_from_their_oldest_record() {
    let world = World::start(&["a"]).await;
    world.fake.set_page(1);
    let worker = world.worker("w1").await;
    world.append("a", 0..30);
    // Two children that have records before the parent is read; then one that is listed while its parent is still open.
    world.fake.split("a", &["b", "c"]);
    for ver in 30..40 {
        for number in 0..10 {
            let child = if number < 5 { "b" } else { "c" };
            world.fake.append(child, dispatch_record(&format!("dispatch#a-{number}"), ver));
        }
    }
    world.all_handled("a", 40).await;
    world.fake.add_children("b", &["d"]);
    world.fake.append("d", dispatch_record("dispatch#a-0", 41));
    world.fake.append("b", dispatch_record("dispatch#a-0", 40));
    world.fake.split("b", &[]);
    until("the grandchild", async || (world.seen.distinct("dispatch#a-0").len() == 42).then_some(())).await;
    assert_eq!(world.seen.distinct("dispatch#a-0"), (0..42).collect::<Vec<_>>());
    world.until_ended("b").await;
    // After 24 hours finished shards are not listed any more, and their rows are deleted.
    world.fake.remove("a");
    world.fake.remove("b");
    until("the rows of finished shards to go", async || (world.leases().await.len() == 2).then_some(())).await;
    worker.stop().await;
    for row in world.leases().await.values() {
        assert!(row.get("leaseOwner").is_none(), "released: {row}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_whose_successor_is_listed_late_is_followed() {
    let world = World::start(&["a"]).await;
    let worker = world.worker("w1").await;
    world.append("a", 0..3);
    world.fake.split("a", &["b"]);
    world.fake.set_hidden("b", Hidden::Yes);
    world.append("b", 0..3);
    world.until_ended("a").await;
    // The worker owns no shard now, so nothing would wake it if it stopped listing shards.
    let before = world.fake.calls("DescribeStream");
    until("more listings", async || (world.fake.calls("DescribeStream") > before + 5).then_some(())).await;
    world.fake.set_hidden("b", Hidden::No);
    world.all_handled("b", 3).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_iterators_throttling_and_repetitions_lose_nothing_and_change_no_order() {
    let world = World::start(&["a", "b"]).await;
    world.fake.fail("DescribeStream", "LimitExceededException", 3);
    world.fake.fail("GetRecords", "LimitExceededException", 4);
    world.fake.fail("GetShardIterator", "InternalServerError", 2);
    world.fake.set_repeat(2);
    let worker = world.worker("w1").await;
    for ver in 0..20 {
        world.append("a", ver..ver + 1);
        world.append("b", ver..ver + 1);
        world.fake.expire_iterators();
        tokio::task::yield_now().await;
    }
    world.all_handled("a", 20).await;
    world.all_handled("b", 20).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_stream_is_read_after_its_predecessor() {
    let world = World::start(&["a"]).await;
    let worker = world.worker("w1").await;
    world.append("a", 0..3);
    world.all_handled("a", 3).await;
    worker.stop().await;
    // While no worker runs, records are written, the stream is disabled and enabled, and more records are written.
    world.append("a", 3..60);
    world.fake.disable(&world.stream_arn.borrow());
    let newer = world.fake.open_stream("2025-06-01T00:00:00.000", &["n"]);
    for number in 0..10 {
        world.fake.append("n", dispatch_record(&format!("dispatch#a-{number}"), 60));
    }
    world.stream_arn.send_replace(newer);
    let worker = world.worker("w2").await;
    world.all_handled("a", 61).await;

    // The same with a running worker, which applies the new ARN.
    world.fake.disable(&world.stream_arn.borrow());
    for number in 0..10 {
        world.fake.append("n", dispatch_record(&format!("dispatch#a-{number}"), 61));
    }
    let newest = world.fake.open_stream("2025-07-01T00:00:00.000", &["m"]);
    for number in 0..10 {
        world.fake.append("m", dispatch_record(&format!("dispatch#a-{number}"), 62));
    }
    world.stream_arn.send_replace(newest);
    world.all_handled("a", 63).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_lost_to_the_age_limit_are_counted_and_trigger_the_sweeper() {
    let world = World::start(&["a"]).await;
    let worker = world.worker("w1").await;
    world.append("a", 0..3);
    world.all_handled("a", 3).await;
    worker.stop().await;
    world.append("a", 3..40);
    world.fake.trim("a", 20);
    let worker = world.worker("w2").await;
    tokio::time::timeout(Duration::from_secs(30), world.gap.notified()).await.expect("the sweeper is triggered");
    until("the remaining records", async || (world.seen.of("dispatch#a-0").contains(&39)).then_some(())).await;
    assert!(worker.has_metric("dispatch_stream_gaps_total 1"), "{}", worker.metrics.encode().unwrap());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_lost_its_lease_stores_nothing() {
    let world = World::start(&["a"]).await;
    let worker = world.worker("w1").await;
    world.append("a", 0..3);
    world.all_handled("a", 3).await;
    world.until_owned(&[("w1", 1)]).await;
    // Another worker takes the lease.
    let other = AttributeValue::S("other".to_owned());
    let ten = AttributeValue::N("1000".to_owned());
    let zero = AttributeValue::S("TRIM_HORIZON".to_owned());
    let taken = "SET leaseOwner = :other, leaseCounter = leaseCounter + :ten, #checkpoint = :zero";
    let expression = taken.replace("#checkpoint", "checkpoint");
    world.write_lease("a", &expression, &[(":other", other), (":ten", ten), (":zero", zero)]).await;
    world.append("a", 3..6);
    until("the loss", async || {
        worker.has_metric("dispatch_stream_lease_changes_total{change=\"lost\"} 1").then_some(())
    })
    .await;
    let row = world.lease_of("a").await.unwrap();
    assert_eq!((&row["leaseOwner"], &row["checkpoint"]), (&json!("other"), &json!("TRIM_HORIZON")));
    // The other worker never renews the lease, so the shard returns, with nothing lost.
    world.all_handled("a", 6).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_corrupt_lease_row_is_recreated_at_the_oldest_record() {
    let world = World::start(&["a"]).await;
    let worker = world.worker("w1").await;
    world.append("a", 0..2);
    world.all_handled("a", 2).await;
    let key = world.lease_of("a").await.unwrap()["leaseKey"].as_str().unwrap().to_owned();
    world.dynamo.delete_item().table_name(LEASES).key("leaseKey", AttributeValue::S(key)).send().await.unwrap();
    until("a second reading", async || (world.seen.of("dispatch#a-0") == [0, 1, 0, 1]).then_some(())).await;
    world.until_owned(&[("w1", 1)]).await;
    let text = AttributeValue::S("not a number".to_owned());
    world.write_lease("a", "SET leaseCounter = :text", &[(":text", text)]).await;
    until("a third reading", async || (world.seen.of("dispatch#a-0") == [0, 1, 0, 1, 0, 1]).then_some(())).await;
    world.until_owned(&[("w1", 1)]).await;
    // A checkpoint that the shard never had: the next owner begins at the oldest record.
    worker.stop().await;
    let number = AttributeValue::S("999999999999999999999".to_owned());
    world.write_lease("a", "SET checkpoint = :number", &[(":number", number)]).await;
    let worker = world.worker("w2").await;
    until("a fourth reading", async || (world.seen.of("dispatch#a-0").len() == 8).then_some(())).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_record_is_set_aside_whole_and_its_neighbours_are_processed() {
    let world = World::start(&["a"]).await;
    world.seen.failing.lock().insert("dispatch#refused".to_owned());
    world.seen.panicking.lock().insert("dispatch#panic".to_owned());
    let mut broken = dispatch_record("dispatch#broken", 0);
    broken["dynamodb"]["NewImage"]["pickupLocation"] = json!({ "S": "somewhere" });
    let mut huge = dispatch_record("dispatch#huge", 0);
    huge["dynamodb"]["NewImage"]["createdAt"] = json!({ "S": "x".repeat(300_000) });
    let mut missing = dispatch_record("dispatch#missing", 0);
    missing["dynamodb"]["NewImage"].as_object_mut().unwrap().remove("userId");
    world.append("a", 0..1);
    for record in [broken, huge, missing, dispatch_record("dispatch#refused", 7), dispatch_record("dispatch#panic", 0)]
    {
        world.fake.append("a", record);
    }
    world.append("a", 1..3);
    let worker = world.worker("w1").await;
    world.all_handled("a", 3).await;
    let letters = world.dead_letters(5).await;
    let of = |id: &str| letters.iter().find(|letter| letter["dispatchId"] == id).unwrap_or_else(|| panic!("{id}"));
    for (id, reason) in [
        ("dispatch#broken", "unreadable"),
        ("dispatch#huge", "unreadable"),
        ("dispatch#missing", "unreadable"),
        ("dispatch#refused", "failed"),
        ("dispatch#panic", "failed"),
    ] {
        assert_eq!(of(id)["reason"], reason, "{id}");
        assert_eq!(of(id)["record"]["dynamodb"]["Keys"]["PK"]["S"], id);
    }
    let change = &of("dispatch#refused")["record"]["dynamodb"];
    assert_eq!(change["NewImage"]["ver"], json!({ "N": "7" }));
    assert_eq!(change["NewImage"]["pickupLocation"]["M"]["lat"], json!({ "N": "37.5662" }));
    assert_eq!(of("dispatch#huge")["record"]["dynamodb"]["leftOut"], json!(["OldImage", "NewImage"]));
    worker.stop().await;
    let checkpoint = world.lease_of("a").await.unwrap()["checkpoint"].clone();
    assert_eq!(checkpoint, format!("{:021}", 35), "the checkpoint includes the records set aside");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_start_and_stop_and_share_the_shards_evenly_with_nothing_lost() {
    let shards = ["a", "b", "c", "d"];
    let world = World::start(&shards).await;
    let traffic =
        |versions: std::ops::Range<u32>| shards.iter().for_each(|shard| world.append(shard, versions.clone()));
    let first = world.worker("w1").await;
    traffic(0..10);
    world.until_owned(&[("w1", 4)]).await;
    let (second, third) = (world.worker("w2").await, world.worker("w3").await);
    traffic(10..20);
    until("an even share", async || {
        let rows = world.leases().await;
        let of = |worker: &str| rows.values().filter(|row| row["leaseOwner"] == worker).count();
        let counts = ["w1", "w2", "w3"].map(of);
        (counts.iter().sum::<usize>() == 4 && counts.iter().all(|count| *count >= 1)).then_some(())
    })
    .await;
    traffic(20..30);
    // A hand-over repeats nothing: the owner first finishes the records in progress and stores its checkpoint.
    for shard in shards {
        world.all_handled(shard, 30).await;
    }
    assert_eq!(world.seen.count(), 4 * 10 * 30, "nothing was read twice");
    first.stop().await;
    second.crash();
    traffic(30..40);
    world.until_owned(&[("w3", 4)]).await;
    for shard in shards {
        world.all_handled(shard, 40).await;
    }
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_gets_no_lease() {
    let shards = ["a", "b"];
    let world = World::start(&shards).await;
    let first = world.worker("w1").await;
    world.until_owned(&[("w1", 2)]).await;
    for shard in shards {
        world.seen.blocked.lock().insert(format!("dispatch#{shard}-0"));
        world.append(shard, 0..1);
    }
    until("one record of each shard to be in progress", async || (world.seen.count() == 2 * 9).then_some(())).await;
    let second = world.worker("w2").await;
    let handing_over = "dispatch_stream_lease_changes_total{change=\"handed_over\"} 1";
    until("the second worker to request a lease", async || {
        let rows = world.leases().await;
        rows.values().any(|row| row["leaseRequestedBy"] == "w2").then_some(())
    })
    .await;
    // It stops before the hand-over.
    second.stop().await;
    for row in world.leases().await.values() {
        assert_eq!((&row["leaseOwner"], &row["leaseRequestedBy"]), (&json!("w1"), &Value::Null), "{row}");
    }
    world.seen.blocked.lock().clear();
    for shard in shards {
        world.all_handled(shard, 1).await;
    }
    world.append("a", 1..2);
    world.append("b", 1..2);
    for shard in shards {
        world.all_handled(shard, 2).await;
    }
    world.until_owned(&[("w1", 2)]).await;
    assert!(!first.has_metric(handing_over), "a lease was handed over");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_listed_shard_fails_liveness_and_an_unavailable_service_does_not() {
    let world = World::start(&["a"]).await;
    let worker = world.worker("w1").await;
    world.append("a", 0..2);
    world.all_handled("a", 2).await;
    // The service is unavailable for longer than a shard may remain unread.
    for operation in ["DescribeStream", "GetShardIterator", "GetRecords"] {
        world.fake.fail(operation, "InternalServerError", 5_000);
    }
    let since = Instant::now();
    while since.elapsed() < PACE.unread * 3 {
        assert_eq!(worker.metrics.silent_loop(), None, "a restart would not help");
        sleep(Duration::from_millis(50)).await;
    }
    // It recovers, except for reads.
    world.fake.recover("DescribeStream");
    until("the process to count as hung", async || worker.metrics.silent_loop()).await;
    assert_eq!(worker.metrics.silent_loop(), Some("the shard reader"));
    world.fake.recover("GetShardIterator");
    world.fake.recover("GetRecords");
    until("the process to be alive again", async || worker.metrics.silent_loop().is_none().then_some(())).await;
    world.append("a", 2..3);
    world.all_handled("a", 3).await;
    let metrics = Arc::clone(&worker.metrics);
    worker.stop().await;
    until("an ended reader to be forgotten", async || metrics.silent_loop().is_none().then_some(())).await;
}
