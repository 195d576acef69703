//! Signs of life of a process' loops: what its liveness is made of.
//!
//! A loop gives a sign each time it comes round, whether its work succeeded or not, so that a service that is away never makes a process
//! look dead: restarting it would help nobody. What does is a loop that hangs or has broken.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Longest silence of a loop that lives. The slowest round is that of a queue while nothing answers: a poll of 25 s, then one batch whose
/// handlers and deletion give up within half a minute.
pub const SILENCE_MAX: Duration = Duration::from_mins(2);

#[derive(Debug)]
struct Loop {
    name: &'static str,
    last: Mutex<Instant>,
}

/// The loops of a process.
#[derive(Debug, Default)]
pub struct Pulses(Mutex<Vec<Arc<Loop>>>);

/// The sign a loop gives.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Loop>);

impl Pulses {
    /// A loop that begins. It is watched until the process ends: one that breaks is not forgotten.
    pub fn begin(&self, name: &'static str) -> Pulse {
        let begun = Arc::new(Loop { name, last: Mutex::new(Instant::now()) });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&begun));
        Pulse(begun)
    }

    /// A loop that has been silent for longer than [`SILENCE_MAX`].
    pub fn silent(&self) -> Option<&'static str> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|one| one.silence() > SILENCE_MAX).map(|one| one.name)
    }
}

impl Loop {
    fn silence(&self) -> Duration {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Pulse {
    /// The loop came round.
    pub fn beat(&self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_is_told_and_one_that_goes_on_is_not() {
        let pulses = Pulses::default();
        let (stands, goes) = (pulses.begin("stands"), pulses.begin("goes"));
        for _ in 0..4 {
            assert_eq!(pulses.silent(), None);
            tokio::time::advance(SILENCE_MAX / 4).await;
            goes.beat();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pulses.silent(), Some("stands"));
        stands.beat();
        assert_eq!(pulses.silent(), None);
    }
}
