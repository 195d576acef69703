//! Open searches on their way from this process's own writes to its own algorithm, so that no user waits for the stream.
//!
//! The stream brings each of them again some time later, and finds that there is nothing left to do. So a nudge may be lost at any time: with
//! the process, or because too many wait.

use std::sync::{Arc, OnceLock};

use dispatch_core::dispatch::DispatchStatus;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::advance::Trigger;
use crate::ports::StoredDispatch;

/// Searches that wait. More come only while the table or Redis hangs, and then the stream is early enough.
const WAITING_MAX: usize = 1024;
/// Searches in work at once. Each is a handful of calls of some milliseconds; the lanes of a shard are half as many.
const AT_ONCE: usize = 32;

/// Where nudges go; nowhere in a process that does not search.
#[derive(Default)]
pub(super) struct LocalWaker(OnceLock<Sender<StoredDispatch>>);

impl LocalWaker {
    /// Hands a dispatch on that waits for a driver; one that does not is left alone.
    pub(super) fn nudge(&self, stored: &StoredDispatch) {
        let waits = stored.state.status == DispatchStatus::Requested && !stored.state.has_live_offer();
        if let Some(sender) = self.0.get().filter(|_| waits) {
            // Full: the stream brings it.
            let _ = sender.try_send(stored.clone());
        }
    }
}

/// The nudges of one process.
pub struct LocalWakeups {
    receiver: Receiver<StoredDispatch>,
}

impl Engine {
    /// The nudges from now on; `None` where somebody has them already.
    pub fn nudges(&self) -> Option<LocalWakeups> {
        let (sender, receiver) = channel(WAITING_MAX);
        self.nudged.0.set(sender).ok()?;
        Some(LocalWakeups { receiver })
    }
}

impl LocalWakeups {
    /// Follows nudges until `shutdown`, and finishes what is in work then.
    pub async fn run(mut self, engine: &Arc<Engine>, shutdown: &CancellationToken) {
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(stored) = self.receiver.recv(), if running.len() < AT_ONCE => {
                    let engine = Arc::clone(engine);
                    running.spawn(async move {
                        if let Err(error) = engine.advance(stored, Trigger::Event).await {
                            tracing::debug!(%error, "a search is left to the stream");
                        }
                    });
                }
                Some(_) = running.join_next() => {}
                else => break,
            }
        }
        while running.join_next().await.is_some() {}
    }
}
