//! A [`Fleet`] that searches in memory: [`DriverIndex`] in front of [`RedisFleet`].
//!
//! Redis stays the shared truth: every write goes there, and a hold is granted there alone. A task follows the feed of changes and
//! keeps the index some milliseconds behind Redis. Where it is further behind than it may be, or the cache is cold, a
//! search goes to Redis as it would without an index. The worst an index that lags can do is propose a driver who has
//! meanwhile gone: the hold is refused then, or the table refuses the acceptance.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use dispatch_core::candidate::DriverSnapshot;
use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use tokio::time::Instant;

use super::feed::Change;
use super::index::{DriverIndex, LiveDriver, Wanted};
use super::redis::RedisFleet;
use crate::ports::{Fleet, FleetEntry, HoldToken, Ping, PortError, Recorded, RouteTail};
use crate::telemetry::metrics::Metrics;

/// How long an index is believed that heard nothing new from Redis, not even that there is nothing new.
const LAG_MAX: Duration = Duration::from_secs(5);

/// The index, and until when it may be believed.
#[derive(Default)]
struct Followed {
    index: DriverIndex,
    /// When it was last as new as Redis; `None` while it says nothing about the city.
    heard_at: Option<Instant>,
}

/// The index as its follower and its readers share it.
#[derive(Default)]
pub(super) struct Shared(RwLock<Followed>);

impl Shared {
    /// A whole new index.
    pub(super) fn replace(&self, index: DriverIndex, heard_at: Instant) {
        *self.write() = Followed { index, heard_at: Some(heard_at) };
    }

    /// Takes changes over; gives the drivers that have to be read again.
    pub(super) fn apply(&self, changes: Vec<Change>) -> Vec<DriverId> {
        let mut followed = self.write();
        let mut again = Vec::new();
        for change in changes {
            match change {
                Change::Moved(id, position, at) => {
                    if !followed.index.ping(&id, position, at) {
                        again.push(id);
                    }
                }
                Change::Changed(id) => again.push(id),
            }
        }
        again
    }

    /// Takes over what was read of drivers; those of `asked` who were not found are gone.
    pub(super) fn take(&self, asked: &[DriverId], read: Vec<(DriverId, LiveDriver)>) {
        let mut followed = self.write();
        let found: std::collections::HashSet<&DriverId> = read.iter().map(|(id, _)| id).collect();
        for gone in asked.iter().filter(|id| !found.contains(id)) {
            followed.index.remove(gone);
        }
        for (id, driver) in read {
            // A ping that came in between is newer than what was read before it.
            let newer = followed.index.get(&id).filter(|known| known.seen_at > driver.seen_at);
            let newer = newer.map(|known| (known.position, known.seen_at));
            let driver = match newer {
                Some((position, seen_at)) => LiveDriver { position, seen_at, ..driver },
                None => driver,
            };
            followed.index.put(id, driver);
        }
    }

    /// The index is as new as Redis was then.
    pub(super) fn heard(&self, at: Instant) {
        let mut followed = self.write();
        followed.heard_at = followed.heard_at.map(|_| at);
    }

    /// The cache says nothing about the city, and so neither does the index.
    pub(super) fn forget(&self) {
        *self.write() = Followed::default();
    }

    /// Drivers known.
    pub(super) fn len(&self) -> usize {
        self.read().index.len()
    }

    fn change(&self, driver: &DriverId, change: impl FnOnce(&mut LiveDriver)) {
        self.write().index.change(driver, change);
    }

    /// `None` where the index must not be believed.
    fn search(&self, wanted: Wanted, fresh_since: EpochMs, now: EpochMs) -> Option<Vec<DriverSnapshot>> {
        let followed = self.read();
        followed.heard_at.filter(|at| at.elapsed() <= LAG_MAX)?;
        let found = followed.index.nearest(wanted, |driver| driver.seen_at >= fresh_since);
        Some(found.into_iter().map(|found| found.driver.snapshot(found.id, now)).collect())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Followed> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Followed> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fleet in Redis with an index in memory. It searches there once a [`IndexSync`](super::IndexSync) runs for it.
pub struct IndexedFleet {
    redis: Arc<RedisFleet>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl IndexedFleet {
    pub(super) fn new(redis: Arc<RedisFleet>, shared: Arc<Shared>, metrics: Arc<Metrics>) -> Self {
        Self { redis, shared, metrics }
    }
}

#[async_trait]
impl Fleet for IndexedFleet {
    async fn put(&self, entries: &[FleetEntry]) -> Result<(), PortError> {
        self.redis.put(entries).await
    }

    async fn fill(&self, entries: &[FleetEntry]) -> Result<(), PortError> {
        self.redis.fill(entries).await
    }

    async fn record(&self, pings: &[Ping]) -> Result<Vec<Recorded>, PortError> {
        self.redis.record(pings).await
    }

    async fn set_status(
        &self,
        driver: &DriverId,
        status: PersonStatus,
        dispatch: Option<&DispatchId>,
    ) -> Result<(), PortError> {
        // Whether or not Redis hears of it, this process knows now; the feed repeats it.
        self.shared.change(driver, |known| known.status = status);
        self.redis.set_status(driver, status, dispatch).await
    }

    async fn nearby(
        &self,
        center: Coordinate,
        rings_m: &[u32],
        enough: usize,
        now: EpochMs,
    ) -> Result<Option<Vec<DriverSnapshot>>, PortError> {
        let fresh_since = self.redis.fresh_since(now);
        let within = Metres(rings_m.last().copied().map_or(0.0, f64::from));
        let wanted = Wanted { center, within, enough: enough.max(1) };
        if let Some(found) = self.shared.search(wanted, fresh_since, now) {
            self.metrics.fleet_search("index");
            return Ok(Some(found));
        }
        self.metrics.fleet_search("redis");
        self.redis.nearby(center, rings_m, enough, now).await
    }

    async fn hold(&self, driver: &DriverId, token: &HoldToken, for_ms: u64) -> Result<bool, PortError> {
        let held = self.redis.hold(driver, token, for_ms).await?;
        if held {
            // Before the feed says so, another dispatch of this process would propose the same driver.
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
    ) -> Result<(), PortError> {
        self.shared.change(driver, |known| known.rests_until = now.plus_ms(rest_ms).max(known.rests_until));
        self.redis.offer_ended(driver, outcome, rest_ms, now).await
    }

    async fn push_route(&self, points: &[(DispatchId, RoutePoint)]) -> Result<Vec<(DispatchId, RouteTail)>, PortError> {
        self.redis.push_route(points).await
    }

    async fn trim_route(&self, id: &DispatchId, chunk: u32, count: usize) -> Result<(), PortError> {
        self.redis.trim_route(id, chunk, count).await
    }

    async fn route_tail(&self, id: &DispatchId) -> Result<RouteTail, PortError> {
        self.redis.route_tail(id).await
    }
}
