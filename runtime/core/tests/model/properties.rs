//! The properties of the model. A property of a write is checked at the write and recorded in the state; a property of
//! a state is checked on every state.

use dispatch_core::dispatch::DispatchStatus;
use stateright::{Model, Property};

use super::promise::Promise;
use super::row::{DISPATCHES, DRIVERS, Row, Setting};
use super::state::State;
use super::task::{Cause, Task, Who};

fn is_an_edge(from: DispatchStatus, to: DispatchStatus) -> bool {
    from == to
        || matches!(
            (from, to),
            (DispatchStatus::Requested, DispatchStatus::Accepted | DispatchStatus::Cancelled)
                | (DispatchStatus::Accepted, DispatchStatus::InProgress | DispatchStatus::Cancelled)
                | (DispatchStatus::InProgress, DispatchStatus::Completed)
        )
}

/// The property that a write violates, given the table before the write.
pub(crate) fn broken_by(state: &State, task: &Task, setting: &Setting) -> Option<Promise> {
    let dispatch = usize::from(task.dispatch);
    let (before, after) = (&state.rows[dispatch], &task.after);
    let checks = [
        (is_an_edge(before.status(), after.status()), Promise::LegalEdge),
        (after.ver == before.ver + 1, Promise::VersionByOne),
        (after.attempt <= setting.attempts[dispatch], Promise::AttemptsBounded),
        (accepts_rightly(before, task), Promise::OnlyTheOfferedDriverAccepts),
        (ends_in_time(before, task), Promise::FullTime),
        (acts_rightly(before, task.cause), Promise::OnlyItsPeople),
        (is_the_first(state.given[dispatch], task.occupies), Promise::OneDriverEver),
        (!before.status().is_terminal() || !task.frees_user, Promise::NoneFreedTwice),
    ];
    let broken = checks.into_iter().find(|(kept, _)| !kept).map(|(_, promise)| promise);
    broken.or_else(|| broken_by_offer(before, after))
}

fn broken_by_offer(before: &Row, after: &Row) -> Option<Promise> {
    let offers = after.attempt > before.attempt;
    if !offers {
        return (after.offer_seq != before.offer_seq).then_some(Promise::OwnNumber);
    }
    if before.is_offered() {
        return Some(Promise::OneLiveOffer);
    }
    if after.offer_seq != before.offer_seq + 1 {
        return Some(Promise::OwnNumber);
    }
    before.asked.contains(&after.driver).then_some(Promise::AskedOnce)
}

fn accepts_rightly(before: &Row, task: &Task) -> bool {
    if task.after.status() != DispatchStatus::Accepted || before.status() == DispatchStatus::Accepted {
        return true;
    }
    let Cause::Accept(driver, offer_seq) = task.cause else { return false };
    before.is_offered() && before.driver == Some(driver) && before.offer_seq == offer_seq
}

/// An offer without an answer has had its full time, and a timer ends only its own offer.
fn ends_in_time(before: &Row, task: &Task) -> bool {
    if !before.is_offered() || task.after.is_offered() {
        return true;
    }
    match task.cause {
        Cause::Timer(offer_seq, due) => due && before.offer_seq == offer_seq,
        Cause::Sweep(due) => due,
        Cause::OldRecord(_) => false,
        _ => true,
    }
}

/// Only the people of a dispatch answer, cancel or report.
fn acts_rightly(before: &Row, cause: Cause) -> bool {
    match cause {
        Cause::CancelByUser(who) => who == Who::Owner,
        Cause::CancelByDriver(driver) => before.rider() == Some(driver),
        Cause::Trip(driver, _) => before.driver == Some(driver),
        Cause::Reject(driver, offer_seq) | Cause::Impossible(driver, offer_seq) => {
            before.driver == Some(driver) && before.offer_seq == offer_seq
        }
        Cause::Accept(..) | Cause::Timer(..) | Cause::Sweep(_) | Cause::OldRecord(_) => true,
    }
}

fn is_the_first(given: Option<u8>, occupies: Option<u8>) -> bool {
    occupies.is_none() || given.is_none() || given == occupies
}

fn one_dispatch_per_driver(state: &State) -> bool {
    (0..DRIVERS).all(|driver| state.rows.iter().filter(|row| row.rider().map(usize::from) == Some(driver)).count() <= 1)
}

fn drivers_items_agree(state: &State) -> bool {
    (0..DISPATCHES).all(|dispatch| {
        let rider = state.rows[dispatch].rider().map(usize::from);
        (0..DRIVERS).all(|driver| {
            let on = state.drivers[driver].map(usize::from) == Some(dispatch);
            on == (rider == Some(driver))
        })
    })
}

fn users_are_free_when_it_is_over(state: &State) -> bool {
    (0..DISPATCHES).all(|dispatch| state.users[dispatch] != state.rows[dispatch].status().is_terminal())
}

fn live_offers_have_an_end(state: &State) -> bool {
    state.rows.iter().all(|row| row.is_offered() == row.has_end)
}

macro_rules! moments {
    ($($words:literal: $promise:ident,)*) => {
        vec![$(Property::<M>::always($words, |_, state: &State| state.broken != Some(Promise::$promise)),)*]
    };
}

/// All properties but the one that needs the environment.
pub(crate) fn properties<M: Model<State = State>>() -> Vec<Property<M>> {
    let mut all = moments! {
        "only transitions of the status graph occur": LegalEdge,
        "each write increments ver": VersionByOne,
        "no offer is made while another one is open": OneLiveOffer,
        "only an offer changes offer_seq, by one": OwnNumber,
        "no driver is offered a dispatch twice": AskedOnce,
        "no more offers are made than allowed": AttemptsBounded,
        "only the driver of the open offer accepts it": OnlyTheOfferedDriverAccepts,
        "an unanswered offer lasts its full time, and only its own timer ends it": FullTime,
        "only the people of a dispatch act on it": OnlyItsPeople,
        "a dispatch is accepted by at most one driver": OneDriverEver,
        "a completed or cancelled dispatch frees no one again": NoneFreedTwice,
        "a driver who has the ride is never refused": RiderNeverRefused,
    };
    all.push(Property::always("no driver is on two dispatches", |_, state| one_dispatch_per_driver(state)));
    all.push(Property::always("drivers' items agree with the dispatches", |_, state| drivers_items_agree(state)));
    all.push(Property::always("a user is free exactly when the dispatch has ended", |_, state| {
        users_are_free_when_it_is_over(state)
    }));
    all.push(Property::always("exactly the open offers have a time-out", |_, state| live_offers_have_an_end(state)));
    all
}
