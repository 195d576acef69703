//! Revisions of workers that have reached everything they need: one item for each image, configuration and set of roles
//! (addition). DynamoDB removes it after its time to live, which each start renews.

use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::time::EpochMs;

use crate::adapters::store::convert::Item;
use crate::adapters::store::error::DynamoFailure;
use crate::adapters::store::expression::{key, number, text};
use crate::adapters::store::{DynamoStore, keys};
use crate::ports::PortError;

/// `EntityType` of such an item.
const REVISION: &str = "WORKER_REVISION";

const REACH: &str = "reading from the table";
const READ: &str = "reading a revision of the workers";
const PROVE: &str = "recording a revision of the workers";

/// How long a revision that no longer starts counts as proven, s: a city that was not restarted for a quarter must
/// survive a restart during an outage.
const KEPT_S: i64 = 100 * 24 * 3600;

impl DynamoStore {
    /// Reads an item that does not exist: fails if the table cannot be reached, does not exist, or may not be read.
    pub async fn reach(&self) -> Result<(), PortError> {
        self.get(REACH, "NOTHING", "NOTHING").await.map(drop)
    }

    /// Whether a worker of this revision has reached everything it needs before.
    pub async fn is_proven(&self, revision: &str) -> Result<bool, PortError> {
        Ok(self.get(READ, &keys::revision_pk(revision), keys::REVISION_SK).await?.is_some())
    }

    /// Records that a worker of this revision has reached everything it needs.
    pub async fn prove(&self, revision: &str, now: EpochMs) -> Result<(), PortError> {
        let mut item: Item = key(&keys::revision_pk(revision), keys::REVISION_SK);
        let expires_at: AttributeValue = number((now.0 / 1000).saturating_add(KEPT_S));
        item.extend([("EntityType".to_owned(), text(REVISION)), ("expiresAt".to_owned(), expires_at)]);
        let request = self.client.put_item().table_name(&self.table).set_item(Some(item));
        let written = request.send().await;
        written.map(drop).map_err(|error| DynamoFailure::from_sdk(&error).into_port(PROVE))
    }
}
