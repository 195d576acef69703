//! A lock per dispatch within the process. A local wake-up, a stream record, a timer and the sweeper may process the
//! same dispatch at the same time. Without the lock, the later ones would search, reserve and write in vain, and then
//! read what the first one stored.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

use dispatch_core::ids::DispatchId;
use tokio::sync::OwnedMutexGuard;

/// The version that the previous holder of the lock advanced as far as possible.
type Done = Option<u32>;
type Lock = Arc<tokio::sync::Mutex<Done>>;

/// The dispatches in progress. Their number is bounded by the lanes, local wake-ups, timers and sweeps in progress.
#[derive(Default)]
pub(super) struct DispatchLocks(Mutex<HashMap<DispatchId, Lock>>);

/// The exclusive right to advance a dispatch. It is released on drop.
pub(super) struct DispatchGuard<'a> {
    locks: &'a DispatchLocks,
    id: &'a DispatchId,
    lock: Option<Lock>,
    held: Option<OwnedMutexGuard<Done>>,
}

impl DispatchLocks {
    /// Waits for the lock. Its holder makes a bounded number of calls, each with a time-out.
    pub(super) async fn acquire<'a>(&'a self, id: &'a DispatchId) -> DispatchGuard<'a> {
        let lock = Arc::clone(self.locked().entry(id.clone()).or_default());
        // Created before waiting, so that a caller that is cancelled while waiting is cleaned up, too.
        let mut guard = DispatchGuard { locks: self, id, lock: Some(Arc::clone(&lock)), held: None };
        guard.held = Some(lock.lock_owned().await);
        guard
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<DispatchId, Lock>> {
        self.0.lock()
    }
}

impl DispatchGuard<'_> {
    /// Whether this version, or a later one, was advanced while the caller waited.
    pub(super) fn was_done(&self, ver: u32) -> bool {
        self.held.as_ref().and_then(|done| **done).is_some_and(|done| done >= ver)
    }

    /// Records for waiting callers that this version was advanced as far as possible.
    pub(super) fn done(&mut self, ver: u32) {
        if let Some(done) = &mut self.held {
            **done = Some(ver);
        }
    }
}

impl Drop for DispatchGuard<'_> {
    fn drop(&mut self) {
        let mut locks = self.locks.locked();
        drop((self.held.take(), self.lock.take()));
        // A lock is only taken from the map, so no caller can be about to take this one.
        if locks.get(self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(self.id);
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
    async fn one_caller_holds_the_lock_and_the_next_learns_the_version() {
        let (locks, one, other) = (DispatchLocks::default(), id(1), id(2));
        let mut first = locks.acquire(&one).await;
        assert!(!first.was_done(0));
        let mut second = Box::pin(locks.acquire(&one));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(!locks.acquire(&other).await.was_done(0), "another dispatch does not wait");
        first.done(3);
        drop(first);
        let second = second.await;
        assert_eq!([2, 3, 4].map(|ver| second.was_done(ver)), [true, true, false]);
        drop(second);
        assert!(!locks.acquire(&one).await.was_done(0), "without a waiting caller nothing is remembered");
        assert!(locks.locked().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_caller_leaves_no_entry() {
        let (locks, one) = (DispatchLocks::default(), id(1));
        let first = locks.acquire(&one).await;
        assert!(tokio::time::timeout(Duration::from_secs(1), locks.acquire(&one)).await.is_err());
        assert_eq!(locks.locked().len(), 1);
        drop(first);
        assert!(locks.locked().is_empty());
    }
}
