//! Keeps the driver index of a process in sync with Redis: loads the whole city, then follows the change feed, and
//! reloads when the feed is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dispatch_core::ids::DriverId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::adapters::fleet::connect::RedisConnector;
use crate::adapters::fleet::feed::{Entries, changes};
use crate::adapters::fleet::index::DriverIndex;
use crate::adapters::fleet::indexed::{IndexedFleet, SharedIndex};
use crate::adapters::fleet::redis::RedisFleet;
use crate::city::City;
use crate::ports::{Clock, FleetPorts, PortError};
use crate::telemetry::heartbeat::Heartbeat;
use crate::telemetry::metrics::Metrics;

/// Longest blocking read of the feed, and the interval between checks whether the cache is warm: the index detects a
/// wiped cache within this time. A check after every read would cost as many round trips as the feed has entries.
const BLOCK: Duration = Duration::from_millis(500);
/// Entries per read: less than a second of the largest city's feed.
const ENTRIES: usize = 500;
/// Drivers per round trip: about 3 ms of the server.
const BATCH: usize = 250;
/// Longest lag behind the feed. The feed is kept half as long again, so unread entries have not been dropped.
const BEHIND_MAX: Duration = Duration::from_secs(10);
/// Interval of full rebuilds, whatever the feed says. They repair lost changes and move the acceptance window forward.
const REBUILD_EVERY: Duration = Duration::from_mins(10);
/// Pause after a failure and between checks of a cold cache.
const PAUSE: Duration = Duration::from_secs(1);
/// Time between two log lines about an index that is out of sync.
const LOG_EVERY: Duration = Duration::from_mins(1);

/// Follows the feed of one city for one [`IndexedFleet`].
pub struct IndexSync {
    redis: Arc<RedisFleet>,
    shared: Arc<SharedIndex>,
    metrics: Arc<Metrics>,
}

/// Why following the feed ended.
enum SyncEnd {
    Cold,
    /// The feed has moved past the last read entry, a rebuild is due, or the connections were replaced. The index stays
    /// usable while it is recent enough.
    Behind,
    /// Redis does not answer.
    Unavailable(PortError),
}

impl From<PortError> for SyncEnd {
    fn from(error: PortError) -> Self {
        Self::Unavailable(error)
    }
}

/// An indexed fleet and its sync. The index is used only while the sync runs.
pub fn indexed_fleet(
    connector: &RedisConnector,
    city: City,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
) -> (FleetPorts, IndexSync) {
    let redis = Arc::new(RedisFleet::new(connector, city, clock));
    let shared = Arc::new(SharedIndex::default());
    let indexed = Arc::new(IndexedFleet::new(Arc::clone(&redis), Arc::clone(&shared), Arc::clone(&metrics)));
    let fleet = FleetPorts { search: indexed.clone(), reservations: indexed, ..FleetPorts::new(&redis) };
    (fleet, IndexSync { redis, shared, metrics })
}

impl IndexSync {
    /// Runs until `shutdown`.
    pub async fn run(&self, shutdown: &CancellationToken) {
        let pulse = self.metrics.pulse("the follower of the driver index");
        let mut logged: Option<Instant> = None;
        loop {
            pulse.beat();
            let lost = tokio::select! {
                () = shutdown.cancelled() => return,
                lost = self.follow(&pulse) => lost,
            };
            let pause = match lost {
                SyncEnd::Behind => Duration::ZERO,
                SyncEnd::Cold => {
                    self.shared.clear();
                    PAUSE
                }
                SyncEnd::Unavailable(error) => {
                    self.metrics.port_error(&error);
                    if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                        logged = Some(Instant::now());
                        let reason = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::warn!(%error, reason, "the driver index is out of sync; searches go to Redis");
                    }
                    PAUSE
                }
            };
            self.metrics.index_drivers(self.shared.len());
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    async fn follow(&self, pulse: &Heartbeat) -> SyncEnd {
        match self.try_follow(pulse).await {
            Ok(never) => match never {},
            Err(lost) => lost,
        }
    }

    async fn try_follow(&self, pulse: &Heartbeat) -> Result<std::convert::Infallible, SyncEnd> {
        let generation = self.redis.generation();
        let mut connection = self.redis.feed_connection(BLOCK).await?;
        let begun = Instant::now();
        // The feed position before the drivers: changes during the load come after that position and are read again.
        let mut last = self.redis.feed_tip().await?;
        if !self.redis.is_warm().await? {
            return Err(SyncEnd::Cold);
        }
        self.shared.replace(self.whole_index().await?, Instant::now());
        self.metrics.index_rebuilt();
        tracing::info!(drivers = self.shared.len(), took_ms = begun.elapsed().as_millis(), "the driver index is ready");
        let (mut caught_up, mut warm_at) = (begun, Instant::now());
        loop {
            pulse.beat();
            let asked = Instant::now();
            // Redis takes a wait of 0 as unlimited.
            let wait = BLOCK.saturating_sub(warm_at.elapsed()).max(Duration::from_millis(1));
            let entries = self.redis.feed_after(&mut connection, &last, ENTRIES, wait).await?;
            let whole = entries.len() < ENTRIES;
            if let Some((id, _)) = entries.last() {
                last.clone_from(id);
            }
            self.apply(&entries).await?;
            if warm_at.elapsed() >= BLOCK {
                if !self.redis.is_warm().await? {
                    return Err(SyncEnd::Cold);
                }
                warm_at = Instant::now();
            }
            if whole {
                caught_up = asked;
                self.shared.mark_synced(asked);
                self.metrics.index_drivers(self.shared.len());
            }
            let is_replaced = generation != self.redis.generation();
            if is_replaced || caught_up.elapsed() > BEHIND_MAX || begun.elapsed() > REBUILD_EVERY {
                return Err(SyncEnd::Behind);
            }
        }
    }

    async fn whole_index(&self) -> Result<DriverIndex, PortError> {
        let mut index = DriverIndex::default();
        for ids in self.redis.live_drivers().await?.chunks(BATCH) {
            for (id, driver) in self.redis.details(ids, self.redis.now()).await? {
                index.put(id, driver);
            }
        }
        Ok(index)
    }

    async fn apply(&self, entries: &Entries) -> Result<(), PortError> {
        // One entry at a time, so that searches never wait longer than one entry takes.
        let changed = entries.iter().flat_map(|(_, fields)| self.shared.apply(changes(fields)));
        let changed: BTreeSet<DriverId> = changed.collect();
        let changed: Vec<DriverId> = changed.into_iter().collect();
        for ids in changed.chunks(BATCH) {
            let read = self.redis.details(ids, self.redis.now()).await?;
            self.shared.store(ids, read);
        }
        Ok(())
    }
}
