//! The end of a trip.

use super::transition::{change, unchanged};
use super::{
    Companion, Dispatch, DispatchStatus, EventType, FollowUp, Notice, Record, Refusal, Rules, Step, TripEvent,
};
use crate::ids::DriverId;
use crate::meter::{Bill, ReviewReason};

/// The driver reports the end.
pub(super) fn by_driver(dispatch: &Dispatch, driver: &DriverId, bill: Bill, rules: Rules<'_>) -> Result<Step, Refusal> {
    if dispatch.driver.as_ref() != Some(driver) {
        return Err(Refusal::NotYours);
    }
    match dispatch.status {
        DispatchStatus::InProgress => Ok(completed(dispatch, driver, bill, rules)),
        DispatchStatus::Completed => Ok(unchanged(dispatch, Vec::new())),
        other => Err(Refusal::WrongStatus(other)),
    }
}

/// Completes a ride in progress.
pub(super) fn completed(dispatch: &Dispatch, driver: &DriverId, bill: Bill, rules: Rules<'_>) -> Step {
    let mut step = change(dispatch, EventType::TripCompleted, "운행 완료", rules);
    step.state.status = DispatchStatus::Completed;
    step.state.last_trip_event = Some(TripEvent::TripCompleted);
    step.companions = vec![
        Companion::FreeUser(dispatch.user.clone()),
        Companion::FreeDriver(driver.clone()),
        Companion::UserHistory(dispatch.user.clone()),
        Companion::CompletedRide(driver.clone(), bill),
    ];
    if let Some(metered) = bill.metered_fare.filter(|_| bill.is_far) {
        let estimated = dispatch.estimated_fare;
        let details = format!("목적지에서 먼 곳에서 운행 종료 - 예상 요금 {estimated}, 미터 요금 {metered}");
        let record_type = EventType::EndedFarFromDestination;
        step.records.push(Record { record_type, at: rules.now, details: details.into() });
    }
    if let Some(reason) = bill.review {
        request_review(&mut step, reason, rules);
    }
    let notice = Notice::TripProgress(dispatch.user.clone(), TripEvent::TripCompleted);
    step.follow_ups.push(FollowUp::Notify(notice));
    step
}

/// Asks operations for a review, and says so in the events of the dispatch.
fn request_review(step: &mut Step, reason: ReviewReason, rules: Rules<'_>) {
    let details = match reason {
        ReviewReason::NoTrace => "요금 확인 필요 - 운행 경로 없음",
        ReviewReason::TraceGap => "요금 확인 필요 - 운행 경로 누락",
        ReviewReason::TooFast => "요금 확인 필요 - 운행 경로 이상",
        ReviewReason::FareAboveEstimate => "요금 확인 필요 - 예상 요금 초과",
        ReviewReason::NoSignOfLife => "확인 필요 - 운행 신호 없음",
    };
    step.records.push(Record { record_type: EventType::ReviewRequested, at: rules.now, details: details.into() });
    list_for_review(step, reason);
}

/// Lists a dispatch for a review.
pub(super) fn list_for_review(step: &mut Step, reason: ReviewReason) {
    step.state.review = Some(reason);
    step.companions.push(Companion::OpenReview(reason));
}
