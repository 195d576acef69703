//! Signs of life of a process' loops: what its liveness is made of.
//!
//! A loop gives a sign each time it comes round, whether its work succeeded or not, so that a service that is away never makes a process
//! look dead: restarting it would help nobody. What does is a loop that hangs or has broken.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

/// Longest silence of a loop that lives. The slowest round is that of a queue while nothing answers: a poll of 10 s, then one batch whose
/// handlers and deletion give up within half a minute. Timers, the configuration and the subscription of event streams come round within
/// ten seconds, whatever they wait for.
pub const SILENCE_MAX: Duration = Duration::from_mins(2);

#[derive(Debug)]
struct Loop {
    name: &'static str,
    longest: Duration,
    last: Mutex<Instant>,
}

/// How long a loop is watched.
#[derive(Debug)]
enum Watched {
    /// Until the process ends: one that breaks is not forgotten.
    Always(Arc<Loop>),
    /// As long as somebody holds its pulse: who started it notices itself when it breaks.
    WhileHeld(Weak<Loop>),
}

/// The loops of a process.
#[derive(Debug, Default)]
pub struct Heartbeats(Mutex<Vec<Watched>>);

/// The sign a loop gives.
#[derive(Debug, Clone)]
pub struct Heartbeat(Arc<Loop>);

impl Heartbeats {
    /// A loop that begins, and is never silent for longer than [`SILENCE_MAX`]. It is watched until the process ends: one that breaks is
    /// not forgotten.
    pub fn begin(&self, name: &'static str) -> Heartbeat {
        let begun = Loop::begun(name, SILENCE_MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Watched::Always(Arc::clone(&begun)));
        Heartbeat(begun)
    }

    /// A loop that begins, is never silent for longer than `longest`, and is forgotten when its pulse is dropped.
    pub fn begin_while_held(&self, name: &'static str, longest: Duration) -> Heartbeat {
        let begun = Loop::begun(name, longest);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.alive().is_some());
        all.push(Watched::WhileHeld(Arc::downgrade(&begun)));
        Heartbeat(begun)
    }

    /// A loop that has been silent for longer than it may be.
    pub fn silent(&self) -> Option<&'static str> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alive = all.iter().filter_map(Watched::alive);
        alive.find(|one| one.silence() > one.longest).map(|one| one.name)
    }
}

impl Watched {
    fn alive(&self) -> Option<Arc<Loop>> {
        match self {
            Self::Always(one) => Some(Arc::clone(one)),
            Self::WhileHeld(one) => one.upgrade(),
        }
    }
}

impl Loop {
    fn begun(name: &'static str, longest: Duration) -> Arc<Self> {
        Arc::new(Self { name, longest, last: Mutex::new(Instant::now()) })
    }

    fn silence(&self) -> Duration {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Heartbeat {
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
        let pulses = Heartbeats::default();
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

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_has_ended_is_forgotten_where_somebody_else_watches_its_end() {
        let pulses = Heartbeats::default();
        let longest = Duration::from_secs(1);
        let pulse = pulses.begin_while_held("a reader", longest);
        tokio::time::advance(longest * 2).await;
        assert_eq!(pulses.silent(), Some("a reader"));
        drop(pulse);
        assert_eq!(pulses.silent(), None);
    }
}
