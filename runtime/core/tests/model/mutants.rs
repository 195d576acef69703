//! The model with one guard disabled: a property must fail. Otherwise the guard is unnecessary, or the model does not
//! cover it.

use std::sync::Arc;

use dispatch_core::dispatch::Guard;

use super::row::Setting;
use super::seen::Seen;
use super::world::{StoreGuard, World};
use super::{ASYMMETRIC, SYMMETRIC, shortest_counterexamples};

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

/// Prints which properties fail first, and after how many steps.
fn is_detected(name: &str, world: impl Fn(Setting) -> World) -> bool {
    let broken = [ASYMMETRIC, SYMMETRIC]
        .into_iter()
        .map(|setting| shortest_counterexamples(world(setting)))
        .find(|found| !found.is_empty());
    let Some(broken) = broken else {
        println!("  without {name}: NOT DETECTED");
        return false;
    };
    let steps = broken[0].1.clone().into_actions().len();
    let promises: Vec<&str> = broken.iter().map(|(promise, _)| *promise).collect();
    println!("  without {name}, violated after {steps} steps: {}", promises.join("; "));
    true
}

#[test]
fn every_disabled_guard_is_detected() {
    let world = |setting| World::new(setting, Arc::new(Seen::default()));
    let mut detected = Vec::new();
    for guard in GUARDS {
        detected.push(is_detected(&format!("{guard:?}"), |setting| world(setting).without(guard)));
    }
    for guard in STORE_GUARDS {
        detected.push(is_detected(&format!("the store's {guard:?}"), |setting| world(setting).without_store(guard)));
    }
    assert!(detected.into_iter().all(|detected| detected));
}
