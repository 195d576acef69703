//! The table in DynamoDB, and behaviour that only a real table shows.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, StreamSpecification, StreamViewType,
};
use dispatch_core::dispatch::Event;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_runtime::adapters::store::DynamoStore;
use dispatch_runtime::ports::{DispatchStore as _, ProfileStore as _};
use dispatch_tests::ministack::{Ministack, REGION};
use serde_json::json;

use super::dynamo_table::DynamoTable;
use super::table::{Table, decide, driver_profile, myeongdong, new_dispatch, start};
use crate::support::seoul;

/// A running emulator.
pub(crate) struct Aws {
    client: Client,
    tables: AtomicU32,
    ministack: Ministack,
}

impl Aws {
    pub(crate) async fn start() -> Self {
        let ministack = Ministack::start().await.expect("ministack starts");
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(REGION))
            .endpoint_url(ministack.endpoint())
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .build();
        Self { client: Client::from_conf(config), tables: AtomicU32::new(0), ministack }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.ministack.endpoint()
    }

    /// Creates a table with the keys, indexes and stream of the CloudFormation template.
    pub(crate) async fn table(&self, gsi1_shards: u16) -> Table {
        let name = format!("dispatch-{}", self.tables.fetch_add(1, Ordering::Relaxed));
        let stream =
            StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewAndOldImages);
        let attributes = ["PK", "SK", "GSI1PK", "GSI1SK", "GSI2PK", "GSI2SK"].map(|name| {
            let attribute = AttributeDefinition::builder().attribute_name(name);
            attribute.attribute_type(ScalarAttributeType::S).build().unwrap()
        });
        let indexes = ["GSI1", "GSI2"].map(|index| {
            let whole = Projection::builder().projection_type(ProjectionType::All).build();
            let keys = key_schema(&format!("{index}PK"), &format!("{index}SK"));
            let index = GlobalSecondaryIndex::builder().index_name(index).set_key_schema(Some(keys));
            index.projection(whole).build().unwrap()
        });
        self.client
            .create_table()
            .table_name(&name)
            .set_key_schema(Some(key_schema("PK", "SK")))
            .set_attribute_definitions(Some(attributes.to_vec()))
            .set_global_secondary_indexes(Some(indexes.to_vec()))
            .billing_mode(BillingMode::PayPerRequest)
            .stream_specification(stream.build().unwrap())
            .send()
            .await
            .expect("the table is created");
        let store = DynamoStore::new(self.client.clone(), &name, gsi1_shards, seoul());
        Table::Dynamo(DynamoTable { store, client: self.client.clone(), name })
    }
}

fn key_schema(hash: &str, range: &str) -> Vec<KeySchemaElement> {
    [(hash, KeyType::Hash), (range, KeyType::Range)]
        .map(|(name, kind)| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap())
        .to_vec()
}

fn dynamo(table: &Table) -> &DynamoTable {
    match table {
        Table::Dynamo(table) => table,
        Table::Memory(_) => panic!("not a DynamoDB table"),
    }
}

#[tokio::test]
async fn a_shared_table_is_a_good_neighbour() {
    let aws = Aws::start().await;
    another_writers_attributes_survive(&aws.table(1).await).await;
    a_dispatch_of_another_service_is_served(&aws.table(1).await).await;
    a_broken_item_is_named_without_its_values(&aws.table(1).await).await;
    shards_spread_what_readers_bring_together(&aws.table(4).await).await;
}

async fn another_writers_attributes_survive(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let requested = table.request("dispatch#1", &user, start()).await;
    let other = dynamo(table);
    other.set(("dispatch#1", "METADATA"), "promotion", "여름").await;
    other.set(("driver#1", "PROFILE"), "currentStatus.mood", "good").await;
    other.set(("driver#1", "PROFILE"), "vehicleInfo.colour", "white").await;
    let offered = table.offer(&requested, &driver, start().plus_ms(1)).await;
    table.accept(&offered, &driver, start().plus_ms(2)).await;
    assert_eq!(table.item("dispatch#1", "METADATA").await["promotion"], "여름");
    let profile = table.item("driver#1", "PROFILE").await;
    assert_eq!(profile["currentStatus"]["mood"], "good");
    assert_eq!(profile["vehicleInfo"]["colour"], "white");
}

async fn a_dispatch_of_another_service_is_served(table: &Table) {
    let driver = table.add_driver("driver#00001").await;
    let fixture = include_str!("../../fixtures/specification/7.1-dispatch-requested.json");
    dynamo(table).put(serde_json::from_str(fixture).unwrap()).await;
    let id = DispatchId::parse("dispatch#00001").unwrap();
    let stored = dynamo(table).store.load(&id).await.unwrap().unwrap();
    assert_eq!((stored.state.ver, stored.state.offer_seq, stored.state.matching.max_attempts), (0, 0, 5));
    let offered = table.offer(&stored, &driver, start().plus_ms(30_000)).await;
    let accepted = table.accept(&offered, &driver, start().plus_ms(60_000)).await;
    assert_eq!((accepted.state.ver, accepted.state.offer_seq), (2, 1));
    let item = table.item("dispatch#00001", "METADATA").await;
    assert_eq!((&item["GSI1PK"], &item["GSI2PK"]), (&json!("DISPATCH#ACCEPTED"), &json!("USER#user#00001")));
}

async fn a_broken_item_is_named_without_its_values(table: &Table) {
    let user = table.add_user("user#1").await;
    table.request("dispatch#1", &user, start()).await;
    dynamo(table).set(("dispatch#1", "METADATA"), "pickupLocation.lat", "서른일곱").await;
    let id = DispatchId::parse("dispatch#1").unwrap();
    let error = dynamo(table).store.load(&id).await.expect_err("a broken item is an error");
    let shown = format!("{error:?}");
    let text = format!("{shown} {:#}", anyhow::Error::new(error));
    assert!(text.contains("pickupLocation.lat"), "{text}");
    assert!(!text.contains("서른일곱"), "{text}");
}

async fn shards_spread_what_readers_bring_together(table: &Table) {
    let store = &dynamo(table).store;
    let mut partitions = BTreeSet::new();
    for n in 0..12_u64 {
        let user = table.add_user(&format!("user#{n}")).await;
        let id = format!("dispatch#{n:02}");
        store.create(new_dispatch(&id, &user, start().plus_ms(n))).await.unwrap();
        let key = table.item(&id, "METADATA").await["GSI1PK"].as_str().unwrap().to_owned();
        assert!(key.starts_with("DISPATCH#REQUESTED#"), "{key}");
        partitions.insert(key);
        let driver = DriverId::parse(format!("driver#{n}")).unwrap();
        store.put_driver(&driver, driver_profile(), start()).await.unwrap();
        store.set_availability(&driver, PersonStatus::Active, &myeongdong(), start()).await.unwrap();
    }
    assert!(partitions.len() > 1, "{partitions:?}");
    let open = store.open_since_before(start().plus_ms(1000), 12, &HashSet::new()).await.unwrap();
    let expected: Vec<String> = (0..12).map(|n| format!("dispatch#{n:02}")).collect();
    assert_eq!(open.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    assert_eq!(table.active_drivers(Some("중구")).await.len(), 12);
    let first = store.load(&open[0]).await.unwrap().unwrap();
    let cancel = decide(&first, Event::CancelByUser { user: first.state.user.clone() }, start().plus_ms(2000));
    table.apply(&first, &cancel, None).await;
    assert_eq!(store.open_since_before(start().plus_ms(1000), 12, &HashSet::new()).await.unwrap().len(), 11);
}
