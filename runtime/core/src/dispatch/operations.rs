//! What operations do to a dispatch.

use super::completion::completed;
use super::transition::{cancelled, change, let_driver_go, unchanged};
use super::{
    Companion, Dispatch, DispatchStatus, EventType, FollowUp, Notice, OperationsAction, Recipient, Record, Refusal,
    Rules, Step,
};
use crate::meter::Bill;

/// Decides what an action of operations does. Repeating an action that took effect changes nothing.
pub(super) fn by_operations(
    dispatch: &Dispatch,
    action: OperationsAction,
    note: &str,
    rules: Rules<'_>,
) -> Result<Step, Refusal> {
    match action {
        OperationsAction::Cancel => cancel(dispatch, note, rules),
        OperationsAction::Complete(bill) => complete(dispatch, bill, note, rules),
        OperationsAction::Release => release(dispatch, note, rules),
        OperationsAction::CloseReview => Ok(close_review(dispatch, note, rules)),
    }
}

fn cancel(dispatch: &Dispatch, note: &str, rules: Rules<'_>) -> Result<Step, Refusal> {
    match dispatch.status {
        DispatchStatus::Cancelled => return Ok(unchanged(dispatch, Vec::new())),
        DispatchStatus::Completed => return Err(Refusal::WrongStatus(dispatch.status)),
        DispatchStatus::Requested | DispatchStatus::Accepted | DispatchStatus::InProgress => {}
    }
    let mut step = cancelled(dispatch, EventType::CancelledByOperations, format!("운영자 취소 - {note}"), rules);
    let_driver_go(dispatch, &mut step);
    let driver = dispatch.driver.clone().map(Recipient::Driver);
    notify(&mut step, [Some(Recipient::User(dispatch.user.clone())), driver].into_iter().flatten());
    Ok(step)
}

fn complete(dispatch: &Dispatch, bill: Bill, note: &str, rules: Rules<'_>) -> Result<Step, Refusal> {
    match (dispatch.status, &dispatch.driver) {
        (DispatchStatus::InProgress, Some(driver)) => {
            let mut step = completed(dispatch, driver, bill, rules);
            let details = format!("운영자 운행 종료 - {note}").into();
            step.records.push(Record { record_type: EventType::CompletedByOperations, at: rules.now, details });
            // The user receives the fares.
            notify(&mut step, [Recipient::Driver(driver.clone())]);
            Ok(step)
        }
        (DispatchStatus::Completed, _) => Ok(unchanged(dispatch, Vec::new())),
        (other, _) => Err(Refusal::WrongStatus(other)),
    }
}

/// The people themselves are freed by the caller, because their profiles and not the dispatch say that they are on it.
fn release(dispatch: &Dispatch, note: &str, rules: Rules<'_>) -> Result<Step, Refusal> {
    if !dispatch.status.is_terminal() {
        return Err(Refusal::WrongStatus(dispatch.status));
    }
    Ok(change(dispatch, EventType::ReleasedByOperations, format!("운영자 배차 해제 - {note}"), rules))
}

fn close_review(dispatch: &Dispatch, note: &str, rules: Rules<'_>) -> Step {
    if dispatch.review.is_none() {
        return unchanged(dispatch, Vec::new());
    }
    let mut step = change(dispatch, EventType::ReviewClosed, format!("확인 완료 - {note}"), rules);
    step.state.review = None;
    step.companions.push(Companion::CloseReview);
    step
}

fn notify(step: &mut Step, recipients: impl IntoIterator<Item = Recipient>) {
    let notices = recipients.into_iter().map(|it| FollowUp::Notify(Notice::EndedByOperations(it)));
    step.follow_ups.extend(notices);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::{Event, TripEvent, TripTotals, step};
    use crate::ids::{DispatchId, DriverId, UserId};
    use crate::meter::ReviewReason;
    use crate::policy::DispatchPolicy;
    use crate::time::EpochMs;

    fn dispatch(status: DispatchStatus) -> Dispatch {
        let riding = matches!(status, DispatchStatus::InProgress | DispatchStatus::Completed);
        Dispatch {
            id: DispatchId::from_suffix("1").unwrap(),
            user: UserId::from_suffix("2").unwrap(),
            driver: Some(driver()),
            status,
            offer_seq: 1,
            ver: 4,
            created_at: EpochMs(0),
            pickup: crate::geo::Coordinate::new(37.5, 127.0).unwrap(),
            estimated_fare: 12_000,
            matching: crate::dispatch::Matching::default(),
            last_trip_event: riding.then_some(TripEvent::PassengerPickedUp),
            trip_started_at: riding.then_some(EpochMs(0)),
            review: None,
        }
    }

    fn driver() -> DriverId {
        DriverId::from_suffix("3").unwrap()
    }

    fn act(before: &Dispatch, action: OperationsAction) -> Result<Step, Refusal> {
        let event = Event::ByOperations { action, note: "console: 사고".to_owned() };
        step(before, event, Rules { policy: &DispatchPolicy::default(), now: EpochMs(9) })
    }

    fn bill() -> Bill {
        TripTotals { fare: 12_000, distance_m: 2500, duration_s: 900 }.into()
    }

    #[test]
    fn operations_cancel_in_every_status_that_is_not_final() {
        use DispatchStatus as S;
        for status in [S::Requested, S::Accepted, S::InProgress] {
            let cancelled = act(&dispatch(status), OperationsAction::Cancel).unwrap();
            assert_eq!((cancelled.state.status, cancelled.state.ver), (S::Cancelled, 5));
            assert_eq!(cancelled.records[0].details, "운영자 취소 - console: 사고");
            let frees_driver = cancelled.companions.contains(&Companion::FreeDriver(driver()));
            let releases = cancelled.follow_ups.contains(&FollowUp::ReleaseHold(driver()));
            assert_eq!((frees_driver, releases), (status != S::Requested, status == S::Requested), "{status:?}");
            assert!(cancelled.companions.contains(&Companion::FreeUser(dispatch(status).user)));
            let notices = cancelled.follow_ups.iter().filter(|it| matches!(it, FollowUp::Notify(_))).count();
            assert_eq!(notices, 2, "both are notified");
            assert!(!act(&cancelled.state, OperationsAction::Cancel).unwrap().changed, "repeated");
        }
        let over = act(&dispatch(S::Completed), OperationsAction::Cancel);
        assert_eq!(over, Err(Refusal::WrongStatus(S::Completed)));
    }

    #[test]
    fn operations_complete_a_ride_in_progress_only() {
        use DispatchStatus as S;
        let done = act(&dispatch(S::InProgress), OperationsAction::Complete(bill())).unwrap();
        let records: Vec<EventType> = done.records.iter().map(|record| record.record_type).collect();
        assert_eq!(records, [EventType::TripCompleted, EventType::CompletedByOperations]);
        assert_eq!((done.state.status, done.state.last_trip_event), (S::Completed, Some(TripEvent::TripCompleted)));
        assert!(!act(&done.state, OperationsAction::Complete(bill())).unwrap().changed, "repeated");
        for status in [S::Requested, S::Accepted, S::Cancelled] {
            let refused = act(&dispatch(status), OperationsAction::Complete(bill()));
            assert_eq!(refused, Err(Refusal::WrongStatus(status)));
        }
    }

    #[test]
    fn people_are_released_from_a_dispatch_that_is_over_only() {
        use DispatchStatus as S;
        for status in [S::Completed, S::Cancelled] {
            let released = act(&dispatch(status), OperationsAction::Release).unwrap();
            assert_eq!((released.state.status, released.companions.len()), (status, 0));
            assert_eq!(released.records[0].record_type, EventType::ReleasedByOperations);
        }
        for status in [S::Requested, S::Accepted, S::InProgress] {
            assert_eq!(act(&dispatch(status), OperationsAction::Release), Err(Refusal::WrongStatus(status)));
        }
    }

    #[test]
    fn a_review_is_closed_once() {
        let open = Dispatch { review: Some(ReviewReason::NoTrace), ..dispatch(DispatchStatus::Completed) };
        let closed = act(&open, OperationsAction::CloseReview).unwrap();
        assert_eq!((closed.state.review, closed.companions), (None, vec![Companion::CloseReview]));
        assert_eq!(closed.state.status, DispatchStatus::Completed);
        assert!(!act(&closed.state, OperationsAction::CloseReview).unwrap().changed);
    }
}
