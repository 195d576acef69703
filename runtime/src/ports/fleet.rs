//! The cache of live drivers, as four ports. It proposes and reserves drivers; the table decides. Everything in it can
//! be lost at any moment.

use std::sync::Arc;

use async_trait::async_trait;
use dispatch_core::candidate::DriverSnapshot;
use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::{DriverPreferences, PersonStatus};
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;

use crate::ports::error::PortError;

/// A validated position report of a driver.
#[derive(Debug, Clone, PartialEq)]
pub struct Ping {
    pub driver: DriverId,
    pub position: Coordinate,
    /// Arrival, by the service's clock.
    pub at: EpochMs,
    /// Creation, by the phone's clock. Compared only with other times of the same phone.
    pub phone_at: Option<EpochMs>,
}

/// What the cache holds about a driver.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetEntry {
    pub driver: DriverId,
    pub status: PersonStatus,
    /// The driver's current dispatch.
    pub dispatch: Option<DispatchId>,
    pub position: Coordinate,
    /// When the driver reported that position.
    pub seen_at: EpochMs,
    pub preferences: DriverPreferences,
}

/// How the cache handled a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PingOutcome {
    /// Recorded; the driver is on no dispatch.
    Seen,
    /// Recorded; the driver is on this dispatch, and the point belongs to its route.
    OnDispatch(DispatchId),
    /// Dropped: older than the last ping.
    Outdated,
    /// Dropped: no car travels that fast. Further pings decide whether the driver is believed again
    /// ([`dispatch_core::ping_filter`]).
    Implausible,
    /// Dropped: the cache does not know the driver, for example after a wipe. Load the profile with
    /// [`PositionSink::put`] and record the ping again.
    Unknown,
}

/// Writes driver profiles and positions.
#[async_trait]
pub trait PositionSink: Send + Sync {
    /// Copies drivers from the table: status, preferences, position.
    async fn put(&self, entries: &[FleetEntry]) -> Result<(), PortError>;

    /// Copies the city's active drivers from the table into a cold cache and marks the cache as warm.
    async fn fill(&self, entries: &[FleetEntry]) -> Result<(), PortError>;

    /// When drivers last sent a position, accepted or not, in their order. `None` for a driver that the cache does not
    /// know.
    async fn last_pings(&self, drivers: &[DriverId]) -> Result<Vec<Option<EpochMs>>, PortError>;

    /// When drivers last gave a sign of life, in their order: their last position, or the moment the cache first saw
    /// them as active. No time before the cache last began to accept positions is returned, because drivers whose
    /// positions are refused are not silent. `None` for a driver that the cache does not know.
    async fn last_signs(&self, drivers: &[DriverId]) -> Result<Vec<Option<EpochMs>>, PortError>;

    /// Records pings in the given order; returns one outcome per ping.
    async fn record(&self, pings: &[Ping]) -> Result<Vec<PingOutcome>, PortError>;

    /// Removes everything that the cache holds about these drivers, and the routes of these dispatches.
    async fn forget(&self, drivers: &[DriverId], routes: &[DispatchId]) -> Result<(), PortError>;
}

/// Finds drivers.
#[async_trait]
pub trait DriverSearch: Send + Sync {
    /// Free drivers around `center`, nearest first. Searches ring by ring and stops at the first ring that holds
    /// `enough`. `now` dates cooldowns and the acceptance window. `None` if the cache is cold and cannot answer for the
    /// city.
    async fn nearby(
        &self,
        center: Coordinate,
        rings_m: &[u32],
        enough: usize,
        now: EpochMs,
    ) -> Result<Option<Vec<DriverSnapshot>>, PortError>;
}

/// Reserves drivers for offers and tracks their status.
#[async_trait]
pub trait Reservations: Send + Sync {
    /// Reserves a driver for one offer, for `for_ms`. False if another offer holds the driver or the driver cools down.
    async fn hold(&self, driver: &DriverId, token: &HoldToken, for_ms: u64) -> Result<bool, PortError>;

    /// Ends a reservation if `token` still owns it.
    async fn release(&self, driver: &DriverId, token: &HoldToken) -> Result<(), PortError>;

    /// Counts an ended offer in the acceptance window and starts a cooldown of `rest_ms`. Returns the number of
    /// unanswered offers since the driver's last answer.
    async fn offer_ended(
        &self,
        driver: &DriverId,
        outcome: OfferOutcome,
        rest_ms: u64,
        now: EpochMs,
    ) -> Result<u32, PortError>;

    /// Updates the status and dispatch of a driver. Does nothing if the cache does not know the driver.
    async fn set_status(
        &self,
        driver: &DriverId,
        status: PersonStatus,
        dispatch: Option<&DispatchId>,
    ) -> Result<(), PortError>;
}

/// Buffers the latest points of live routes until they are stored as chunks.
#[async_trait]
pub trait RouteTails: Send + Sync {
    /// Appends points to the tails of their routes. Returns each tail that has grown by a whole chunk of
    /// [`ROUTE_CHUNK_POINTS`](crate::adapters::fleet::ROUTE_CHUNK_POINTS) points, counted from the tail's beginning.
    /// The points stay until [`RouteTails::trim`] drops them, after they were stored.
    async fn push(&self, points: &[(DispatchId, RoutePoint)]) -> Result<Vec<(DispatchId, RouteTail)>, PortError>;

    /// Drops the first `count` points of the tail, which were stored as number `chunk`. Does nothing if they were
    /// dropped before.
    async fn trim(&self, id: &DispatchId, chunk: u32, count: usize) -> Result<(), PortError>;

    /// Reads the current tail.
    async fn tail(&self, id: &DispatchId) -> Result<RouteTail, PortError>;
}

/// The four ports of the driver cache.
#[derive(Clone)]
pub struct FleetPorts {
    pub positions: Arc<dyn PositionSink>,
    pub search: Arc<dyn DriverSearch>,
    pub reservations: Arc<dyn Reservations>,
    pub routes: Arc<dyn RouteTails>,
}

impl FleetPorts {
    /// All four ports from one adapter.
    pub fn new<F>(fleet: &Arc<F>) -> Self
    where
        F: PositionSink + DriverSearch + Reservations + RouteTails + 'static,
    {
        Self {
            positions: Arc::<F>::clone(fleet),
            search: Arc::<F>::clone(fleet),
            reservations: Arc::<F>::clone(fleet),
            routes: Arc::<F>::clone(fleet),
        }
    }
}

/// The points of a route that are not yet stored as a chunk.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RouteTail {
    /// Number of the next chunk, from 1.
    pub next_chunk: u32,
    pub points: Vec<RoutePoint>,
}

/// Owner of a reservation. Only the owner can release it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldToken(pub String);

impl HoldToken {
    /// The token of one offer of a dispatch: `dispatch#…:<offer_seq>`.
    pub fn for_offer(dispatch: &DispatchId, offer_seq: u32) -> Self {
        Self(format!("{dispatch}:{offer_seq}"))
    }
}
