//! One at a time for each dispatch: the process's own nudge, its stream record, a timer and the sweeper may look at the same dispatch at
//! once. Whoever comes second would search, reserve and store in vain, and read what the first has stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dispatch_core::ids::DispatchId;
use tokio::sync::OwnedMutexGuard;

/// The version of a dispatch that was moved on as far as it went, by whoever had the turn before.
type Done = Option<u32>;
type Lock = Arc<tokio::sync::Mutex<Done>>;

/// The dispatches somebody is at. There are as many as there are lanes, nudges, timers and sweepers at work.
#[derive(Default)]
pub(super) struct DispatchLocks(Mutex<HashMap<DispatchId, Lock>>);

/// The right to move a dispatch on. It ends with this value, also when it is dropped in the middle.
pub(super) struct Turn<'a> {
    turns: &'a DispatchLocks,
    id: &'a DispatchId,
    lock: Option<Lock>,
    held: Option<OwnedMutexGuard<Done>>,
}

impl DispatchLocks {
    /// Waits for the turn. Whoever has it makes a bounded number of calls, each of which ends in time.
    pub(super) async fn enter<'a>(&'a self, id: &'a DispatchId) -> Turn<'a> {
        let lock = Arc::clone(self.locked().entry(id.clone()).or_default());
        // Before it waits: one that is dropped while waiting is forgotten, too.
        let mut turn = Turn { turns: self, id, lock: Some(Arc::clone(&lock)), held: None };
        turn.held = Some(lock.lock_owned().await);
        turn
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<DispatchId, Lock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Whether this version, or a later one, was moved on while this one waited.
    pub(super) fn was_done(&self, ver: u32) -> bool {
        self.held.as_ref().and_then(|done| **done).is_some_and(|done| done >= ver)
    }

    /// Tells those who wait that this version was moved on as far as it goes.
    pub(super) fn done(&mut self, ver: u32) {
        if let Some(done) = &mut self.held {
            **done = Some(ver);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.turns.locked();
        drop((self.held.take(), self.lock.take()));
        // Others take a lock only from the map, so nobody can be about to.
        if turns.get(self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            turns.remove(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    fn id(number: u32) -> DispatchId {
        DispatchId::from_suffix(&number.to_string()).unwrap()
    }

    #[tokio::test]
    async fn one_has_the_turn_and_the_next_hears_what_was_done() {
        let (turns, one, other) = (DispatchLocks::default(), id(1), id(2));
        let mut first = turns.enter(&one).await;
        assert!(!first.was_done(0));
        let mut second = Box::pin(turns.enter(&one));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(!turns.enter(&other).await.was_done(0), "another dispatch waits for nobody");
        first.done(3);
        drop(first);
        let second = second.await;
        assert_eq!([2, 3, 4].map(|ver| second.was_done(ver)), [true, true, false]);
        drop(second);
        assert!(!turns.enter(&one).await.was_done(0), "nobody waited, so nothing is remembered");
        assert!(turns.locked().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_nothing_behind() {
        let (turns, one) = (DispatchLocks::default(), id(1));
        let first = turns.enter(&one).await;
        assert!(tokio::time::timeout(Duration::from_secs(1), turns.enter(&one)).await.is_err());
        assert_eq!(turns.locked().len(), 1);
        drop(first);
        assert!(turns.locked().is_empty());
    }
}
