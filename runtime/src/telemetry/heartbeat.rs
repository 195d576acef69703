//! Heartbeats of a process' loops, from which its liveness is derived.
//!
//! A loop sends a heartbeat in every iteration, whether its work succeeded or not, so that an unavailable service never
//! makes a process look unhealthy: a restart would not help. A restart helps against a loop that hangs or has panicked.

use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

/// Longest silence of a healthy loop. The slowest iteration is that of a queue while nothing answers: a poll of 10 s,
/// then one batch whose handlers and deletion time out within half a minute. Timers, the configuration and the event
/// stream subscription iterate within ten seconds, whatever they wait for.
pub const SILENCE_MAX: Duration = Duration::from_mins(2);

#[derive(Debug)]
struct Loop {
    name: &'static str,
    longest: Duration,
    last: Mutex<Instant>,
}

/// How long a loop is monitored.
#[derive(Debug)]
enum Watched {
    /// Until the process ends, so that a panicked loop is detected.
    Always(Arc<Loop>),
    /// While its heartbeat is held: the task that started it notices itself when it panics.
    WhileHeld(Weak<Loop>),
}

/// The monitored loops of a process.
#[derive(Debug, Default)]
pub struct Heartbeats(Mutex<Vec<Watched>>);

/// The heartbeat of a loop.
#[derive(Debug, Clone)]
pub struct Heartbeat(Arc<Loop>);

impl Heartbeats {
    /// Registers a loop that is never silent for longer than [`SILENCE_MAX`]. It is monitored until the process ends,
    /// so that a panicked loop is detected.
    pub fn begin(&self, name: &'static str) -> Heartbeat {
        let begun = Loop::begun(name, SILENCE_MAX);
        self.0.lock().push(Watched::Always(Arc::clone(&begun)));
        Heartbeat(begun)
    }

    /// Registers a loop that is never silent for longer than `longest`, until its heartbeat is dropped.
    pub fn begin_while_held(&self, name: &'static str, longest: Duration) -> Heartbeat {
        let begun = Loop::begun(name, longest);
        let mut all = self.0.lock();
        all.retain(|one| one.alive().is_some());
        all.push(Watched::WhileHeld(Arc::downgrade(&begun)));
        Heartbeat(begun)
    }

    /// The name of a loop that has been silent for too long.
    pub fn silent(&self) -> Option<&'static str> {
        let all = self.0.lock();
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
        self.last.lock().elapsed()
    }
}

impl Heartbeat {
    /// Records an iteration of the loop.
    pub fn beat(&self) {
        *self.0.last.lock() = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hanging_loop_is_reported_and_a_running_one_is_not() {
        let pulses = Heartbeats::default();
        let (hanging, running) = (pulses.begin("hanging"), pulses.begin("running"));
        for _ in 0..4 {
            assert_eq!(pulses.silent(), None);
            tokio::time::advance(SILENCE_MAX / 4).await;
            running.beat();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pulses.silent(), Some("hanging"));
        hanging.beat();
        assert_eq!(pulses.silent(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_whose_heartbeat_was_dropped_is_forgotten() {
        let pulses = Heartbeats::default();
        let longest = Duration::from_secs(1);
        let pulse = pulses.begin_while_held("a reader", longest);
        tokio::time::advance(longest * 2).await;
        assert_eq!(pulses.silent(), Some("a reader"));
        drop(pulse);
        assert_eq!(pulses.silent(), None);
    }
}
