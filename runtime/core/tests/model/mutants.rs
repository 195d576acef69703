//! The model without one of its guards: somebody must notice, or the guard is not needed, or the model does not look.

use std::sync::Arc;

use dispatch_core::dispatch::Guard;

use super::row::Setting;
use super::seen::Seen;
use super::world::{StoreGuard, World};
use super::{ALIKE, UNLIKE, soonest_broken};

const GUARDS: [Guard; 14] = [
    Guard::VersionCounts,
    Guard::OfferLastsItsTime,
    Guard::OneOfferAtATime,
    Guard::AttemptsAreBounded,
    Guard::AskedOnce,
    Guard::OfferNumberGrows,
    Guard::OfferedDriverAnswers,
    Guard::LiveOfferIsAnswered,
    Guard::OpenRequestIsAnswered,
    Guard::AcceptOccupiesDriver,
    Guard::TimerEndsItsOwnOffer,
    Guard::EndedOfferHasNoDriver,
    Guard::CancelledFreesUser,
    Guard::RideIsNotCancelled,
];

const STORE_GUARDS: [StoreGuard; 3] = [StoreGuard::Version, StoreGuard::Dispatch, StoreGuard::DriverIsFree];

/// Prints which promises are broken first, and in how many steps.
fn is_missed(name: &str, world: impl Fn(Setting) -> World) -> bool {
    let broken =
        [UNLIKE, ALIKE].into_iter().map(|setting| soonest_broken(world(setting))).find(|found| !found.is_empty());
    let Some(broken) = broken else {
        println!("  without {name}: NOBODY NOTICES");
        return false;
    };
    let steps = broken[0].1.clone().into_actions().len();
    let promises: Vec<&str> = broken.iter().map(|(promise, _)| *promise).collect();
    println!("  without {name}, after {steps} steps, no longer: {}", promises.join("; "));
    true
}

#[test]
fn a_guard_that_is_taken_away_is_missed() {
    let world = |setting| World::new(setting, Arc::new(Seen::default()));
    let mut missed = Vec::new();
    for guard in GUARDS {
        missed.push(is_missed(&format!("{guard:?}"), |setting| world(setting).without(guard)));
    }
    for guard in STORE_GUARDS {
        missed.push(is_missed(&format!("the store's {guard:?}"), |setting| world(setting).without_store(guard)));
    }
    assert!(missed.into_iter().all(|missed| missed));
}
