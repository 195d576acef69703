//! Dispatches: what is stored of them, and what becomes of a change.

use async_trait::async_trait;
use dispatch_core::dispatch::{Dispatch, Step};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;

use super::error::PortError;
use crate::store::entity::{DispatchItem, Location};

/// A dispatch as stored: the item, and what decisions need of it.
#[derive(Clone)]
pub struct StoredDispatch {
    /// The whole item.
    pub item: DispatchItem,
    /// The same as a state.
    pub state: Dispatch,
}

impl std::fmt::Debug for StoredDispatch {
    /// Without places and addresses.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Dispatch { id, status, offer_seq, ver, .. } = &self.state;
        write!(f, "StoredDispatch({id} {status:?} offer_seq={offer_seq} ver={ver})")
    }
}

/// A request to be stored.
#[derive(Clone)]
pub struct NewDispatch {
    /// Its id, made by the caller: derived from the Idempotency-Key where there is one, so that a repeated request meets the
    /// dispatch it made before.
    pub id: DispatchId,
    /// Who asks.
    pub user: UserId,
    /// Where the ride begins.
    pub pickup: Location,
    /// Where it ends.
    pub destination: Location,
    /// What it is estimated to cost.
    pub estimated_fare: u32,
    /// Offers allowed.
    pub max_attempts: u8,
    /// Until when an unanswerable request is searched again.
    pub search_until: EpochMs,
    /// Now.
    pub now: EpochMs,
}

/// What became of a [`NewDispatch`].
pub enum Created {
    /// It is stored, and the user is `DISPATCHED`.
    Stored(Box<StoredDispatch>),
    /// A dispatch of this id is there already, of the same user: this is it.
    Existed(Box<StoredDispatch>),
    /// The user is on another dispatch, which is named.
    UserBusy {
        /// The user's current dispatch.
        current: Option<DispatchId>,
    },
    /// There is no such user.
    UnknownUser,
}

/// What became of a [`Step`] that was to be stored.
pub enum Commit {
    /// It is stored, companions included.
    Applied(Box<StoredDispatch>),
    /// The dispatch is no longer the one the step was decided on: read again, decide again.
    Changed,
    /// The dispatch is as it was, but a companion item says no (the driver is on another dispatch).
    CompanionRefused,
}

/// Whose dispatches are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Those a user asked for.
    User(UserId),
    /// Those a driver completed.
    Driver(DriverId),
}

/// One page of a list, newest first.
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page begins; opaque to clients.
    pub next: Option<String>,
}

/// A completed or cancelled trip's measured part, written with the completion.
#[derive(Clone, Default)]
pub struct TravelledRoute {
    /// The simplified route.
    pub points: Vec<RoutePoint>,
}

/// Dispatches.
#[async_trait]
pub trait DispatchStore: Send + Sync {
    /// Stores a request and occupies its user, in one transaction.
    async fn create(&self, new: NewDispatch) -> Result<Created, PortError>;

    /// Reads a dispatch, strongly consistent.
    async fn load(&self, id: &DispatchId) -> Result<Option<StoredDispatch>, PortError>;

    /// Stores a changed step and its companions in one transaction, on condition that the dispatch still has the `ver`,
    /// `status` and `offer_seq` of `before`. `route` is written where the step completes the trip.
    async fn commit(
        &self,
        before: &StoredDispatch,
        step: &Step,
        route: Option<TravelledRoute>,
    ) -> Result<Commit, PortError>;

    /// A page of somebody's dispatches, newest first, at most `limit`.
    async fn list(&self, owner: &Owner, limit: u16, after: Option<String>) -> Result<Page<StoredDispatch>, PortError>;

    /// Dispatches still `REQUESTED` that were created before `before` and have no offer that ran on after it, oldest first, at most
    /// `limit`: the sweeper's list.
    async fn open_since_before(&self, before: EpochMs, limit: u16) -> Result<Vec<DispatchId>, PortError>;

    /// Appends one chunk to the live route of a dispatch; `number` counts from 1 and writing it again changes nothing.
    async fn append_route(&self, id: &DispatchId, number: u32, points: &[RoutePoint]) -> Result<(), PortError>;

    /// The live route so far.
    async fn read_route(&self, id: &DispatchId) -> Result<Vec<RoutePoint>, PortError>;
}
