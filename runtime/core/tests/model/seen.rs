//! The rare branches: a model that never takes them proves nothing about them.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! branches {
    ($($(#[$doc:meta])* $branch:ident: $words:literal,)*) => {
        /// Something that happens seldom.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Branch { $($(#[$doc])* $branch),* }

        /// All of them, with words for the report.
        pub const BRANCHES: &[(Branch, &str)] = &[$((Branch::$branch, $words)),*];
    };
}

branches! {
    AnswerFirst: "an accept is stored while the timer of its offer has fired",
    TimerFirst: "a timer ends an offer whose accept is under way",
    LateAccept: "an accept of the offer before comes during the next one and is refused",
    RepeatedAccept: "a repeated accept is answered as the first was",
    EarlyTimer: "a timer that is early is started again",
    LateTimer: "a timer of the offer before comes during the next one and is refused",
    HoldLost: "a driver has two live offers, because the hold of one was lost",
    DriverTaken: "an accept is impossible, because the driver is on another dispatch",
    CancelDuringOffer: "the user cancels during an offer",
    CancelRefused: "the user wants to cancel a ride that has begun and is refused",
    DriverCancels: "the driver cancels",
    Crash: "a worker dies between reading and writing",
    CrashAfterWrite: "a worker dies between a write and what follows it",
    Resumed: "the sweeper goes on where a worker died between a write and what follows it",
    OldRecord: "a late or doubled stream record is worked on and changes nothing",
    LostRace: "a decision on an outdated read is not stored",
    OwnWrite: "a write whose answer was lost is recognised",
    AttemptsUsedUp: "all attempts are used up",
    NobodyFree: "nobody is free until the search is over",
    AutoAccept: "a driver accepts by itself",
    Completed: "a ride is completed",
}

/// How often each branch was taken.
#[derive(Debug)]
pub struct Seen([AtomicU64; BRANCHES.len()]);

impl Default for Seen {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Seen {
    pub fn mark(&self, branch: Branch) {
        self.0[branch as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, branch: Branch) -> u64 {
        self.0[branch as usize].load(Ordering::Relaxed)
    }
}
