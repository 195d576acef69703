//! The sweeper finds dispatches whose messages were lost: requests that are not being searched, and offers whose timer
//! never fired. It also finds rides and drivers that give no sign of life.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use dispatch_core::ids::DispatchId;
use futures::StreamExt;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, EngineError, Trigger};
use crate::ports::PortError;
use crate::telemetry::heartbeat::Heartbeat;

/// Average time between two rounds: together with [`YOUNG_MS`] it bounds the delay that a lost message causes.
const EVERY: Duration = Duration::from_secs(5);

/// Age below which a request is left to the stream, and a timed-out offer to its timers, ms.
const YOUNG_MS: u64 = 2_000;

/// Most requests of one round, oldest first. Every request ends within its search budget, and one that cannot be
/// continued is set aside, so the others follow in later rounds.
const ROUND_MAX: u16 = 200;

/// Longest time between two searches for silent rides, which read every ride of the city that is in progress.
const RIDES_EVERY: Duration = Duration::from_mins(1);

/// Longest time between two searches for silent drivers, which read every active driver of the city.
const DRIVERS_EVERY: Duration = Duration::from_mins(3);

/// Requests of a round that are processed concurrently.
const CONCURRENT_MAX: usize = 8;

/// Sweeps periodically until shutdown.
pub struct Sweeper {
    /// Processes the dispatches that were found.
    pub engine: Arc<Engine>,
    /// Requests an immediate round.
    pub now: Arc<Notify>,
}

impl Sweeper {
    /// Sweeps until `shutdown`; a round in progress is finished. Every replica has its own sweeper, so that this
    /// fallback depends only on the table. Pauses are jittered so that the replicas do not sweep at the same time.
    pub async fn run(&self, shutdown: &CancellationToken) {
        let pulse = self.engine.metrics.pulse("the sweeper");
        let mut rides_at = Instant::now() + jittered(rides_every(&self.engine));
        let mut drivers_at = Instant::now() + jittered(drivers_every(&self.engine));
        loop {
            pulse.beat();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(jittered(EVERY)) => {}
                () = self.now.notified() => tracing::warn!("sweeping immediately"),
            }
            if !self.engine.ports.clock.is_trusted() {
                // Replicas with the right time sweep.
                continue;
            }
            round(&self.engine, Some(&pulse)).await;
            if Instant::now() >= rides_at {
                rides_round(&self.engine, Some(&pulse)).await;
                rides_at = Instant::now() + jittered(rides_every(&self.engine));
            }
            if Instant::now() >= drivers_at {
                drivers_round(&self.engine, || pulse.beat()).await;
                drivers_at = Instant::now() + jittered(drivers_every(&self.engine));
            }
        }
    }
}

/// The time between two searches for silent rides: short enough for the shortest time that the rules have.
fn rides_every(engine: &Engine) -> Duration {
    let policy = engine.city.settings().policy.rides;
    let shortest = Duration::from_millis(policy.silent_after_ms.min(policy.end_silent_after_ms));
    (shortest / 4).min(RIDES_EVERY)
}

/// The time between two searches for silent drivers.
fn drivers_every(engine: &Engine) -> Duration {
    let silent_after = Duration::from_millis(engine.city.settings().policy.presence.silent_after_ms);
    (silent_after / 4).min(DRIVERS_EVERY)
}

/// A pause between 50 % and 150 % of `pause`. The standard library seeds each state of its hash map randomly.
fn jittered(pause: Duration) -> Duration {
    let share = RandomState::new().hash_one(()) % 1000;
    pause / 2 + pause.mul_f64(share as f64 / 1000.0)
}

/// Runs one round.
pub async fn sweep(engine: &Arc<Engine>) {
    round(engine, None).await;
}

/// Runs one search for silent rides.
pub async fn sweep_rides(engine: &Arc<Engine>) {
    rides_round(engine, None).await;
}

/// Runs one search for silent drivers.
pub async fn sweep_drivers(engine: &Engine) {
    drivers_round(engine, || ()).await;
}

async fn drivers_round(engine: &Engine, beat: impl Fn()) {
    if let Err(error) = engine.end_silent_presence(beat).await {
        let reason = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(%error, reason, "cannot search for silent drivers; the next round will retry");
    }
}

async fn rides_round(engine: &Arc<Engine>, pulse: Option<&Heartbeat>) {
    let silent = match engine.silent_rides().await {
        Ok(silent) => silent,
        Err(error) => {
            tracing::warn!(%error, "cannot search for silent rides");
            return;
        }
    };
    let all = futures::stream::iter(silent);
    all.for_each_concurrent(CONCURRENT_MAX, |id| async move {
        noted(engine, &id, engine.judge_silence(&id).await);
        if let Some(pulse) = pulse {
            pulse.beat();
        }
    })
    .await;
}

/// Runs one round. Each dispatch processed counts as a heartbeat, because a large round may take minutes.
async fn round(engine: &Arc<Engine>, pulse: Option<&Heartbeat>) {
    let now = engine.ports.clock.now();
    let before = now.minus_ms(YOUNG_MS);
    let open = match engine.ports.dispatches.open_since_before(before, ROUND_MAX, &engine.set_aside.ids(now)).await {
        Ok(open) => open,
        Err(error) => {
            engine.metrics.port_error(&error);
            tracing::warn!(%error, "cannot list open requests");
            return;
        }
    };
    let all = futures::stream::iter(open);
    all.for_each_concurrent(CONCURRENT_MAX, |id| async move {
        inspect(engine, &id).await;
        if let Some(pulse) = pulse {
            pulse.beat();
        }
    })
    .await;
}

/// Core ignores an open offer that has not timed out. The index may also list dispatches that have already ended.
async fn inspect(engine: &Arc<Engine>, id: &DispatchId) {
    noted(engine, id, engine.advance_in_background(id, Trigger::Sweep).await);
}

fn noted(engine: &Engine, id: &DispatchId, result: Result<(), EngineError>) {
    match result {
        Ok(()) | Err(EngineError::NotFound) => {}
        Err(error) => {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            if error.is_unreadable() {
                engine.set_aside.add(id, engine.ports.clock.now());
            } else if matches!(error, EngineError::Port(PortError::Failed { .. })) {
                engine.set_aside.add(id, engine.ports.clock.now());
                tracing::warn!(dispatch = %id, %error, reason, "cannot continue a dispatch; trying again in 10 minutes");
            } else {
                tracing::warn!(dispatch = %id, %error, reason, "cannot continue a dispatch; the next round will retry");
            }
        }
    }
}
