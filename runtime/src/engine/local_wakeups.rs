//! Local wake-ups: open searches passed from this process's own writes to its own algorithm, so that no user waits for
//! the stream.
//!
//! The stream delivers each change later as well and then finds nothing to do. A local wake-up may therefore be lost at
//! any time: with the process, or because the queue is full.

use std::sync::{Arc, OnceLock};

use dispatch_core::dispatch::DispatchStatus;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::trigger::Trigger;
use crate::ports::StoredDispatch;

/// Searches that may wait. More accumulate only while the table or Redis hangs, and then the stream is early enough.
const WAITING_MAX: usize = 1024;
/// Concurrent searches. Each is a handful of calls of some milliseconds; a shard processes half as many.
const CONCURRENT_MAX: usize = 32;

/// The sender of local wake-ups. It is not set in a process that does not search.
#[derive(Default)]
pub(super) struct LocalWaker(OnceLock<Sender<StoredDispatch>>);

impl LocalWaker {
    /// Wakes the algorithm for a dispatch that waits for a driver; ignores any other.
    pub(super) fn wake(&self, stored: &StoredDispatch) {
        let waits = stored.state.status == DispatchStatus::Requested && !stored.state.has_live_offer();
        if let Some(sender) = self.0.get().filter(|_| waits) {
            // If the queue is full, the stream delivers the change.
            let _ = sender.try_send(stored.clone());
        }
    }
}

/// The receiver of the local wake-ups of a process.
pub struct LocalWakeups {
    receiver: Receiver<StoredDispatch>,
}

impl Engine {
    /// Starts local wake-ups and returns their receiver; `None` if it was already taken.
    pub fn local_wakeups(&self) -> Option<LocalWakeups> {
        let (sender, receiver) = channel(WAITING_MAX);
        self.local_waker.0.set(sender).ok()?;
        Some(LocalWakeups { receiver })
    }
}

impl LocalWakeups {
    /// Handles local wake-ups until `shutdown`, and then finishes those in progress.
    pub async fn run(mut self, engine: &Arc<Engine>, shutdown: &CancellationToken) {
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(stored) = self.receiver.recv(), if running.len() < CONCURRENT_MAX => {
                    let engine = Arc::clone(engine);
                    running.spawn(async move {
                        if let Err(error) = engine.advance(stored, Trigger::Event).await {
                            tracing::debug!(%error, "a local wake-up failed; the stream will retry");
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
