//! What a stream is read with.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodbstreams::Client;
use tokio::sync::{Notify, watch};

use super::dead_letter::DeadLetters;
use super::leases::Leases;
use crate::ports::Clock;
use crate::store::Codec;
use crate::telemetry::metrics::Metrics;

/// How often a worker looks.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time between two looks at the leases: the longest gap when a lease changes hands. One small read for each worker.
    pub round: Duration,
    /// Time without a sign of life after which an owner counts as gone. Longer than any pause of a healthy process, and what a crash costs.
    pub failover: Duration,
    /// Time between two looks for new shards, where none is expected. AWS allows ten `DescribeStream` a second for a stream.
    pub discovery: Duration,
    /// How long a shard this worker has may go unread although the stream can be listed; then the process counts as dead. The longest a
    /// reader waits rightly is for a lane whose record meets an outage of the table: 28 tries with their pauses and time-outs, below ten
    /// minutes. What nobody reads for 24 hours is lost, so a start anew is the smaller evil.
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

/// What is read, and with what.
#[derive(Clone)]
pub struct StreamSource {
    /// DynamoDB Streams.
    pub client: Client,
    /// ARN of the table's stream; it changes when the stream is switched off and on.
    pub stream_arn: watch::Receiver<String>,
    /// Who reads what, and how far.
    pub leases: Leases,
    /// Reads images.
    pub codec: Codec,
    /// Keeps records nobody can handle.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Told when records were lost to the stream's age limit.
    pub gap: Arc<Notify>,
    /// Dates ages.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How often it looks.
    pub pace: Pace,
}
