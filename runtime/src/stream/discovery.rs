//! Discovery of streams and shards.

use std::collections::HashMap;

use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::error::ProvideErrorMetadata;
use aws_sdk_dynamodbstreams::types::StreamStatus;
use tokio::time::Instant;

use crate::adapters::aws::port_error;
use crate::ports::PortError;
use crate::stream::assignment::Shard;

const LISTING: &str = "listing shards";

/// Most pages of shards read in one listing: 100 shards each, far more than a table of this kind has in 24 hours.
const PAGES_MAX: usize = 100;

/// A stream of the table and its shards.
#[derive(Debug)]
pub(super) struct Stream {
    /// The label: the last part of its ARN, the time at which it was enabled.
    pub(super) label: String,
    /// The shards of the last listing.
    pub(super) shards: Vec<Shard>,
    /// Whether the stream receives no new records.
    pub(super) disabled: bool,
    /// Time of the last complete listing.
    pub(super) listed: Option<Instant>,
}

impl Stream {
    /// Whether a shard is listed.
    pub(super) fn has(&self, key: &str) -> bool {
        self.shards.iter().any(|shard| shard.key == key)
    }
}

/// The result of listing a stream.
pub(super) enum Discovery {
    /// The stream exists.
    Listed {
        shards: Vec<Shard>,
        /// Whether the stream receives no new records.
        disabled: bool,
    },
    /// The stream no longer exists.
    Gone,
}

/// The ARN of another stream of the same table.
pub(super) fn arn_of(any_stream_arn: &str, label: &str) -> String {
    any_stream_arn.rsplit_once('/').map_or_else(String::new, |(table, _)| format!("{table}/{label}"))
}

/// The label in a stream's ARN.
pub(super) fn label_of(stream_arn: &str) -> &str {
    stream_arn.rsplit_once('/').map_or(stream_arn, |(_, label)| label)
}

fn lease_key(label: &str, shard_id: &str) -> String {
    format!("{label}/{shard_id}")
}

/// Lists all shards of a stream. `DescribeStream` may be called ten times a second for each stream, and its result is
/// eventually consistent.
pub(super) async fn discover(client: &Client, stream_arn: &str) -> Result<Discovery, PortError> {
    let label = label_of(stream_arn);
    let (mut shards, mut after) = (HashMap::new(), None);
    for _ in 0..PAGES_MAX {
        let request = client.describe_stream().stream_arn(stream_arn).set_exclusive_start_shard_id(after);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(Discovery::Gone),
            Err(error) => return Err(port_error(LISTING, &error)),
        };
        let Some(description) = answer.stream_description else { break };
        let disabled = description.stream_status == Some(StreamStatus::Disabled);
        for shard in description.shards.unwrap_or_default() {
            let Some(id) = shard.shard_id else { continue };
            let parent = shard.parent_shard_id.map(|parent| lease_key(label, &parent));
            let key = lease_key(label, &id);
            shards.insert(key.clone(), Shard { key, stream: label.to_owned(), id, parent });
        }
        after = description.last_evaluated_shard_id;
        if after.is_none() {
            return Ok(Discovery::Listed { shards: shards.into_values().collect(), disabled });
        }
    }
    // An incomplete list must not be taken for a complete one: missing shards would count as gone.
    Err(PortError::Unavailable { action: LISTING, source: "the list does not end".into() })
}
