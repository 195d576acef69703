//! Handles a shard's records in lanes: records of one item in order, those of different items concurrently.

use parking_lot::Mutex;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodbstreams::types::Record;
use futures::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::dead_letter::{Reason, item_of, letter};
use super::handler::{DispatchHandler, StreamChange};
use super::source::StreamSource;
use super::watermark::Watermark;
use crate::engine::EngineError;
use crate::ports::PortError;

/// Concurrent items of one shard if handlers may wait for other dispatches.
const LANES: usize = 64;
/// Concurrent items of one shard if each is a handful of calls of some milliseconds.
const BUSY_LANES: usize = 16;
/// Records that may wait for each lane before reading waits, too.
const LANE_BUFFER: usize = 16;
/// First pause between two attempts; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Attempts to handle a record that itself causes the failure, about two seconds with their pauses.
const ATTEMPTS: u32 = 4;
/// Attempts while a service is unavailable or other writers are always faster, which is not caused by the record: about
/// two minutes, in which its lane waits, like everything else that needs the service.
const ATTEMPTS_IN_OUTAGE: u32 = 28;
/// Attempts to store a dead letter, about half a minute. Then the dispatch is left to the sweeper, so that the shard
/// continues.
const DEAD_LETTER_ATTEMPTS: u32 = 10;

/// A record to handle.
pub(super) struct Work {
    pub(super) number: u64,
    pub(super) record: Record,
    /// The change; `None` if the record cannot be read.
    pub(super) change: Option<StreamChange>,
}

/// The lanes of one shard.
pub(super) struct Lanes {
    /// Boxed: a channel reserves space for more records than a lane usually has.
    senders: Vec<Sender<Box<Work>>>,
    workers: JoinSet<()>,
}

struct Lane {
    source: StreamSource,
    handler: Arc<dyn DispatchHandler>,
    shard: String,
    watermark: Arc<Mutex<Watermark>>,
    stop: CancellationToken,
    /// One permit for each lane. A busy handler takes the permits of several lanes, a waiting one its own.
    permits: Arc<Semaphore>,
}

/// The result of handling a record.
enum Outcome {
    /// The record is done, with the label to count.
    Done(&'static str),
    /// The reader is stopping; the next reader of the shard gets the record.
    Interrupted,
}

impl Lanes {
    /// Starts lanes for the shard with this lease key. On `stop` they finish the records in progress and drop waiting
    /// ones.
    pub(super) fn start(
        source: &StreamSource,
        handler: &Arc<dyn DispatchHandler>,
        shard: &str,
        (watermark, stop): (&Arc<Mutex<Watermark>>, &CancellationToken),
    ) -> Self {
        let mut lanes = Self { senders: Vec::with_capacity(LANES), workers: JoinSet::new() };
        let permits = Arc::new(Semaphore::new(LANES));
        for _ in 0..LANES {
            let (sender, receiver) = channel(LANE_BUFFER);
            let lane = Lane {
                source: source.clone(),
                handler: Arc::clone(handler),
                shard: shard.to_owned(),
                watermark: Arc::clone(watermark),
                stop: stop.clone(),
                permits: Arc::clone(&permits),
            };
            lanes.workers.spawn(lane.run(receiver));
            lanes.senders.push(sender);
        }
        lanes
    }

    /// Passes a record to its lane, and waits while the lane is full.
    pub(super) async fn send(&self, work: Work) {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(item_of(&work.record));
        let lane = usize::try_from(hash % LANES as u64).unwrap_or(0);
        if let Some(sender) = self.senders.get(lane) {
            // A lane ends only when its sender is dropped.
            let _ = sender.send(Box::new(work)).await;
        }
    }

    /// Waits until all records are done, or dropped by `stop`.
    pub(super) async fn finish(mut self) {
        self.senders.clear();
        while self.workers.join_next().await.is_some() {}
    }
}

impl Lane {
    async fn run(self, mut records: Receiver<Box<Work>>) {
        while let Some(work) = records.recv().await {
            let share = if self.handler.waits() { 1 } else { LANES / BUSY_LANES };
            // The semaphore is never closed.
            let _permit = self.permits.acquire_many(u32::try_from(share).unwrap_or(1)).await;
            if self.stop.is_cancelled() {
                continue;
            }
            let number = work.number;
            if let Outcome::Done(outcome) = self.handle(*work).await {
                self.source.metrics.stream_record(outcome);
                self.watermark.lock().done(number);
            }
        }
    }

    async fn handle(&self, work: Work) -> Outcome {
        let Some(change) = work.change else { return self.set_aside(&work.record, Reason::Unreadable).await };
        let (mut failures, mut outages, mut pause) = (0, 0, PAUSE_FIRST);
        loop {
            let error = match AssertUnwindSafe(self.handler.handle(change.clone())).catch_unwind().await {
                // A dispatch that no longer exists needs no action.
                Ok(Ok(()) | Err(EngineError::NotFound)) => return Outcome::Done("advanced"),
                Ok(Err(error)) => Some(error),
                // The panic hook has logged the location.
                Err(_) => None,
            };
            // Another attempt would read the same.
            if error.as_ref().is_some_and(EngineError::is_unreadable) {
                return self.set_aside(&work.record, Reason::Failed).await;
            }
            if matches!(error, Some(EngineError::Contended | EngineError::Port(PortError::Unavailable { .. }))) {
                outages += 1;
            } else {
                failures += 1;
            }
            let reason = error.as_ref().and_then(std::error::Error::source).map(ToString::to_string);
            let error = error.map_or_else(|| "the algorithm panicked".to_owned(), |error| error.to_string());
            tracing::warn!(subject = change.subject(), error, reason, failures, outages, "the algorithm failed");
            if failures >= ATTEMPTS || outages >= ATTEMPTS_IN_OUTAGE {
                return self.set_aside(&work.record, Reason::Failed).await;
            }
            if !self.pause(&mut pause).await {
                return Outcome::Interrupted;
            }
        }
    }

    async fn set_aside(&self, record: &Record, reason: Reason) -> Outcome {
        let now = jiff::Timestamp::from_millisecond(self.source.clock.now().0).unwrap_or_default().to_string();
        let letter = letter(record, &self.shard, reason, &now);
        let sequence = record.dynamodb().and_then(|change| change.sequence_number()).unwrap_or_default();
        let item = item_of(record);
        let mut pause = PAUSE_FIRST;
        for left in (0..DEAD_LETTER_ATTEMPTS).rev() {
            match self.source.dead_letters.set_aside(&letter).await {
                Ok(()) => {
                    // Records of one item may follow one another; the metric counts each.
                    if self.source.metrics.is_line_due(&format!("dead letters of {item}")) {
                        tracing::error!(
                            shard = self.shard,
                            sequence,
                            item,
                            ?reason,
                            "a stream record was moved to the dead-letter queue"
                        );
                    }
                    return Outcome::Done("set_aside");
                }
                Err(error) => {
                    self.source.metrics.port_error(&error);
                    let why = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(shard = self.shard, sequence, %error, why, left, "cannot store a dead letter");
                }
            }
            if left > 0 && !self.pause(&mut pause).await {
                return Outcome::Interrupted;
            }
        }
        tracing::error!(
            shard = self.shard,
            sequence,
            item,
            ?reason,
            "a stream record was dropped without a dead letter; the sweeper will continue its dispatch"
        );
        Outcome::Done("given_up")
    }

    /// Waits before the next attempt; returns false if the reader is stopping.
    async fn pause(&self, pause: &mut Duration) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(*pause) => {
                *pause = (*pause * 2).min(PAUSE_MAX);
                true
            }
        }
    }
}
