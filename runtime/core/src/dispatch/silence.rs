//! Rides that give no sign of life: neither a position of the driver nor an event.
//!
//! Such a ride is flagged first. If it stays silent, it is ended, so that its people are free: before the pickup it is
//! cancelled, after the pickup it is completed with the estimate as its fare, and operations review it. A sign of life
//! after the flag starts the time again.

use super::completion::{completed, list_for_review};
use super::transition::{cancelled, change, let_driver_go, unchanged};
use super::{Dispatch, DispatchStatus, EventType, FollowUp, Notice, Recipient, Rules, Silence, Step};
use crate::meter::ReviewReason;

/// Decides what the silence of a ride leads to. Every process may ask: the first one to store its step decides.
pub(super) fn judged(dispatch: &Dispatch, silence: Silence, rules: Rules<'_>) -> Step {
    if !matches!(dispatch.status, DispatchStatus::Accepted | DispatchStatus::InProgress) {
        return unchanged(dispatch, Vec::new());
    }
    let policy = &rules.policy.rides;
    // Events are stored in whole seconds.
    let flagged_at = silence.flagged_at.filter(|at| *at >= silence.last_sign.whole_seconds());
    match flagged_at {
        Some(at) if rules.now.since_ms(at) >= policy.end_silent_after_ms => end(dispatch, silence, rules),
        None if rules.now.since_ms(silence.last_sign) >= policy.silent_after_ms => flag(dispatch, rules),
        _ => unchanged(dispatch, Vec::new()),
    }
}

fn flag(dispatch: &Dispatch, rules: Rules<'_>) -> Step {
    let mut step = change(dispatch, EventType::NoSignOfLife, "운행 신호 없음", rules);
    if dispatch.review.is_none() {
        list_for_review(&mut step, ReviewReason::NoSignOfLife);
    }
    step
}

fn end(dispatch: &Dispatch, silence: Silence, rules: Rules<'_>) -> Step {
    let driver = dispatch.driver.clone();
    if let (DispatchStatus::InProgress, Some(driver), Some(bill)) = (dispatch.status, &driver, silence.bill) {
        let mut step = completed(dispatch, driver, bill, rules);
        // The user receives the fares.
        notify(&mut step, [Recipient::Driver(driver.clone())]);
        return step;
    }
    let mut step = cancelled(dispatch, EventType::CancelledBySystem, "배차 취소: 운행 신호가 없습니다", rules);
    let_driver_go(dispatch, &mut step);
    let user = Recipient::User(dispatch.user.clone());
    notify(&mut step, std::iter::once(user).chain(driver.map(Recipient::Driver)));
    step
}

fn notify(step: &mut Step, recipients: impl IntoIterator<Item = Recipient>) {
    step.follow_ups.extend(recipients.into_iter().map(|it| FollowUp::Notify(Notice::EndedAsSilent(it))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::{Companion, Event, Matching, TripEvent, TripTotals, step};
    use crate::ids::{DispatchId, DriverId, UserId};
    use crate::meter::Bill;
    use crate::policy::DispatchPolicy;
    use crate::time::EpochMs;

    const FLAG_MS: i64 = 600_000;
    const END_MS: i64 = 1_800_000;

    fn ride(status: DispatchStatus) -> Dispatch {
        let riding = status == DispatchStatus::InProgress;
        Dispatch {
            id: DispatchId::from_suffix("1").unwrap(),
            user: UserId::from_suffix("2").unwrap(),
            driver: Some(DriverId::from_suffix("3").unwrap()),
            status,
            offer_seq: 1,
            ver: 4,
            created_at: EpochMs(0),
            pickup: crate::geo::Coordinate::new(37.5, 127.0).unwrap(),
            estimated_fare: 12_000,
            matching: Matching::default(),
            last_trip_event: riding.then_some(TripEvent::PassengerPickedUp),
            trip_started_at: riding.then_some(EpochMs(0)),
            review: None,
        }
    }

    fn judge(before: &Dispatch, last_sign: i64, flagged_at: Option<i64>, now: i64) -> Step {
        let totals = TripTotals { fare: 12_000, distance_m: 1000, duration_s: 60 };
        let bill = Bill { review: Some(ReviewReason::NoSignOfLife), metered_fare: None, ..totals.into() };
        let flagged_at = flagged_at.map(EpochMs);
        let silence = Silence { last_sign: EpochMs(last_sign), flagged_at, bill: Some(bill) };
        let rules = Rules { policy: &DispatchPolicy::default(), now: EpochMs(now) };
        step(before, Event::Silence(silence), rules).unwrap()
    }

    #[test]
    fn a_silent_ride_is_flagged_once_and_then_ended() {
        use DispatchStatus as S;
        for (status, ended) in [(S::Accepted, S::Cancelled), (S::InProgress, S::Completed)] {
            let before = ride(status);
            assert!(!judge(&before, 0, None, FLAG_MS - 1).changed);
            let flagged = judge(&before, 0, None, FLAG_MS);
            assert_eq!((flagged.state.status, flagged.state.review), (status, Some(ReviewReason::NoSignOfLife)));
            assert_eq!(flagged.companions, [Companion::OpenReview(ReviewReason::NoSignOfLife)]);
            let before = flagged.state;
            assert!(!judge(&before, 0, Some(FLAG_MS), FLAG_MS + END_MS - 1).changed, "flagged once");
            let over = judge(&before, 0, Some(FLAG_MS), FLAG_MS + END_MS);
            assert_eq!(over.state.status, ended);
            let frees = |wanted: &Companion| over.companions.contains(wanted);
            assert!(frees(&Companion::FreeUser(before.user.clone())));
            assert!(frees(&Companion::FreeDriver(before.driver.clone().unwrap())));
            assert_eq!(over.follow_ups.iter().filter(|it| matches!(it, FollowUp::Notify(_))).count(), 2);
            assert!(!judge(&over.state, 0, Some(FLAG_MS), 10 * END_MS).changed, "it is over");
        }
    }

    #[test]
    fn a_sign_of_life_after_the_flag_starts_the_time_again() {
        let before = Dispatch { review: Some(ReviewReason::NoSignOfLife), ..ride(DispatchStatus::InProgress) };
        let ping = FLAG_MS + 5_000;
        assert!(!judge(&before, ping, Some(FLAG_MS), FLAG_MS + END_MS).state.status.is_terminal());
        let again = judge(&before, ping, Some(FLAG_MS), ping + FLAG_MS);
        assert_eq!(again.records[0].record_type, EventType::NoSignOfLife);
        assert_eq!(again.companions, [], "listed already");
        // Events have whole seconds: a flag in the second of the last sign came after it.
        assert!(!judge(&before, FLAG_MS + 999, Some(FLAG_MS), FLAG_MS + 999 + FLAG_MS).changed);
    }

    #[test]
    fn only_rides_are_silent() {
        for status in [DispatchStatus::Requested, DispatchStatus::Completed, DispatchStatus::Cancelled] {
            assert!(!judge(&ride(status), 0, Some(0), i64::MAX).changed, "{status:?}");
        }
        let without_driver = Dispatch { driver: None, ..ride(DispatchStatus::InProgress) };
        let over = judge(&without_driver, 0, Some(FLAG_MS), FLAG_MS + END_MS);
        assert_eq!(over.state.status, DispatchStatus::Cancelled, "a ride without a driver has no bill");
    }
}
