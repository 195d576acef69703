//! Handles a shard's records side by side: one item's in order, different items' at once.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodbstreams::types::Record;
use futures::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::dead_letter::{Reason, item_of, letter};
use super::handler::DispatchHandler;
use super::source::StreamSource;
use super::watermark::Watermark;
use crate::engine::EngineError;
use crate::ports::{PortError, StoredDispatch};

/// Items of one shard in work at once, where handling one may be to wait for others.
const LANES: usize = 64;
/// Items of one shard in work at once, where each is a handful of calls of some milliseconds.
const BUSY: usize = 16;
/// Records waiting for each lane before reading waits too.
const LANE_BUFFER: usize = 16;
/// First pause between two tries; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Tries to handle a record that fails by itself, some two seconds with their pauses.
const TRIES: u32 = 4;
/// Tries while a service does not answer or others are always faster, which is no fault of the record: some two minutes, in which its lane waits, as everything
/// else does that needs the service.
const TRIES_IN_OUTAGE: u32 = 28;
/// Tries to set a record aside, some half a minute; then it is left to the sweeper, so that its shard goes on.
const LETTER_TRIES: u32 = 10;

/// A record in work.
pub(super) struct Work {
    pub(super) number: u64,
    pub(super) record: Record,
    /// What it is about; `None` where nobody can read it.
    pub(super) stored: Option<StoredDispatch>,
}

/// The lanes of one shard.
pub(super) struct Lanes {
    /// In boxes: a channel keeps room for more records than a lane mostly has.
    senders: Vec<Sender<Box<Work>>>,
    workers: JoinSet<()>,
}

struct Lane {
    source: StreamSource,
    handler: Arc<dyn DispatchHandler>,
    shard: String,
    watermark: Arc<Mutex<Watermark>>,
    stop: CancellationToken,
    /// One for each lane. Who is busy takes the share of several, who waits its own.
    turns: Arc<Semaphore>,
}

/// What became of a record.
enum Outcome {
    /// It is done, in one way or another.
    Done(&'static str),
    /// The shard is being stopped: whoever reads it next has it.
    Interrupted,
}

impl Lanes {
    /// Lanes for the shard with this lease key. With `stop` they finish the records in work and drop those that wait.
    pub(super) fn start(
        source: &StreamSource,
        handler: &Arc<dyn DispatchHandler>,
        shard: &str,
        (watermark, stop): (&Arc<Mutex<Watermark>>, &CancellationToken),
    ) -> Self {
        let mut lanes = Self { senders: Vec::with_capacity(LANES), workers: JoinSet::new() };
        let turns = Arc::new(Semaphore::new(LANES));
        for _ in 0..LANES {
            let (sender, receiver) = channel(LANE_BUFFER);
            let lane = Lane {
                source: source.clone(),
                handler: Arc::clone(handler),
                shard: shard.to_owned(),
                watermark: Arc::clone(watermark),
                stop: stop.clone(),
                turns: Arc::clone(&turns),
            };
            lanes.workers.spawn(lane.run(receiver));
            lanes.senders.push(sender);
        }
        lanes
    }

    /// Hands a record on, and waits where its lane is full.
    pub(super) async fn send(&self, work: Work) {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(item_of(&work.record));
        let lane = usize::try_from(hash % LANES as u64).unwrap_or(0);
        if let Some(sender) = self.senders.get(lane) {
            // A lane ends only when its sender is dropped.
            let _ = sender.send(Box::new(work)).await;
        }
    }

    /// Waits until what was handed on is done, or dropped by `stop`.
    pub(super) async fn finish(mut self) {
        self.senders.clear();
        while self.workers.join_next().await.is_some() {}
    }
}

/// The watermark of a shard, which no panic can spoil: its changes are assignments.
pub(super) fn locked(watermark: &Mutex<Watermark>) -> MutexGuard<'_, Watermark> {
    watermark.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    async fn run(self, mut records: Receiver<Box<Work>>) {
        while let Some(work) = records.recv().await {
            let share = if self.handler.waits() { 1 } else { LANES / BUSY };
            // Nobody closes them.
            let _turn = self.turns.acquire_many(u32::try_from(share).unwrap_or(1)).await;
            if self.stop.is_cancelled() {
                continue;
            }
            let number = work.number;
            if let Outcome::Done(outcome) = self.handle(*work).await {
                self.source.metrics.stream_record(outcome);
                locked(&self.watermark).done(number);
            }
        }
    }

    async fn handle(&self, work: Work) -> Outcome {
        let Some(stored) = work.stored else { return self.set_aside(&work.record, Reason::Unreadable).await };
        let (mut failures, mut outages, mut pause) = (0, 0, PAUSE_FIRST);
        loop {
            let error = match AssertUnwindSafe(self.handler.handle(stored.clone())).catch_unwind().await {
                // A dispatch that is gone needs nobody.
                Ok(Ok(()) | Err(EngineError::NotFound)) => return Outcome::Done("advanced"),
                Ok(Err(error)) => Some(error),
                // The panic hook has told the place.
                Err(_) => None,
            };
            if matches!(error, Some(EngineError::Contended | EngineError::Port(PortError::Unavailable { .. }))) {
                outages += 1;
            } else {
                failures += 1;
            }
            let reason = error.as_ref().and_then(std::error::Error::source).map(ToString::to_string);
            let error = error.map_or_else(|| "the algorithm broke".to_owned(), |error| error.to_string());
            tracing::warn!(dispatch = %stored.state.id, error, reason, failures, outages, "the algorithm failed");
            if failures >= TRIES || outages >= TRIES_IN_OUTAGE {
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
        let mut pause = PAUSE_FIRST;
        for left in (0..LETTER_TRIES).rev() {
            match self.source.dead_letters.set_aside(&letter).await {
                Ok(()) => {
                    tracing::error!(shard = self.shard, sequence, ?reason, "a stream record was set aside");
                    return Outcome::Done("set_aside");
                }
                Err(error) => {
                    self.source.metrics.port_error(&error);
                    let why = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(shard = self.shard, sequence, %error, why, left, "a record cannot be set aside");
                }
            }
            if left > 0 && !self.pause(&mut pause).await {
                return Outcome::Interrupted;
            }
        }
        tracing::error!(
            shard = self.shard,
            sequence,
            ?reason,
            "a stream record was given up; the sweeper has its dispatch"
        );
        Outcome::Done("given_up")
    }

    /// Waits before another try; false where the shard is being stopped.
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
