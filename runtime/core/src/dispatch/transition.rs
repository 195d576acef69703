//! Building blocks of transitions.

use std::borrow::Cow;

use super::guard::{Guard, stands};
use super::{Companion, Dispatch, DispatchStatus, EventType, FollowUp, Record, Rules, Step};

/// A step without a change to store.
pub(super) fn unchanged(dispatch: &Dispatch, follow_ups: Vec<FollowUp>) -> Step {
    Step { state: dispatch.clone(), records: Vec::new(), changed: false, companions: Vec::new(), follow_ups }
}

/// A step that starts from `before` with a new version and one record.
pub(super) fn change(
    before: &Dispatch,
    record_type: EventType,
    details: impl Into<Cow<'static, str>>,
    rules: Rules<'_>,
) -> Step {
    let mut state = before.clone();
    if stands(Guard::VersionCounts) {
        state.ver += 1;
    }
    Step {
        state,
        records: vec![Record { record_type, at: rules.now, details: details.into() }],
        changed: true,
        companions: Vec::new(),
        follow_ups: Vec::new(),
    }
}

pub(super) fn close_offer(state: &mut Dispatch) {
    state.matching.offered_at = None;
    state.matching.timeout_at = None;
}

pub(super) fn cancelled(
    dispatch: &Dispatch,
    record_type: EventType,
    details: impl Into<Cow<'static, str>>,
    rules: Rules<'_>,
) -> Step {
    let mut step = change(dispatch, record_type, details, rules);
    step.state.status = DispatchStatus::Cancelled;
    close_offer(&mut step.state);
    step.state.matching.candidates.clear();
    if stands(Guard::CancelledFreesUser) {
        step.companions.push(Companion::FreeUser(dispatch.user.clone()));
    }
    step.companions.push(Companion::UserHistory(dispatch.user.clone()));
    step
}

/// Lets the driver of a dispatch go that was cancelled by a step: the driver of the ride becomes free, and the one who
/// has the open offer is no longer reserved.
pub(super) fn let_driver_go(before: &Dispatch, step: &mut Step) {
    let Some(driver) = &before.driver else { return };
    if before.status == DispatchStatus::Requested {
        step.state.driver = None;
        step.follow_ups.push(FollowUp::ReleaseHold(driver.clone()));
    } else {
        step.companions.push(Companion::FreeDriver(driver.clone()));
    }
}
