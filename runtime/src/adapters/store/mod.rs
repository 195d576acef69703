//! The single table: items, keys and transactions.
//!
//! [`entity`] defines the items as the specification spells them, [`keys`] every key, [`plan`] what a decision changes
//! (pure), and [`DynamoStore`] writes it. The in-memory store of feature `testing` applies the same plans.

mod batch;
mod change;
pub mod convert;
mod dispatches;
pub mod entity;
mod entity_type;
mod erasure;
mod error;
mod expression;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod idempotency;
pub mod keys;
mod person_items;
mod person_traces;
mod persons;
pub mod plan;
mod profiles;
mod repair;
mod revisions;
mod streams_image;
#[cfg(test)]
mod tests;
mod transactions;

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use dispatch_api::worker_config::AwsEndpoint;
use serde::de::DeserializeOwned;

pub use convert::{Codec, ItemError};
pub(crate) use dispatches::is_page_token;
pub use entity_type::DRIVER;
pub use error::DynamoFailure;
#[cfg(test)]
pub(crate) use streams_image::codec_for_tests;
pub use streams_image::{StreamImage, from_stream_image};

use crate::adapters::clock::DateHeaders;
use crate::city::City;
use crate::ports::PortError;
use crate::telemetry::metrics::Metrics;
use convert::{Item, read_item};
use error::DynamoFailure as Failure;
use keys::Shards;

/// A DynamoDB client for a city's region, with the settings of all AWS clients of the runtime.
pub async fn client(endpoint: &AwsEndpoint) -> Client {
    Client::new(&crate::adapters::aws::sdk_config(endpoint).await)
}

/// The same client, whose answers tell a clock the time of AWS.
pub(crate) async fn client_with_dates(endpoint: &AwsEndpoint, dates: DateHeaders) -> Client {
    let config = aws_sdk_dynamodb::config::Builder::from(&crate::adapters::aws::sdk_config(endpoint).await);
    Client::from_conf(config.interceptor(dates).build())
}

/// The city's table in DynamoDB: [`DispatchStore`](crate::ports::DispatchStore),
/// [`ProfileStore`](crate::ports::ProfileStore) and [`IdempotencyStore`](crate::ports::IdempotencyStore).
///
/// It relies on documented behaviour of DynamoDB: a `TransactWriteItems` is written as a whole or not at all and names
/// the part that failed (`CancellationReasons`); a conditional `UpdateItem` is atomic; `ConsistentRead` sees every
/// acknowledged write; an update that changes nothing writes no stream record; indexes are eventually consistent.
///
/// Conditional writes are retried here, up to five times within a second, when DynamoDB reports a concurrent writer;
/// the SDK does not retry them. A write whose answer was lost is looked up before it counts as lost. The SDK retries
/// reads and idempotent writes.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct DynamoStore {
    client: Client,
    /// The same client without SDK retries.
    once: Client,
    table: String,
    codec: Codec,
    metrics: Arc<Metrics>,
}

impl DynamoStore {
    /// The table `table` of `city`. GSI1 is spread over `gsi1_shards` partition keys; 1 gives the keys of the
    /// specification.
    pub fn new(client: Client, table: &str, gsi1_shards: u16, city: City) -> Self {
        let codec = Codec::new(city, Shards::new(gsi1_shards));
        let once = error::once(&client);
        Self { client, once, table: table.to_owned(), codec, metrics: Arc::new(Metrics::new()) }
    }

    /// Counts retries and lost answers in the metrics of a process.
    #[must_use]
    pub fn counting(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// The retry budget of one write.
    fn tries(&self) -> error::Tries {
        error::Tries::counting(Arc::clone(&self.metrics))
    }

    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Reads one item, strongly consistent.
    async fn get(&self, action: &'static str, pk: &str, sk: &str) -> Result<Option<Item>, PortError> {
        let request = self.client.get_item().table_name(&self.table).set_key(Some(expression::key(pk, sk)));
        let output = request.consistent_read(true).send().await;
        let item = output.map_err(|error| Failure::from_sdk(&error).into_port(action))?.item;
        // An erased profile counts as missing until it expires.
        Ok(item.filter(|item| sk != keys::PROFILE_SK || !erasure::is_erased(item)))
    }

    /// Reads an item of a list. One that cannot be read is counted and skipped, so that it costs itself and not the
    /// others.
    fn readable<T>(
        &self,
        kind: &'static str,
        item: Item,
        read: impl FnOnce(Item) -> Result<T, ItemError>,
    ) -> Option<T> {
        let key = expression::key_text(&item);
        read(item).inspect_err(|error| self.metrics.record_unreadable(kind, &key, error)).ok()
    }

    /// Reads one item as `T`, strongly consistent.
    async fn get_as<T: DeserializeOwned>(
        &self,
        action: &'static str,
        entity: &'static str,
        (pk, sk): (&str, &str),
    ) -> Result<Option<T>, PortError> {
        let item = self.get(action, pk, sk).await?;
        item.map(|item| read_item(entity, item)).transpose().map_err(|error| self.unreadable(action, entity, pk, error))
    }

    /// The port error for an item that a call needs and that cannot be read; counts and names the item.
    fn unreadable(&self, action: &'static str, kind: &'static str, key: &str, error: ItemError) -> PortError {
        self.metrics.record_unreadable(kind, key, &error);
        PortError::Unreadable { action, source: Box::new(error) }
    }
}

/// The port error for a stored item that cannot be used.
fn broken(action: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> PortError {
    PortError::Failed { action, source: Box::new(error) }
}
