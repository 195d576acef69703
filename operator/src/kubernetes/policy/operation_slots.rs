//! Limits the number of concurrent stack operations. Without a limit, a burst of new systems would exceed the account's
//! quotas and fail where it could have waited.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::settings::OperationGate;
use crate::kubernetes::object::Key;

/// An operation that runs longer than this no longer occupies a slot, so that a stack that hangs does not block the
/// others. A replication group takes 10 to 20 minutes.
const LONGEST: Duration = Duration::from_mins(30);

/// The operation slots of all systems.
#[derive(Debug)]
pub struct OperationLimiter {
    limit: usize,
    // Bounded by the number of systems.
    under_way: Mutex<HashMap<Key, Instant>>,
}

/// The slot of one system.
#[derive(Debug)]
pub struct OperationSlot {
    limiter: Arc<OperationLimiter>,
    key: Key,
}

impl OperationLimiter {
    /// Allows `limit` concurrent operations, at least one.
    pub fn new(limit: u16) -> Self {
        Self { limit: usize::from(limit.max(1)), under_way: Mutex::default() }
    }

    /// The slot of a system, which is not acquired yet.
    pub fn slot_for(self: &Arc<Self>, key: &Key) -> OperationSlot {
        OperationSlot { limiter: Arc::clone(self), key: key.clone() }
    }

    /// Whether a system would get a slot now.
    pub fn has_capacity_for(&self, key: &Key) -> bool {
        admits(&self.lock(), key, self.limit, Instant::now())
    }

    /// Records an operation in progress, also one that another client started. Its time runs from when it was first
    /// found.
    pub fn observe_running(&self, key: &Key) {
        self.lock().entry(key.clone()).or_insert_with(Instant::now);
    }

    /// Frees the slot of a system.
    pub fn release(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Instant>> {
        self.under_way.lock()
    }
}

impl OperationGate for OperationSlot {
    fn try_acquire(&self) -> bool {
        let mut under_way = self.limiter.lock();
        let admitted = admits(&under_way, &self.key, self.limiter.limit, Instant::now());
        if admitted {
            under_way.entry(self.key.clone()).or_insert_with(Instant::now);
        }
        admitted
    }
}

/// Whether a system gets a slot. A system that already has one keeps it.
fn admits(under_way: &HashMap<Key, Instant>, key: &Key, limit: usize, now: Instant) -> bool {
    let counts = |since: &&Instant| now.saturating_duration_since(**since) < LONGEST;
    under_way.contains_key(key) || under_way.values().filter(counts).count() < limit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("mobility".to_owned(), name.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_operations_are_limited() {
        let limiter = Arc::new(OperationLimiter::new(2));
        let (seoul, busan, incheon) =
            (limiter.slot_for(&key("seoul")), limiter.slot_for(&key("busan")), limiter.slot_for(&key("incheon")));
        assert!(seoul.try_acquire() && busan.try_acquire());
        assert!(!incheon.try_acquire() && !limiter.has_capacity_for(&key("incheon")));
        assert!(seoul.try_acquire(), "a system keeps its slot");
        limiter.release(&key("busan"));
        assert!(limiter.has_capacity_for(&key("incheon")) && incheon.try_acquire());
        assert!(!busan.try_acquire());
    }

    #[tokio::test(start_paused = true)]
    async fn running_operations_count_after_a_restart_and_hanging_ones_stop_counting() {
        let limiter = Arc::new(OperationLimiter::new(1));
        limiter.observe_running(&key("seoul"));
        let busan = limiter.slot_for(&key("busan"));
        assert!(!busan.try_acquire());
        tokio::time::advance(LONGEST.saturating_sub(Duration::from_secs(1))).await;
        limiter.observe_running(&key("seoul"));
        assert!(!busan.try_acquire());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(busan.try_acquire());
    }
}
