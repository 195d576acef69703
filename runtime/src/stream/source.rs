//! The dependencies of a stream reader.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodbstreams::Client;
use tokio::sync::{Notify, watch};

use crate::adapters::store::Codec;
use crate::ports::Clock;
use crate::stream::dead_letter::DeadLetters;
use crate::stream::leases::Leases;
use crate::telemetry::metrics::Metrics;

/// Intervals and time-outs of a worker.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Interval between two rounds: the longest gap when a lease changes its owner. It costs one small read for each
    /// worker.
    pub round: Duration,
    /// Time without a write after which an owner counts as gone. It is longer than any pause of a healthy process, and
    /// is the delay after a crash.
    pub failover: Duration,
    /// Interval between two listings of shards if no new one is expected. AWS allows ten `DescribeStream` calls a
    /// second for each stream.
    pub discovery: Duration,
    /// How long a shard of this worker may remain unread while the stream can be listed; after that the process counts
    /// as unhealthy. The longest legitimate wait of a reader is for a lane whose record meets an outage of the table:
    /// 28 attempts with their pauses and time-outs, less than ten minutes. Records that are not read for 24 hours are
    /// lost, so a restart is the lesser evil.
    pub unread: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            round: Duration::from_secs(1),
            failover: Duration::from_secs(10),
            discovery: Duration::from_secs(10),
            unread: Duration::from_mins(15),
        }
    }
}

/// The dependencies of a stream reader.
#[derive(Clone)]
pub struct StreamSource {
    pub client: Client,
    /// ARN of the table's stream; it changes when the stream is disabled and enabled again.
    pub stream_arn: watch::Receiver<String>,
    /// The lease table.
    pub leases: Leases,
    /// Converts stream images.
    pub codec: Codec,
    /// Stores records that cannot be handled.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Notified when unread records expired.
    pub gap: Arc<Notify>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    /// Intervals and time-outs.
    pub pace: Pace,
}
