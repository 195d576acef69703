//! Reads the table's stream, like Lambda's event source mapping in the specification: every change of a dispatch that
//! waits for a driver is passed to the algorithm, at least once and in order for each dispatch, and so are drivers that
//! another service changed.
//!
//! Any number of workers share the shards through leases in a separate table, in the format of the Kinesis Client
//! Library:
//!
//! * `assignment` decides which leases a worker takes, renews, hands over, requests and gives up (pure); `lease` is a
//!   lease row.
//! * `consumer` reads shards (`discovery`) and leases ([`Leases`]) periodically and carries the decisions out.
//! * `shard` reads one shard; `filter` selects relevant records; `lanes` handle them; `watermark` derives the
//!   checkpoint, the last record before the first one in progress (pure). `dead_letter` stores records that cannot be
//!   handled.
//!
//! A crash repeats the records since the last checkpoint, which is harmless. An owner's writes are fenced by the lease
//! counter, so that a worker that was paused beyond the fail-over time can no longer write. Without a checkpoint a
//! shard is read from its oldest record, never from the tip. A record that cannot be handled becomes a dead letter
//! after some attempts, so that one dispatch never blocks a shard. Records live for 24 hours; if any expire unread, the
//! sweeper runs at once, because only it can find their dispatches.
//!
//! A stream that is disabled and enabled again has a new ARN, which a running worker takes from its configuration. The
//! lease table keeps the labels of earlier streams until they are read to their end. They are read first, to preserve
//! the order of an item's changes. A stream remains readable for 24 hours after it was disabled.

mod assignment;
mod consumer;
mod dead_letter;
mod discovery;
mod filter;
mod handler;
mod lanes;
mod lease;
mod leases;
mod shard;
mod source;
mod watermark;

pub use consumer::StreamConsumer;
pub use dead_letter::DeadLetters;
#[cfg(test)]
pub(crate) use filter::relevant_change;
pub use handler::{DispatchHandler, StreamChange};
pub(crate) use lease::KEY as LEASE_KEY;
pub use leases::Leases;
pub use source::{Pace, StreamSource};
