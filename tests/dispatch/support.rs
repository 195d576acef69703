//! A city's emulated AWS environment, for worker processes and for engines in the test process.

use std::path::PathBuf;

use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use dispatch_api::worker_config::{LimitsConfig, RateConfig, WorkerConfig};
use dispatch_operator::cloud::aws::AwsClients;
use dispatch_operator::engine::progress::Silent;
use dispatch_operator::engine::reconcile::reconcile;
use dispatch_operator::engine::settings;
use dispatch_operator::engine::worker_config::{WorkerOverrides, worker_config};
use dispatch_tests::ministack::{Ministack, REGION};
use dispatch_tests::redis::RedisServer;
use dispatch_tests::streams::FakeStreams;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::time::Duration;

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The stack of `examples/seoul.yaml` on an emulator, and a Redis.
pub(crate) struct City {
    pub ministack: Ministack,
    pub redis: Mutex<RedisServer>,
    pub clients: AwsClients,
    /// The configuration that the operator writes for workers.
    pub config: WorkerConfig,
    keys: TempDir,
}

impl City {
    pub(crate) async fn create() -> Self {
        let (ministack, redis) = (Ministack::start().await.unwrap(), RedisServer::start().await.unwrap());
        let clients = AwsClients::emulated(REGION, &ministack.endpoint()).await;
        let manifests = read_manifests(include_str!("../../examples/seoul.yaml")).unwrap();
        let system = ValidatedSystem::try_from_raw(&manifests[0]).unwrap();
        let settings = settings::Settings::default();
        let made = reconcile(&system, &clients.ports(), &settings, &mut Silent).await.unwrap();
        let keys = TempDir::new().unwrap();
        // All simulated apps share one address.
        let unlimited = RateConfig { per_second: 20_000, burst: 40_000 };
        let limits = LimitsConfig {
            per_subject: unlimited,
            per_address: unlimited,
            address_share_percent: 100,
            ..LimitsConfig::default()
        };
        let overrides = WorkerOverrides {
            endpoint_url: None,
            cache_url: Some(redis.url()),
            auth: Some(dispatch_dev_keys::make(keys.path()).unwrap().auth),
            limits: Some(limits),
        };
        let config = worker_config(&system, &made.outputs.unwrap(), &overrides);
        Self { ministack, redis: Mutex::new(redis), clients, config, keys }
    }

    /// The key that signs the city's tokens.
    pub(crate) fn signing_key(&self) -> PathBuf {
        self.keys.path().join(dispatch_dev_keys::SIGNING_KEY)
    }

    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(self.clients.config())
    }

    /// All items of a table.
    pub(crate) async fn scan(&self, table: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut start = None;
        loop {
            let request = self.dynamodb().scan().table_name(table).consistent_read(true);
            let answer = request.set_exclusive_start_key(start).send().await.unwrap();
            items.extend(
                answer.items.unwrap_or_default().into_iter().map(|item| serde_dynamo::from_item(item).unwrap()),
            );
            start = answer.last_evaluated_key;
            if start.is_none() {
                return items;
            }
        }
    }

    /// The dispatches of the table.
    pub(crate) async fn dispatches(&self) -> Vec<Value> {
        let items = self.scan(&self.config.table.name).await.into_iter();
        items.filter(|item| item["EntityType"] == "DISPATCH" && item["SK"] == "METADATA").collect()
    }
}

/// Reads the one shard of the emulator's stream, record by record as JSON.
pub(crate) struct Tap {
    client: reqwest::Client,
    endpoint: String,
    iterator: String,
}

impl Tap {
    pub(crate) async fn open(city: &City, arn: &str) -> Self {
        let tap = Self { client: reqwest::Client::new(), endpoint: city.ministack.endpoint(), iterator: String::new() };
        let described = tap.call("DescribeStream", json!({ "StreamArn": arn })).await;
        let shard = &described["StreamDescription"]["Shards"][0]["ShardId"];
        let request = json!({ "StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON" });
        let iterator = tap.call("GetShardIterator", request).await["ShardIterator"].as_str().unwrap().to_owned();
        Self { iterator, ..tap }
    }

    async fn call(&self, operation: &str, request: Value) -> Value {
        let request = self
            .client
            .post(&self.endpoint)
            .header("x-amz-target", format!("DynamoDBStreams_20120810.{operation}"))
            .header("content-type", "application/x-amz-json-1.0")
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential=test/20250525/{REGION}/dynamodb/aws4_request"),
            )
            .body(request.to_string());
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    }

    /// The records since the previous call.
    pub(crate) async fn next(&mut self) -> Vec<Value> {
        let mut answer = self.call("GetRecords", json!({ "ShardIterator": self.iterator })).await;
        if let Some(next) = answer["NextShardIterator"].as_str() {
            self.iterator = next.to_owned();
        }
        answer["Records"].as_array_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Copies records to the shards of a scripted stream, without end. All records of an item go to the same one of
    /// `lines`; `shard_of` returns the open shard of a line.
    pub(crate) async fn copy_to(mut self, fake: &FakeStreams, lines: usize, shard_of: impl Fn(usize) -> String) {
        loop {
            let records = self.next().await;
            if records.is_empty() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            for record in records {
                let line = item_of(&record).bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
                fake.append(&shard_of(line % lines), record);
            }
        }
    }
}

/// The partition key of the item that changed.
pub(crate) fn item_of(record: &Value) -> &str {
    record["dynamodb"]["Keys"]["PK"]["S"].as_str().unwrap_or_default()
}
