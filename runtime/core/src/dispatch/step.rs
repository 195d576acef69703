//! The transition function. For `stands(Guard::…)` see [`guard`](super::guard).

use super::guard::{Guard, stands};
use super::transition::{cancelled, change, close_offer, let_driver_go, unchanged};
use super::{
    CandidateRef, Companion, Dispatch, DispatchStatus, Event, EventType, FollowUp, Notice, OfferOutcome, Refusal,
    Rules, SEARCH_PAUSE_MS, Step, TripEvent, completion, operations, silence,
};
use crate::ids::{DriverId, UserId};

/// Decides what `event` does to `dispatch`.
///
/// A repeated event that already took effect (the same driver accepts the same offer again, the same trip event is
/// reported again) gives an unchanged [`Step`], so that a client that lost the answer gets it again.
pub fn step(dispatch: &Dispatch, event: Event, rules: Rules<'_>) -> Result<Step, Refusal> {
    match event {
        Event::Wake => Ok(wake(dispatch, rules)),
        Event::CandidatesFound(found) => Ok(candidates_found(dispatch, found, rules)),
        Event::DriverBusy(driver) => Ok(driver_busy(dispatch, &driver, rules)),
        Event::DriverHeld(driver) => Ok(driver_held(dispatch, &driver, rules)),
        Event::Accept { driver, offer_seq } => accept(dispatch, driver, offer_seq, rules),
        Event::AcceptImpossible { driver, offer_seq } => {
            live_offer_of(dispatch, &driver, offer_seq)?;
            Ok(void_offer(dispatch, driver, rules))
        }
        Event::Reject { driver, offer_seq } => {
            live_offer_of(dispatch, &driver, offer_seq)?;
            Ok(end_offer(dispatch, driver, OfferOutcome::Rejected, rules))
        }
        Event::OfferTimedOut { offer_seq } => timed_out(dispatch, offer_seq, rules),
        Event::CancelByUser { user } => cancel_by_user(dispatch, &user, rules),
        Event::CancelByDriver { driver } => cancel_by_driver(dispatch, driver, rules),
        Event::Trip { driver, event } => trip(dispatch, &driver, event, rules),
        Event::TripCompleted { driver, bill } => completion::by_driver(dispatch, &driver, bill, rules),
        Event::Silence(silence) => Ok(silence::judged(dispatch, silence, rules)),
        Event::ByOperations { action, note } => operations::by_operations(dispatch, action, &note, rules),
    }
}

fn wake(dispatch: &Dispatch, rules: Rules<'_>) -> Step {
    if dispatch.status != DispatchStatus::Requested {
        return unchanged(dispatch, Vec::new());
    }
    if let Some(driver) = dispatch.driver.as_ref().filter(|_| stands(Guard::OneOfferAtATime)) {
        let ends_at = dispatch.matching.offer_ends_at(rules.now);
        let expired = rules.now >= ends_at || !stands(Guard::OfferLastsItsTime);
        return if expired {
            end_offer(dispatch, driver.clone(), OfferOutcome::TimedOut, rules)
        } else {
            unchanged(dispatch, Vec::new())
        };
    }
    if attempts_used_up(dispatch) {
        return fail(dispatch, rules);
    }
    match dispatch.matching.candidates.first() {
        Some(next) if dispatch.matching.are_candidates_fresh(rules.now) => {
            unchanged(dispatch, vec![FollowUp::Hold(next.driver_id.clone())])
        }
        _ => unchanged(dispatch, vec![FollowUp::Search]),
    }
}

fn attempts_used_up(dispatch: &Dispatch) -> bool {
    dispatch.matching.current_attempt >= dispatch.matching.max_attempts && stands(Guard::AttemptsAreBounded)
}

fn waits_for_a_candidate(dispatch: &Dispatch) -> bool {
    let offered = dispatch.driver.is_some() && stands(Guard::OneOfferAtATime);
    dispatch.status == DispatchStatus::Requested && !offered && !attempts_used_up(dispatch)
}

fn candidates_found(dispatch: &Dispatch, mut found: Vec<CandidateRef>, rules: Rules<'_>) -> Step {
    if !waits_for_a_candidate(dispatch) {
        return unchanged(dispatch, Vec::new());
    }
    if stands(Guard::AskedOnce) {
        found.retain(|candidate| !dispatch.matching.asked.contains(&candidate.driver_id));
    }
    let Some(first) = found.first().map(|candidate| candidate.driver_id.clone()) else {
        return no_driver_free(dispatch, rules);
    };
    let mut step = unchanged(dispatch, vec![FollowUp::Hold(first)]);
    step.state.matching.candidates = found;
    step.state.matching.searched_at = Some(rules.now);
    step
}

fn driver_busy(dispatch: &Dispatch, driver: &DriverId, rules: Rules<'_>) -> Step {
    if !waits_for_a_candidate(dispatch) {
        return unchanged(dispatch, Vec::new());
    }
    let mut rest = dispatch.clone();
    rest.matching.candidates.retain(|candidate| candidate.driver_id != *driver);
    match rest.matching.candidates.first().map(|candidate| candidate.driver_id.clone()) {
        Some(next) => unchanged(&rest, vec![FollowUp::Hold(next)]),
        None => no_driver_free(&rest, rules),
    }
}

/// No driver is available now: search again until the search budget ends. A dispatch that was offered before fails by
/// the same clock, so that every request ends in bounded time.
fn no_driver_free(dispatch: &Dispatch, rules: Rules<'_>) -> Step {
    if dispatch.matching.is_search_repeated(rules.now) {
        unchanged(dispatch, vec![FollowUp::WakeAfter { delay_ms: SEARCH_PAUSE_MS }])
    } else {
        fail(dispatch, rules)
    }
}

fn driver_held(dispatch: &Dispatch, driver: &DriverId, rules: Rules<'_>) -> Step {
    let listed = dispatch.matching.candidates.iter().find(|candidate| candidate.driver_id == *driver).cloned();
    let Some(candidate) = listed.filter(|_| waits_for_a_candidate(dispatch)) else {
        return unchanged(dispatch, vec![FollowUp::ReleaseHold(driver.clone())]);
    };
    let timeout_at = rules.now.plus_ms(rules.policy.offer_timeout_ms);
    let mut step = change(dispatch, EventType::DriverAssigned, "드라이버 배정 완료", rules);
    step.state.driver = Some(driver.clone());
    if stands(Guard::OfferNumberGrows) {
        step.state.offer_seq += 1;
    }
    let matching = &mut step.state.matching;
    matching.candidates.retain(|other| other.driver_id != *driver);
    matching.asked.push(driver.clone());
    matching.current_attempt += 1;
    matching.offered_at = Some(rules.now);
    matching.timeout_at = Some(timeout_at);
    let offer_seq = step.state.offer_seq;
    step.follow_ups.push(FollowUp::Offer { driver: driver.clone(), offer_seq, offered_at: rules.now, timeout_at });
    if candidate.auto_accept && rules.policy.auto_accept {
        step.follow_ups.push(FollowUp::AcceptAtOnce { driver: driver.clone(), offer_seq });
    }
    step
}

/// Authorises an answer: it must come from this driver, for this offer, while the offer is open.
fn live_offer_of(dispatch: &Dispatch, driver: &DriverId, offer_seq: u32) -> Result<(), Refusal> {
    if dispatch.driver.as_ref() != Some(driver) && stands(Guard::OfferedDriverAnswers) {
        let was_asked = dispatch.matching.asked.contains(driver);
        return Err(if was_asked { Refusal::OfferOver } else { Refusal::NotYours });
    }
    let open = dispatch.status == DispatchStatus::Requested || !stands(Guard::OpenRequestIsAnswered);
    let live = dispatch.offer_seq == offer_seq || !stands(Guard::LiveOfferIsAnswered);
    if !open || !live {
        return Err(Refusal::OfferOver);
    }
    Ok(())
}

fn accept(dispatch: &Dispatch, driver: DriverId, offer_seq: u32, rules: Rules<'_>) -> Result<Step, Refusal> {
    let already = dispatch.driver.as_ref() == Some(&driver)
        && dispatch.offer_seq == offer_seq
        && matches!(dispatch.status, DispatchStatus::Accepted | DispatchStatus::InProgress | DispatchStatus::Completed);
    if already {
        return Ok(unchanged(dispatch, Vec::new()));
    }
    live_offer_of(dispatch, &driver, offer_seq)?;
    let mut step = change(dispatch, EventType::DriverAccepted, "드라이버 수락", rules);
    step.state.status = DispatchStatus::Accepted;
    close_offer(&mut step.state);
    step.state.matching.candidates.clear();
    if stands(Guard::AcceptOccupiesDriver) {
        step.companions.push(Companion::OccupyDriver(driver.clone()));
    }
    step.follow_ups.push(FollowUp::OfferEnded { driver, offer_seq, outcome: OfferOutcome::Accepted });
    Ok(step)
}

fn timed_out(dispatch: &Dispatch, offer_seq: u32, rules: Rules<'_>) -> Result<Step, Refusal> {
    let its_own = dispatch.offer_seq == offer_seq || !stands(Guard::TimerEndsItsOwnOffer);
    match &dispatch.driver {
        Some(driver) if dispatch.status == DispatchStatus::Requested && its_own => {
            Ok(end_offer(dispatch, driver.clone(), OfferOutcome::TimedOut, rules))
        }
        _ => Err(Refusal::OfferOver),
    }
}

/// Ends the open offer without a ride. The search continues because the stored change appears in the stream.
fn end_offer(dispatch: &Dispatch, driver: DriverId, outcome: OfferOutcome, rules: Rules<'_>) -> Step {
    let details = match outcome {
        OfferOutcome::TimedOut => "응답 시간 초과 - 다음 드라이버 검색 중",
        OfferOutcome::Accepted | OfferOutcome::Rejected => "드라이버 거절 - 다음 드라이버 검색 중",
    };
    let mut step = change(dispatch, EventType::DriverRejected, details, rules);
    if stands(Guard::EndedOfferHasNoDriver) {
        step.state.driver = None;
    }
    close_offer(&mut step.state);
    step.follow_ups.push(FollowUp::OfferEnded { driver, offer_seq: dispatch.offer_seq, outcome });
    step
}

/// Ends the open offer of a driver who turned out not to be free. The driver did not answer, so nothing is counted or
/// announced.
fn void_offer(dispatch: &Dispatch, driver: DriverId, rules: Rules<'_>) -> Step {
    let details = "드라이버 배정 불가 - 다음 드라이버 검색 중";
    let mut step = change(dispatch, EventType::DriverRejected, details, rules);
    step.state.driver = None;
    close_offer(&mut step.state);
    step.follow_ups.push(FollowUp::ReleaseHold(driver));
    step
}

/// Cancels a dispatch that found no driver (`handleDispatchFailure` in spec §8).
fn fail(dispatch: &Dispatch, rules: Rules<'_>) -> Step {
    let mut step =
        cancelled(dispatch, EventType::CancelledBySystem, "배차 실패: 이용 가능한 드라이버가 없습니다", rules);
    step.follow_ups.push(FollowUp::Notify(Notice::DispatchFailed(dispatch.user.clone())));
    step
}

fn cancel_by_user(dispatch: &Dispatch, user: &UserId, rules: Rules<'_>) -> Result<Step, Refusal> {
    if dispatch.user != *user {
        return Err(Refusal::NotYours);
    }
    if dispatch.status == DispatchStatus::Cancelled {
        return Ok(unchanged(dispatch, Vec::new()));
    }
    let riding = dispatch.status == DispatchStatus::InProgress && stands(Guard::RideIsNotCancelled);
    if riding || dispatch.status == DispatchStatus::Completed {
        return Err(Refusal::WrongStatus(dispatch.status));
    }
    let mut step = cancelled(dispatch, EventType::CancelledByUser, "사용자 취소", rules);
    if let Some(driver) = &dispatch.driver {
        let_driver_go(dispatch, &mut step);
        step.follow_ups.push(FollowUp::Notify(Notice::UserCancelled(driver.clone())));
    }
    Ok(step)
}

fn cancel_by_driver(dispatch: &Dispatch, driver: DriverId, rules: Rules<'_>) -> Result<Step, Refusal> {
    if dispatch.driver.as_ref() != Some(&driver) {
        return Err(Refusal::NotYours);
    }
    match dispatch.status {
        DispatchStatus::Accepted => {
            let mut step = cancelled(dispatch, EventType::CancelledByDriver, "드라이버 취소", rules);
            step.companions.push(Companion::FreeDriver(driver));
            step.follow_ups.push(FollowUp::Notify(Notice::DriverCancelled(dispatch.user.clone())));
            Ok(step)
        }
        DispatchStatus::Cancelled => Ok(unchanged(dispatch, Vec::new())),
        other => Err(Refusal::WrongStatus(other)),
    }
}

fn trip(dispatch: &Dispatch, driver: &DriverId, event: TripEvent, rules: Rules<'_>) -> Result<Step, Refusal> {
    if dispatch.driver.as_ref() != Some(driver) {
        return Err(Refusal::NotYours);
    }
    let needed = match event {
        TripEvent::PickupStarted | TripEvent::DriverArrived | TripEvent::PassengerPickedUp => DispatchStatus::Accepted,
        TripEvent::TripStarted => DispatchStatus::InProgress,
        TripEvent::PaymentCompleted => DispatchStatus::Completed,
        // The end of a trip is a separate event with totals.
        TripEvent::TripCompleted => return Err(Refusal::OutOfOrder(dispatch.last_trip_event)),
    };
    let rides =
        matches!(dispatch.status, DispatchStatus::Accepted | DispatchStatus::InProgress | DispatchStatus::Completed);
    if rides && dispatch.last_trip_event == Some(event) {
        return Ok(unchanged(dispatch, Vec::new()));
    }
    if dispatch.status != needed {
        return Err(Refusal::WrongStatus(dispatch.status));
    }
    if dispatch.last_trip_event.is_some_and(|last| last >= event) {
        return Err(Refusal::OutOfOrder(dispatch.last_trip_event));
    }
    let (record_type, details) = match event {
        TripEvent::PickupStarted => (EventType::PickupStarted, "픽업 이동 시작"),
        TripEvent::DriverArrived => (EventType::DriverArrived, "드라이버 도착"),
        TripEvent::PassengerPickedUp => (EventType::PassengerPickedUp, "승객 탑승"),
        TripEvent::TripStarted => (EventType::TripStarted, "운행 시작"),
        TripEvent::TripCompleted | TripEvent::PaymentCompleted => (EventType::PaymentCompleted, "결제 완료"),
    };
    let mut step = change(dispatch, record_type, details, rules);
    step.state.last_trip_event = Some(event);
    if event == TripEvent::PassengerPickedUp {
        step.state.status = DispatchStatus::InProgress;
        step.state.trip_started_at = Some(rules.now);
    }
    step.follow_ups.push(FollowUp::Notify(Notice::TripProgress(dispatch.user.clone(), event)));
    Ok(step)
}
