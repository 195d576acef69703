//! A compact dispatch for the model, and the conversion to and from core's own [`Dispatch`].
//!
//! Time is not a number here but a [`View`]: how a decision sees the three times that `step` compares with `now`. Every
//! decision may see any combination, so clocks that differ, stop or go back are covered.

use std::sync::LazyLock;

use dispatch_core::dispatch::{CANDIDATES_FRESH_MS, CandidateRef, Dispatch, DispatchStatus, Matching, TripEvent};
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::time::EpochMs;

/// Number of dispatches, each with its own user.
pub(crate) const DISPATCHES: usize = 2;
/// Number of drivers.
pub(crate) const DRIVERS: usize = 2;
/// One more than the offers allowed, so that a model without that bound shows the violation.
const ASKED_MAX: usize = 3;

/// The time of every decision. Only the order of other times relative to it matters.
pub(crate) const NOW: EpochMs = EpochMs(1_000_000);

/// The statuses, in the order of a ride.
const STATUSES: [DispatchStatus; 5] = [
    DispatchStatus::Requested,
    DispatchStatus::Accepted,
    DispatchStatus::InProgress,
    DispatchStatus::Completed,
    DispatchStatus::Cancelled,
];

/// A driver's number.
pub(crate) type Driver = u8;

/// The ids, created once.
struct Ids {
    dispatches: [DispatchId; DISPATCHES],
    users: [UserId; DISPATCHES],
    drivers: [DriverId; DRIVERS],
}

static IDS: LazyLock<Ids> = LazyLock::new(|| Ids {
    dispatches: ["1", "2"].map(|suffix| DispatchId::from_suffix(suffix).unwrap()),
    users: ["1", "2"].map(|suffix| UserId::from_suffix(suffix).unwrap()),
    drivers: ["1", "2"].map(|suffix| DriverId::from_suffix(suffix).unwrap()),
});

/// The id of a driver.
pub(crate) fn driver_id(driver: Driver) -> DriverId {
    IDS.drivers[usize::from(driver)].clone()
}

/// The id of a dispatch's user.
pub(crate) fn user_id(dispatch: usize) -> UserId {
    IDS.users[dispatch].clone()
}

/// The number of a driver.
pub(crate) fn number(driver: &DriverId) -> Driver {
    u8::from(*driver == IDS.drivers[1])
}

/// How a decision sees the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct View {
    /// The open offer has timed out.
    pub due: bool,
    /// The search budget is used up.
    pub late: bool,
    /// The list of candidates is still fresh.
    pub fresh: bool,
}

/// A stored dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Row {
    status: u8,
    pub driver: Option<Driver>,
    pub offer_seq: u8,
    pub ver: u8,
    pub attempt: u8,
    /// Whether the time-out of an offer is set.
    pub has_end: bool,
    pub asked: [Option<Driver>; ASKED_MAX],
    pub candidates: [Option<Driver>; DRIVERS],
    trip: Option<u8>,
}

const TRIP: [TripEvent; 6] = [
    TripEvent::PickupStarted,
    TripEvent::DriverArrived,
    TripEvent::PassengerPickedUp,
    TripEvent::TripStarted,
    TripEvent::TripCompleted,
    TripEvent::PaymentCompleted,
];

fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap()
}

fn row_of<const N: usize>(drivers: impl Iterator<Item = Driver>) -> [Option<Driver>; N] {
    let mut row = [None; N];
    for (place, driver) in row.iter_mut().zip(drivers) {
        *place = Some(driver);
    }
    row
}

impl Row {
    /// A request that was just stored.
    pub(crate) fn requested() -> Self {
        Self {
            status: 0,
            driver: None,
            offer_seq: 0,
            ver: 1,
            attempt: 0,
            has_end: false,
            asked: [None; ASKED_MAX],
            candidates: [None; DRIVERS],
            trip: None,
        }
    }

    /// The stream image of this dispatch after its first `ended` offers had ended; each offer is two writes.
    pub(crate) fn image(&self, ended: u8) -> Self {
        let asked = self.asked.iter().flatten().copied().take(ended.into());
        Self { offer_seq: ended, ver: 1 + 2 * ended, attempt: ended, asked: row_of(asked), ..Self::requested() }
    }

    pub(crate) fn status(&self) -> DispatchStatus {
        STATUSES[usize::from(self.status)]
    }

    /// Whether an offer is open.
    pub(crate) fn is_offered(&self) -> bool {
        self.status() == DispatchStatus::Requested && self.driver.is_some()
    }

    /// The driver of the ride.
    pub(crate) fn rider(&self) -> Option<Driver> {
        self.driver.filter(|_| matches!(self.status(), DispatchStatus::Accepted | DispatchStatus::InProgress))
    }

    /// The same with the two drivers exchanged.
    pub(crate) fn mirrored(&self) -> Self {
        let other = |driver: Option<Driver>| driver.map(|driver| 1 - driver);
        Self {
            driver: other(self.driver),
            asked: self.asked.map(other),
            candidates: self.candidates.map(other),
            ..*self
        }
    }

    /// Converts to core's type.
    pub(crate) fn to_dispatch(self, dispatch: usize, setting: &Setting, view: View) -> Dispatch {
        let drivers = |row: &[Option<Driver>]| row.iter().flatten().copied().map(driver_id).collect::<Vec<_>>();
        let candidate = |driver: &Driver| setting.candidate(*driver);
        let after_now = |over: bool| if over { NOW } else { NOW.plus_ms(1) };
        let searched_at = if view.fresh { NOW.0 } else { NOW.0 - i64::try_from(CANDIDATES_FRESH_MS).unwrap() - 1 };
        Dispatch {
            id: IDS.dispatches[dispatch].clone(),
            user: user_id(dispatch),
            driver: self.driver.map(driver_id),
            status: self.status(),
            offer_seq: self.offer_seq.into(),
            ver: self.ver.into(),
            created_at: EpochMs(0),
            pickup: Coordinate::new(37.5662, 126.9784).unwrap(),
            estimated_fare: 12_000,
            matching: Matching {
                candidates: self.candidates.iter().flatten().map(candidate).collect(),
                searched_at: Some(EpochMs(searched_at)),
                asked: drivers(&self.asked),
                current_attempt: self.attempt,
                max_attempts: setting.attempts[dispatch],
                offered_at: self.has_end.then_some(EpochMs(0)),
                timeout_at: self.has_end.then_some(after_now(view.due)),
                search_until: after_now(view.late),
            },
            last_trip_event: self.trip.map(|event| TRIP[usize::from(event)]),
            trip_started_at: None,
            review: None,
        }
    }

    /// Converts from core's type.
    pub(crate) fn from_dispatch(dispatch: &Dispatch) -> Self {
        let matching = &dispatch.matching;
        let position = |event: TripEvent| TRIP.iter().position(|other| *other == event).map(small);
        Self {
            status: STATUSES.iter().position(|status| *status == dispatch.status).map(small).unwrap(),
            driver: dispatch.driver.as_ref().map(number),
            offer_seq: u8::try_from(dispatch.offer_seq).unwrap(),
            ver: u8::try_from(dispatch.ver).unwrap(),
            attempt: matching.current_attempt,
            has_end: matching.timeout_at.is_some(),
            asked: row_of(matching.asked.iter().map(number)),
            candidates: row_of(matching.candidates.iter().map(|candidate| number(&candidate.driver_id))),
            trip: dispatch.last_trip_event.and_then(position),
        }
    }
}

/// The constants of a model run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Which drivers accept automatically.
    pub auto_accept: [bool; DRIVERS],
    /// Largest number of offers, by dispatch.
    pub attempts: [u8; DISPATCHES],
    /// Number of workers.
    pub workers: usize,
}

impl Setting {
    /// A driver as a search result.
    pub(crate) fn candidate(&self, driver: Driver) -> CandidateRef {
        CandidateRef { driver_id: driver_id(driver), auto_accept: self.auto_accept[usize::from(driver)] }
    }
}
