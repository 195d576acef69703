//! What the roles need of the world, in their own words. No SDK type appears here.
//!
//! | port | real adapter | decides |
//! | --- | --- | --- |
//! | [`DispatchStore`], [`ProfileStore`] | DynamoDB (`store`) | everything |
//! | [`Fleet`] | Redis (`fleet`) | nothing: it proposes and reserves |
//! | [`AnswerStore`] | DynamoDB (`store`) | whether a request was made before |
//! | [`OfferTimers`], [`ResponseQueue`] | SQS (`messaging`) | nothing: it reminds |
//! | [`Notifier`], [`EventStreams`] | SNS, Redis pub/sub (`messaging`) | nothing: it tells |
//! | [`Eta`] | a router over HTTP (`eta`) | nothing: it says who is near |
//! | [`Clock`] | the machine's clock | the time |
//!
//! The runtime holds them as trait objects: which adapter stands behind one is chosen once in `main`, and tests choose
//! their own.

pub mod clock;
mod eta;
mod messages;

use std::sync::Arc;

use async_trait::async_trait;
use dispatch_core::candidate::DriverSnapshot;
use dispatch_core::dispatch::{Dispatch, OfferOutcome, Step};
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use thiserror::Error;

use crate::store::entity::{
    DispatchItem, DriverItem, DriverPreferences, Location, PaymentMethod, UserItem, UserPreferences, VehicleInfo,
};

pub use eta::Eta;
pub use messages::{DevicePush, EventStreams, Notifier, OfferTimers, ResponseMessage, ResponseQueue, TimerMessage};

/// Why a port could not do its work. The adapters retry what AWS documents as retryable inside their own time budget;
/// callers treat both variants as "not now" and leave the next attempt to redelivery or to the client.
#[derive(Debug, Error)]
pub enum PortError {
    /// The service is unreachable, slow or throttling. Worth another try later.
    #[error("{action} is not possible right now")]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The service refused, or a stored value cannot be read. Another try will not help.
    #[error("{action} failed")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

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

/// What a driver says about itself.
#[derive(Clone)]
pub struct DriverProfile {
    /// Phone number.
    pub phone: String,
    /// The car.
    pub vehicle_info: VehicleInfo,
    /// What the driver takes.
    pub preferences: DriverPreferences,
}

/// What a user says about itself.
#[derive(Clone)]
pub struct UserProfile {
    /// Phone number.
    pub phone: String,
    /// Ways to pay.
    pub payment_methods: Vec<PaymentMethod>,
    /// What the user likes.
    pub preferences: UserPreferences,
    /// Where the user is.
    pub location: Location,
}

/// What became of a driver's wish to be available or not.
pub enum AvailabilityChange {
    /// The profile as it now is.
    Done(Box<DriverItem>),
    /// The driver is on a dispatch.
    OnDispatch {
        /// Which.
        current: Option<DispatchId>,
    },
    /// There is no such driver.
    UnknownDriver,
}

/// A user or a driver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Person {
    /// A user.
    User(UserId),
    /// A driver.
    Driver(DriverId),
}

impl Person {
    /// The whole id, prefix included.
    pub fn as_str(&self) -> &str {
        match self {
            Self::User(id) => id.as_str(),
            Self::Driver(id) => id.as_str(),
        }
    }
}

/// Users and drivers.
#[async_trait]
pub trait ProfileStore: Send + Sync {
    /// Makes or changes a user's profile; the status is kept (`ACTIVE` for a new one).
    async fn put_user(&self, id: &UserId, profile: UserProfile, now: EpochMs) -> Result<UserItem, PortError>;

    /// Makes or changes a driver's profile; the status is kept (`INACTIVE` for a new one).
    async fn put_driver(&self, id: &DriverId, profile: DriverProfile, now: EpochMs) -> Result<DriverItem, PortError>;

    /// Reads a user.
    async fn user(&self, id: &UserId) -> Result<Option<UserItem>, PortError>;

    /// Reads drivers, at most 100, in any order; those that do not exist are left out.
    async fn drivers(&self, ids: &[DriverId]) -> Result<Vec<DriverItem>, PortError>;

    /// Makes a driver `ACTIVE` or `INACTIVE` at a place, with a history entry, unless it is on a dispatch.
    async fn set_availability(
        &self,
        id: &DriverId,
        status: PersonStatus,
        at: &Location,
        now: EpochMs,
    ) -> Result<AvailabilityChange, PortError>;

    /// Remembers the push endpoint of a person's device; false where there is no such person.
    async fn set_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError>;

    /// The push endpoint of a person's device.
    async fn device(&self, person: &Person) -> Result<Option<String>, PortError>;

    /// Active drivers of a district (then of the whole city), at most `limit`: the search's last resort when Redis is cold.
    async fn active_drivers(&self, region: &str, limit: u16) -> Result<Vec<DriverItem>, PortError>;
}

/// A request under an Idempotency-Key. It holds digests only: what was asked is nobody's business in a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    /// Digest of caller, operation and key: equal for repetitions.
    pub key: String,
    /// Digest of what is asked; another one under the same key is a mistake of the client.
    pub asked: String,
    /// Who carries it out; unique to each attempt.
    pub holder: String,
}

/// The answer that was given to a [`KeyedRequest`].
#[derive(Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// The document.
    pub body: String,
}

/// What is known of a [`KeyedRequest`] that begins.
pub enum Begun {
    /// Nothing: it is to be carried out, and nobody else does meanwhile.
    First,
    /// It was carried out before.
    Before(StoredAnswer),
    /// It is being carried out, for this long at most.
    UnderWay {
        /// Milliseconds.
        for_ms: u64,
    },
    /// Something else was asked under this key.
    Another,
}

/// Answers to requests that may be repeated, kept for [`ANSWER_KEPT_MS`].
#[async_trait]
pub trait AnswerStore: Send + Sync {
    /// Begins a request, unless it was begun before. Whoever begins has [`HELD_MS`] to end it; a process that dies holds nobody up
    /// for longer.
    async fn begin(&self, request: &KeyedRequest, now: EpochMs) -> Result<Begun, PortError>;

    /// Keeps the answer, if the request is still held by this holder.
    async fn keep(&self, request: &KeyedRequest, answer: &StoredAnswer, now: EpochMs) -> Result<(), PortError>;

    /// Forgets a request that came to nothing, if it is still held by this holder: the key is free again.
    async fn forget(&self, request: &KeyedRequest) -> Result<(), PortError>;
}

/// How long an answer is kept, ms: a day, as clients of such interfaces expect.
pub const ANSWER_KEPT_MS: u64 = 24 * 60 * 60 * 1000;

/// How long a request may be under way, ms: what the HTTP API gives it, and as much more as the clocks of two workers may differ. Longer
/// would cost a driver whose worker died the rest of an offer's time; two attempts at once are harmless, because the offer's own fence
/// lets one of them through.
pub const HELD_MS: u64 = 12_000;

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

/// The time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> EpochMs;
}

/// All ports of a process.
#[derive(Clone)]
pub struct Ports {
    /// Dispatches.
    pub dispatches: Arc<dyn DispatchStore>,
    /// Users and drivers.
    pub profiles: Arc<dyn ProfileStore>,
    /// Live drivers.
    pub fleet: Arc<dyn Fleet>,
    /// Durable timers.
    pub timers: Arc<dyn OfferTimers>,
    /// Answers on their way to the apps.
    pub responses: Arc<dyn ResponseQueue>,
    /// The topic.
    pub notifier: Arc<dyn Notifier>,
    /// Devices.
    pub devices: Arc<dyn DevicePush>,
    /// Event streams.
    pub streams: Arc<dyn EventStreams>,
    /// How long drivers need to a pickup.
    pub eta: Arc<dyn Eta>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}
