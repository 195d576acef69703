//! Reads one shard.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodbstreams::error::ProvideErrorMetadata;
use aws_sdk_dynamodbstreams::types::{Record, ShardIteratorType};
use dispatch_core::ids::DispatchId;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::DispatchHandler;
use super::consumer::StreamSource;
use super::lineage::{Progress, Shard};
use super::records::waiting_dispatch;
use super::watermark::Watermark;
use crate::aws::port_error;
use crate::engine::EngineError;
use crate::port::{PortError, StoredDispatch};

/// Pause after an answer without records: five looks a second, where Lambda has four. It is part of the time to the first
/// offer.
const IDLE_PAUSE: Duration = Duration::from_millis(200);
/// Pause after a failed call; it doubles.
const FAILURE_PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause after failed calls.
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Dispatches of one shard in work at once. Each is a handful of calls of some milliseconds.
const LANES: usize = 16;
/// Records waiting for each lane before reading waits too.
const LANE_BUFFER: usize = 32;
/// Tries to handle one record, some two seconds with their pauses; then the sweeper has its dispatch.
const HANDLE_TRIES: u32 = 4;
/// First pause between them; it doubles.
const HANDLE_PAUSE: Duration = Duration::from_millis(250);
/// Time between two checkpoints: what a crash repeats, for one write.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// Why a shard is no longer read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It has no more records.
    Finished,
    /// The process ends.
    Stopped,
}

struct Work {
    number: u64,
    stored: StoredDispatch,
}

/// What a read gave.
enum Page {
    Records(Vec<Record>, Option<String>),
    /// The position is of no use any more; another iterator is needed.
    IteratorLost,
    /// The records at the position are older than 24 hours.
    Trimmed,
    /// The shard is gone with all its records.
    Gone,
}

struct Reader {
    source: StreamSource,
    shard: Shard,
    watermark: Arc<Mutex<Watermark>>,
    lanes: Vec<Sender<Work>>,
    position: Progress,
    checkpointed: Instant,
}

/// Reads a shard from where it was left, to its end or until `shutdown`. What is in work is finished and stored before it returns.
pub(super) async fn read_shard(
    source: StreamSource,
    handler: Arc<dyn DispatchHandler>,
    (shard, from): (Shard, Progress),
    shutdown: CancellationToken,
) -> Ending {
    let watermark = Arc::new(Mutex::new(Watermark::default()));
    let mut workers = JoinSet::new();
    let mut lanes = Vec::with_capacity(LANES);
    for _ in 0..LANES {
        let (sender, receiver) = channel(LANE_BUFFER);
        let (source, handler, watermark) = (source.clone(), Arc::clone(&handler), Arc::clone(&watermark));
        workers.spawn(async move { work(receiver, &source, handler.as_ref(), &watermark).await });
        lanes.push(sender);
    }
    let mut reader = Reader { source, shard, watermark, lanes, position: from, checkpointed: Instant::now() };
    let ending = reader.read(&shutdown).await;
    reader.lanes.clear();
    while workers.join_next().await.is_some() {}
    reader.last_checkpoint(ending).await;
    ending
}

/// One lane: its dispatches one after the other.
async fn work(
    mut records: Receiver<Work>,
    source: &StreamSource,
    handler: &dyn DispatchHandler,
    watermark: &Mutex<Watermark>,
) {
    while let Some(Work { number, stored }) = records.recv().await {
        let outcome = if handle(handler, stored).await { "advanced" } else { "given_up" };
        source.metrics.stream_record(outcome);
        watermark.lock().unwrap_or_else(PoisonError::into_inner).done(number);
    }
}

/// Whether it was handled in the end.
async fn handle(handler: &dyn DispatchHandler, stored: StoredDispatch) -> bool {
    let id = stored.state.id.clone();
    let mut pause = HANDLE_PAUSE;
    for left in (0..HANDLE_TRIES).rev() {
        match handler.handle(stored.clone()).await {
            // A dispatch that is gone needs nobody.
            Ok(()) | Err(EngineError::NotFound) => return true,
            Err(error) => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(dispatch = %id, %error, reason, left, "the algorithm failed");
            }
        }
        if left > 0 {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    false
}

impl Reader {
    async fn read(&mut self, shutdown: &CancellationToken) -> Ending {
        let mut iterator: Option<String> = None;
        let mut failure_pause = FAILURE_PAUSE_FIRST;
        loop {
            let page = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ending::Stopped,
                page = self.next_page(iterator.take()) => page,
            };
            let pause = match page {
                Ok(Page::Records(records, next)) => {
                    failure_pause = FAILURE_PAUSE_FIRST;
                    let idle = records.is_empty();
                    self.take(records).await;
                    if next.is_none() {
                        return Ending::Finished;
                    }
                    iterator = next;
                    if idle { IDLE_PAUSE } else { Duration::ZERO }
                }
                Ok(Page::IteratorLost) => Duration::ZERO,
                Ok(Page::Trimmed) => {
                    tracing::error!(shard = self.shard.id, "records were lost to the stream's age limit of 24 hours");
                    self.position = Progress::Unread;
                    FAILURE_PAUSE_FIRST
                }
                Ok(Page::Gone) => return Ending::Finished,
                Err(error) => {
                    self.failed(&error);
                    let pause = failure_pause;
                    failure_pause = (failure_pause * 2).min(FAILURE_PAUSE_MAX);
                    pause
                }
            };
            self.checkpoint_if_due().await;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ending::Stopped,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn next_page(&self, iterator: Option<String>) -> Result<Page, PortError> {
        let iterator = match iterator {
            Some(iterator) => iterator,
            None => match self.iterator().await? {
                Ok(iterator) => iterator,
                Err(page) => return Ok(page),
            },
        };
        match self.source.client.get_records().shard_iterator(iterator).send().await {
            Ok(answer) => Ok(Page::Records(answer.records.unwrap_or_default(), answer.next_shard_iterator)),
            Err(error) => page_of(error.code()).ok_or_else(|| port_error("reading the stream", &error)),
        }
    }

    /// An iterator behind the last record read; iterators last 15 minutes.
    async fn iterator(&self) -> Result<Result<String, Page>, PortError> {
        const ACTION: &str = "getting a shard iterator";
        let request =
            self.source.client.get_shard_iterator().stream_arn(&self.source.stream_arn).shard_id(&self.shard.id);
        let request = match &self.position {
            Progress::After(sequence) => {
                request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).sequence_number(sequence)
            }
            Progress::Unread | Progress::Ended => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
        };
        match request.send().await {
            Ok(answer) => answer
                .shard_iterator
                .map(Ok)
                .ok_or_else(|| PortError::Unavailable { action: ACTION, source: "the answer has no iterator".into() }),
            Err(error) => page_of(error.code()).map(Err).ok_or_else(|| port_error(ACTION, &error)),
        }
    }

    /// Sorts records into lanes: one dispatch is always in the same lane, which keeps its order. A full lane makes reading wait.
    async fn take(&mut self, records: Vec<Record>) {
        let mut newest_ms = None;
        for record in records {
            let Some(change) = record.dynamodb() else { continue };
            let Some(sequence) = change.sequence_number().map(str::to_owned) else { continue };
            newest_ms = change.approximate_creation_date_time().and_then(|at| at.to_millis().ok());
            match waiting_dispatch(&self.source.codec, &record) {
                Ok(Some(stored)) => {
                    let number = self.watermark().begin(&sequence);
                    let lane = lane_of(&stored.state.id, self.lanes.len());
                    // A lane ends only when its sender is dropped.
                    let _ = self.lanes[lane].send(Work { number, stored }).await;
                }
                Ok(None) => {
                    self.source.metrics.stream_record("skipped");
                    self.watermark().skip(&sequence);
                }
                Err(error) => {
                    tracing::error!(shard = self.shard.id, sequence, %error, "a stream record cannot be read");
                    self.source.metrics.stream_record("unreadable");
                    self.watermark().skip(&sequence);
                }
            }
            self.position = Progress::After(sequence);
        }
        let age_ms = newest_ms.map_or(0, |at| self.source.clock.now().since_ms(dispatch_core::time::EpochMs(at)));
        self.source.metrics.stream_age_ms(age_ms);
    }

    fn watermark(&self) -> std::sync::MutexGuard<'_, Watermark> {
        self.watermark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn checkpoint_if_due(&mut self) {
        if self.checkpointed.elapsed() >= CHECKPOINT_EVERY {
            self.checkpointed = Instant::now();
            let done = self.watermark().take_checkpoint();
            if let Some(sequence) = done {
                self.store(&Progress::After(sequence)).await;
            }
        }
    }

    async fn last_checkpoint(&self, ending: Ending) {
        let done = self.watermark().take_checkpoint();
        match (ending, done) {
            (Ending::Finished, _) => self.store(&Progress::Ended).await,
            (Ending::Stopped, Some(sequence)) => self.store(&Progress::After(sequence)).await,
            (Ending::Stopped, None) => {}
        }
    }

    /// A checkpoint that is not stored costs repeated work after the next start.
    async fn store(&self, progress: &Progress) {
        if let Err(error) = self.source.leases.store(&self.shard, progress, self.source.clock.now()).await {
            self.failed(&error);
        }
    }

    fn failed(&self, error: &PortError) {
        self.source.metrics.port_error(error);
        let reason = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(shard = self.shard.id, %error, reason, "the stream waits");
    }
}

/// Errors of `GetRecords` and `GetShardIterator` that are part of reading ("Errors" of both in the API reference).
fn page_of(code: Option<&str>) -> Option<Page> {
    match code {
        Some("ExpiredIteratorException") => Some(Page::IteratorLost),
        Some("TrimmedDataAccessException") => Some(Page::Trimmed),
        Some("ResourceNotFoundException") => Some(Page::Gone),
        _ => None,
    }
}

fn lane_of(id: &DispatchId, lanes: usize) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
    usize::try_from(hash % lanes.max(1) as u64).unwrap_or(0)
}
