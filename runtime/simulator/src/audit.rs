//! The auditor: checks the dispatches and drivers of a run for what must never happen.
//!
//! It uses only the dispatches and profiles that the public API returns. Their timestamps have whole seconds, so events
//! of different dispatches within one second have no order and never count as a violation. Within one dispatch the
//! order of `events` counts, not their time. Timestamps of several workers are compared, so their clocks must agree to
//! the second.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use dispatch_core::dispatch::{DispatchStatus, EventType};
use dispatch_core::person::PersonStatus;

/// One dispatch at the end of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pub dispatch: String,
    /// The driver of the ride or of the last open offer.
    pub driver: Option<String>,
    pub status: DispatchStatus,
    /// The number of the last offer.
    pub offer_seq: u32,
    /// The events with their Unix time, s; `None` if the timestamp cannot be read.
    pub events: Vec<(EventType, Option<i64>)>,
}

/// One driver at the end of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverEnd {
    pub driver: String,
    pub status: PersonStatus,
    /// The current dispatch.
    pub dispatch: Option<String>,
}

/// How the run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every request had time to end.
    Drained,
    /// The run was interrupted, so unfinished requests are not violations.
    Interrupted,
}

/// Something that must never happen but did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "violation", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Violation {
    /// A driver was on two dispatches at the same time.
    TwoLiveDispatches { driver: String, first: String, second: String },
    /// A dispatch was accepted more than once.
    AcceptedTwice { dispatch: String, times: usize },
    /// A dispatch has not ended.
    NotTerminal { dispatch: String, status: DispatchStatus },
    /// A request got no response, or was refused without a fault of its user.
    NotStored {
        /// Number of the request in the schedule.
        request: u32,
        /// The response or error.
        answer: String,
    },
    /// A dispatch could not be read at the end.
    Unreadable { dispatch: String },
    /// A driver could not be read at the end.
    DriverUnreadable {
        /// The id without its prefix.
        driver: String,
    },
    /// An event cannot follow the one before it.
    IllegalOrder { dispatch: String, event: EventType, after: Option<EventType> },
    /// The status does not follow from the events.
    WrongStatus {
        dispatch: String,
        status: DispatchStatus,
        /// The status that follows from the events.
        by_events: DispatchStatus,
    },
    /// The number of the last offer differs from the number of offers.
    Unfenced {
        dispatch: String,
        offer_seq: u32,
        /// The number of `DRIVER_ASSIGNED` events.
        offers: usize,
    },
    /// An accepted dispatch has no driver.
    NoDriver { dispatch: String },
    /// The timestamp of an event cannot be read.
    BadTimestamp { dispatch: String, event: EventType },
    /// A completed ride was not paid.
    Unpaid { dispatch: String },
    /// A driver is not free although all rides have ended.
    DriverNotFree { driver: String, status: PersonStatus, dispatch: Option<String> },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoLiveDispatches { driver, first, second } => {
                write!(f, "{driver} was on {first} and {second} at the same time")
            }
            Self::AcceptedTwice { dispatch, times } => write!(f, "{dispatch} was accepted {times} times"),
            Self::NotTerminal { dispatch, status } => write!(f, "{dispatch} is still {status:?}"),
            Self::NotStored { request, answer } => write!(f, "request {request} was not stored: {answer}"),
            Self::Unreadable { dispatch } => write!(f, "{dispatch} cannot be read"),
            Self::DriverUnreadable { driver } => write!(f, "driver {driver} cannot be read"),
            Self::IllegalOrder { dispatch, event, after: Some(after) } => {
                write!(f, "{dispatch} has {event:?} after {after:?}")
            }
            Self::IllegalOrder { dispatch, event, after: None } => write!(f, "{dispatch} starts with {event:?}"),
            Self::WrongStatus { dispatch, status, by_events } => {
                write!(f, "{dispatch} is {status:?}, but its events lead to {by_events:?}")
            }
            Self::Unfenced { dispatch, offer_seq, offers } => {
                write!(f, "{dispatch} has offerSeq {offer_seq} but {offers} offers")
            }
            Self::NoDriver { dispatch } => write!(f, "{dispatch} was accepted but has no driver"),
            Self::BadTimestamp { dispatch, event } => {
                write!(f, "{dispatch} has {event:?} with an unreadable timestamp")
            }
            Self::Unpaid { dispatch } => write!(f, "{dispatch} is completed but not paid"),
            Self::DriverNotFree { driver, status, dispatch: Some(dispatch) } => {
                write!(f, "{driver} is {status:?} on {dispatch} at the end")
            }
            Self::DriverNotFree { driver, status, dispatch: None } => write!(f, "{driver} is {status:?} at the end"),
        }
    }
}

/// All violations in the dispatches and drivers of a run.
pub fn audit(histories: &[History], drivers: &[DriverEnd], ending: Ending) -> Vec<Violation> {
    let mut found: Vec<Violation> = histories.iter().flat_map(|history| audit_one(history, ending)).collect();
    found.extend(overlaps(histories));
    if ending == Ending::Drained {
        found.extend(drivers.iter().filter(|end| end.status != PersonStatus::Active || end.dispatch.is_some()).map(
            |end| Violation::DriverNotFree {
                driver: end.driver.clone(),
                status: end.status,
                dispatch: end.dispatch.clone(),
            },
        ));
    }
    found
}

/// Whether the status is final.
pub fn is_terminal(status: DispatchStatus) -> bool {
    matches!(status, DispatchStatus::Completed | DispatchStatus::Cancelled)
}

fn audit_one(history: &History, ending: Ending) -> Vec<Violation> {
    let dispatch = || history.dispatch.clone();
    let count = |wanted| history.events.iter().filter(|(event, _)| *event == wanted).count();
    let mut found = Vec::new();
    if ending == Ending::Drained && !is_terminal(history.status) {
        found.push(Violation::NotTerminal { dispatch: dispatch(), status: history.status });
    }
    let accepted = count(EventType::DriverAccepted);
    if accepted > 1 {
        found.push(Violation::AcceptedTwice { dispatch: dispatch(), times: accepted });
    }
    if accepted > 0 && history.driver.is_none() {
        found.push(Violation::NoDriver { dispatch: dispatch() });
    }
    let offers = count(EventType::DriverAssigned);
    if usize::try_from(history.offer_seq) != Ok(offers) {
        found.push(Violation::Unfenced { dispatch: dispatch(), offer_seq: history.offer_seq, offers });
    }
    for (event, at) in &history.events {
        if at.is_none() {
            found.push(Violation::BadTimestamp { dispatch: dispatch(), event: *event });
        }
    }
    match follow(history) {
        Err(violation) => found.push(violation),
        Ok(by_events) if by_events != history.status => {
            found.push(Violation::WrongStatus { dispatch: dispatch(), status: history.status, by_events });
        }
        Ok(DispatchStatus::Completed) if ending == Ending::Drained && count(EventType::PaymentCompleted) == 0 => {
            found.push(Violation::Unpaid { dispatch: dispatch() });
        }
        Ok(_) => {}
    }
    found
}

/// The status that the events lead to.
fn follow(history: &History) -> Result<DispatchStatus, Violation> {
    let mut before: Option<EventType> = None;
    let mut status = DispatchStatus::Requested;
    for (event, _) in &history.events {
        if !may_follow(before, *event) {
            return Err(Violation::IllegalOrder { dispatch: history.dispatch.clone(), event: *event, after: before });
        }
        status = match event {
            EventType::Created | EventType::DriverAssigned | EventType::DriverRejected => DispatchStatus::Requested,
            EventType::DriverAccepted | EventType::PickupStarted | EventType::DriverArrived => DispatchStatus::Accepted,
            EventType::PassengerPickedUp | EventType::TripStarted => DispatchStatus::InProgress,
            EventType::TripCompleted | EventType::PaymentCompleted => DispatchStatus::Completed,
            EventType::CancelledByUser
            | EventType::CancelledByDriver
            | EventType::CancelledBySystem
            | EventType::CancelledByOperations => DispatchStatus::Cancelled,
            // They say more about the event before them.
            EventType::ReviewRequested
            | EventType::EndedFarFromDestination
            | EventType::CompletedByOperations
            | EventType::ReleasedByOperations
            | EventType::ReviewClosed
            | EventType::NoSignOfLife => continue,
        };
        before = Some(*event);
    }
    Ok(status)
}

/// Whether an event may directly follow another. Offers alternate with their outcomes. A driver may skip steps of a
/// trip, but never goes back. Nothing follows a cancellation, and only the payment follows the end of a trip.
fn may_follow(before: Option<EventType>, event: EventType) -> bool {
    use EventType as E;
    let Some(before) = before else { return event == E::Created };
    let searching = matches!(before, E::Created | E::DriverRejected);
    let accepted = matches!(before, E::DriverAccepted | E::PickupStarted | E::DriverArrived);
    match event {
        E::Created => false,
        E::DriverAssigned => searching,
        // No driver was found, or the ride gave no sign of life.
        E::CancelledBySystem => searching || accepted,
        E::DriverAccepted | E::DriverRejected => before == E::DriverAssigned,
        E::PickupStarted => before == E::DriverAccepted,
        E::DriverArrived => matches!(before, E::DriverAccepted | E::PickupStarted),
        E::PassengerPickedUp | E::CancelledByDriver => accepted,
        E::TripStarted => before == E::PassengerPickedUp,
        E::TripCompleted => matches!(before, E::PassengerPickedUp | E::TripStarted),
        E::PaymentCompleted | E::EndedFarFromDestination | E::CompletedByOperations => before == E::TripCompleted,
        E::CancelledByUser => searching || accepted || before == E::DriverAssigned,
        E::CancelledByOperations => before != E::TripCompleted && before != E::PaymentCompleted,
        E::ReviewRequested | E::ReviewClosed | E::ReleasedByOperations | E::NoSignOfLife => true,
    }
}

/// Time for which the store repeats a write whose answer was lost, s. The times of its events are those of the
/// decision, so an acceptance may be dated before the end of the ride after which it was stored.
const REPEATED_FOR_SECONDS: i64 = 1;

/// Drivers who were on two dispatches at the same time, from acceptance to the end of the trip or the cancellation.
fn overlaps(histories: &[History]) -> Vec<Violation> {
    let mut rides: BTreeMap<&str, Vec<(i64, i64, &str)>> = BTreeMap::new();
    for history in histories {
        let Some(driver) = &history.driver else { continue };
        let second_of = |wanted: &[EventType]| {
            history.events.iter().find(|(event, _)| wanted.contains(event)).and_then(|(_, at)| *at)
        };
        let Some(from) = second_of(&[EventType::DriverAccepted]) else { continue };
        let ends = [EventType::TripCompleted, EventType::CancelledByUser, EventType::CancelledByDriver];
        let to = second_of(&ends).unwrap_or(i64::MAX);
        rides.entry(driver).or_default().push((from, to, &history.dispatch));
    }
    let mut found = Vec::new();
    for (driver, mut rides) in rides {
        // Rides that start within the same second are sorted by their end, so that one that ended immediately is not
        // taken for an overlap with the longer one.
        rides.sort_unstable();
        let mut latest: Option<(i64, &str)> = None;
        for (start, end, dispatch) in rides {
            if let Some((busy_until, first)) = latest.filter(|(until, _)| start < until - REPEATED_FOR_SECONDS) {
                found.push(Violation::TwoLiveDispatches {
                    driver: driver.to_owned(),
                    first: first.to_owned(),
                    second: dispatch.to_owned(),
                });
                latest = Some(if end > busy_until { (end, dispatch) } else { (busy_until, first) });
            } else {
                latest = Some((end, dispatch));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    use EventType as E;

    fn history(dispatch: &str, status: DispatchStatus, events: &[(E, i64)]) -> History {
        History {
            dispatch: dispatch.to_owned(),
            driver: Some("driver#1".to_owned()),
            status,
            offer_seq: events.iter().filter(|(event, _)| *event == E::DriverAssigned).count().try_into().unwrap(),
            events: events.iter().map(|(event, at)| (*event, Some(*at))).collect(),
        }
    }

    fn ride(dispatch: &str, from: i64, to: i64) -> History {
        let events = [
            (E::Created, from - 2),
            (E::DriverAssigned, from - 1),
            (E::DriverAccepted, from),
            (E::PickupStarted, from),
            (E::DriverArrived, from),
            (E::PassengerPickedUp, from),
            (E::TripStarted, from),
            (E::TripCompleted, to),
            (E::PaymentCompleted, to),
        ];
        history(dispatch, DispatchStatus::Completed, &events)
    }

    fn found(histories: &[History]) -> Vec<Violation> {
        audit(histories, &[], Ending::Drained)
    }

    #[test]
    fn valid_histories_are_clean() {
        let rejected_then_accepted = history(
            "d2",
            DispatchStatus::Cancelled,
            &[
                (E::Created, 50),
                (E::DriverAssigned, 50),
                (E::DriverRejected, 51),
                (E::DriverAssigned, 51),
                (E::DriverAccepted, 52),
                (E::PickupStarted, 53),
                (E::CancelledByDriver, 54),
            ],
        );
        let cancelled_while_offered = history(
            "d3",
            DispatchStatus::Cancelled,
            &[(E::Created, 60), (E::DriverAssigned, 60), (E::CancelledByUser, 61)],
        );
        let unmatched = history(
            "d4",
            DispatchStatus::Cancelled,
            &[(E::Created, 60), (E::DriverAssigned, 60), (E::DriverRejected, 75), (E::CancelledBySystem, 120)],
        );
        let skipped_steps = history(
            "d5",
            DispatchStatus::Completed,
            &[
                (E::Created, 60),
                (E::DriverAssigned, 60),
                (E::DriverAccepted, 62),
                (E::PassengerPickedUp, 63),
                (E::TripCompleted, 70),
                (E::PaymentCompleted, 70),
            ],
        );
        let all = [ride("d1", 10, 20), rejected_then_accepted, cancelled_while_offered, unmatched, skipped_steps];
        assert_eq!(found(&all), []);
        let free = DriverEnd { driver: "driver#1".to_owned(), status: PersonStatus::Active, dispatch: None };
        assert_eq!(audit(&all, &[free], Ending::Drained), []);
    }

    #[test]
    fn a_driver_on_two_dispatches_is_found_in_any_order() {
        let expected = Violation::TwoLiveDispatches {
            driver: "driver#1".to_owned(),
            first: "d1".to_owned(),
            second: "d2".to_owned(),
        };
        assert_eq!(found(&[ride("d2", 15, 25), ride("d1", 10, 20)]), std::slice::from_ref(&expected));
        assert_eq!(expected.to_string(), "driver#1 was on d1 and d2 at the same time");
        let (long, short, later) = (ride("d1", 10, 90), ride("d2", 12, 13), ride("d3", 50, 60));
        assert_eq!(found(&[short, later, long]).len(), 2, "a long ride overlaps every ride that starts within it");
    }

    #[test]
    fn rides_that_meet_within_one_second_are_no_violation() {
        assert_eq!(found(&[ride("d1", 10, 20), ride("d2", 20, 30)]), []);
        assert_eq!(found(&[ride("d2", 20, 30), ride("d1", 20, 20)]), [], "one of them took less than a second");
        assert_eq!(found(&[ride("d1", 10, 20), ride("d2", 19, 30)]), [], "a write was repeated for a second");
        let mut other = ride("d2", 15, 25);
        other.driver = Some("driver#2".to_owned());
        assert_eq!(found(&[ride("d1", 10, 20), other]), []);
    }

    #[test]
    fn a_ride_that_never_ends_overlaps_what_follows() {
        let open = history(
            "d1",
            DispatchStatus::Accepted,
            &[(E::Created, 8), (E::DriverAssigned, 9), (E::DriverAccepted, 10)],
        );
        let found = audit(&[open, ride("d2", 40, 50)], &[], Ending::Interrupted);
        assert!(matches!(&found[..], [Violation::TwoLiveDispatches { .. }]), "{found:?}");
    }

    #[test]
    fn a_dispatch_accepted_twice_is_found() {
        let events = [(E::Created, 1), (E::DriverAssigned, 1), (E::DriverAccepted, 2), (E::DriverAccepted, 2)];
        let found = found(&[history("d1", DispatchStatus::Accepted, &events)]);
        assert!(found.contains(&Violation::AcceptedTwice { dispatch: "d1".to_owned(), times: 2 }), "{found:?}");
    }

    #[test]
    fn offers_alternate_with_their_outcomes() {
        for (events, event, after) in [
            (vec![E::Created, E::DriverAssigned, E::DriverAssigned], E::DriverAssigned, Some(E::DriverAssigned)),
            (vec![E::Created, E::DriverRejected], E::DriverRejected, Some(E::Created)),
            (vec![E::Created, E::DriverAccepted], E::DriverAccepted, Some(E::Created)),
            (vec![E::Created, E::CancelledByUser, E::DriverAssigned], E::DriverAssigned, Some(E::CancelledByUser)),
            (vec![E::DriverAssigned], E::DriverAssigned, None),
        ] {
            let events: Vec<_> = events.into_iter().map(|event| (event, 1)).collect();
            let found = audit(&[history("d1", DispatchStatus::Requested, &events)], &[], Ending::Interrupted);
            let expected = Violation::IllegalOrder { dispatch: "d1".to_owned(), event, after };
            assert_eq!(found, [expected]);
        }
    }

    #[test]
    fn an_open_request_is_a_violation_only_if_it_had_time_to_end() {
        let open = history("d1", DispatchStatus::Requested, &[(E::Created, 1)]);
        let expected = Violation::NotTerminal { dispatch: "d1".to_owned(), status: DispatchStatus::Requested };
        assert_eq!(found(std::slice::from_ref(&open)), [expected]);
        assert_eq!(audit(&[open], &[], Ending::Interrupted), []);
    }

    #[test]
    fn status_fence_driver_payment_and_times_are_checked() {
        let dispatch = || "d1".to_owned();
        let mut wrong = ride("d1", 10, 20);
        wrong.status = DispatchStatus::Cancelled;
        let by_events = DispatchStatus::Completed;
        let status = DispatchStatus::Cancelled;
        assert_eq!(found(&[wrong]), [Violation::WrongStatus { dispatch: dispatch(), status, by_events }]);

        let mut unfenced = ride("d1", 10, 20);
        unfenced.offer_seq = 2;
        assert_eq!(found(&[unfenced]), [Violation::Unfenced { dispatch: dispatch(), offer_seq: 2, offers: 1 }]);

        let mut driverless = ride("d1", 10, 20);
        driverless.driver = None;
        assert_eq!(found(&[driverless]), [Violation::NoDriver { dispatch: dispatch() }]);

        let mut unpaid = ride("d1", 10, 20);
        unpaid.events.pop();
        assert_eq!(found(&[unpaid]), [Violation::Unpaid { dispatch: dispatch() }]);

        let mut timeless = ride("d1", 10, 20);
        timeless.events[0].1 = None;
        let event = EventType::Created;
        assert_eq!(found(&[timeless]), [Violation::BadTimestamp { dispatch: dispatch(), event }]);
    }

    #[test]
    fn a_driver_who_is_not_free_at_the_end_is_found() {
        let busy = DriverEnd {
            driver: "driver#1".to_owned(),
            status: PersonStatus::Dispatched,
            dispatch: Some("d1".to_owned()),
        };
        let found = audit(&[], std::slice::from_ref(&busy), Ending::Drained);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "driver#1 is Dispatched on d1 at the end");
        assert_eq!(audit(&[], &[busy], Ending::Interrupted), []);
    }
}
