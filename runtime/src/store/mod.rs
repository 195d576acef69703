//! The single table: items, keys and transactions.
//!
//! [`entity`] defines the items as the specification spells them, [`keys`] every key, [`plan`] what a decision changes
//! (pure), and [`DynamoStore`] writes it. The in-memory store of feature `testing` applies the same plans.

mod batch;
pub mod convert;
mod dispatches;
pub mod entity;
mod entity_type;
mod error;
mod expression;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod idempotency;
pub mod keys;
pub mod plan;
mod profiles;
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
pub use error::DynamoFailure;
pub use streams_image::{StreamImage, from_stream_image};

use crate::city::City;
use crate::ports::PortError;
use crate::telemetry::metrics::Metrics;
use convert::{Item, read_item};
use error::DynamoFailure as Failure;
use keys::Shards;

/// A DynamoDB client for a city's region, with the settings of all AWS clients of the runtime.
pub async fn client(endpoint: &AwsEndpoint) -> Client {
    Client::new(&crate::aws::sdk_config(endpoint).await)
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
        Ok(output.map_err(|error| Failure::from_sdk(&error).into_port(action))?.item)
    }

    /// Reads one item as `T`, strongly consistent.
    async fn get_as<T: DeserializeOwned>(
        &self,
        action: &'static str,
        entity: &'static str,
        (pk, sk): (&str, &str),
    ) -> Result<Option<T>, PortError> {
        let item = self.get(action, pk, sk).await?;
        item.map(|item| read_item(entity, item)).transpose().map_err(|error| broken(action, error))
    }
}

/// The port error for a stored item that cannot be used.
fn broken(action: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> PortError {
    PortError::Failed { action, source: Box::new(error) }
}
