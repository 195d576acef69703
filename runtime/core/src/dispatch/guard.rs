//! The guards of [`step`](fn@super::step), by name, so that a test can disable one and check that the failure is
//! detected.
//!
//! In every program [`stands`] is the constant `true`. With the feature `mutants`, which only tests enable, it returns
//! false for the guard that `without` disabled on the calling thread.

/// An invariant that one check in `step` enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(not(feature = "mutants"), allow(unreachable_pub, reason = "exported to tests"))]
pub enum Guard {
    /// A change increments `ver`.
    VersionCounts,
    /// A wake-up does not end an open offer before its time.
    OfferLastsItsTime,
    /// A dispatch with an open offer is not offered to another driver.
    OneOfferAtATime,
    /// No more offers are made than allowed.
    AttemptsAreBounded,
    /// A driver is offered a dispatch once.
    AskedOnce,
    /// Each offer has a number of its own.
    OfferNumberGrows,
    /// Only the driver of the open offer answers.
    OfferedDriverAnswers,
    /// Only the open offer is answered.
    LiveOfferIsAnswered,
    /// Only a dispatch that is `REQUESTED` is answered.
    OpenRequestIsAnswered,
    /// The accepting driver becomes occupied.
    AcceptOccupiesDriver,
    /// A timer ends only the offer it was started for.
    TimerEndsItsOwnOffer,
    /// After an offer ends, the dispatch has no driver.
    EndedOfferHasNoDriver,
    /// The user becomes free when the dispatch is cancelled.
    CancelledFreesUser,
    /// A ride that has started is not cancelled.
    RideIsNotCancelled,
}

/// Whether a guard is enabled. It always is.
#[cfg(not(feature = "mutants"))]
pub(super) const fn stands(_: Guard) -> bool {
    true
}

#[cfg(feature = "mutants")]
pub(super) use mutants::stands;
#[cfg(feature = "mutants")]
pub use mutants::without;

#[cfg(feature = "mutants")]
mod mutants {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        static DISABLED: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// Whether a guard is enabled on this thread.
    pub(in crate::dispatch) fn stands(guard: Guard) -> bool {
        DISABLED.get() != Some(guard)
    }

    /// Runs `decide` with the guard disabled on this thread; `None` disables nothing.
    pub fn without<T>(guard: Option<Guard>, decide: impl FnOnce() -> T) -> T {
        let before = DISABLED.replace(guard);
        let decided = decide();
        DISABLED.set(before);
        decided
    }
}
