//! Driver search in memory: [`DriverIndex`] in front of [`RedisFleet`].
//!
//! Redis stays the source of truth: every write goes there, and only Redis grants holds.
//! [`IndexSync`](crate::adapters::fleet::IndexSync) follows the change feed and keeps the index a few milliseconds
//! behind Redis. If the index lags too far or the cache is cold, searches go to Redis. A lagging index can at worst
//! propose a driver who is no longer free; then Redis refuses the hold, or the table refuses the acceptance.

use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dispatch_core::candidate::DriverSnapshot;
use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;
use tokio::time::Instant;

use crate::adapters::fleet::feed::Change;
use crate::adapters::fleet::index::{DriverIndex, LiveDriver, NearestQuery};
use crate::adapters::fleet::redis::RedisFleet;
use crate::ports::{DriverSearch, HoldToken, PortError, Reservations};
use crate::telemetry::metrics::Metrics;

/// How long the index stays usable without an answer from Redis. An empty answer counts.
const LAG_MAX: Duration = Duration::from_secs(5);

/// The index and its age.
#[derive(Default)]
struct IndexState {
    index: DriverIndex,
    /// When the index last matched Redis. `None` while it cannot answer for the city.
    synced_at: Option<Instant>,
}

/// The index, shared by its sync and its readers.
#[derive(Default)]
pub(super) struct SharedIndex(RwLock<IndexState>);

impl SharedIndex {
    /// Replaces the whole index.
    pub(super) fn replace(&self, index: DriverIndex, synced_at: Instant) {
        *self.write() = IndexState { index, synced_at: Some(synced_at) };
    }

    /// Applies changes. Returns the drivers that must be read again.
    pub(super) fn apply(&self, changes: Vec<Change>) -> Vec<DriverId> {
        let mut followed = self.write();
        let mut stale = Vec::new();
        for change in changes {
            match change {
                Change::Moved(id, position, at) => {
                    if !followed.index.ping(&id, position, at) {
                        stale.push(id);
                    }
                }
                Change::Changed(id) => stale.push(id),
            }
        }
        stale
    }

    /// Stores drivers that were read. Drivers in `asked` but not in `read` are removed.
    pub(super) fn store(&self, asked: &[DriverId], read: Vec<(DriverId, LiveDriver)>) {
        let mut followed = self.write();
        let found: std::collections::HashSet<&DriverId> = read.iter().map(|(id, _)| id).collect();
        for gone in asked.iter().filter(|id| !found.contains(id)) {
            followed.index.remove(gone);
        }
        for (id, driver) in read {
            // A ping that arrived during the read is newer than the read.
            let newer = followed.index.get(&id).filter(|known| known.seen_at > driver.seen_at);
            let newer = newer.map(|known| (known.position, known.seen_at));
            let driver = match newer {
                Some((position, seen_at)) => LiveDriver { position, seen_at, ..driver },
                None => driver,
            };
            followed.index.put(id, driver);
        }
    }

    /// Records that the index matched Redis at this time.
    pub(super) fn mark_synced(&self, at: Instant) {
        let mut followed = self.write();
        followed.synced_at = followed.synced_at.map(|_| at);
    }

    /// Empties the index and stops its use, because the cache is cold.
    pub(super) fn clear(&self) {
        *self.write() = IndexState::default();
    }

    /// Number of known drivers, free or not.
    pub(super) fn len(&self) -> usize {
        self.read().index.len()
    }

    fn change(&self, driver: &DriverId, change: impl FnOnce(&mut LiveDriver)) {
        self.write().index.change(driver, change);
    }

    /// `None` if the index is too old to use.
    fn search(&self, wanted: NearestQuery, fresh_since: EpochMs, now: EpochMs) -> Option<Vec<DriverSnapshot>> {
        let followed = self.read();
        followed.synced_at.filter(|at| at.elapsed() <= LAG_MAX)?;
        let found = followed.index.nearest(wanted, |driver| driver.seen_at >= fresh_since);
        Some(found.into_iter().map(|found| found.driver.snapshot(found.id, now)).collect())
    }

    fn read(&self) -> parking_lot::RwLockReadGuard<'_, IndexState> {
        self.0.read()
    }

    fn write(&self) -> parking_lot::RwLockWriteGuard<'_, IndexState> {
        self.0.write()
    }
}

/// The fleet in Redis with an index in memory. It searches the index while an
/// [`IndexSync`](crate::adapters::fleet::IndexSync) runs for it.
///
/// It implements [`Reservations`] to apply this process's own changes to the index before the feed returns them.
pub struct IndexedFleet {
    redis: Arc<RedisFleet>,
    shared: Arc<SharedIndex>,
    metrics: Arc<Metrics>,
}

impl IndexedFleet {
    pub(super) fn new(redis: Arc<RedisFleet>, shared: Arc<SharedIndex>, metrics: Arc<Metrics>) -> Self {
        Self { redis, shared, metrics }
    }
}

#[async_trait]
impl DriverSearch for IndexedFleet {
    async fn nearby(
        &self,
        center: Coordinate,
        rings_m: &[u32],
        enough: usize,
        now: EpochMs,
    ) -> Result<Option<Vec<DriverSnapshot>>, PortError> {
        self.redis.usable()?;
        let server_now = self.redis.to_server(now);
        let fresh_since = self.redis.fresh_since(server_now);
        let within = Metres(rings_m.last().copied().map_or(0.0, f64::from));
        let wanted = NearestQuery { center, within, enough: enough.max(1) };
        if let Some(found) = self.shared.search(wanted, fresh_since, server_now) {
            self.metrics.fleet_search("index");
            return Ok(Some(found.into_iter().map(|found| self.redis.with_local_times(found)).collect()));
        }
        self.metrics.fleet_search("redis");
        self.redis.nearby(center, rings_m, enough, now).await
    }
}

#[async_trait]
impl Reservations for IndexedFleet {
    async fn hold(&self, driver: &DriverId, token: &HoldToken, for_ms: u64) -> Result<bool, PortError> {
        let held = self.redis.hold(driver, token, for_ms).await?;
        if held {
            // Without this, another dispatch of this process would propose the same driver until the feed reports the
            // hold.
            let until = self.redis.now().plus_ms(for_ms);
            self.shared.change(driver, |known| known.held_until = until.max(known.held_until));
        }
        Ok(held)
    }

    async fn release(&self, driver: &DriverId, token: &HoldToken) -> Result<(), PortError> {
        self.redis.release(driver, token).await
    }

    async fn offer_ended(
        &self,
        driver: &DriverId,
        outcome: OfferOutcome,
        rest_ms: u64,
        now: EpochMs,
    ) -> Result<u32, PortError> {
        let server_now = self.redis.to_server(now);
        self.shared.change(driver, |known| known.rests_until = server_now.plus_ms(rest_ms).max(known.rests_until));
        self.redis.offer_ended(driver, outcome, rest_ms, now).await
    }

    async fn set_status(
        &self,
        driver: &DriverId,
        status: PersonStatus,
        dispatch: Option<&DispatchId>,
    ) -> Result<(), PortError> {
        // Applied before the call, because the change is known here even if Redis does not answer. The feed repeats it.
        self.shared.change(driver, |known| known.status = status);
        self.redis.set_status(driver, status, dispatch).await
    }
}
