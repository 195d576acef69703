//! The lease row of a shard. Attribute names are those of the Kinesis Client Library's lease table.
//!
//! | attribute | type | |
//! | --- | --- | --- |
//! | `leaseKey` | S, hash key | `<stream label>/<shard id>`: shards of two streams of a table never share a row |
//! | `leaseOwner` | S | the worker that reads the shard; absent if there is none |
//! | `leaseCounter` | N | incremented by each write and each change of the owner: the fence, and the heartbeat |
//! | `checkpoint` | S | last sequence number done, `TRIM_HORIZON` or `SHARD_END` |
//! | `parentShardId` | SS | the parent, if any |
//! | `ownerSwitchesSinceCheckpoint` | N | informational: shows a shard that changes owners without progress |
//! | `leaseRequestedBy` | S | addition: the worker that asks the owner to hand the lease over |
//! | `expiresAt` | N | Unix time after which DynamoDB may delete the row of a finished shard if no worker has |

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

pub(crate) const KEY: &str = "leaseKey";
pub(super) const OWNER: &str = "leaseOwner";
pub(super) const COUNTER: &str = "leaseCounter";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const REQUESTED_BY: &str = "leaseRequestedBy";
pub(super) const PARENT: &str = "parentShardId";

const TRIM_HORIZON: &str = "TRIM_HORIZON";
const SHARD_END: &str = "SHARD_END";

/// The progress of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checkpoint {
    /// No record: reading starts at the oldest record. (Starting at the tip would lose records written before.)
    TrimHorizon,
    /// Up to and including this sequence number.
    After(String),
    /// To the end of the shard.
    ShardEnd,
}

impl Checkpoint {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::TrimHorizon => TRIM_HORIZON,
            Self::After(sequence) => sequence,
            Self::ShardEnd => SHARD_END,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            TRIM_HORIZON => Some(Self::TrimHorizon),
            SHARD_END => Some(Self::ShardEnd),
            // "SequenceNumber: length 21 to 40", all of them digits.
            _ if !text.is_empty() && text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(Self::After(text.to_owned()))
            }
            _ => None,
        }
    }
}

/// A lease row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) owner: Option<String>,
    pub(super) counter: u64,
    pub(super) checkpoint: Checkpoint,
    pub(super) requested_by: Option<String>,
}

impl Row {
    /// Whether the shard was read to its end.
    pub(super) fn is_finished(&self) -> bool {
        self.checkpoint == Checkpoint::ShardEnd
    }

    /// Parses an item; `None` if an attribute has a type or value that no worker writes.
    pub(super) fn read(item: &HashMap<String, AttributeValue>) -> Option<Self> {
        let counter = match item.get(COUNTER)? {
            AttributeValue::N(number) => number.parse().ok()?,
            _ => return None,
        };
        Some(Self {
            key: text(item, KEY).ok()??,
            owner: text(item, OWNER).ok()?,
            counter,
            checkpoint: Checkpoint::parse(&text(item, CHECKPOINT).ok()??)?,
            requested_by: text(item, REQUESTED_BY).ok()?,
        })
    }
}

/// The attribute is not a string.
struct NotAString;

/// A string that may be absent.
fn text(item: &HashMap<String, AttributeValue>, name: &str) -> Result<Option<String>, NotAString> {
    match item.get(name) {
        None => Ok(None),
        Some(AttributeValue::S(text)) => Ok(Some(text.clone())),
        Some(_) => Err(NotAString),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(changes: &[(&str, Option<AttributeValue>)]) -> HashMap<String, AttributeValue> {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let mut item = HashMap::from([
            (KEY.to_owned(), text("1/a")),
            (OWNER.to_owned(), text("worker")),
            (COUNTER.to_owned(), AttributeValue::N("3".to_owned())),
            (CHECKPOINT.to_owned(), text("000000000000000000012")),
        ]);
        for (name, value) in changes {
            item.remove(*name);
            item.extend(value.clone().map(|value| ((*name).to_owned(), value)));
        }
        item
    }

    #[test]
    fn a_row_is_read_as_it_is_written() {
        let row = Row::read(&item(&[(OWNER, None)])).unwrap();
        assert_eq!((row.owner, row.counter), (None, 3));
        assert_eq!(row.checkpoint, Checkpoint::After("000000000000000000012".to_owned()));
        for checkpoint in [Checkpoint::TrimHorizon, Checkpoint::ShardEnd] {
            assert_eq!(Checkpoint::parse(checkpoint.as_str()), Some(checkpoint));
        }
    }

    #[test]
    fn an_invalid_row_is_rejected() {
        let text = |value: &str| Some(AttributeValue::S(value.to_owned()));
        for (name, value) in [
            (COUNTER, None),
            (COUNTER, text("3")),
            (COUNTER, Some(AttributeValue::N("-3".to_owned()))),
            (CHECKPOINT, None),
            (CHECKPOINT, text("LATEST")),
            (CHECKPOINT, text("")),
            (OWNER, Some(AttributeValue::Bool(true))),
            (REQUESTED_BY, Some(AttributeValue::N("1".to_owned()))),
        ] {
            assert_eq!(Row::read(&item(&[(name, value.clone())])), None, "{name} {value:?}");
        }
    }
}
