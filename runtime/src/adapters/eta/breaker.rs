//! A circuit breaker for a service that keeps failing.

use parking_lot::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Consecutive failures that open the breaker: fewer may be chance, more make more searches wait in vain.
const FAILURES_MAX: u32 = 5;
/// How long the breaker stays open: a restarted router reads its maps for longer, and one vain request in ten seconds
/// costs nothing.
const PAUSE: Duration = Duration::from_secs(10);

/// Counts consecutive failures.
#[derive(Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    failures: u32,
    /// When the next request is allowed, once the breaker is open.
    retry_at: Option<Instant>,
}

impl Breaker {
    /// Whether a request is allowed. After a pause one trial request is allowed; the others wait for its success or the
    /// next pause.
    pub(super) fn allows_request(&self) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        match state.retry_at {
            None => true,
            Some(at) if at <= now => {
                state.retry_at = Some(now + PAUSE);
                true
            }
            Some(_) => false,
        }
    }

    /// Records a success.
    pub(super) fn succeeded(&self) {
        *self.state() = State::default();
    }

    /// Records a failure.
    pub(super) fn failed(&self) {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_MAX {
            state.retry_at = Some(Instant::now() + PAUSE);
        }
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_consecutive_failures_one_request_per_pause_is_allowed() {
        let breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            breaker.failed();
        }
        breaker.succeeded();
        breaker.failed();
        assert!(breaker.allows_request(), "a success resets the count");
        for _ in 1..FAILURES_MAX {
            breaker.failed();
        }
        assert!(!breaker.allows_request());
        tokio::time::advance(PAUSE).await;
        assert!(breaker.allows_request());
        assert!(!breaker.allows_request(), "one at a time");
        breaker.failed();
        tokio::time::advance(PAUSE / 2).await;
        assert!(!breaker.allows_request());
        tokio::time::advance(PAUSE).await;
        assert!(breaker.allows_request());
        breaker.succeeded();
        assert!(breaker.allows_request() && breaker.allows_request());
    }
}
