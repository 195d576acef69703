//! The specification's search: it reads all drivers of the index partition `DRIVER#ACTIVE`, filters, sorts, and keeps
//! five.
//!
//! The AWS SDK with its HTTP and JSON, the pages of 1 MB, the decoding of every item, and core's filter and sort in the
//! specification's literal order are real. The table is a model, which answers each page at once from memory; the time
//! of a page on a real table is added as a constant. The emulator, which is slower than both, is measured where it can
//! hold the fleet.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, PutRequest, ScalarAttributeType, WriteRequest,
};
use dispatch_core::candidate::{AcceptanceCounts, DriverSnapshot, Search};
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_core::ids::DriverId;
use dispatch_core::ranking::rank;
use dispatch_core::time::EpochMs;
use dispatch_runtime::adapters::store::entity::DriverItem;
use dispatch_tests::ministack::Ministack;
use dispatch_tests::support::sdk;

use super::canned::{CannedTable, Fields, PAGE_BYTES, item, item_bytes};
use super::process::nearest_of_all;
use super::{Latency, SEED};
use crate::Size;
use crate::model::{PAGE_MS, PAGE_UNITS, specification_policy};
use crate::seoul::{Seoul, driver_id};

const TABLE: &str = "coactus-dispatch";
/// Maximum items of one `BatchWriteItem`.
const WRITTEN_AT_ONCE: usize = 25;

/// Maximum searches in the emulator; each takes about a second.
const EMULATED_MAX: usize = 20;

/// The measurements of one fleet.
pub(super) struct Measured {
    /// With a table that answers each page at once.
    pub at_once: Latency,
    /// With the time of each page added.
    pub with_pages: Latency,
    /// With the emulator, if it can hold the fleet.
    pub emulator: Option<Latency>,
    /// Pages of one search.
    pub pages: usize,
    /// Read units of one search.
    pub units: f64,
    /// Size of an item by DynamoDB's rule, bytes.
    pub item_bytes: usize,
}

/// Measures the specification's search in a fleet.
pub(super) async fn measure(
    seoul: &Seoul,
    drivers: u32,
    places: &[Coordinate],
    size: Size,
) -> anyhow::Result<Measured> {
    let homes: Vec<Coordinate> = (0..drivers).map(|driver| seoul.home(SEED, driver)).collect();
    let items =
        homes.iter().enumerate().map(|(number, home)| item(number, *home)).collect::<anyhow::Result<Vec<_>>>()?;
    let bytes = items.first().map_or(0, item_bytes);
    let canned = CannedTable::start(&items).await?;
    let pages = canned.pages();
    let few = match size {
        Size::Quick => 2,
        Size::Trial => 5,
        // Some 15 s for each fleet.
        Size::Full => (1_500_000 / drivers as usize).clamp(10, 200),
    };
    let places = &places[..few.min(places.len())];
    let at_once = timed(&Client::new(&sdk(canned.endpoint()).await), &homes, places).await?;
    let waited_us = pages as f64 * PAGE_MS * 1000.0;
    let with_pages = at_once.later_by(waited_us);
    let emulator = if drivers <= emulated_up_to(size) {
        Some(emulated(&items, &homes, &places[..EMULATED_MAX.min(places.len())]).await?)
    } else {
        None
    };
    let total_bytes = bytes * items.len();
    let units = total_bytes as f64 / PAGE_BYTES as f64 * PAGE_UNITS;
    Ok(Measured { at_once, with_pages, emulator, pages, units, item_bytes: bytes })
}

/// Maximum fleet in the emulator, to which a write takes about a millisecond per item.
fn emulated_up_to(size: Size) -> u32 {
    match size {
        Size::Quick => 0,
        Size::Trial => 1_000,
        Size::Full => 10_000,
    }
}

async fn timed(client: &Client, homes: &[Coordinate], places: &[Coordinate]) -> anyhow::Result<Latency> {
    let mut micros = Vec::with_capacity(places.len());
    for place in places.iter().take(1).chain(places) {
        let begun = Instant::now();
        let found = find_candidate_drivers(client, *place).await?;
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
        let truth = nearest_of_all(homes, *place).into_iter().map(driver_id).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(found == truth, "the specification's search found {found:?}, a scan of all drivers {truth:?}");
    }
    // The first search opened the connection.
    micros.remove(0);
    Ok(Latency::of(micros))
}

/// `findCandidateDrivers` of spec §8: all active drivers, `filter`, `map`, `sort`, `slice(0, 5)`.
async fn find_candidate_drivers(client: &Client, pickup: Coordinate) -> anyhow::Result<Vec<DriverId>> {
    let mut active = Vec::new();
    let mut start = None;
    loop {
        let page = client
            .query()
            .table_name(TABLE)
            .index_name("GSI1")
            .key_condition_expression("GSI1PK = :active")
            .expression_attribute_values(":active", AttributeValue::S("DRIVER#ACTIVE".to_owned()))
            .set_exclusive_start_key(start)
            .send()
            .await?;
        for item in page.items.unwrap_or_default() {
            active.push(snapshot(serde_dynamo::from_item(item)?)?);
        }
        start = page.last_evaluated_key;
        if start.is_none() {
            break;
        }
    }
    let search = Search { pickup, estimated_fare: 12_000, asked: Vec::new() };
    let ranked = rank(&active, &search, &specification_policy(), EpochMs(0));
    Ok(ranked.into_iter().map(|candidate| candidate.driver_id).collect())
}

fn snapshot(item: DriverItem) -> anyhow::Result<DriverSnapshot> {
    let location = &item.current_status.current_location;
    Ok(DriverSnapshot {
        availability: item.current_status.status,
        position: Coordinate::new(location.lat, location.lng)?,
        seen_at: EpochMs(0),
        idle_since: EpochMs(0),
        max_distance: Metres::from_km(item.preferences.max_distance),
        minimum_fare: item.preferences.minimum_fare,
        auto_accept: item.preferences.auto_accept,
        acceptance: AcceptanceCounts::default(),
        resting: false,
        id: DriverId::parse(item.pk)?,
    })
}

/// The same search in the emulator.
async fn emulated(items: &[Fields], homes: &[Coordinate], places: &[Coordinate]) -> anyhow::Result<Latency> {
    let emulator = Ministack::start().await?;
    let client = Client::new(&sdk(&emulator.endpoint()).await);
    create_table(&client).await.context("creating the table")?;
    for batch in items.chunks(WRITTEN_AT_ONCE) {
        let mut writes = Vec::with_capacity(batch.len());
        for fields in batch {
            let put = PutRequest::builder().set_item(Some(serde_dynamo::to_item(fields)?)).build()?;
            writes.push(WriteRequest::builder().put_request(put).build());
        }
        client.batch_write_item().request_items(TABLE, writes).send().await.context("writing drivers")?;
    }
    timed(&client, homes, places).await
}

async fn create_table(client: &Client) -> anyhow::Result<()> {
    let names = ["PK", "SK", "GSI1PK", "GSI1SK"];
    let attribute =
        |name: &str| AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build();
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let attributes = names.into_iter().map(attribute).collect::<Result<Vec<_>, _>>()?;
    let index = GlobalSecondaryIndex::builder()
        .index_name("GSI1")
        .key_schema(key("GSI1PK", KeyType::Hash)?)
        .key_schema(key("GSI1SK", KeyType::Range)?)
        .projection(Projection::builder().projection_type(ProjectionType::All).build())
        .build()?;
    let request = client.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
    let request = request.key_schema(key("PK", KeyType::Hash)?).key_schema(key("SK", KeyType::Range)?);
    request.set_attribute_definitions(Some(attributes)).global_secondary_indexes(index).send().await?;
    Ok(())
}
