//! Stores dispatches.

use async_trait::async_trait;
use dispatch_core::dispatch::{Dispatch, Step};
use dispatch_core::geo::Location;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;

use super::error::PortError;
use crate::store::entity::DispatchItem;

/// A stored dispatch.
#[derive(Clone)]
pub struct StoredDispatch {
    /// The table's item.
    pub item: DispatchItem,
    /// The part that decisions need.
    pub state: Dispatch,
}

impl std::fmt::Debug for StoredDispatch {
    /// Without places and addresses.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Dispatch { id, status, offer_seq, ver, .. } = &self.state;
        write!(f, "StoredDispatch({id} {status:?} offer_seq={offer_seq} ver={ver})")
    }
}

/// A request to store.
#[derive(Clone)]
pub struct NewDispatch {
    /// Chosen by the caller: derived from the Idempotency-Key if there is one, so that a repeated request finds its
    /// dispatch.
    pub id: DispatchId,
    pub user: UserId,
    pub pickup: Location,
    pub destination: Location,
    /// Whole units of the city's currency.
    pub estimated_fare: u32,
    /// Most offers.
    pub max_attempts: u8,
    /// The search for a driver is repeated until then.
    pub search_until: EpochMs,
    pub now: EpochMs,
}

/// The result of [`DispatchStore::create`].
pub enum CreateOutcome {
    /// Stored, and the user is `DISPATCHED`.
    Stored(Box<StoredDispatch>),
    /// The user already has a dispatch of this id.
    Existed(Box<StoredDispatch>),
    /// The user is on another dispatch.
    UserBusy { current: Option<DispatchId> },
    /// No such user.
    UnknownUser,
}

/// The result of [`DispatchStore::commit`].
pub enum Commit {
    /// Stored with all companions.
    Applied(Box<StoredDispatch>),
    /// The dispatch has changed since the step was decided: read it and decide again.
    Changed,
    /// The dispatch has not changed, but a companion item refuses the step, for example because the driver is on
    /// another dispatch.
    CompanionRefused,
}

/// The person whose dispatches are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Dispatches that the user requested.
    User(UserId),
    /// Dispatches that the driver completed.
    Driver(DriverId),
}

/// One page of a list, newest first.
pub struct Page<T> {
    pub items: Vec<T>,
    /// Token of the next page, opaque to clients.
    pub next: Option<String>,
}

/// The travelled route, stored with the completion of the trip.
#[derive(Clone, Default)]
pub struct TravelledRoute {
    /// The simplified route.
    pub points: Vec<RoutePoint>,
}

/// Stores dispatches and their live routes.
#[async_trait]
pub trait DispatchStore: Send + Sync {
    /// Stores a request and occupies its user, in one transaction.
    async fn create(&self, new: NewDispatch) -> Result<CreateOutcome, PortError>;

    /// Reads a dispatch, strongly consistent.
    async fn load(&self, id: &DispatchId) -> Result<Option<StoredDispatch>, PortError>;

    /// Stores a changed step and its companions in one transaction, on condition that the dispatch still has the `ver`,
    /// `status` and `offer_seq` of `before`. `route` is written if the step completes the trip.
    async fn commit(
        &self,
        before: &StoredDispatch,
        step: &Step,
        route: Option<TravelledRoute>,
    ) -> Result<Commit, PortError>;

    /// A page of at most `limit` dispatches of `owner`, newest first.
    async fn list(&self, owner: &Owner, limit: u16, after: Option<String>) -> Result<Page<StoredDispatch>, PortError>;

    /// At most `limit` dispatches that are still `REQUESTED`, were created before `before` and have no offer that ends
    /// after it, oldest first. The sweeper repeats their next step.
    async fn open_since_before(&self, before: EpochMs, limit: u16) -> Result<Vec<DispatchId>, PortError>;

    /// Stores chunk `number` of a live route, counted from 1. Idempotent.
    async fn append_route(&self, id: &DispatchId, number: u32, points: &[RoutePoint]) -> Result<(), PortError>;

    /// Reads the stored chunks of a live route.
    async fn read_route(&self, id: &DispatchId) -> Result<Vec<RoutePoint>, PortError>;
}
