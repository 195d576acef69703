//! The cache of live drivers.

use async_trait::async_trait;
use dispatch_core::candidate::DriverSnapshot;
use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;

use super::error::PortError;
use crate::store::entity::DriverPreferences;

/// One ping of a driver, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Ping {
    /// Who.
    pub driver: DriverId,
    /// Where.
    pub position: Coordinate,
    /// When it arrived, by the service's clock.
    pub at: EpochMs,
    /// When it was made, by the phone's own clock: held against other times of this phone alone.
    pub phone_at: Option<EpochMs>,
}

/// What the cache knows of a driver, beside its position.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetEntry {
    /// Who.
    pub driver: DriverId,
    /// Free or not.
    pub status: PersonStatus,
    /// The dispatch it is on.
    pub dispatch: Option<DispatchId>,
    /// Where it is.
    pub position: Coordinate,
    /// When it was last seen there.
    pub seen_at: EpochMs,
    /// Its preferences.
    pub preferences: DriverPreferences,
}

/// What became of a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// Taken over for a free or an absent driver.
    Seen,
    /// Taken over for a driver on this dispatch: the point belongs to its route.
    OnDispatch(DispatchId),
    /// Older than what is known; dropped.
    Outdated,
    /// Nobody gets there that fast; dropped, and doubted until pings fit again ([`dispatch_core::ping_filter`]).
    Implausible,
    /// The cache does not know the driver (it was wiped): load the profile with [`Fleet::put`] and ping again.
    Unknown,
}

/// The cache of live drivers. Everything in it can be lost at any moment.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Takes over what the table says of drivers: status, preferences, position.
    async fn put(&self, entries: &[FleetEntry]) -> Result<(), PortError>;

    /// The same for a cold cache, which from now on counts as warm: what the table says of the city's active drivers.
    async fn fill(&self, entries: &[FleetEntry]) -> Result<(), PortError>;

    /// Takes over pings, in the order given; one answer for each.
    async fn record(&self, pings: &[Ping]) -> Result<Vec<Recorded>, PortError>;

    /// Changes what is known of a driver's status, if the driver is known.
    async fn set_status(
        &self,
        driver: &DriverId,
        status: PersonStatus,
        dispatch: Option<&DispatchId>,
    ) -> Result<(), PortError>;

    /// Free drivers around a place, ring by ring until at least `enough` have been seen; `now` dates rests and the acceptance
    /// window. `None` where the cache is cold and says nothing about the city.
    async fn nearby(
        &self,
        center: Coordinate,
        rings_m: &[u32],
        enough: usize,
        now: EpochMs,
    ) -> Result<Option<Vec<DriverSnapshot>>, PortError>;

    /// Reserves a driver for one offer, for `for_ms`; false where somebody else holds it or it rests.
    async fn hold(&self, driver: &DriverId, token: &HoldToken, for_ms: u64) -> Result<bool, PortError>;

    /// Gives a reservation back, if it is still ours.
    async fn release(&self, driver: &DriverId, token: &HoldToken) -> Result<(), PortError>;

    /// Counts an ended offer in the acceptance window and lets the driver rest for `rest_ms`.
    async fn offer_ended(
        &self,
        driver: &DriverId,
        outcome: OfferOutcome,
        rest_ms: u64,
        now: EpochMs,
    ) -> Result<(), PortError>;

    /// Adds points to the live tails of routes, and gives each tail that has grown by a whole chunk. A chunk is
    /// [`ROUTE_CHUNK_POINTS`](crate::fleet::ROUTE_CHUNK_POINTS) points from the tail's beginning; it is dropped only by
    /// [`Fleet::trim_route`], after it was stored.
    async fn push_route(&self, points: &[(DispatchId, RoutePoint)]) -> Result<Vec<(DispatchId, RouteTail)>, PortError>;

    /// Drops the first `count` points of the tail, which were stored as this chunk; nothing where that was done before.
    async fn trim_route(&self, id: &DispatchId, chunk: u32, count: usize) -> Result<(), PortError>;

    /// The tail as it is.
    async fn route_tail(&self, id: &DispatchId) -> Result<RouteTail, PortError>;
}

/// Points of a route that are not in the table yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RouteTail {
    /// Number the next chunk gets, from 1.
    pub next_chunk: u32,
    /// The points.
    pub points: Vec<RoutePoint>,
}

/// Identity of a reservation: only its maker may give it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldToken(pub String);

impl HoldToken {
    /// The reservation of an offer of a dispatch: `dispatch#…:<offer_seq>`.
    pub fn of(dispatch: &DispatchId, offer_seq: u32) -> Self {
        Self(format!("{dispatch}:{offer_seq}"))
    }
}
