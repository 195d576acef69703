//! Finds the stream's shards and has each of them read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodbstreams::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::DispatchHandler;
use super::leases::Leases;
use super::lineage::{Progress, Shard, readable};
use super::shard::{Ending, read_shard};
use crate::aws::port_error;
use crate::metrics::Metrics;
use crate::port::{Clock, PortError};
use crate::store::Codec;

/// Time between two looks for new shards. A shard's end is followed at once; AWS allows ten `DescribeStream` a second for a
/// stream, and its lists are eventually consistent.
const DISCOVERY_EVERY: Duration = Duration::from_secs(10);

/// Pages of shards read in one look: 100 shards each, far above what a table of this kind has in 24 hours.
const SHARD_PAGES_MAX: usize = 100;

/// What is read, and with what.
#[derive(Clone)]
pub struct StreamSource {
    /// DynamoDB Streams.
    pub client: Client,
    /// The table's stream.
    pub stream_arn: String,
    /// How far it was read.
    pub leases: Leases,
    /// Reads images.
    pub codec: Codec,
    /// Dates checkpoints and ages.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Reads all shards of a stream.
pub struct StreamConsumer {
    source: StreamSource,
    handler: Arc<dyn DispatchHandler>,
}

impl StreamConsumer {
    /// Hands the dispatches of `source` to `handler`.
    pub fn new(source: StreamSource, handler: Arc<dyn DispatchHandler>) -> Self {
        Self { source, handler }
    }

    /// Reads until `shutdown`; then every shard finishes what is in work and stores its checkpoint.
    pub async fn run(&self, shutdown: &CancellationToken) {
        let mut progress: HashMap<String, Progress> = HashMap::new();
        let mut reading: HashSet<String> = HashSet::new();
        let mut readers: JoinSet<(String, Ending)> = JoinSet::new();
        while !shutdown.is_cancelled() {
            match self.discover(&mut progress).await {
                Ok(shards) => {
                    for shard in readable(&shards, &progress, &reading) {
                        reading.insert(shard.id.clone());
                        let from = progress.get(&shard.id).cloned().unwrap_or(Progress::Unread);
                        self.spawn(&mut readers, shard.clone(), from, shutdown.clone());
                    }
                }
                Err(error) => self.failed(&error),
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(DISCOVERY_EVERY) => {}
                Some(joined) = readers.join_next() => note(joined, &mut progress, &mut reading),
            }
        }
        while let Some(joined) = readers.join_next().await {
            note(joined, &mut progress, &mut reading);
        }
    }

    fn spawn(
        &self,
        readers: &mut JoinSet<(String, Ending)>,
        shard: Shard,
        from: Progress,
        shutdown: CancellationToken,
    ) {
        let (source, handler) = (self.source.clone(), Arc::clone(&self.handler));
        readers.spawn(async move {
            let id = shard.id.clone();
            tracing::info!(shard = id, "reading a shard");
            let ending = read_shard(source, handler, (shard, from), shutdown).await;
            tracing::info!(shard = id, ?ending, "stopped reading a shard");
            (id, ending)
        });
    }

    /// All shards of the stream. Those not seen before bring their checkpoint along; those no longer listed are forgotten.
    async fn discover(&self, progress: &mut HashMap<String, Progress>) -> Result<Vec<Shard>, PortError> {
        let mut shards = Vec::new();
        let mut after = None;
        for _ in 0..SHARD_PAGES_MAX {
            let request = self.source.client.describe_stream().stream_arn(&self.source.stream_arn);
            let answer = request
                .set_exclusive_start_shard_id(after)
                .send()
                .await
                .map_err(|error| port_error("listing shards", &error))?;
            let Some(description) = answer.stream_description else { break };
            let page = description.shards.unwrap_or_default().into_iter();
            shards.extend(page.filter_map(|shard| Some(Shard { id: shard.shard_id?, parent: shard.parent_shard_id })));
            after = description.last_evaluated_shard_id;
            if after.is_none() {
                break;
            }
        }
        progress.retain(|id, _| shards.iter().any(|shard| shard.id == *id));
        for shard in &shards {
            if !progress.contains_key(&shard.id) {
                progress.insert(shard.id.clone(), self.source.leases.progress(shard).await?);
            }
        }
        Ok(shards)
    }

    fn failed(&self, error: &PortError) {
        self.source.metrics.port_error(error);
        let reason = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(%error, reason, "the stream's shards cannot be listed");
    }
}

fn note(
    joined: Result<(String, Ending), tokio::task::JoinError>,
    progress: &mut HashMap<String, Progress>,
    reading: &mut HashSet<String>,
) {
    match joined {
        Ok((id, Ending::Finished)) => {
            reading.remove(&id);
            progress.insert(id, Progress::Ended);
        }
        Ok((id, Ending::Stopped)) => {
            // Its checkpoint is read again when somebody reads on.
            reading.remove(&id);
            progress.remove(&id);
        }
        Err(error) => tracing::error!(%error, "a shard's reader broke; it is read again after a restart"),
    }
}
