//! Reads the table's stream, as Lambda's event source mapping does for the seed: every change of a dispatch that waits for a
//! driver is handed to the algorithm, at least once and in order for each dispatch.
//!
//! Any number of workers share the shards by leases in a table of their own, in the shape the Kinesis Client Library gives them:
//!
//! * `assignment` decides what a worker takes, renews, hands over, asks for and gives up (pure); `lease` is a lease row.
//! * `consumer` looks at shards (`discovery`) and leases ([`Leases`]) round after round and carries the decisions out.
//! * `shard` reads one shard; `filter` picks the records that matter; `lanes` handle them; `watermark` decides how far a shard is
//!   done: up to the first record still in work (pure). `dead_letter` is what is kept of a record nobody can handle.
//!
//! A crash repeats what was read since the last checkpoint, which is harmless; what an owner writes is fenced by the lease's counter,
//! so that one who slept through the fail-over time stores nothing any more. Without a checkpoint a shard is read from its oldest
//! record, never from the tip. A record that cannot be handled is set aside after a few tries, so that one dispatch never blocks a
//! shard. Records live for 24 hours; what was lost to that limit only the sweeper finds, which is told to look at once.
//!
//! A stream that is switched off and on again has a new ARN, which a running worker takes over from its configuration. The lease table
//! remembers the labels of earlier streams until they are read to their end, which comes first, so that the order of an item's changes
//! is kept. A stream is readable for 24 hours after it was switched off.

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
pub use handler::DispatchHandler;
pub use leases::Leases;
pub use source::{Pace, StreamSource};
