//! Whether the cache accepts writes.
//!
//! A cache that answers reads and refuses writes (full, read-only, without its replicas or its disk) seems healthy to
//! searches while the positions in it age. Half a minute later every driver is stale, and no request would get an
//! offer. So searches use the table while writes fail, as they do while Redis is down.

use parking_lot::Mutex;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

/// How long writes may fail before searches use the table: as long as an index is used without an answer from Redis.
/// Shorter failures, such as a failover, leave the positions fresh enough.
const REFUSED_MAX: Duration = Duration::from_secs(5);

/// The cache has refused writes for too long.
#[derive(Debug, Error)]
#[error("the cache has accepted no write for {} s", .for_s)]
pub(super) struct WritesRefused {
    for_s: u64,
}

/// The result of the latest probe.
#[derive(Default)]
pub(super) struct Health {
    refused_since: Mutex<Option<Instant>>,
    /// The first of the writes that were accepted without a refusal in between.
    accepted_since: Mutex<Option<Instant>>,
}

impl Health {
    /// Records an accepted write. Returns how long writes were refused before, if they were.
    pub(super) fn accepted(&self) -> Option<Duration> {
        self.accepted_since.lock().get_or_insert_with(Instant::now);
        self.refused_since.lock().take().map(|since| since.elapsed())
    }

    /// Records a refused write. Returns whether it is the first one.
    pub(super) fn refused(&self) -> bool {
        *self.accepted_since.lock() = None;
        let mut since = self.refused_since.lock();
        let is_first = since.is_none();
        since.get_or_insert_with(Instant::now);
        is_first
    }

    /// How long writes have been accepted without a refusal, as far as this process knows.
    pub(super) fn accepts_for(&self) -> Duration {
        self.accepted_since.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// An error while the positions in the cache must not be used.
    pub(super) fn usable(&self) -> Result<(), WritesRefused> {
        let refused_for = self.refused_since.lock().map_or(Duration::ZERO, |since| since.elapsed());
        if refused_for <= REFUSED_MAX { Ok(()) } else { Err(WritesRefused { for_s: refused_for.as_secs() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cache_is_unusable_after_seconds_of_refused_writes_and_usable_with_the_next_accepted_one() {
        let health = Health::default();
        assert!(health.usable().is_ok());
        assert!(health.refused(), "the first");
        assert!(!health.refused());
        tokio::time::advance(REFUSED_MAX).await;
        assert!(health.usable().is_ok());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(health.usable().is_err());
        assert!(health.accepted() > Some(REFUSED_MAX));
        assert!(health.usable().is_ok());
        assert_eq!(health.accepted(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_accepted_writes_does_not_count() {
        let health = Health::default();
        assert_eq!(health.accepts_for(), Duration::ZERO);
        health.accepted();
        tokio::time::advance(REFUSED_MAX).await;
        health.accepted();
        assert_eq!(health.accepts_for(), REFUSED_MAX);
        health.refused();
        assert_eq!(health.accepts_for(), Duration::ZERO);
        tokio::time::advance(REFUSED_MAX).await;
        health.accepted();
        assert_eq!(health.accepts_for(), Duration::ZERO);
    }
}
