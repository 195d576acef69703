//! Stores dispatches.

use std::collections::HashSet;

use async_trait::async_trait;
use dispatch_core::cancellation::Pause;
use dispatch_core::dispatch::{Dispatch, EventEntry, Step};
use dispatch_core::geo::Location;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::route::{RouteEntry, RoutePoint};
use dispatch_core::time::EpochMs;

use crate::ports::error::PortError;

/// A stored dispatch.
#[derive(Clone)]
pub struct StoredDispatch {
    /// The part that decisions need.
    pub state: Dispatch,
    /// What is recorded for people.
    pub details: DispatchDetails,
}

/// What a dispatch records beside the state that decisions need. Times are local times of the city, ISO 8601 with their
/// offset, as stored. Without `Debug`: it holds places.
#[derive(Clone, PartialEq)]
pub struct DispatchDetails {
    pub created_at: String,
    /// When the dispatch last changed.
    pub updated_at: String,
    pub pickup: Location,
    pub destination: Location,
    /// When the open offer times out, with milliseconds.
    pub offer_timeout_at: Option<String>,
    /// The fare paid, whole units of currency; 0 before the end.
    pub actual_fare: u32,
    /// The fare by the positions of the ride; `None` before the end, and if they are not plausible.
    pub metered_fare: Option<u32>,
    /// Whether the ride ended far from its destination.
    pub is_far: bool,
    /// Distance travelled, m; 0 before the end.
    pub distance_m: u32,
    /// Duration, s; 0 before the end.
    pub duration_s: u32,
    /// The travelled route, simplified. Before the end, it holds points that another service stored.
    pub route: Vec<RouteEntry>,
    /// The history, oldest entry first.
    pub events: Vec<EventEntry>,
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
    /// The user has cancelled too often and has to wait.
    Paused(Pause),
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

/// One page of a list.
pub struct Page<T> {
    pub items: Vec<T>,
    /// Token of the next page, opaque to clients.
    pub next: Option<String>,
}

/// A ride that is not over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OngoingRide {
    pub id: DispatchId,
    /// `None` if the stored one is not valid.
    pub driver: Option<DriverId>,
}

/// An entry of the list of dispatches that operations must review.
pub struct OpenReview {
    /// When the review was requested: local time of the city with milliseconds, without offset.
    pub requested_at: String,
    pub stored: StoredDispatch,
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

    /// Adds the index keys that a `REQUESTED` dispatch lacks. Idempotent.
    async fn index(&self, dispatch: &Dispatch) -> Result<(), PortError>;

    /// A page of at most `limit` dispatches of `owner`, newest first.
    async fn list(&self, owner: &Owner, limit: u16, after: Option<String>) -> Result<Page<StoredDispatch>, PortError>;

    /// Rides (`ACCEPTED` or `IN_PROGRESS`) that were requested and last changed before `before`, those requested first
    /// at the beginning, without those of `except`; at most some thousand.
    async fn rides_unchanged_since(
        &self,
        before: EpochMs,
        except: &HashSet<DispatchId>,
    ) -> Result<Vec<OngoingRide>, PortError>;

    /// A page of at most `limit` dispatches that operations must review, oldest first.
    async fn reviews(&self, limit: u16, after: Option<String>) -> Result<Page<OpenReview>, PortError>;

    /// At most `limit` dispatches that are still `REQUESTED`, were created before `before` and have no offer that ends
    /// after it, oldest first, without those of `except`. The sweeper repeats their next step. Times too far ahead to
    /// have been written by a clock that was right do not hide a dispatch.
    async fn open_since_before(
        &self,
        before: EpochMs,
        limit: u16,
        except: &HashSet<DispatchId>,
    ) -> Result<Vec<DispatchId>, PortError>;

    /// Stores chunk `number` of a live route, counted from 1. Idempotent.
    async fn append_route(&self, id: &DispatchId, number: u32, points: &[RoutePoint]) -> Result<(), PortError>;

    /// Reads the stored chunks of a live route.
    async fn read_route(&self, id: &DispatchId) -> Result<Vec<RoutePoint>, PortError>;
}
