//! The life cycle of a dispatch and its offers.
//!
//! ```text
//!              offer / reject / time-out (each offer has its own offer_seq)
//!                 +----+
//!                 v    |
//! create ---> REQUESTED ---accept---> ACCEPTED ---passenger picked up---> IN_PROGRESS ---trip completed---> COMPLETED
//!                 |                      |
//!                 +------- cancel -------+-----> CANCELLED
//! ```
//!
//! [`step`](fn@step) alone decides state transitions. It takes a [`Dispatch`], an [`Event`] and the time, and returns
//! the new dispatch, the items that must change **in the same transaction** ([`Companion`]) and the actions to take
//! after the commit ([`FollowUp`]). The caller stores the result on condition that the stored dispatch is still the one
//! `step` was given (`ver`, `status`, `offer_seq`); if it loses that race, it reads the dispatch and calls `step`
//! again. No message is trusted: a late, duplicated or reordered event no longer fits the state and is
//! [refused](Refusal).

mod completion;
mod guard;
mod operations;
mod silence;
mod step;
#[cfg(test)]
mod tests;
mod transition;

use std::borrow::Cow;

use thiserror::Error;

use crate::candidate::Candidate;
use crate::geo::Coordinate;
use crate::ids::{DispatchId, DriverId, UserId};
pub use crate::meter::TripTotals;
use crate::meter::{Bill, ReviewReason};
use crate::policy::DispatchPolicy;
use crate::time::EpochMs;

#[cfg(feature = "mutants")]
pub use guard::{Guard, without};
pub use step::step;

/// Age at which a list of candidates is replaced by a new search: in 20 s a free driver drives about 150 m.
pub const CANDIDATES_FRESH_MS: u64 = 20_000;

/// Longest offer and longest search, ms.
pub const WAIT_MAX_MS: u64 = 900_000;

/// How much later than now a time may be that another process wrote as its present, ms. A later one was written by a
/// clock that was wrong.
pub const CLOCKS_DIFFER_MS: u64 = 60_000;

/// The latest time until which anything can wait. A later one was written by a clock that was wrong.
pub fn latest_wait(now: EpochMs) -> EpochMs {
    now.plus_ms(WAIT_MAX_MS + CLOCKS_DIFFER_MS)
}

/// Pause between two searches that found no driver.
pub const SEARCH_PAUSE_MS: u64 = 2_000;

/// Status of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DispatchStatus {
    /// A driver is being searched for.
    Requested,
    /// A driver has accepted and drives to the pickup.
    Accepted,
    /// The passenger is on board.
    InProgress,
    /// The trip is completed.
    Completed,
    /// The dispatch was cancelled by the user, the driver or the system.
    Cancelled,
}

impl DispatchStatus {
    /// The value in the table and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Accepted => "ACCEPTED",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Whether the status is final.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// Type of a dispatch event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EventType {
    /// The request was stored.
    Created,
    /// An offer was made.
    DriverAssigned,
    /// The offer was accepted.
    DriverAccepted,
    /// The offer was rejected or timed out.
    DriverRejected,
    /// The driver is driving to the pickup.
    PickupStarted,
    /// The driver has arrived at the pickup.
    DriverArrived,
    /// The passenger is on board.
    PassengerPickedUp,
    /// The trip started.
    TripStarted,
    /// The trip ended.
    TripCompleted,
    /// The fare was paid.
    PaymentCompleted,
    /// The user cancelled.
    CancelledByUser,
    /// The driver cancelled.
    CancelledByDriver,
    /// No driver was found.
    CancelledBySystem,
    /// Operations must review the ride.
    ReviewRequested,
    /// The trip ended far from its destination.
    EndedFarFromDestination,
    /// Operations cancelled.
    CancelledByOperations,
    /// Operations ended the trip.
    CompletedByOperations,
    /// Operations freed people who were still on the dispatch after its end.
    ReleasedByOperations,
    /// Operations reviewed the ride.
    ReviewClosed,
    /// Neither a position nor an event was received for a long time.
    NoSignOfLife,
}

impl EventType {
    /// The event of a trip, if it is one.
    pub fn trip_event(self) -> Option<TripEvent> {
        match self {
            Self::PickupStarted => Some(TripEvent::PickupStarted),
            Self::DriverArrived => Some(TripEvent::DriverArrived),
            Self::PassengerPickedUp => Some(TripEvent::PassengerPickedUp),
            Self::TripStarted => Some(TripEvent::TripStarted),
            Self::TripCompleted => Some(TripEvent::TripCompleted),
            Self::PaymentCompleted => Some(TripEvent::PaymentCompleted),
            Self::Created
            | Self::DriverAssigned
            | Self::DriverAccepted
            | Self::DriverRejected
            | Self::CancelledByUser
            | Self::CancelledByDriver
            | Self::CancelledBySystem
            | Self::ReviewRequested
            | Self::EndedFarFromDestination
            | Self::CancelledByOperations
            | Self::CompletedByOperations
            | Self::ReleasedByOperations
            | Self::ReviewClosed
            | Self::NoSignOfLife => None,
        }
    }
}

/// The type of an entry of `events`. Other services may add types of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(untagged))]
pub enum EventName {
    Known(EventType),
    /// A type of another service, kept as it is.
    Other(String),
}

impl EventName {
    /// The type, if this service knows it.
    pub fn known(&self) -> Option<EventType> {
        match self {
            Self::Known(event) => Some(*event),
            Self::Other(_) => None,
        }
    }
}

/// A stored entry of `events`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EventEntry {
    #[cfg_attr(feature = "serde", serde(rename = "type"))]
    pub event_type: EventName,
    /// Local time of the city, ISO 8601 with its offset.
    pub timestamp: String,
    /// Human-readable description; empty if another service wrote none.
    #[cfg_attr(feature = "serde", serde(default))]
    pub details: String,
}

/// A new entry of the dispatch's `events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub record_type: EventType,
    pub at: EpochMs,
    /// Korean text of the specification, or a text of our own if it has none.
    pub details: Cow<'static, str>,
}

/// Event of a trip that a driver reports.
// In the order of a ride. Events may be skipped (the driver may already be at the pickup) but never go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = TripEventType))]
pub enum TripEvent {
    /// The driver is driving to the pickup.
    PickupStarted,
    /// The driver has arrived at the pickup.
    DriverArrived,
    /// The passenger is on board. From here on the dispatch is `IN_PROGRESS` and cannot be cancelled.
    PassengerPickedUp,
    /// The trip started.
    TripStarted,
    /// The trip ended.
    TripCompleted,
    /// The fare was paid.
    PaymentCompleted,
}

/// The search for a driver (`candidateDrivers`, `currentAttempt`, `maxAttempts` in spec §8).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matching {
    /// Candidates who have not been offered the dispatch yet, best first.
    pub candidates: Vec<CandidateRef>,
    /// When that list was created.
    pub searched_at: Option<EpochMs>,
    /// Drivers who have been offered the dispatch.
    pub asked: Vec<DriverId>,
    /// Number of offers made so far.
    pub current_attempt: u8,
    /// Largest number of offers.
    pub max_attempts: u8,
    /// When the open offer was made.
    pub offered_at: Option<EpochMs>,
    /// When the open offer times out.
    pub timeout_at: Option<EpochMs>,
    /// Until when a search that finds no driver is repeated.
    pub search_until: EpochMs,
}

impl Matching {
    /// When the open offer ends: now, if its time is missing or cannot be right.
    pub fn offer_ends_at(&self, now: EpochMs) -> EpochMs {
        self.timeout_at.filter(|at| *at <= latest_wait(now)).unwrap_or(now)
    }

    /// Whether a search that finds no driver is repeated. It is not if the time until which it lasts cannot be right.
    pub fn is_search_repeated(&self, now: EpochMs) -> bool {
        now < self.search_until && self.search_until <= latest_wait(now)
    }

    /// Whether the list of candidates is recent enough to be used.
    pub fn are_candidates_fresh(&self, now: EpochMs) -> bool {
        let is_fresh = |at: EpochMs| now.since_ms(at) <= CANDIDATES_FRESH_MS && at <= now.plus_ms(CLOCKS_DIFFER_MS);
        self.searched_at.is_some_and(is_fresh)
    }
}

/// A candidate as stored in the dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateRef {
    pub driver_id: DriverId,
    /// Whether the driver accepts automatically.
    pub auto_accept: bool,
}

impl From<&Candidate> for CandidateRef {
    fn from(candidate: &Candidate) -> Self {
        Self { driver_id: candidate.driver_id.clone(), auto_accept: candidate.auto_accept }
    }
}

/// The part of a dispatch that decisions depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    pub id: DispatchId,
    /// The user who requested it.
    pub user: UserId,
    /// While `Requested`, the driver who has the open offer; afterwards the driver of the ride.
    pub driver: Option<DriverId>,
    pub status: DispatchStatus,
    /// Number of the latest offer, which every answer must carry (the fence); 0 before the first.
    pub offer_seq: u32,
    /// Version of the stored item, incremented by each change.
    pub ver: u32,
    pub created_at: EpochMs,
    pub pickup: Coordinate,
    /// Fare quoted to the user.
    pub estimated_fare: u32,
    pub matching: Matching,
    /// The latest trip event reported.
    pub last_trip_event: Option<TripEvent>,
    /// When the passenger got on board.
    pub trip_started_at: Option<EpochMs>,
    /// Why operations must review it, until they have.
    pub review: Option<ReviewReason>,
}

impl Dispatch {
    /// Whether an offer is open.
    pub fn has_live_offer(&self) -> bool {
        self.status == DispatchStatus::Requested && self.driver.is_some()
    }
}

/// What can happen to a dispatch.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A wake-up: a stream record, a timer, or the sweeper.
    Wake,
    /// The candidates of a search, best first.
    CandidatesFound(Vec<CandidateRef>),
    /// The driver was reserved for the next offer.
    DriverHeld(DriverId),
    /// The driver could not be reserved.
    DriverBusy(DriverId),
    /// The driver accepts.
    Accept { driver: DriverId, offer_seq: u32 },
    /// The offer was accepted, but the driver's own item shows that the driver is not free.
    AcceptImpossible { driver: DriverId, offer_seq: u32 },
    /// The driver rejects.
    Reject { driver: DriverId, offer_seq: u32 },
    /// The offer's timer fired.
    OfferTimedOut { offer_seq: u32 },
    /// The user cancels.
    CancelByUser { user: UserId },
    /// The driver cancels.
    CancelByDriver { driver: DriverId },
    /// The driver reports any event except the end of the trip.
    Trip { driver: DriverId, event: TripEvent },
    /// The driver reports the end of the trip.
    TripCompleted { driver: DriverId, bill: Bill },
    /// Operations act. `note` says who and why, and is recorded.
    ByOperations { action: OperationsAction, note: String },
    /// The sweeper looked for signs of life of a ride.
    Silence(Silence),
}

/// What is known about the signs of life of a ride.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Silence {
    /// The latest position of the driver, or event of the ride.
    pub last_sign: EpochMs,
    /// When the ride was last flagged as silent.
    pub flagged_at: Option<EpochMs>,
    /// The bill if the ride in progress ends now.
    pub bill: Option<Bill>,
}

/// What operations do to a dispatch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OperationsAction {
    /// Cancel it in any status that is not final, also with the passenger on board.
    Cancel,
    /// End the ride in progress.
    Complete(Bill),
    /// Record that people were freed who were still on the dispatch after its end.
    Release,
    /// End the review.
    CloseReview,
}

/// Another item that must change in the same transaction as the dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Companion {
    /// The driver changes from `ACTIVE` to `DISPATCHED`, if free; adds a history entry.
    OccupyDriver(DriverId),
    /// The driver changes from `DISPATCHED` to `ACTIVE`, if on this dispatch; adds a history entry.
    FreeDriver(DriverId),
    /// The user changes from `DISPATCHED` to `ACTIVE`, if on this dispatch.
    FreeUser(UserId),
    /// Adds this ride to the user's history.
    UserHistory(UserId),
    /// Adds this ride to the driver's completed rides, in the profile and as an item.
    CompletedRide(DriverId, Bill),
    /// Adds the dispatch to the list of dispatches that operations must review.
    OpenReview(ReviewReason),
    /// Removes the dispatch from that list.
    CloseReview,
}

/// How an offer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
pub enum OfferOutcome {
    /// The driver accepted.
    Accepted,
    /// The driver rejected.
    Rejected,
    /// The driver did not answer in time.
    TimedOut,
}

/// An action to take once the change is stored, or immediately if nothing changed. Each one may be repeated, and may be
/// lost in a crash: timers and the sweeper complete what is missing.
#[derive(Debug, Clone, PartialEq)]
pub enum FollowUp {
    /// Search for candidates and report [`Event::CandidatesFound`].
    Search,
    /// Reserve the driver and report [`Event::DriverHeld`] or [`Event::DriverBusy`].
    Hold(DriverId),
    /// Wake the dispatch after a delay.
    WakeAfter { delay_ms: u64 },
    /// Start the offer's timer and push the offer to the driver.
    Offer { driver: DriverId, offer_seq: u32, offered_at: EpochMs, timeout_at: EpochMs },
    /// Accept on behalf of a driver who accepts automatically: report [`Event::Accept`].
    AcceptAtOnce { driver: DriverId, offer_seq: u32 },
    /// The offer ended: count it, release the driver or start the cool-down, and notify both apps through the
    /// `responses` queue.
    OfferEnded { driver: DriverId, offer_seq: u32, outcome: OfferOutcome },
    /// Release the driver's reservation; nothing is counted.
    ReleaseHold(DriverId),
    /// Send a notification.
    Notify(Notice),
}

/// Notifications other than offers and answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// To the user: no driver was found.
    DispatchFailed(UserId),
    /// To the user: the driver cancelled.
    DriverCancelled(UserId),
    /// To the driver, offered to or on the way: the user cancelled.
    UserCancelled(DriverId),
    /// To the user: progress of the ride.
    TripProgress(UserId, TripEvent),
    /// Operations cancelled the dispatch or ended the ride.
    EndedByOperations(Recipient),
    /// The dispatch was cancelled, or the ride ended, because it gave no sign of life.
    EndedAsSilent(Recipient),
}

/// The recipient of a notice that users and drivers receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    User(UserId),
    Driver(DriverId),
}

/// The result of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The new dispatch; `ver` is already incremented if it [`changed`](Step::changed).
    pub state: Dispatch,
    /// Entries to append to `events`.
    pub records: Vec<Record>,
    /// Whether there is a change to store.
    pub changed: bool,
    /// Items that change in the same transaction.
    pub companions: Vec<Companion>,
    /// Actions to take afterwards.
    pub follow_ups: Vec<FollowUp>,
}

/// Why an event is refused. The state is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The caller is not part of the dispatch. The API does not distinguish this from a dispatch that does not exist.
    #[error("the dispatch belongs to another user or driver")]
    NotYours,
    /// The offer was answered, timed out or was superseded.
    #[error("the offer is over")]
    OfferOver,
    /// The status of the dispatch does not allow the event.
    #[error("not possible while the dispatch is {0:?}")]
    WrongStatus(DispatchStatus),
    /// A later trip event was already reported, or an earlier one is missing.
    #[error("not possible after {0:?}")]
    OutOfOrder(Option<TripEvent>),
}

/// Inputs of [`step`](fn@step) besides the dispatch and the event.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The city's policy.
    pub policy: &'a DispatchPolicy,
    /// The time of the decision.
    pub now: EpochMs,
}
