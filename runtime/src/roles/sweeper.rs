//! Finds what any lost message left behind: requests that wait for nobody, and offers whose timer never came.

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

/// Time between two rounds on average: together with [`YOUNG_MS`] it bounds what a lost message costs a user.
const EVERY: Duration = Duration::from_secs(5);

/// Age below which a request is the stream's business, and an offer that has run out its timers'.
const YOUNG_MS: i64 = 2_000;

/// Requests of one round, the oldest first. Every request ends within its budget, so the rest has its turn.
const ROUND_MAX: u16 = 200;

/// Requests of a round in work at once.
const AT_ONCE: usize = 8;

/// Goes round until shutdown.
pub struct Sweeper {
    /// Looks at what was found.
    pub engine: Arc<Engine>,
    /// Calls for a round at once.
    pub now: Arc<Notify>,
}

impl Sweeper {
    /// Goes round until `shutdown`; a round that has begun is finished. Every replica has its sweeper: this backstop shall depend on
    /// nothing but the table. Each pause is spread, so that they do not go round together.
    pub async fn run(&self, shutdown: &CancellationToken) {
        let pulse = self.engine.metrics.pulse("the sweeper");
        loop {
            pulse.beat();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(spread(EVERY)) => {}
                () = self.now.notified() => tracing::warn!("sweeping at once"),
            }
            round(&self.engine, Some(&pulse)).await;
        }
    }
}

/// Between half of `pause` and one and a half of it. The standard library seeds each state of its hash map anew.
fn spread(pause: Duration) -> Duration {
    let share = RandomState::new().hash_one(()) % 1000;
    pause / 2 + pause.mul_f64(share as f64 / 1000.0)
}

/// One round.
pub async fn sweep(engine: &Arc<Engine>) {
    round(engine, None).await;
}

/// One round; each dispatch that was looked at is a sign of life, because a round of many may take minutes.
async fn round(engine: &Arc<Engine>, pulse: Option<&Heartbeat>) {
    let now = engine.ports.clock.now();
    let before = dispatch_core::time::EpochMs(now.0.saturating_sub(YOUNG_MS));
    let open = match engine.ports.dispatches.open_since_before(before, ROUND_MAX).await {
        Ok(open) => open,
        Err(error) => {
            engine.metrics.port_error(&error);
            tracing::warn!(%error, "open requests cannot be listed");
            return;
        }
    };
    let all = futures::stream::iter(open);
    all.for_each_concurrent(AT_ONCE, |id| async move {
        look_at(engine, &id).await;
        if let Some(pulse) = pulse {
            pulse.beat();
        }
    })
    .await;
}

/// A live offer that still has time is left alone by core; the index may also show what is over already.
async fn look_at(engine: &Arc<Engine>, id: &DispatchId) {
    match engine.advance_aside(id, Trigger::Sweep).await {
        Ok(()) | Err(EngineError::NotFound) => {}
        Err(error) => {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(dispatch = %id, %error, reason, "swept again in the next round");
        }
    }
}
