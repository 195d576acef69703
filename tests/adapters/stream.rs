//! The stream consumer on a separate table.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType,
};
use dispatch_runtime::adapters::store::DynamoStore;
use dispatch_runtime::engine::EngineError;
use dispatch_runtime::ports::PortError;
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::stream::{
    DeadLetters, DispatchHandler, Leases, Pace, StreamChange, StreamConsumer, StreamSource,
};
use dispatch_runtime::telemetry::metrics::Metrics;
use dispatch_tests::ministack::Ministack;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::support::{sdk, seoul, until};

const TABLE: &str = "dispatch";
const LEASES: &str = "leases";

/// Records what it handles; refuses the dispatches it is configured to refuse.
#[derive(Default)]
struct Seen {
    handled: Mutex<Vec<(String, u32)>>,
    refused: Mutex<Vec<String>>,
}

impl Seen {
    fn of(&self, id: &str) -> Vec<u32> {
        self.handled.lock().iter().filter(|(seen, _)| seen == id).map(|(_, ver)| *ver).collect()
    }

    fn count(&self) -> usize {
        self.handled.lock().len()
    }
}

#[async_trait]
impl DispatchHandler for Seen {
    async fn handle(&self, change: StreamChange) -> Result<(), EngineError> {
        let StreamChange::Waiting { stored, .. } = change else { return Ok(()) };
        let id = stored.state.id.to_string();
        if self.refused.lock().contains(&id) {
            return Err(PortError::Failed { action: "a test", source: "on purpose".into() }.into());
        }
        self.handled.lock().push((id, stored.state.ver));
        Ok(())
    }
}

/// Records dead letters.
#[derive(Default)]
struct Letters(Mutex<Vec<Value>>);

#[async_trait]
impl DeadLetters for Letters {
    async fn set_aside(&self, letter: &str) -> Result<(), PortError> {
        self.0.lock().push(serde_json::from_str(letter).unwrap());
        Ok(())
    }
}

struct World {
    dynamo: Client,
    source: StreamSource,
    stream_arn: watch::Sender<String>,
    letters: Arc<Letters>,
    metrics: Arc<Metrics>,
    _ministack: Ministack,
}

impl World {
    async fn start() -> Self {
        let ministack = Ministack::start().await.expect("ministack starts");
        let sdk = sdk(&ministack.endpoint()).await;
        let dynamo = Client::new(&sdk);
        let stream_arn = create_table(&dynamo, TABLE, &["PK", "SK"]).await.expect("the table has a stream");
        create_table(&dynamo, LEASES, &["leaseKey"]).await;
        let (metrics, letters) = (Arc::new(Metrics::new()), Arc::new(Letters::default()));
        let (stream_arn, followed) = watch::channel(stream_arn);
        let source = StreamSource {
            client: aws_sdk_dynamodbstreams::Client::new(&sdk),
            stream_arn: followed,
            leases: Leases::new(dynamo.clone(), LEASES, "worker-1", Arc::new(SystemClock)),
            codec: DynamoStore::new(dynamo.clone(), TABLE, 1, seoul()).codec().clone(),
            dead_letters: Arc::clone(&letters) as Arc<dyn DeadLetters>,
            gap: Arc::new(Notify::new()),
            clock: Arc::new(SystemClock),
            metrics: Arc::clone(&metrics),
            pace: Pace { round: Duration::from_millis(100), ..Pace::default() },
        };
        Self { dynamo, source, stream_arn, letters, metrics, _ministack: ministack }
    }

    /// Reads the stream until `enough`, then shuts down.
    async fn read(&self, seen: &Arc<Seen>, enough: impl Fn(&Seen) -> bool) {
        let shutdown = CancellationToken::new();
        let consumer = StreamConsumer::new(self.source.clone(), Arc::clone(seen) as Arc<dyn DispatchHandler>);
        let end = shutdown.clone();
        let running = tokio::spawn(async move { consumer.run(&end).await });
        until("the stream's records", async || enough(seen).then_some(())).await;
        shutdown.cancel();
        running.await.unwrap();
    }

    /// Writes the specification's dispatch under another id and with these attributes.
    async fn write(&self, id: &str, changes: Value) {
        let mut item: Value =
            serde_json::from_str(include_str!("../fixtures/specification/7.1-dispatch-requested.json")).unwrap();
        item["PK"] = json!(id);
        for (name, value) in changes.as_object().unwrap() {
            item[name] = value.clone();
        }
        let item = serde_dynamo::to_item(item).unwrap();
        self.dynamo.put_item().table_name(TABLE).set_item(Some(item)).send().await.unwrap();
    }

    async fn leases(&self) -> Vec<Value> {
        let items = self.dynamo.scan().table_name(LEASES).send().await.unwrap().items.unwrap_or_default();
        let rows = items.into_iter().map(|item| serde_dynamo::from_item(item).unwrap());
        rows.filter(|row: &Value| row["leaseKey"] != "streams").collect()
    }
}

/// Creates a table. Returns the ARN of its stream.
async fn create_table(dynamo: &Client, name: &str, keys: &[&str]) -> Option<String> {
    let kinds = [KeyType::Hash, KeyType::Range];
    let schema = keys
        .iter()
        .zip(kinds)
        .map(|(key, kind)| KeySchemaElement::builder().attribute_name(*key).key_type(kind).build().unwrap());
    let attributes = keys.iter().map(|key| {
        let attribute = AttributeDefinition::builder().attribute_name(*key);
        attribute.attribute_type(ScalarAttributeType::S).build().unwrap()
    });
    let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewAndOldImages);
    let created = dynamo
        .create_table()
        .table_name(name)
        .set_key_schema(Some(schema.collect()))
        .set_attribute_definitions(Some(attributes.collect()))
        .billing_mode(BillingMode::PayPerRequest)
        .stream_specification(stream.build().unwrap())
        .send()
        .await
        .unwrap();
    created.table_description?.latest_stream_arn
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_dispatches_are_handled_in_order_and_a_restart_continues_after_the_checkpoint() {
    let world = World::start().await;
    for ver in 0..5 {
        for number in 0..10 {
            world.write(&format!("dispatch#{number}"), json!({"ver": ver, "offerSeq": 0})).await;
        }
    }
    // None of these waits for a driver.
    world.write("dispatch#other", json!({"status": "ACCEPTED"})).await;
    world.write("dispatch#offered", json!({"driverId": "driver#1", "offerSeq": 1})).await;
    world.write("dispatch#chunk", json!({"EntityType": "DISPATCH_ROUTE", "SK": "ROUTE#000001"})).await;
    world.write("dispatch#broken", json!({"pickupLocation": "somewhere"})).await;
    let gone = [("PK", "dispatch#other"), ("SK", "METADATA")];
    let [pk, sk] = gone.map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned())));
    world.dynamo.delete_item().table_name(TABLE).key(pk.0, pk.1).key(sk.0, sk.1).send().await.unwrap();

    let first = Arc::new(Seen::default());
    world.read(&first, |seen| seen.count() >= 50).await;
    assert_eq!(first.count(), 50);
    for number in 0..10 {
        assert_eq!(first.of(&format!("dispatch#{number}")), [0, 1, 2, 3, 4]);
    }
    let leases = world.leases().await;
    assert_eq!(leases.len(), 1, "{leases:?}");
    assert!(leases[0].get("leaseOwner").is_none() && leases[0]["leaseCounter"].as_u64() >= Some(2), "{leases:?}");

    world.write("dispatch#late", json!({"ver": 0})).await;
    let second = Arc::new(Seen::default());
    world.read(&second, |seen| seen.of("dispatch#late") == [0]).await;
    assert_eq!(second.count(), 1, "what was done before the checkpoint does not come again");
    let metrics = world.metrics.encode().unwrap();
    assert!(metrics.contains("dispatch_stream_records_total{outcome=\"set_aside\"} 1"), "{metrics}");
    let letters = world.letters.0.lock().clone();
    assert_eq!((letters.len(), &letters[0]["dispatchId"]), (1, &json!("dispatch#broken")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatch_that_cannot_be_handled_blocks_no_other() {
    let world = World::start().await;
    let seen = Arc::new(Seen::default());
    seen.refused.lock().push("dispatch#poison".to_owned());
    world.write("dispatch#poison", json!({"ver": 0})).await;
    for number in 0..100 {
        world.write(&format!("dispatch#{number}"), json!({"ver": 0})).await;
    }
    world.read(&seen, |seen| seen.count() >= 100).await;
    assert!(seen.of("dispatch#poison").is_empty());
    assert_eq!(world.letters.0.lock().len(), 1);
    let again = Arc::new(Seen::default());
    world.write("dispatch#late", json!({"ver": 0})).await;
    world.read(&again, |seen| seen.count() >= 1).await;
    assert_eq!(again.count(), 1, "a record that was given up is behind the checkpoint");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_the_stream_no_longer_has_starts_at_the_oldest_record() {
    let world = World::start().await;
    world.write("dispatch#1", json!({"ver": 0})).await;
    let seen = Arc::new(Seen::default());
    world.read(&seen, |seen| seen.count() >= 1).await;
    let lease = world.leases().await[0]["leaseKey"].as_str().unwrap().to_owned();
    world
        .dynamo
        .update_item()
        .table_name(LEASES)
        .key("leaseKey", AttributeValue::S(lease))
        .update_expression("SET checkpoint = :old")
        .expression_attribute_values(":old", AttributeValue::S("000000000000000000001".to_owned()))
        .send()
        .await
        .unwrap();
    let again = Arc::new(Seen::default());
    world.read(&again, |seen| seen.count() >= 1).await;
    assert_eq!(again.of("dispatch#1"), [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_switched_off_and_on_is_read_to_its_end_before_the_next_one() {
    let world = World::start().await;
    for ver in 0..3 {
        world.write("dispatch#1", json!({"ver": ver})).await;
    }
    let first = Arc::new(Seen::default());
    world.read(&first, |seen| seen.count() >= 1).await;
    for ver in 3..6 {
        world.write("dispatch#1", json!({"ver": ver})).await;
    }
    let off = StreamSpecification::builder().stream_enabled(false).build().unwrap();
    world.dynamo.update_table().table_name(TABLE).stream_specification(off).send().await.unwrap();
    let on = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewAndOldImages);
    let on = world.dynamo.update_table().table_name(TABLE).stream_specification(on.build().unwrap());
    let arn = on.send().await.unwrap().table_description.unwrap().latest_stream_arn.unwrap();
    assert_ne!(arn, *world.stream_arn.borrow());
    for ver in 6..9 {
        world.write("dispatch#1", json!({"ver": ver})).await;
    }
    world.stream_arn.send_replace(arn);
    let second = Arc::new(Seen::default());
    world.read(&second, |seen| seen.of("dispatch#1").contains(&8)).await;
    let all: Vec<u32> = first.of("dispatch#1").into_iter().chain(second.of("dispatch#1")).collect();
    assert_eq!(all, (0..9).collect::<Vec<_>>());
}
