//! How many stack operations run at once. A burst of new systems would otherwise meet the account's limits all at the same time, and
//! fail where it could have waited.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::pass::Key;
use crate::reconcile::Gate;

/// An operation that runs longer counts no more: a stack that hangs must not keep the others waiting. A replication group takes 10 to 20
/// minutes.
const LONGEST: Duration = Duration::from_mins(30);

/// The turns of all systems.
#[derive(Debug)]
pub struct Turns {
    limit: usize,
    // Bounded by the systems there are.
    under_way: Mutex<HashMap<Key, Instant>>,
}

/// One system's way to its turn.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    key: Key,
}

impl Turns {
    /// So many at once, at least one.
    pub fn new(limit: u16) -> Self {
        Self { limit: usize::from(limit.max(1)), under_way: Mutex::default() }
    }

    /// The gate of a system.
    pub fn of(self: &Arc<Self>, key: &Key) -> Turn {
        Turn { turns: Arc::clone(self), key: key.clone() }
    }

    /// Whether a system would get its turn now.
    pub fn is_free(&self, key: &Key) -> bool {
        admits(&self.lock(), key, self.limit, Instant::now())
    }

    /// An operation was seen running, whoever began it. It keeps the time it was first seen.
    pub fn runs(&self, key: &Key) {
        self.lock().entry(key.clone()).or_insert_with(Instant::now);
    }

    /// None runs.
    pub fn ends(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Instant>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for Turn {
    fn enter(&self) -> bool {
        let mut under_way = self.turns.lock();
        let admitted = admits(&under_way, &self.key, self.turns.limit, Instant::now());
        if admitted {
            under_way.entry(self.key.clone()).or_insert_with(Instant::now);
        }
        admitted
    }
}

/// Whether one more may run. A system whose operation runs goes on with it.
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
    async fn no_more_operations_run_at_once_than_are_allowed() {
        let turns = Arc::new(Turns::new(2));
        let (seoul, busan, incheon) = (turns.of(&key("seoul")), turns.of(&key("busan")), turns.of(&key("incheon")));
        assert!(seoul.enter() && busan.enter());
        assert!(!incheon.enter() && !turns.is_free(&key("incheon")));
        assert!(seoul.enter(), "its own operation goes on");
        turns.ends(&key("busan"));
        assert!(turns.is_free(&key("incheon")) && incheon.enter());
        assert!(!busan.enter());
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_counts_after_a_restart_and_what_hangs_counts_no_more() {
        let turns = Arc::new(Turns::new(1));
        turns.runs(&key("seoul"));
        let busan = turns.of(&key("busan"));
        assert!(!busan.enter());
        tokio::time::advance(LONGEST.saturating_sub(Duration::from_secs(1))).await;
        turns.runs(&key("seoul"));
        assert!(!busan.enter());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(busan.enter());
    }
}
