//! The sweeper finds dispatches whose messages were lost: requests that are not being searched, and offers whose timer
//! never fired.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use dispatch_core::ids::DispatchId;
use futures::StreamExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, EngineError, Trigger};
use crate::telemetry::heartbeat::Heartbeat;

/// Average time between two rounds: together with [`YOUNG_MS`] it bounds the delay that a lost message causes.
const EVERY: Duration = Duration::from_secs(5);

/// Age below which a request is left to the stream, and a timed-out offer to its timers, ms.
const YOUNG_MS: i64 = 2_000;

/// Most requests of one round, oldest first. Every request ends within its search budget, so the others follow in later
/// rounds.
const ROUND_MAX: u16 = 200;

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
        loop {
            pulse.beat();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(jittered(EVERY)) => {}
                () = self.now.notified() => tracing::warn!("sweeping immediately"),
            }
            round(&self.engine, Some(&pulse)).await;
        }
    }
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

/// Runs one round. Each dispatch processed counts as a heartbeat, because a large round may take minutes.
async fn round(engine: &Arc<Engine>, pulse: Option<&Heartbeat>) {
    let now = engine.ports.clock.now();
    let before = dispatch_core::time::EpochMs(now.0.saturating_sub(YOUNG_MS));
    let open = match engine.ports.dispatches.open_since_before(before, ROUND_MAX).await {
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
    match engine.advance_in_background(id, Trigger::Sweep).await {
        Ok(()) | Err(EngineError::NotFound) => {}
        Err(error) => {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(dispatch = %id, %error, reason, "cannot continue a dispatch; the next round will retry");
        }
    }
}
