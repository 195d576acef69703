//! Keeps the index of a process as Redis has the city: read whole, then follow the feed; begin anew where the feed was lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dispatch_core::ids::DriverId;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::connect::{ConnectError, RedisConnector};
use super::feed::{Entries, changes};
use super::index::DriverIndex;
use super::indexed::{IndexedFleet, Shared};
use super::redis::RedisFleet;
use crate::city::City;
use crate::ports::{Clock, PortError};
use crate::telemetry::heartbeat::Heartbeat;
use crate::telemetry::metrics::Metrics;

/// Longest wait of one read of the feed, and time from one look whether the cache is warm to the next: within it the index notices
/// that the cache was wiped. A look after every read would cost as many round trips as the feed has entries.
const BLOCK: Duration = Duration::from_millis(500);
/// Entries of one read: less than a second's worth for the largest city.
const ENTRIES: usize = 500;
/// Drivers read in one round trip: some 3 ms of the server.
const BATCH: usize = 250;
/// Time a follower may be behind. The feed is kept half as long again, so nothing it has not seen has been dropped.
const BEHIND_MAX: Duration = Duration::from_secs(10);
/// Time after which the index is made anew, whatever the feed said: it heals what was lost, and turns the acceptance window.
const ANEW_EVERY: Duration = Duration::from_mins(10);
/// Pause after a failure and between looks at a cold cache.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the feed of one city for one [`IndexedFleet`].
pub struct IndexSync {
    redis: Arc<RedisFleet>,
    shared: Arc<Shared>,
    connector: RedisConnector,
    metrics: Arc<Metrics>,
}

/// Why following ended.
enum Lost {
    /// The cache is cold.
    Cold,
    /// The feed went on without us, or it is time to begin anew; the index is still believed as long as it is young.
    Behind,
    /// Redis does not answer.
    Unavailable(PortError),
}

impl From<PortError> for Lost {
    fn from(error: PortError) -> Self {
        Self::Unavailable(error)
    }
}

/// An indexed fleet and its follower, which has to run for the index to be used.
pub fn indexed(
    connector: &RedisConnector,
    city: City,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
) -> Result<(IndexedFleet, IndexSync), ConnectError> {
    let redis = Arc::new(RedisFleet::new(connector, city, clock)?);
    let shared = Arc::new(Shared::default());
    let fleet = IndexedFleet::new(Arc::clone(&redis), Arc::clone(&shared), Arc::clone(&metrics));
    Ok((fleet, IndexSync { redis, shared, connector: connector.clone(), metrics }))
}

impl IndexSync {
    /// Follows until `shutdown`.
    pub async fn run(&self, shutdown: &CancellationToken) {
        let pulse = self.metrics.pulse("the follower of the driver index");
        loop {
            pulse.beat();
            let lost = tokio::select! {
                () = shutdown.cancelled() => return,
                lost = self.follow(&pulse) => lost,
            };
            let pause = match lost {
                Lost::Behind => Duration::ZERO,
                Lost::Cold => {
                    self.shared.forget();
                    PAUSE
                }
                Lost::Unavailable(error) => {
                    self.metrics.port_error(&error);
                    tracing::warn!(%error, "the driver index does not follow; searches go to Redis");
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

    async fn follow(&self, pulse: &Heartbeat) -> Lost {
        match self.try_follow(pulse).await {
            Ok(never) => match never {},
            Err(lost) => lost,
        }
    }

    async fn try_follow(&self, pulse: &Heartbeat) -> Result<std::convert::Infallible, Lost> {
        let mut connection = self.redis.feed_connection(&self.connector, BLOCK).await?;
        let begun = Instant::now();
        // First where the feed is, then the drivers: what changes in between is told after that place.
        let mut last = self.redis.feed_tip().await?;
        if !self.redis.is_warm().await? {
            return Err(Lost::Cold);
        }
        self.shared.replace(self.whole_index().await?, Instant::now());
        self.metrics.index_rebuilt();
        tracing::info!(drivers = self.shared.len(), took_ms = begun.elapsed().as_millis(), "the driver index is ready");
        let (mut caught_up, mut warm_at) = (begun, Instant::now());
        loop {
            pulse.beat();
            let asked = Instant::now();
            // Redis takes a wait of 0 for one without end.
            let wait = BLOCK.saturating_sub(warm_at.elapsed()).max(Duration::from_millis(1));
            let entries = self.redis.feed_after(&mut connection, &last, ENTRIES, wait).await?;
            let whole = entries.len() < ENTRIES;
            if let Some((id, _)) = entries.last() {
                last.clone_from(id);
            }
            self.take_over(&entries).await?;
            if warm_at.elapsed() >= BLOCK {
                if !self.redis.is_warm().await? {
                    return Err(Lost::Cold);
                }
                warm_at = Instant::now();
            }
            if whole {
                caught_up = asked;
                self.shared.heard(asked);
                self.metrics.index_drivers(self.shared.len());
            }
            if caught_up.elapsed() > BEHIND_MAX || begun.elapsed() > ANEW_EVERY {
                return Err(Lost::Behind);
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

    async fn take_over(&self, entries: &Entries) -> Result<(), PortError> {
        // One entry at a time: searches wait for no more than that.
        let told = entries.iter().flat_map(|(_, fields)| self.shared.apply(changes(fields)));
        let again: BTreeSet<DriverId> = told.collect();
        let again: Vec<DriverId> = again.into_iter().collect();
        for ids in again.chunks(BATCH) {
            let read = self.redis.details(ids, self.redis.now()).await?;
            self.shared.take(ids, read);
        }
        Ok(())
    }
}
