//! How far each shard was read, in the lease table.
//!
//! | attribute | type | |
//! | --- | --- | --- |
//! | `leaseKey` | S, hash key | the shard's id |
//! | `leaseOwner` | S | the worker who wrote last |
//! | `leaseCounter` | N | +1 with each write |
//! | `checkpoint` | S | sequence number done, or `SHARD_END` |
//! | `parentShardId` | SS | the parent, where there is one |
//! | `updatedAt` | S | when, UTC |
//!
//! Names are those of the Kinesis Client Library's lease table.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::time::EpochMs;

use super::lineage::{Progress, Shard};
use crate::aws::port_error;
use crate::port::PortError;

const SHARD_END: &str = "SHARD_END";
const READING: &str = "reading a checkpoint";
const WRITING: &str = "writing a checkpoint";

/// The lease table.
#[derive(Clone)]
pub struct Leases {
    client: Client,
    table: String,
    owner: String,
}

impl Leases {
    /// The table, written to in the name of `owner`, which is unique to a process.
    pub fn new(client: Client, table: &str, owner: &str) -> Self {
        Self { client, table: table.to_owned(), owner: owner.to_owned() }
    }

    /// How far a shard was read by anybody.
    pub(super) async fn progress(&self, shard: &Shard) -> Result<Progress, PortError> {
        let request =
            self.client.get_item().table_name(&self.table).key("leaseKey", AttributeValue::S(shard.id.clone()));
        let answer = request.consistent_read(true).send().await.map_err(|error| port_error(READING, &error))?;
        let checkpoint = answer.item.and_then(|mut item| item.remove("checkpoint"));
        Ok(match checkpoint {
            Some(AttributeValue::S(text)) if text == SHARD_END => Progress::Ended,
            Some(AttributeValue::S(sequence)) => Progress::After(sequence),
            _ => Progress::Unread,
        })
    }

    /// Remembers how far a shard was read. Replicas may overwrite each other: each has handled what it writes.
    pub(super) async fn store(&self, shard: &Shard, progress: &Progress, now: EpochMs) -> Result<(), PortError> {
        let checkpoint = match progress {
            Progress::Unread => return Ok(()),
            Progress::After(sequence) => sequence.as_str(),
            Progress::Ended => SHARD_END,
        };
        let updated_at = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default().to_string();
        let mut update = "SET leaseOwner = :owner, checkpoint = :checkpoint, updatedAt = :now".to_owned();
        let mut request = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("leaseKey", AttributeValue::S(shard.id.clone()))
            .expression_attribute_values(":owner", AttributeValue::S(self.owner.clone()))
            .expression_attribute_values(":checkpoint", AttributeValue::S(checkpoint.to_owned()))
            .expression_attribute_values(":now", AttributeValue::S(updated_at))
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
        if let Some(parent) = &shard.parent {
            update.push_str(", parentShardId = :parent");
            request = request.expression_attribute_values(":parent", AttributeValue::Ss(vec![parent.clone()]));
        }
        let sent = request.update_expression(update + " ADD leaseCounter :one").send().await;
        sent.map(|_| ()).map_err(|error| port_error(WRITING, &error))
    }
}
