//! Reads the table's stream, as Lambda's event source mapping does for the seed: every change of a dispatch that waits for a
//! driver is handed to the algorithm, at least once and in order for each dispatch.
//!
//! * `lineage` decides which shards may be read: parents before children (pure).
//! * `watermark` decides how far a shard is done: up to the first record still in work (pure).
//! * `shard` reads one shard; `records` picks the records that matter; [`Leases`] keeps how far each shard was read.
//!
//! A crash repeats what was read since the last checkpoint, which is harmless. A record that cannot be handled is given up after
//! a few tries, so that one dispatch never blocks a shard; the sweeper looks after its dispatch. Records live for 24 hours; a
//! consumer that was away for longer starts at the oldest one left, and the sweeper finds the rest.
//!
//! Every replica reads every shard for now: the fence of the offers makes that harmless, and AWS serves two readers of a shard
//! well. The lease item has the shape the Kinesis Client Library gives it, so that replicas can divide the shards later.

mod consumer;
mod leases;
mod lineage;
mod records;
mod shard;
mod watermark;

use async_trait::async_trait;

pub use consumer::{StreamConsumer, StreamSource};
pub use leases::Leases;

use crate::engine::EngineError;
use crate::port::StoredDispatch;

/// What the stream is read for.
#[async_trait]
pub trait DispatchHandler: Send + Sync {
    /// Handles the image of a dispatch that waits for a driver. It may be old, and it may come again.
    async fn handle(&self, stored: StoredDispatch) -> Result<(), EngineError>;
}
