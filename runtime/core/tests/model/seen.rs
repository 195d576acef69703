//! Counts rare branches: a model that never takes them proves nothing about them.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! branches {
    ($($(#[$doc:meta])* $branch:ident: $words:literal,)*) => {
        /// A rare branch.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Branch { $($(#[$doc])* $branch),* }

        /// All branches, with their texts in the report.
        pub(crate) const BRANCHES: &[(Branch, &str)] = &[$((Branch::$branch, $words)),*];
    };
}

branches! {
    AnswerFirst: "an acceptance is stored after the timer of its offer fired",
    TimerFirst: "a timer ends an offer whose acceptance is in progress",
    LateAccept: "a late acceptance of the previous offer is refused",
    RepeatedAccept: "a repeated acceptance gets the same answer",
    EarlyTimer: "an early timer is started again",
    LateTimer: "a late timer of the previous offer is refused",
    HoldLost: "a driver has two open offers because a hold was lost",
    DriverTaken: "an acceptance fails because the driver is on another dispatch",
    CancelDuringOffer: "the user cancels during an offer",
    CancelRefused: "a cancellation by the user during the ride is refused",
    DriverCancels: "the driver cancels",
    Crash: "a worker crashes between reading and writing",
    CrashAfterWrite: "a worker crashes between a write and its follow-up",
    Resumed: "the sweeper continues after such a crash",
    OldRecord: "a late or repeated stream record changes nothing",
    LostRace: "a decision on an outdated read is not stored",
    OwnWrite: "a write whose answer was lost is recognised",
    AttemptsUsedUp: "all attempts are used up",
    NobodyFree: "no driver is free until the search budget ends",
    AutoAccept: "a driver accepts automatically",
    Completed: "a ride is completed",
}

/// How often each branch was taken.
#[derive(Debug)]
pub(crate) struct Seen([AtomicU64; BRANCHES.len()]);

impl Default for Seen {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Seen {
    pub(crate) fn mark(&self, branch: Branch) {
        self.0[branch as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, branch: Branch) -> u64 {
        self.0[branch as usize].load(Ordering::Relaxed)
    }
}
