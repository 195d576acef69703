//! Leaves a service that keeps failing alone for a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which it is left alone: fewer may be chance, more make more searches wait in vain.
const FAILURES_MAX: u32 = 5;
/// How long it is left alone: a router that is started again reads its maps for longer than that, and one search in ten seconds
/// that waits in vain costs nothing.
const PAUSE: Duration = Duration::from_secs(10);

/// Counts failures in a row.
#[derive(Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    failures: u32,
    /// When the next question is allowed, once there were too many failures.
    again_at: Option<Instant>,
}

impl Breaker {
    /// Whether it may be asked. After a pause one question is let through, and the others wait for another pause or its success.
    pub(super) fn lets_through(&self) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        match state.again_at {
            None => true,
            Some(at) if at <= now => {
                state.again_at = Some(now + PAUSE);
                true
            }
            Some(_) => false,
        }
    }

    /// It answered.
    pub(super) fn succeeded(&self) {
        *self.state() = State::default();
    }

    /// It failed.
    pub(super) fn failed(&self) {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_MAX {
            state.again_at = Some(Instant::now() + PAUSE);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_failures_in_a_row_one_question_in_a_pause_is_let_through() {
        let breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            breaker.failed();
        }
        breaker.succeeded();
        breaker.failed();
        assert!(breaker.lets_through(), "an answer begins the count anew");
        for _ in 1..FAILURES_MAX {
            breaker.failed();
        }
        assert!(!breaker.lets_through());
        tokio::time::advance(PAUSE).await;
        assert!(breaker.lets_through());
        assert!(!breaker.lets_through(), "one at a time");
        breaker.failed();
        tokio::time::advance(PAUSE / 2).await;
        assert!(!breaker.lets_through());
        tokio::time::advance(PAUSE).await;
        assert!(breaker.lets_through());
        breaker.succeeded();
        assert!(breaker.lets_through() && breaker.lets_through());
    }
}
