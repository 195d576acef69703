//! The life of a dispatch and of its offers.
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
//! [`step`](fn@step) is the only judge of what may happen. It reads a [`Dispatch`], an [`Event`] and the time, and answers with the
//! dispatch as it should be stored, the items that must change **in the same transaction** ([`Companion`]) and what to do
//! after the transaction has been committed ([`FollowUp`]). The caller stores the result under the condition that the stored
//! dispatch is still the one `step` was shown (`ver`, `status`, `offer_seq`); losing that race means reading again and
//! asking again. Nothing here trusts a message: a late, doubled or reordered event meets a state it no longer fits and is
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

/// Age at which a list of candidates is made anew instead of used up: in 20 s a free driver drives some 150 m.
pub const CANDIDATES_FRESH_MS: u64 = 20_000;

/// Pause between two searches that found nobody.
pub const SEARCH_PAUSE_MS: u64 = 2_000;

/// The seed's `status` of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DispatchStatus {
    /// A driver is being looked for.
    Requested,
    /// A driver has accepted and is on the way to the pickup.
    Accepted,
    /// The passenger is on board.
    InProgress,
    /// The trip is over.
    Completed,
    /// Nobody will drive it.
    Cancelled,
}

impl DispatchStatus {
    /// The spelling of the table and of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Accepted => "ACCEPTED",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Whether no further status can follow.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// The seed's event types; `CANCELLED_BY_SYSTEM` is an addition.
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
    /// The offer was rejected or ran out.
    DriverRejected,
    /// The driver set out for the pickup.
    PickupStarted,
    /// The driver is at the pickup.
    DriverArrived,
    /// The passenger is on board.
    PassengerPickedUp,
    /// The trip began.
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
    /// What happened.
    pub record_type: EventType,
    /// When.
    pub at: EpochMs,
    /// The seed's Korean text, or our own where the seed has none.
    pub details: &'static str,
}

/// What a driver reports of a trip.
// In the order of a ride. Steps may be left out (a driver who is already at the pickup), but never go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = TripEventType))]
pub enum TripEvent {
    /// Set out for the pickup.
    PickupStarted,
    /// Arrived at the pickup.
    DriverArrived,
    /// Passenger on board: from here on it is `IN_PROGRESS` and can no longer be cancelled.
    PassengerPickedUp,
    /// Trip begun.
    TripStarted,
    /// Trip ended.
    TripCompleted,
    /// Fare paid.
    PaymentCompleted,
}

/// What a completed trip came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TripTotals {
    /// Fare, whole units of currency.
    pub fare: u32,
    /// Distance travelled, m.
    pub distance_m: u32,
    /// Duration, s.
    pub duration_s: u32,
}

/// The search for a driver (the seed's `candidateDrivers`, `currentAttempt`, `maxAttempts`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matching {
    /// Candidates not yet offered the dispatch, best first.
    pub candidates: Vec<CandidateRef>,
    /// When that list was made.
    pub searched_at: Option<EpochMs>,
    /// Drivers who have been offered the dispatch.
    pub asked: Vec<DriverId>,
    /// Offers made so far.
    pub current_attempt: u8,
    /// Offers allowed.
    pub max_attempts: u8,
    /// When the live offer was made.
    pub offered_at: Option<EpochMs>,
    /// When the live offer runs out.
    pub timeout_at: Option<EpochMs>,
    /// Until when an unanswerable request is searched again.
    pub search_until: EpochMs,
}

/// A candidate as the dispatch remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateRef {
    /// Who.
    pub driver_id: DriverId,
    /// Whether the driver accepts by itself.
    pub auto_accept: bool,
}

impl From<&Candidate> for CandidateRef {
    fn from(candidate: &Candidate) -> Self {
        Self { driver_id: candidate.driver_id.clone(), auto_accept: candidate.auto_accept }
    }
}

/// What decisions need to know of a dispatch.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// Which.
    pub id: DispatchId,
    /// Who asked.
    pub user: UserId,
    /// The driver offered to while `Requested`, the driver of the ride afterwards.
    pub driver: Option<DriverId>,
    /// Where it stands.
    pub status: DispatchStatus,
    /// Number of the last offer made: the fence every answer must carry. 0 before the first.
    pub offer_seq: u32,
    /// Version of the stored item, +1 with each change.
    pub ver: u32,
    /// When it was requested.
    pub created_at: EpochMs,
    /// Where the ride begins.
    pub pickup: Coordinate,
    /// Fare told to the user.
    pub estimated_fare: u32,
    /// The search.
    pub matching: Matching,
    /// The last thing the driver reported.
    pub last_trip_event: Option<TripEvent>,
    /// When the passenger got on board.
    pub trip_started_at: Option<EpochMs>,
}

impl Dispatch {
    /// Whether an offer waits for its answer.
    pub fn has_live_offer(&self) -> bool {
        self.status == DispatchStatus::Requested && self.driver.is_some()
    }
}

/// What can happen to a dispatch.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Somebody looked at it: a stream record, a timer, the sweeper.
    Wake,
    /// A search came back; best first.
    CandidatesFound(Vec<CandidateRef>),
    /// The driver could be reserved for the next offer.
    DriverHeld(DriverId),
    /// The driver could not be reserved.
    DriverBusy(DriverId),
    /// The driver accepts.
    Accept {
        /// Who answers.
        driver: DriverId,
        /// Which offer.
        offer_seq: u32,
    },
    /// The driver could not be given the dispatch although the offer was accepted: the driver's own item says no.
    AcceptImpossible {
        /// Who.
        driver: DriverId,
        /// Which offer.
        offer_seq: u32,
    },
    /// The driver rejects.
    Reject {
        /// Who answers.
        driver: DriverId,
        /// Which offer.
        offer_seq: u32,
    },
    /// The offer's timer fired.
    OfferTimedOut {
        /// Which offer.
        offer_seq: u32,
    },
    /// The user cancels.
    CancelByUser {
        /// Who cancels.
        user: UserId,
    },
    /// The driver cancels.
    CancelByDriver {
        /// Who cancels.
        driver: DriverId,
    },
    /// The driver reports anything but the end of the trip.
    Trip {
        /// Who reports.
        driver: DriverId,
        /// What.
        event: TripEvent,
    },
    /// The driver reports the end of the trip.
    TripCompleted {
        /// Who reports.
        driver: DriverId,
        /// What it came to.
        totals: TripTotals,
    },
}

/// Another item that must change in the same transaction as the dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Companion {
    /// The driver goes `ACTIVE -> DISPATCHED`, if free; with a history entry.
    OccupyDriver(DriverId),
    /// The driver goes `DISPATCHED -> ACTIVE`, if on this dispatch; with a history entry.
    FreeDriver(DriverId),
    /// The user goes `DISPATCHED -> ACTIVE`, if on this dispatch.
    FreeUser(UserId),
    /// The user's history gains this ride.
    UserHistory(UserId),
    /// The driver's completed rides gain this ride, in the profile and as an item.
    CompletedRide(DriverId, TripTotals),
}

/// How an offer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
pub enum OfferOutcome {
    /// Accepted.
    Accepted,
    /// Rejected.
    Rejected,
    /// Not answered in time.
    TimedOut,
}

/// Something to do once the change is stored, or at once where nothing changed. All of them may be repeated, and each of them
/// may be lost in a crash: timers and the sweeper find what was left undone.
#[derive(Debug, Clone, PartialEq)]
pub enum FollowUp {
    /// Search for candidates and come back with [`Event::CandidatesFound`].
    Search,
    /// Reserve the driver and come back with [`Event::DriverHeld`] or [`Event::DriverBusy`].
    Hold(DriverId),
    /// Look again after a pause.
    WakeAfter {
        /// The pause.
        delay_ms: u64,
    },
    /// Start the offer's timer and push the offer to the driver.
    Offer {
        /// To whom.
        driver: DriverId,
        /// Which.
        offer_seq: u32,
        /// Since when.
        offered_at: EpochMs,
        /// Until when.
        timeout_at: EpochMs,
    },
    /// Accept for a driver who accepts by itself: come back with [`Event::Accept`].
    AcceptAtOnce {
        /// For whom.
        driver: DriverId,
        /// Which offer.
        offer_seq: u32,
    },
    /// The offer ended: count it, let the driver go or rest, and tell both apps through the `responses` queue.
    OfferEnded {
        /// Whose.
        driver: DriverId,
        /// Which.
        offer_seq: u32,
        /// How.
        outcome: OfferOutcome,
    },
    /// The driver's reservation is void; nothing is counted.
    ReleaseHold(DriverId),
    /// Tell somebody.
    Notify(Notice),
}

/// What people are told beside offers and answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// To the user: no driver was found.
    DispatchFailed(UserId),
    /// To the user: the driver cancelled.
    DriverCancelled(UserId),
    /// To the driver, offered to or on the way: the user cancelled.
    UserCancelled(DriverId),
    /// To the user: how the ride goes on.
    TripProgress(UserId, TripEvent),
}

/// What an event led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The dispatch as it should now be; `ver` is already the next one where it [`changed`](Step::changed).
    pub state: Dispatch,
    /// Entries to append to `events`.
    pub records: Vec<Record>,
    /// Whether there is anything to store.
    pub changed: bool,
    /// Items that change in the same transaction.
    pub companions: Vec<Companion>,
    /// What to do afterwards.
    pub follow_ups: Vec<FollowUp>,
}

/// Why an event cannot happen to this dispatch. The state is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The caller has no part in it. Told apart from "does not exist" nowhere outside.
    #[error("the dispatch belongs to somebody else")]
    NotYours,
    /// The offer was answered, ran out, or was superseded.
    #[error("the offer is over")]
    OfferOver,
    /// The dispatch is in a status this cannot happen in.
    #[error("not possible while the dispatch is {0:?}")]
    WrongStatus(DispatchStatus),
    /// A later trip event has been reported already, or an earlier one is missing.
    #[error("not possible after {0:?}")]
    OutOfOrder(Option<TripEvent>),
}

/// What [`step`](fn@step) needs beside the dispatch and the event.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The city's policy.
    pub policy: &'a DispatchPolicy,
    /// The moment of the decision.
    pub now: EpochMs,
}
