//! The fleet that searches in memory, on a real Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dispatch_core::candidate::DriverSnapshot;
use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use dispatch_runtime::fleet::{IndexedFleet, indexed};
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::ports::{Fleet, FleetEntry, HoldToken, Ping, PortError, Recorded, RouteTail};
use dispatch_runtime::telemetry::metrics::Metrics;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::redis::Running;
use super::{driver, found, free, north, now, ping};
use crate::support::{seoul, until};

/// The feed is some milliseconds long; a busy machine may be slow.
const KNOWN_WITHIN: Duration = Duration::from_secs(20);

/// A fleet whose index is kept, and which is asked only once it knows of everything written through it: the contract is about
/// what is found, not about how many milliseconds later.
pub struct Following {
    fleet: IndexedFleet,
    metrics: Arc<Metrics>,
    redis: ::redis::aio::MultiplexedConnection,
    _stop: DropGuard,
}

impl Following {
    pub async fn start(server: &Running) -> Self {
        let metrics = Arc::new(Metrics::new());
        let clock = Arc::new(SystemClock);
        let (fleet, follower) = indexed(&server.connector, seoul(), clock, Arc::clone(&metrics)).unwrap();
        let stop = CancellationToken::new();
        let asked = stop.clone();
        tokio::spawn(async move { follower.run(&asked).await });
        Self { fleet, metrics, redis: server.connection().await, _stop: stop.drop_guard() }
    }

    /// Searches made in memory so far.
    fn searches(&self) -> u64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("dispatch_fleet_searches_total{source=\"index\"} "));
        line.map_or(0, |count| count.parse().unwrap())
    }

    fn counted(&self, line: &str) -> bool {
        self.metrics.encode().unwrap().lines().any(|found| found == line)
    }

    async fn finds(&self, marker: &Ping) -> bool {
        let before = self.searches();
        let near = self.fleet.nearby(marker.position, &[100], 1, now()).await.unwrap().unwrap_or_default();
        self.searches() > before && near.iter().any(|found| found.id == marker.driver)
    }

    /// Waits until the index has heard of a marker put behind all that was written.
    async fn caught_up(&self) {
        let warm: bool = ::redis::cmd("EXISTS").arg("warm:{seoul}").query_async(&mut self.redis.clone()).await.unwrap();
        if warm {
            let marker = ping(99_999, 80_000.0, now());
            let entry = FleetEntry { seen_at: marker.at, position: marker.position, ..free(99_999, 0.0) };
            self.fleet.put(&[entry]).await.unwrap();
            let deadline = Instant::now() + KNOWN_WITHIN;
            while !self.finds(&marker).await {
                assert!(Instant::now() < deadline, "the index does not follow");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let gone = FleetEntry { status: PersonStatus::Inactive, ..free(99_999, 80_000.0) };
            self.fleet.put(&[gone]).await.unwrap();
        }
    }
}

#[async_trait]
impl Fleet for Following {
    async fn put(&self, entries: &[FleetEntry]) -> Result<(), PortError> {
        self.fleet.put(entries).await
    }

    async fn fill(&self, entries: &[FleetEntry]) -> Result<(), PortError> {
        self.fleet.fill(entries).await
    }

    async fn record(&self, pings: &[Ping]) -> Result<Vec<Recorded>, PortError> {
        self.fleet.record(pings).await
    }

    async fn set_status(
        &self,
        driver: &DriverId,
        status: PersonStatus,
        dispatch: Option<&DispatchId>,
    ) -> Result<(), PortError> {
        self.fleet.set_status(driver, status, dispatch).await
    }

    async fn nearby(
        &self,
        center: Coordinate,
        rings_m: &[u32],
        enough: usize,
        now: EpochMs,
    ) -> Result<Option<Vec<DriverSnapshot>>, PortError> {
        self.caught_up().await;
        self.fleet.nearby(center, rings_m, enough, now).await
    }

    async fn hold(&self, driver: &DriverId, token: &HoldToken, for_ms: u64) -> Result<bool, PortError> {
        self.fleet.hold(driver, token, for_ms).await
    }

    async fn release(&self, driver: &DriverId, token: &HoldToken) -> Result<(), PortError> {
        self.fleet.release(driver, token).await
    }

    async fn offer_ended(
        &self,
        driver: &DriverId,
        outcome: OfferOutcome,
        rest_ms: u64,
        now: EpochMs,
    ) -> Result<(), PortError> {
        self.fleet.offer_ended(driver, outcome, rest_ms, now).await
    }

    async fn push_route(&self, points: &[(DispatchId, RoutePoint)]) -> Result<Vec<(DispatchId, RouteTail)>, PortError> {
        self.fleet.push_route(points).await
    }

    async fn trim_route(&self, id: &DispatchId, chunk: u32, count: usize) -> Result<(), PortError> {
        self.fleet.trim_route(id, chunk, count).await
    }

    async fn route_tail(&self, id: &DispatchId) -> Result<RouteTail, PortError> {
        self.fleet.route_tail(id).await
    }
}

#[tokio::test]
async fn an_index_is_filled_from_the_cache_and_follows_another_process() {
    let server = Running::start().await;
    server.fleet.fill(&[free(1, 100.0), free(2, 200.0)]).await.unwrap();
    let following = Following::start(&server).await;
    assert_eq!(found(&following, &[20_000], 5).await, [1, 2]);
    // Another process writes to Redis alone.
    server.fleet.put(&[free(3, 50.0)]).await.unwrap();
    server.fleet.record(&[ping(2, 60.0, now())]).await.unwrap();
    server.fleet.set_status(&driver(1), PersonStatus::Dispatched, None).await.unwrap();
    assert_eq!(found(&following, &[20_000], 5).await, [3, 2]);
}

#[tokio::test]
async fn a_wiped_cache_is_noticed_and_a_filled_one_searched_again() {
    let server = Running::start().await;
    server.fleet.fill(&[free(1, 100.0)]).await.unwrap();
    let following = Following::start(&server).await;
    assert_eq!(found(&following, &[20_000], 5).await, [1]);
    server.wipe().await;
    until("the cache is cold here, too", async || {
        following.fleet.nearby(north(0.0), &[20_000], 5, now()).await.unwrap().is_none().then_some(())
    })
    .await;
    server.fleet.fill(&[free(2, 100.0)]).await.unwrap();
    assert_eq!(found(&following, &[20_000], 5).await, [2]);
    assert!(following.counted("dispatch_fleet_index_rebuilds_total 2"));
}
