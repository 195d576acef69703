//! Reads one shard under a lease.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodbstreams::error::ProvideErrorMetadata;
use aws_sdk_dynamodbstreams::types::{Record, ShardIteratorType};
use dispatch_core::time::EpochMs;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::adapters::aws::port_error;
use crate::adapters::store::convert::DISPATCH;
use crate::ports::PortError;
use crate::stream::dead_letter::item_of;
use crate::stream::filter::relevant_change;
use crate::stream::handler::DispatchHandler;
use crate::stream::lanes::{Lanes, Work};
use crate::stream::lease::Checkpoint;
use crate::stream::leases::{Held, LeaseError};
use crate::stream::source::StreamSource;
use crate::stream::watermark::Watermark;
use crate::telemetry::heartbeat::Heartbeat;

/// Pause at the tip of the shard: five reads a second, while Lambda makes four. It adds to the time to the first offer
/// if there was no local wake-up.
const IDLE_PAUSE: Duration = Duration::from_millis(200);
/// Age of records, ms, from which the reader counts as behind and does not pause. Record times have whole seconds.
const BEHIND_AFTER_MS: u64 = 3_000;
/// First pause after a failed call; it doubles.
const FAILURE_PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause after failed calls.
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Time between two checkpoints: a crash repeats up to this much work.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);
/// The same if only irrelevant records were read, which are quickly read again.
const IDLE_CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// Why a reader stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The shard has no more records, and that is stored.
    Finished,
    /// The reader was asked to stop; its checkpoint is stored if it still owned the lease.
    Stopped,
    /// The lease has another owner.
    Lost,
}

/// The inputs of a reader.
pub(super) struct Reading {
    /// Key of the lease, also used in logs.
    pub(super) key: String,
    /// ARN of the stream.
    pub(super) stream_arn: String,
    /// Shard id in the stream.
    pub(super) shard_id: String,
    pub(super) lease: Arc<Held>,
    /// Asks the reader to stop after the records in progress.
    pub(super) stop: CancellationToken,
    /// The lag of the reader.
    pub(super) lag: Arc<Lag>,
    /// Heartbeat of reads and of records passed to a lane.
    pub(super) pulse: Heartbeat,
}

/// The lag of a reader behind the table.
#[derive(Default)]
pub(super) struct Lag {
    /// All records written before this time were read.
    read_until: AtomicI64,
    watermark: Arc<Mutex<Watermark>>,
}

impl Lag {
    /// A new lag at time `now`, without unread records.
    pub(super) fn since(now: EpochMs) -> Self {
        Self { read_until: AtomicI64::new(now.0), watermark: Arc::default() }
    }

    /// Age (ms) of the oldest record in progress, or of the last record read, or the time since the shard was last
    /// found empty.
    pub(super) fn ms(&self, now: EpochMs) -> u64 {
        let read_until = EpochMs(self.read_until.load(Ordering::Relaxed));
        let oldest = self.watermark.lock().oldest_in_progress().unwrap_or(read_until);
        now.since_ms(oldest.min(read_until))
    }
}

/// The result of a read.
enum Page {
    Records(Vec<Record>, Option<String>),
    /// The iterator has expired; a new one is needed.
    IteratorLost,
    /// The records at the position are older than 24 hours, or the position is invalid.
    Trimmed,
    /// The shard no longer exists.
    Gone,
}

struct Reader {
    source: StreamSource,
    reading: Reading,
    lanes: Lanes,
    position: Checkpoint,
    checkpointed: Instant,
    /// A checkpoint that could not be stored; it is retried with the next one.
    unstored: Option<String>,
}

/// Reads a shard from its checkpoint to its end, or until the reader is stopped or loses the lease.
pub(super) async fn read_shard(source: StreamSource, handler: Arc<dyn DispatchHandler>, reading: Reading) -> Ending {
    let position = match progress(&source, &reading).await {
        Ok(Checkpoint::ShardEnd) => return Ending::Finished,
        Ok(position) => position,
        Err(ending) => return ending,
    };
    tracing::info!(shard = reading.key, from = position.as_str(), "reading a shard");
    let lanes = Lanes::start(&source, &handler, &reading.key, (&reading.lag.watermark, &reading.stop));
    let mut reader = Reader { source, reading, lanes, position, checkpointed: Instant::now(), unstored: None };
    let ending = reader.read().await;
    let Reader { source, reading, lanes, .. } = reader;
    if ending == Ending::Lost {
        reading.stop.cancel();
    }
    lanes.finish().await;
    let ending = last_checkpoint(&source, &reading, ending).await;
    tracing::info!(shard = reading.key, ?ending, "stopped reading a shard");
    ending
}

/// The stored checkpoint.
async fn progress(source: &StreamSource, reading: &Reading) -> Result<Checkpoint, Ending> {
    let mut pause = FAILURE_PAUSE_FIRST;
    loop {
        match reading.lease.progress().await {
            Ok(position) => return Ok(position),
            Err(LeaseError::Lost) => return Err(Ending::Lost),
            Err(LeaseError::Port(error)) => failed(source, reading, &error),
        }
        tokio::select! {
            biased;
            () = reading.stop.cancelled() => return Err(Ending::Stopped),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(FAILURE_PAUSE_MAX),
        }
    }
}

/// Stores the last checkpoint before another worker may continue. Children may be read only when the end is stored, so
/// this is retried for as long as the lease lasts.
async fn last_checkpoint(source: &StreamSource, reading: &Reading, ending: Ending) -> Ending {
    let done = {
        let mut watermark = reading.lag.watermark.lock();
        let all_done = watermark.all_done();
        (watermark.take_any_checkpoint(), all_done)
    };
    let (ending, checkpoint) = match (ending, done) {
        (Ending::Finished, (_, true)) => (Ending::Finished, Checkpoint::ShardEnd),
        // Stopped after the last record while some were in progress.
        (Ending::Finished | Ending::Stopped, (Some(sequence), _)) => (Ending::Stopped, Checkpoint::After(sequence)),
        (Ending::Finished | Ending::Stopped, (None, _)) => return Ending::Stopped,
        (Ending::Lost, _) => return Ending::Lost,
    };
    let mut pause = FAILURE_PAUSE_FIRST;
    loop {
        match reading.lease.checkpoint(&checkpoint).await {
            Ok(()) => return ending,
            Err(LeaseError::Lost) => return Ending::Lost,
            Err(LeaseError::Port(error)) => failed(source, reading, &error),
        }
        if reading.stop.is_cancelled() {
            return Ending::Stopped;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(FAILURE_PAUSE_MAX);
    }
}

fn failed(source: &StreamSource, reading: &Reading, error: &PortError) {
    source.metrics.port_error(error);
    let reason = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(shard = reading.key, %error, reason, "a call failed while reading a shard; will retry");
}

impl Reader {
    async fn read(&mut self) -> Ending {
        let stop = self.reading.stop.clone();
        let mut iterator: Option<String> = None;
        let mut failure_pause = FAILURE_PAUSE_FIRST;
        loop {
            let asked_at = self.source.clock.now();
            let page = tokio::select! {
                biased;
                () = stop.cancelled() => return Ending::Stopped,
                page = self.next_page(iterator.take()) => page,
            };
            if page.is_ok() {
                self.reading.pulse.beat();
            }
            let pause = match page {
                Ok(Page::Records(records, next)) => {
                    failure_pause = FAILURE_PAUSE_FIRST;
                    let Some(newest) = self.take(records, asked_at).await else { return Ending::Stopped };
                    let behind = asked_at.since_ms(newest) > BEHIND_AFTER_MS;
                    if next.is_none() {
                        return Ending::Finished;
                    }
                    iterator = next;
                    if behind { Duration::ZERO } else { IDLE_PAUSE }
                }
                Ok(Page::IteratorLost) => Duration::ZERO,
                Ok(Page::Trimmed) => {
                    self.gap();
                    self.position = Checkpoint::TrimHorizon;
                    FAILURE_PAUSE_FIRST
                }
                Ok(Page::Gone) => {
                    self.gap();
                    return Ending::Finished;
                }
                Err(error) => {
                    failed(&self.source, &self.reading, &error);
                    let pause = failure_pause;
                    failure_pause = (failure_pause * 2).min(FAILURE_PAUSE_MAX);
                    pause
                }
            };
            if self.checkpoint_if_due().await == Err(Ending::Lost) {
                return Ending::Lost;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ending::Stopped,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reports that unread records expired. Only the table knows which dispatches they concerned.
    fn gap(&self) {
        tracing::error!(shard = self.reading.key, "unread records expired after 24 hours");
        self.source.metrics.stream_gap();
        self.source.gap.notify_one();
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

    /// An iterator after the last record read; iterators last 15 minutes.
    async fn iterator(&self) -> Result<Result<String, Page>, PortError> {
        const ACTION: &str = "getting a shard iterator";
        let request = self.source.client.get_shard_iterator();
        let request = request.stream_arn(&self.reading.stream_arn).shard_id(&self.reading.shard_id);
        let after = matches!(self.position, Checkpoint::After(_));
        let request = match &self.position {
            Checkpoint::After(sequence) => {
                request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).sequence_number(sequence)
            }
            Checkpoint::TrimHorizon | Checkpoint::ShardEnd => {
                request.shard_iterator_type(ShardIteratorType::TrimHorizon)
            }
        };
        match request.send().await {
            Ok(answer) => answer
                .shard_iterator
                .map(Ok)
                .ok_or_else(|| PortError::Unavailable { action: ACTION, source: "the answer has no iterator".into() }),
            // The sequence number is invalid or not of this shard: the lease row was modified.
            Err(error) if after && error.code() == Some("ValidationException") => Ok(Err(Page::Trimmed)),
            Err(error) => page_of(error.code()).map(Err).ok_or_else(|| port_error(ACTION, &error)),
        }
    }

    /// Passes records to the lanes. Returns the time of the last record, or `asked_at` if there is none. `None` if the
    /// reader is stopped meanwhile; the remaining records are then not handled.
    async fn take(&mut self, records: Vec<Record>, asked_at: EpochMs) -> Option<EpochMs> {
        let mut newest = None;
        for record in records {
            if self.reading.stop.is_cancelled() {
                return None;
            }
            let Some(change) = record.dynamodb() else { continue };
            let Some(sequence) = change.sequence_number().map(str::to_owned) else { continue };
            let created = change.approximate_creation_date_time().and_then(|at| at.to_millis().ok());
            let created = created.map_or(asked_at, EpochMs);
            newest = Some(created);
            match relevant_change(&self.source.codec, &record) {
                Ok(None) => {
                    self.source.metrics.stream_record("skipped");
                    self.reading.lag.watermark.lock().skip(&sequence);
                }
                read => {
                    if let Err(error) = &read {
                        self.source.metrics.record_unreadable(DISPATCH, item_of(&record), error);
                    }
                    let number = self.reading.lag.watermark.lock().begin(&sequence, created);
                    self.lanes.send(Work { number, record, change: read.unwrap_or_default() }).await;
                    self.reading.pulse.beat();
                }
            }
            self.position = Checkpoint::After(sequence);
        }
        let newest = newest.unwrap_or(asked_at);
        self.reading.lag.read_until.store(newest.0, Ordering::Relaxed);
        Some(newest)
    }

    /// Stores a checkpoint if it is due. If it cannot be stored, a crash repeats work; if it is refused, reading ends.
    async fn checkpoint_if_due(&mut self) -> Result<(), Ending> {
        let since = self.checkpointed.elapsed();
        if since < CHECKPOINT_EVERY {
            return Ok(());
        }
        let done = {
            let mut watermark = self.reading.lag.watermark.lock();
            if since >= IDLE_CHECKPOINT_EVERY { watermark.take_any_checkpoint() } else { watermark.take_checkpoint() }
        };
        let Some(sequence) = done.or_else(|| self.unstored.take()) else { return Ok(()) };
        self.checkpointed = Instant::now();
        match self.reading.lease.checkpoint(&Checkpoint::After(sequence.clone())).await {
            Ok(()) => Ok(()),
            Err(LeaseError::Lost) => Err(Ending::Lost),
            Err(LeaseError::Port(error)) => {
                failed(&self.source, &self.reading, &error);
                self.unstored = Some(sequence);
                Ok(())
            }
        }
    }
}

/// Errors of `GetRecords` and `GetShardIterator` that are expected while reading ("Errors" of both in the API
/// reference).
fn page_of(code: Option<&str>) -> Option<Page> {
    match code {
        Some("ExpiredIteratorException") => Some(Page::IteratorLost),
        Some("TrimmedDataAccessException") => Some(Page::Trimmed),
        Some("ResourceNotFoundException") => Some(Page::Gone),
        _ => None,
    }
}
