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

mod guard;
mod step;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::candidate::Candidate;
use crate::geo::Coordinate;
use crate::ids::{DispatchId, DriverId, UserId};
use crate::policy::DispatchPolicy;
use crate::time::EpochMs;

#[cfg(feature = "mutants")]
pub use guard::{Guard, without};
pub use step::step;

/// Age at which a list of candidates is replaced by a new search: in 20 s a free driver drives about 150 m.
pub const CANDIDATES_FRESH_MS: u64 = 20_000;

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
}

/// One entry of the dispatch's `events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub record_type: EventType,
    pub at: EpochMs,
    /// Korean text of the specification, or a text of our own if it has none.
    pub details: &'static str,
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

/// Totals of a completed trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TripTotals {
    /// Fare, whole units of currency.
    pub fare: u32,
    /// Distance travelled, m.
    pub distance_m: u32,
    /// Duration, s.
    pub duration_s: u32,
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
    TripCompleted { driver: DriverId, totals: TripTotals },
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
    CompletedRide(DriverId, TripTotals),
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
