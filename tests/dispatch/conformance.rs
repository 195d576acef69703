//! The scripted stream and the emulator's answer the same requests in the same way, as far as both support them.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, StreamSpecification,
    StreamViewType,
};
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodbstreams::types::{Record, ShardIteratorType, StreamStatus};
use dispatch_tests::ministack::Ministack;
use dispatch_tests::streams::{FakeStreams, record_of};
use dispatch_tests::support::sdk;
use serde_json::json;

/// Changes written to each stream.
const CHANGES: u32 = 7;

/// What clients observe of a stream, without ids, sequence numbers and times, which always differ.
#[derive(Debug, PartialEq)]
struct Observation {
    status: Option<StreamStatus>,
    shards: usize,
    parents: usize,
    from_the_oldest: Vec<String>,
    after_the_third: Vec<String>,
    numbers_rise: bool,
    is_open: bool,
    unknown_stream: Option<String>,
    unknown_shard: Option<String>,
}

fn item(number: u32) -> serde_json::Value {
    json!({ "PK": format!("item#{number}"), "SK": "METADATA", "nested": { "list": [number, "text", true] } })
}

/// The keys and two attributes of a record's item.
fn shown(record: &Record) -> String {
    let change = record.dynamodb().expect("a change");
    let image = change.new_image().expect("an image");
    format!("{:?} {:?} {:?}", change.keys().and_then(|keys| keys.get("PK")), image.get("SK"), image.get("nested"))
}

fn sequence(record: &Record) -> &str {
    record.dynamodb().and_then(|change| change.sequence_number()).expect("a number")
}

struct Stream<'a> {
    client: &'a Client,
    arn: &'a str,
    shard: String,
}

impl Stream<'_> {
    async fn iterator(&self, kind: ShardIteratorType, number: Option<&str>) -> String {
        let request = self.client.get_shard_iterator().stream_arn(self.arn).shard_id(&self.shard);
        let answer = request.shard_iterator_type(kind).set_sequence_number(number.map(str::to_owned)).send().await;
        answer.unwrap().shard_iterator.expect("an iterator")
    }

    /// All records from an iterator on, and whether the last answer has a next iterator. An empty page of an open shard
    /// counts as its end.
    async fn records(&self, mut iterator: String) -> (Vec<Record>, bool) {
        let mut records = Vec::new();
        loop {
            let answer = self.client.get_records().shard_iterator(iterator).send().await.unwrap();
            let page = answer.records.unwrap_or_default();
            let empty = page.is_empty();
            records.extend(page);
            match answer.next_shard_iterator {
                Some(next) if !empty => iterator = next,
                next => return (records, next.is_some()),
            }
        }
    }
}

async fn observe(client: &Client, arn: &str) -> Observation {
    let described = client.describe_stream().stream_arn(arn).send().await.unwrap().stream_description.unwrap();
    let shards = described.shards.unwrap_or_default();
    let stream = Stream { client, arn, shard: shards[0].shard_id.clone().unwrap() };
    let oldest = stream.iterator(ShardIteratorType::TrimHorizon, None).await;
    let (records, is_open) = stream.records(oldest).await;
    let third = stream.iterator(ShardIteratorType::AfterSequenceNumber, Some(sequence(&records[2]))).await;
    let (after_third, _) = stream.records(third).await;
    let numbers: Vec<u128> = records.iter().map(|record| sequence(record).parse().unwrap()).collect();
    let other_arn = arn.replace("/stream/", "/stream/1");
    let unknown_stream = client.describe_stream().stream_arn(other_arn).send().await.unwrap_err();
    let request = client.get_shard_iterator().stream_arn(arn).shard_id("shardId-00000001111111111111-1111aaaa");
    let unknown_shard = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap_err();
    Observation {
        status: described.stream_status,
        parents: shards.iter().filter(|shard| shard.parent_shard_id.is_some()).count(),
        shards: shards.len(),
        from_the_oldest: records.iter().map(shown).collect(),
        after_the_third: after_third.iter().map(shown).collect(),
        numbers_rise: numbers.is_sorted_by(|a, b| a < b),
        is_open,
        unknown_stream: unknown_stream.code().map(str::to_owned),
        unknown_shard: unknown_shard.code().map(str::to_owned),
    }
}

async fn table(dynamo: &aws_sdk_dynamodb::Client) -> String {
    let mut request = dynamo.create_table().table_name("dispatch").billing_mode(BillingMode::PayPerRequest);
    for (name, kind) in [("PK", KeyType::Hash), ("SK", KeyType::Range)] {
        let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
        request = request
            .key_schema(KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap())
            .attribute_definitions(attribute.build().unwrap());
    }
    let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewAndOldImages);
    let made = request.stream_specification(stream.build().unwrap()).send().await.unwrap();
    made.table_description.unwrap().latest_stream_arn.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripted_stream_behaves_like_the_emulators() {
    let (fake, ministack) = (FakeStreams::start().await.unwrap(), Ministack::start().await.unwrap());
    let config = sdk(&ministack.endpoint()).await;
    let dynamo = aws_sdk_dynamodb::Client::new(&config);
    let (emulated, scripted) = (Client::new(&config), Client::new(&sdk(&fake.endpoint()).await));
    let emulated_arn = table(&dynamo).await;
    let scripted_arn = fake.open_stream("2025-05-25T00:00:00.000", &["shardId-00000001"]);
    for number in 0..CHANGES {
        let written = serde_dynamo::to_item(item(number)).unwrap();
        dynamo.put_item().table_name("dispatch").set_item(Some(written)).send().await.unwrap();
        fake.append("shardId-00000001", record_of(&item(number)));
    }
    let open = observe(&emulated, &emulated_arn).await;
    assert_eq!(open, observe(&scripted, &scripted_arn).await);
    assert_eq!((open.from_the_oldest.len(), open.after_the_third.len(), open.is_open), (7, 4, true));

    // A disabled stream stays readable, and its shard ends.
    let off = StreamSpecification::builder().stream_enabled(false).build().unwrap();
    dynamo.update_table().table_name("dispatch").stream_specification(off).send().await.unwrap();
    fake.disable(&scripted_arn);
    let closed = observe(&emulated, &emulated_arn).await;
    assert_eq!(closed, observe(&scripted, &scripted_arn).await);
    assert_eq!((closed.status, closed.is_open), (Some(StreamStatus::Disabled), false));
}
