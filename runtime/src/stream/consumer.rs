//! A worker's main loop for reading the table's streams: inspects shards and leases periodically, and carries out the
//! decisions of [`assignment`](super::assignment).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::assignment::{Action, Observations, Shard, View, decide};
use super::discovery::{Discovery, Stream, arn_of, discover, label_of};
use super::handler::DispatchHandler;
use super::lease::Row;
use super::leases::{Held, LeaseError, Snapshot};
use super::shard::{Ending, Lag, Reading, read_shard};
use super::source::StreamSource;
use crate::ports::PortError;
use crate::telemetry::heartbeat::Heartbeat;

/// Time between two log lines about the lag of the stream, from which a CloudWatch metric is derived.
const LAG_LOGGED_EVERY: Duration = Duration::from_secs(30);

/// How long there may be no unfinished shard before an error is reported: DynamoDB creates a shard's successor within
/// seconds.
const NO_SHARD_TOLERATED: Duration = Duration::from_mins(1);

/// Consecutive failed shard listings after which the service counts as unavailable.
const FAILED_LISTINGS_MAX: u32 = 3;

/// Reads this worker's share of the shards.
pub struct StreamConsumer {
    source: StreamSource,
    handler: Arc<dyn DispatchHandler>,
}

impl StreamConsumer {
    /// Passes the dispatches of `source` to `handler`.
    pub fn new(source: StreamSource, handler: Arc<dyn DispatchHandler>) -> Self {
        Self { source, handler }
    }

    /// Reads until `shutdown`. Then every reader finishes the records in progress and stores its checkpoint, and the
    /// leases are released.
    pub async fn run(&self, shutdown: &CancellationToken) {
        let mut worker = Worker::new(self.source.clone(), Arc::clone(&self.handler));
        let pulse = self.source.metrics.pulse("the stream consumer");
        while !shutdown.is_cancelled() {
            pulse.beat();
            worker.round().await;
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(self.source.pace.round) => {}
                // Successors of a finished shard are discovered at once.
                Some(joined) = worker.readers.join_next_with_id() => worker.ended(joined).await,
            }
            while let Some(joined) = worker.readers.try_join_next_with_id() {
                worker.ended(joined).await;
            }
        }
        worker.drain().await;
    }
}

/// What happens to a lease when its reader has stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Then {
    /// Any worker may take it.
    GiveBack,
    /// It goes to the worker that asked for it.
    HandOver(String),
}

/// A write to a lease row that does not affect the reader.
enum Write {
    Renew,
    Decline,
}

/// A lease and the state of its reader.
struct Holding {
    lease: Arc<Held>,
    stop: CancellationToken,
    lag: Arc<Lag>,
    pulse: Heartbeat,
    then: Then,
}

fn not_listed(late: tokio::time::error::Elapsed) -> PortError {
    PortError::Unavailable { action: "listing shards", source: Box::new(late) }
}

struct Worker {
    source: StreamSource,
    handler: Arc<dyn DispatchHandler>,
    /// The table's streams, oldest first.
    streams: Vec<Stream>,
    /// Every shard that is or was listed and may have a row.
    known: HashMap<String, Shard>,
    seen: Observations,
    held: HashMap<String, Holding>,
    readers: JoinSet<Ending>,
    reading: HashMap<Id, String>,
    started: Instant,
    look_again: bool,
    open_seen: Instant,
    lag_logged: Instant,
}

impl Worker {
    fn new(source: StreamSource, handler: Arc<dyn DispatchHandler>) -> Self {
        let now = Instant::now();
        Self {
            source,
            handler,
            streams: Vec::new(),
            known: HashMap::new(),
            seen: Observations::default(),
            held: HashMap::new(),
            readers: JoinSet::new(),
            reading: HashMap::new(),
            started: now,
            look_again: false,
            open_seen: now,
            lag_logged: now,
        }
    }

    async fn round(&mut self) {
        if let Err(error) = self.try_round().await {
            self.failed(&error);
            self.give_up_expired().await;
        }
        self.report();
    }

    async fn try_round(&mut self) -> Result<(), PortError> {
        self.discover().await;
        let keys: HashSet<String> = self.known.keys().cloned().collect();
        let snapshot = self.source.leases.read(&keys).await?;
        if self.import_streams(&snapshot).await? {
            // Their shards come first and must be known before any decision.
            return Ok(());
        }
        self.known.retain(|key, shard| {
            let listed = self.streams.iter().any(|stream| stream.label == shard.stream && stream.has(key));
            listed || snapshot.rows.contains_key(key)
        });
        let shards: Vec<Shard> = self.streams.iter().flat_map(|stream| stream.shards.iter().cloned()).collect();
        let mut held = HashMap::new();
        for (key, holding) in &self.held {
            held.insert(key.clone(), holding.lease.written().await.duration_since(self.started));
        }
        let now = self.started.elapsed();
        self.seen.note(&snapshot.rows, &shards, now);
        let view = View {
            me: self.source.leases.worker(),
            now,
            failover: self.source.pace.failover,
            shards: &shards,
            rows: &snapshot.rows,
            held: &held,
        };
        for action in decide(&view, &self.seen) {
            if let Err(error) = self.carry_out(action, &snapshot).await {
                // The next round decides again.
                self.failed(&error);
            }
        }
        self.look_again = self.expects_children(&snapshot);
        self.retire_streams(&snapshot).await
    }

    /// Lists the shards of streams that are due or whose child shards are expected. Streams that cannot be listed keep
    /// their last list.
    async fn discover(&mut self) {
        let configured = self.source.stream_arn.borrow_and_update().clone();
        let label = label_of(&configured);
        if !self.streams.iter().any(|stream| stream.label == label) {
            if let Err(error) = self.source.leases.add_stream(label).await {
                self.failed(&error);
            }
            self.add_stream(label);
        }
        let newest = self.streams.len().saturating_sub(1);
        for index in 0..self.streams.len() {
            let stream = &self.streams[index];
            let due = stream.listed.is_none_or(|at| at.elapsed() >= self.source.pace.discovery);
            let asked_for = self.look_again && index == newest;
            if !due && !asked_for {
                continue;
            }
            let arn = arn_of(&configured, &stream.label);
            // Renewals must not wait for a listing.
            let looked = tokio::time::timeout(self.source.pace.failover / 4, discover(&self.source.client, &arn)).await;
            match looked.unwrap_or_else(|late| Err(not_listed(late))) {
                Ok(Discovery::Listed { shards, disabled }) => self.listed(index, shards, disabled),
                Ok(Discovery::Gone) => self.listed(index, Vec::new(), true),
                Err(error) => self.failed(&error),
            }
        }
    }

    fn listed(&mut self, index: usize, shards: Vec<Shard>, disabled: bool) {
        self.known.extend(shards.iter().map(|shard| (shard.key.clone(), shard.clone())));
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.shards = shards;
        stream.disabled = disabled;
        stream.listed = Some(Instant::now());
    }

    fn add_stream(&mut self, label: &str) {
        self.streams.push(Stream { label: label.to_owned(), shards: Vec::new(), disabled: false, listed: None });
        self.streams.sort_by(|a, b| a.label.cmp(&b.label));
    }

    /// Adds streams that are recorded in the lease table, and restores that list if it was lost. Returns true if a
    /// stream was not known before.
    async fn import_streams(&mut self, snapshot: &Snapshot) -> Result<bool, PortError> {
        let Some(labels) = &snapshot.streams else {
            for stream in &self.streams {
                self.source.leases.add_stream(&stream.label).await?;
            }
            return Ok(false);
        };
        let known = |label: &String| self.streams.iter().any(|stream| stream.label == *label);
        let more: Vec<&String> = labels.iter().filter(|label| !known(label)).collect();
        for label in &more {
            tracing::info!(stream = label, "found another stream of the table that may have unread records");
            self.add_stream(label);
        }
        Ok(!more.is_empty())
    }

    /// Stops reading a superseded stream that was read to its end, or no longer exists.
    async fn retire_streams(&mut self, snapshot: &Snapshot) -> Result<(), PortError> {
        let Some(newest) = self.streams.last().map(|stream| stream.label.clone()) else { return Ok(()) };
        let done = |stream: &Stream| {
            let of_it = |shard: &&Shard| shard.stream == stream.label;
            let ended = |shard: &Shard| snapshot.rows.get(&shard.key).is_some_and(Row::is_finished);
            stream.label != newest && stream.disabled && self.known.values().filter(of_it).all(ended)
        };
        let retired: Vec<String> =
            self.streams.iter().filter(|stream| done(stream)).map(|stream| stream.label.clone()).collect();
        let configured = label_of(&self.source.stream_arn.borrow()).to_owned();
        for label in retired.into_iter().filter(|label| *label != configured) {
            self.source.leases.remove_stream(&label).await?;
            tracing::info!(stream = label, "finished an earlier stream of the table");
            self.streams.retain(|stream| stream.label != label);
            self.known.retain(|_, shard| shard.stream != label);
        }
        Ok(())
    }

    /// Whether a shard of the current stream was read to its end and has no successor yet: the list is eventually
    /// consistent.
    fn expects_children(&self, snapshot: &Snapshot) -> bool {
        let Some(stream) = self.streams.last().filter(|stream| !stream.disabled) else { return false };
        let childless = |shard: &Shard| !stream.shards.iter().any(|child| child.parent.as_ref() == Some(&shard.key));
        let finished = |shard: &Shard| snapshot.rows.get(&shard.key).is_some_and(Row::is_finished);
        stream.shards.is_empty() || stream.shards.iter().any(|shard| finished(shard) && childless(shard))
    }

    async fn carry_out(&mut self, action: Action, snapshot: &Snapshot) -> Result<(), PortError> {
        match action {
            Action::Create(key) => {
                let Some(shard) = self.known.get(&key) else { return Ok(()) };
                let made = self.source.leases.create(shard, snapshot.broken.get(&key)).await?;
                self.own(&key, made, "created");
            }
            Action::Take(key) => {
                let Some(row) = snapshot.rows.get(&key) else { return Ok(()) };
                let taken = self.source.leases.take(row).await?;
                self.own(&key, taken, "taken");
            }
            Action::Renew(key) => self.write(&key, Write::Renew).await?,
            Action::Decline(key) => self.write(&key, Write::Decline).await?,
            Action::GiveUp(key) => self.give_up(&key).await,
            Action::HandOver { key, to } => {
                // The decision is repeated in every round until the reader has stopped.
                if let Some(holding) = self.held.get_mut(&key).filter(|holding| holding.then == Then::GiveBack) {
                    tracing::info!(lease = key, to, "handing a lease over after the records in progress");
                    holding.then = Then::HandOver(to);
                    holding.stop.cancel();
                }
            }
            Action::Ask { key, of } => {
                tracing::info!(lease = key, of, "asking for a lease");
                self.source.leases.ask(&key, &of).await?;
            }
            Action::Forget(key) => {
                self.source.leases.forget(&key).await?;
                self.known.remove(&key);
            }
        }
        Ok(())
    }

    async fn write(&mut self, key: &str, write: Write) -> Result<(), PortError> {
        let Some(lease) = self.held.get(key).map(|holding| Arc::clone(&holding.lease)) else { return Ok(()) };
        let written = match write {
            Write::Renew => lease.renew().await,
            Write::Decline => lease.decline().await,
        };
        match written {
            Ok(()) => Ok(()),
            Err(LeaseError::Port(error)) => Err(error),
            Err(LeaseError::Lost) => {
                self.give_up(key).await;
                Ok(())
            }
        }
    }

    /// Starts a reader for a lease; does nothing for `None`, when another worker was faster.
    fn own(&mut self, key: &str, lease: Option<Held>, change: &'static str) {
        let (Some(lease), Some(shard)) = (lease.map(Arc::new), self.known.get(key)) else { return };
        self.source.metrics.lease_change(change);
        let (stop, lag) = (CancellationToken::new(), Arc::new(Lag::since(self.source.clock.now())));
        let pulse = self.source.metrics.pulse_while_held("the shard reader", self.source.pace.unread);
        let reading = Reading {
            key: key.to_owned(),
            stream_arn: arn_of(&self.source.stream_arn.borrow(), &shard.stream),
            shard_id: shard.id.clone(),
            lease: Arc::clone(&lease),
            stop: stop.clone(),
            lag: Arc::clone(&lag),
            pulse: pulse.clone(),
        };
        let task = self.readers.spawn(read_shard(self.source.clone(), Arc::clone(&self.handler), reading));
        self.reading.insert(task.id(), key.to_owned());
        self.held.insert(key.to_owned(), Holding { lease, stop, lag, pulse, then: Then::GiveBack });
    }

    async fn give_up(&mut self, key: &str) {
        if let Some(holding) = self.held.get(key) {
            tracing::warn!(lease = key, "a lease is lost or may be lost");
            holding.lease.give_up().await;
            holding.stop.cancel();
        }
    }

    /// Gives up leases that could not be renewed for the fail-over time: without the table their owner is unknown, and
    /// other workers may act on them.
    async fn give_up_expired(&mut self) {
        let keys: Vec<String> = self.held.keys().cloned().collect();
        for key in keys {
            let Some(holding) = self.held.get(&key) else { continue };
            if holding.lease.written().await.elapsed() >= self.source.pace.failover {
                self.give_up(&key).await;
            }
        }
    }

    /// Handles a stopped reader.
    async fn ended(&mut self, joined: Result<(Id, Ending), JoinError>) {
        let (id, ending) = match joined {
            Ok((id, ending)) => (id, ending),
            Err(error) => {
                tracing::error!(%error, "a shard reader panicked; the shard will be read again from its checkpoint");
                (error.id(), Ending::Stopped)
            }
        };
        let Some(key) = self.reading.remove(&id) else { return };
        let Some(holding) = self.held.remove(&key) else { return };
        self.look_again |= ending == Ending::Finished;
        let change = match ending {
            Ending::Finished => "finished",
            Ending::Lost => "lost",
            Ending::Stopped => self.release(&holding).await,
        };
        self.source.metrics.lease_change(change);
    }

    /// Releases a lease; returns the label to count.
    async fn release(&self, holding: &Holding) -> &'static str {
        let (to, change) = match &holding.then {
            Then::HandOver(to) => (Some(to.as_str()), "handed_over"),
            Then::GiveBack => (None, "given_back"),
        };
        match holding.lease.release(to).await {
            Ok(true) => change,
            // The other worker has withdrawn its request.
            Ok(false) => "given_back",
            Err(LeaseError::Lost) => "lost",
            // Other workers then wait for the fail-over time.
            Err(LeaseError::Port(error)) => {
                self.failed(&error);
                "left"
            }
        }
    }

    /// Stops all readers and releases their leases.
    async fn drain(mut self) {
        for holding in self.held.values() {
            holding.stop.cancel();
        }
        while let Some(joined) = self.readers.join_next_with_id().await {
            self.ended(joined).await;
        }
        if let Err(error) = self.leave().await {
            // Other workers then wait for the fail-over time.
            self.failed(&error);
        }
    }

    /// Withdraws pending requests and releases leases that were handed over during shutdown.
    async fn leave(&self) -> Result<(), PortError> {
        let keys: HashSet<String> = self.known.keys().cloned().collect();
        let me = Some(self.source.leases.worker());
        for row in self.source.leases.read(&keys).await?.rows.values().filter(|row| !row.is_finished()) {
            if row.owner.as_deref() == me || row.requested_by.as_deref() == me {
                self.source.leases.leave(row).await?;
            }
        }
        Ok(())
    }

    fn report(&mut self) {
        let now = self.source.clock.now();
        let lag_ms = self.held.values().map(|holding| holding.lag.ms(now)).max();
        self.source.metrics.stream_leases(self.held.len());
        // While the service is unavailable no worker can read; that is no reason to restart the process.
        let since = self.source.pace.discovery * FAILED_LISTINGS_MAX;
        let listed = |stream: &Stream| stream.listed.is_some_and(|at| at.elapsed() <= since);
        if !self.streams.iter().any(listed) {
            self.held.values().for_each(|holding| holding.pulse.beat());
        }
        self.source.metrics.stream_age_ms(lag_ms.unwrap_or_default());
        if let Some(stream_iterator_age_ms) = lag_ms.filter(|_| self.lag_logged.elapsed() >= LAG_LOGGED_EVERY) {
            self.lag_logged = Instant::now();
            tracing::info!(stream_iterator_age_ms, leases = self.held.len(), "reading the stream");
        }
        // A worker without leases cannot tell: others may read all shards.
        let open = self.streams.last().is_some_and(|stream| !stream.shards.is_empty()) && !self.look_again;
        if open || !self.held.is_empty() {
            self.open_seen = Instant::now();
        } else if self.open_seen.elapsed() >= NO_SHARD_TOLERATED {
            self.open_seen = Instant::now();
            tracing::error!("the stream has no readable shard");
            self.source.metrics.stream_without_shards();
        }
    }

    fn failed(&self, error: &PortError) {
        self.source.metrics.port_error(error);
        let reason = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(%error, reason, "a call for leases or shards failed; the next round will retry");
    }
}
