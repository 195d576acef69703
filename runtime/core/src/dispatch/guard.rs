//! The guards of [`step`](fn@super::step), by name, so that a test can take one away and see who notices.
//!
//! In every program [`stands`] is the constant `true`. The feature `mutants`, which only tests turn on, has it ask the calling
//! thread which guard `without` took away.

/// A promise that one place in `step` keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guard {
    /// A change makes `ver` one larger.
    VersionCounts,
    /// Looking at a live offer does not end it before its time.
    OfferLastsItsTime,
    /// A dispatch with a live offer is not offered to anybody else.
    OneOfferAtATime,
    /// No more offers are made than allowed.
    AttemptsAreBounded,
    /// A driver is asked once.
    AskedOnce,
    /// Each offer has a number of its own.
    OfferNumberGrows,
    /// Only the driver who was asked answers.
    OfferedDriverAnswers,
    /// Only the live offer is answered.
    LiveOfferIsAnswered,
    /// Only a dispatch that is `REQUESTED` is answered.
    OpenRequestIsAnswered,
    /// The driver who accepts is occupied.
    AcceptOccupiesDriver,
    /// A timer ends the offer it was started for.
    TimerEndsItsOwnOffer,
    /// An offer that ended leaves no driver behind.
    EndedOfferHasNoDriver,
    /// Whoever asked is let go when the dispatch is cancelled.
    CancelledFreesUser,
    /// A ride that has begun is not cancelled.
    RideIsNotCancelled,
}

/// Whether a guard stands. It always does.
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
        static AWAY: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// Whether a guard stands on this thread.
    pub(in crate::dispatch) fn stands(guard: Guard) -> bool {
        AWAY.get() != Some(guard)
    }

    /// Runs `decide` as if this thread's `step` had been written without the guard; `None` takes nothing away.
    pub fn without<T>(guard: Option<Guard>, decide: impl FnOnce() -> T) -> T {
        let before = AWAY.replace(guard);
        let decided = decide();
        AWAY.set(before);
        decided
    }
}
