//! Batched matching: searches are collected in a window and matched together if the city's policy asks for it.
//!
//! A search that has found candidates joins the open window and waits for its end. The first caller that notices the
//! end matches all of them ([`dispatch_core::matching`]) and sends each the order of its candidates. From there a
//! search continues like any other: it reserves, offers, and moves to its next candidate. A window stores and reserves
//! nothing. A process that crashes loses only the wait, because the stream record that started the search is not
//! checkpointed before the search is done.
//!
//! Each process batches the searches of the shards it reads. Two processes may match the same driver; the reservation
//! resolves this, as it does without windows.
//!
//! A search skips the window and continues at once
//!
//! * under overload: if the window is full, or the stream is behind;
//! * while drivers are plentiful, as the last window showed: waiting then gains nothing;
//! * when the process shuts down.
//!
//! A request without a driver after matching is searched again like any search that found none, in a later window,
//! where its waiting time gives it priority.

mod window;

use std::sync::Arc;
use std::time::Duration;

use dispatch_core::candidate::{Candidate, DriverSnapshot};
use dispatch_core::ids::DispatchId;
use dispatch_core::matching::{LIST_MAX, Request, edges};
use dispatch_core::policy::{DispatchPolicy, MatchingMode};
use dispatch_core::time::EpochMs;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::ranking_record::TARGET;
use super::{Engine, EngineError, Trigger};
use crate::city::parse_timestamp;
use crate::ports::StoredDispatch;
use window::{Joined, WINDOW_MAX, Windows};

/// A stream record that arrives this many windows late shows that the stream is behind: the lanes of its shard are full
/// of waiting searches, and another one would make it worse.
const LATE_AFTER_WINDOWS: u64 = 2;

/// Additional delay a record may have, ms: stored times have whole seconds, and a stream that keeps up is read with a
/// delay of some hundred milliseconds.
const LATE_TOLERANCE_MS: u64 = 2_000;

/// The batch windows of a process.
pub(super) struct Batching {
    windows: Windows,
    /// Searches that wait without blocking a caller.
    background: TaskTracker,
    /// Bounds them to one full window.
    permits: Arc<Semaphore>,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            windows: Windows::default(),
            background: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(WINDOW_MAX)),
        }
    }
}

/// The result of a search that joins a window.
pub(super) struct WaitingSearch {
    /// All candidates, in the order of an unbatched search.
    pub(super) ranked: Vec<Candidate>,
    /// The drivers they were ranked from.
    pub(super) drivers: Vec<DriverSnapshot>,
    /// Time of the search.
    pub(super) at: EpochMs,
}

impl Engine {
    /// Advances a dispatch like [`Engine::advance_by_id`], but without making the caller wait for a window: a queue
    /// poller has other messages, and the sweeper has other dispatches. The sweeper recovers what is lost with the
    /// process. The caller waits only if too many searches are already waiting.
    pub async fn advance_in_background(self: &Arc<Self>, id: &DispatchId, trigger: Trigger) -> Result<(), EngineError> {
        if self.city.settings().policy.matching.mode == MatchingMode::Sequential {
            return self.advance_by_id(id, trigger).await;
        }
        let Ok(permit) = Arc::clone(&self.batching.permits).try_acquire_owned() else {
            return self.advance_by_id(id, trigger).await;
        };
        let (engine, id) = (Arc::clone(self), id.clone());
        self.batching.background.spawn(async move {
            let _permit = permit;
            match engine.advance_by_id(&id, trigger).await {
                Ok(()) | Err(EngineError::NotFound) => {}
                Err(error) => {
                    let reason = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(dispatch = %id, %error, reason, "a search failed; the sweeper will retry");
                }
            }
        });
        Ok(())
    }

    /// Closes the open window and opens no other; waiting searches continue.
    pub fn stop_batching(&self) {
        if let Some(last) = self.batching.windows.stop() {
            self.count(&last.settle());
        }
    }

    /// Waits for the dispatches of [`Engine::advance_in_background`] after the last call.
    pub async fn background_done(&self) {
        self.batching.background.close();
        self.batching.background.wait().await;
    }

    /// The length of the window a search should join; `None` if it continues at once.
    pub(super) fn batch_window_for(
        &self,
        stored: &StoredDispatch,
        policy: &DispatchPolicy,
        trigger: Trigger,
        now: EpochMs,
    ) -> Option<Duration> {
        if policy.matching.mode == MatchingMode::Sequential {
            return None;
        }
        let window_ms = policy.matching.window_ms;
        let late_ms = window_ms * LATE_AFTER_WINDOWS + LATE_TOLERANCE_MS;
        if trigger == Trigger::Event && now.since_ms(changed_at(stored)) > late_ms {
            self.metrics.search_not_batched("overload", 1);
            return None;
        }
        Some(Duration::from_millis(window_ms))
    }

    /// Waits for the end of the window. Returns the order in which the candidates are offered the dispatch, or `None`
    /// if the dispatch is known to have advanced meanwhile.
    pub(super) async fn match_in_window(
        &self,
        stored: &StoredDispatch,
        listed: WaitingSearch,
        policy: &DispatchPolicy,
        window: Duration,
    ) -> Option<Vec<Candidate>> {
        let own = |mut ranked: Vec<Candidate>| {
            ranked.truncate(policy.max_candidates.into());
            ranked
        };
        if listed.ranked.is_empty() {
            return Some(listed.ranked);
        }
        let request = Request {
            id: stored.state.id.clone(),
            waited_ms: listed.at.since_ms(stored.state.created_at),
            edges: edges(&listed.ranked, &listed.drivers, policy, listed.at),
        };
        let entry = window::Entry::new(request, listed.ranked.clone(), policy.max_candidates);
        let mut ticket = match self.batching.windows.join(entry, window, Instant::now()) {
            Joined::Waits(ticket) => ticket,
            Joined::AtOnce(reason) => {
                if let Some(reason) = reason {
                    self.metrics.search_not_batched(reason, 1);
                }
                return Some(own(listed.ranked));
            }
        };
        let order = tokio::select! {
            order = &mut ticket.order => order,
            () = tokio::time::sleep_until(ticket.closes_at) => {
                if let Some(closed) = self.batching.windows.close(ticket.window, Instant::now()) {
                    self.count(&closed.settle());
                }
                ticket.order.await
            }
        };
        if self.known.has_advanced(&stored.state.id, stored.state.ver) {
            return None;
        }
        // An error means that the task that matched the window panicked.
        let order = order.unwrap_or_else(|_| own(listed.ranked));
        if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            let drivers: Vec<&str> = order.iter().map(|candidate| candidate.driver_id.as_str()).collect();
            let order = drivers.join(",");
            tracing::info!(target: TARGET, dispatch = %stored.state.id, order, "matched in a batch window");
        }
        Some(order)
    }

    fn count(&self, outcome: &window::WindowOutcome) {
        self.metrics.batch_closed(outcome.requests);
        if let Some(reason) = outcome.fallback {
            self.metrics.search_not_batched(reason, outcome.requests);
        }
        self.metrics.batch_left_over(outcome.left_over);
        if outcome.plentiful {
            self.batching.windows.pause();
        }
        tracing::info!(
            requests = outcome.requests,
            left_over = outcome.left_over,
            sequential = outcome.fallback,
            took_us = u64::try_from(outcome.took.as_micros()).unwrap_or(u64::MAX),
            "matched a batch window"
        );
    }
}

/// The policy of a batched search: it lists more candidates than it will offer.
pub(super) fn for_listing(policy: &DispatchPolicy) -> DispatchPolicy {
    DispatchPolicy { max_candidates: policy.max_candidates.max(LIST_MAX), ..policy.clone() }
}

/// When the dispatch was last changed, according to its events.
fn changed_at(stored: &StoredDispatch) -> EpochMs {
    let last = stored.details.events.last().and_then(|event| parse_timestamp(&event.timestamp));
    last.unwrap_or(stored.state.created_at)
}
