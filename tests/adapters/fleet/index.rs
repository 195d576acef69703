//! The indexed fleet on a real Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dispatch_core::candidate::DriverSnapshot;
use dispatch_core::geo::Coordinate;
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;
use dispatch_runtime::adapters::fleet::indexed_fleet;
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::ports::{DriverSearch, FleetEntry, FleetPorts, Ping, PortError};
use dispatch_runtime::telemetry::metrics::Metrics;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::redis::RedisFixture;
use super::{driver, found, free, north, now, ping};
use crate::support::{seoul, until};

/// Time limit for a change to reach the index: milliseconds as a rule, more on a busy machine.
const KNOWN_WITHIN: Duration = Duration::from_secs(20);

/// An indexed fleet and its running sync. Each search first waits until the index holds every write made before it: the
/// contract is about what is found, not about how many milliseconds later.
#[derive(Clone)]
pub(super) struct SyncedIndex {
    fleet: FleetPorts,
    metrics: Arc<Metrics>,
    redis: ::redis::aio::MultiplexedConnection,
    _stop: Arc<DropGuard>,
}

impl SyncedIndex {
    pub(super) async fn start(server: &RedisFixture) -> Self {
        let metrics = Arc::new(Metrics::new());
        let clock = Arc::new(SystemClock);
        let (fleet, sync) = indexed_fleet(&server.connector, seoul(), clock, Arc::clone(&metrics));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { sync.run(&stopped).await });
        Self { fleet, metrics, redis: server.connection().await, _stop: Arc::new(stop.drop_guard()) }
    }

    /// The ports of the fleet, whose searches wait for the sync.
    pub(super) fn ports(&self) -> FleetPorts {
        FleetPorts { search: Arc::new(self.clone()), ..self.fleet.clone() }
    }

    /// Searches in memory so far.
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
        let near = self.fleet.search.nearby(marker.position, &[100], 1, now()).await.unwrap().unwrap_or_default();
        self.searches() > before && near.iter().any(|found| found.id == marker.driver)
    }

    /// Writes a marker and waits until the index has it, so that it has everything written before.
    async fn caught_up(&self) {
        let warm: bool = ::redis::cmd("EXISTS").arg("warm:{seoul}").query_async(&mut self.redis.clone()).await.unwrap();
        if warm {
            let marker = ping(99_999, 80_000.0, now());
            let entry = FleetEntry { seen_at: marker.at, position: marker.position, ..free(99_999, 0.0) };
            self.fleet.positions.put(&[entry]).await.unwrap();
            let deadline = Instant::now() + KNOWN_WITHIN;
            while !self.finds(&marker).await {
                assert!(Instant::now() < deadline, "the index does not follow");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let gone = FleetEntry { status: PersonStatus::Inactive, ..free(99_999, 80_000.0) };
            self.fleet.positions.put(&[gone]).await.unwrap();
        }
    }
}

#[async_trait]
impl DriverSearch for SyncedIndex {
    async fn nearby(
        &self,
        center: Coordinate,
        rings_m: &[u32],
        enough: usize,
        now: EpochMs,
    ) -> Result<Option<Vec<DriverSnapshot>>, PortError> {
        self.caught_up().await;
        self.fleet.search.nearby(center, rings_m, enough, now).await
    }
}

#[tokio::test]
async fn an_index_is_filled_from_the_cache_and_follows_another_process() {
    let server = RedisFixture::start().await;
    server.fleet.positions.fill(&[free(1, 100.0), free(2, 200.0)]).await.unwrap();
    let index = SyncedIndex::start(&server).await;
    assert_eq!(found(&index.ports(), &[20_000], 5).await, [1, 2]);
    // As another process would, this writes to Redis only.
    server.fleet.positions.put(&[free(3, 50.0)]).await.unwrap();
    server.fleet.positions.record(&[ping(2, 60.0, now())]).await.unwrap();
    server.fleet.reservations.set_status(&driver(1), PersonStatus::Dispatched, None).await.unwrap();
    assert_eq!(found(&index.ports(), &[20_000], 5).await, [3, 2]);
}

#[tokio::test]
async fn a_wiped_cache_is_detected_and_a_refilled_one_searched_again() {
    let server = RedisFixture::start().await;
    server.fleet.positions.fill(&[free(1, 100.0)]).await.unwrap();
    let index = SyncedIndex::start(&server).await;
    assert_eq!(found(&index.ports(), &[20_000], 5).await, [1]);
    server.wipe().await;
    until("the cache is cold here, too", async || {
        index.fleet.search.nearby(north(0.0), &[20_000], 5, now()).await.unwrap().is_none().then_some(())
    })
    .await;
    server.fleet.positions.fill(&[free(2, 100.0)]).await.unwrap();
    assert_eq!(found(&index.ports(), &[20_000], 5).await, [2]);
    assert!(index.counted("dispatch_fleet_index_rebuilds_total 2"));
}
