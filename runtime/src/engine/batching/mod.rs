//! Searches that are gathered for a window and matched together, where the city wants that.
//!
//! A search that has found candidates joins the open window and waits for its end; whoever notices the end first matches all of
//! them ([`dispatch_core::matching`]) and tells each the order of its candidates. From there on a search is like any other: it
//! reserves, offers, and goes on to its next candidate. So a window decides nothing and holds nothing; a process that ends loses
//! the wait and no more, because the stream record that began the search is not done before the search is.
//!
//! Each process gathers the searches of the shards it reads. Two of them may match the same driver; the reservation tells the
//! second one, as it does without windows.
//!
//! A search is not gathered, but goes on at once,
//!
//! * under overload: where the window is full, or the stream's record is late already;
//! * while drivers are plentiful, as the last window showed: waiting gains nothing then;
//! * when the process ends.
//!
//! A request nobody was left for is searched again as one that found nobody is, and so is in a later window, where it speaks up
//! for the time it has waited.

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

/// A record of the stream that comes this many windows after what it tells of shows that the stream is behind: the lanes of its
/// shard are full of searches that wait, and one more would make it worse.
const LATE_AFTER_WINDOWS: u64 = 2;

/// What a record may be late besides: stored times have whole seconds, and a stream that keeps up is read some hundred milliseconds
/// later.
const LATE_BESIDES_MS: u64 = 2_000;

/// What a process gathers.
pub(super) struct Gathering {
    windows: Windows,
    /// Searches that wait with nobody waiting for them.
    aside: TaskTracker,
    /// Room for them: a whole window.
    room: Arc<Semaphore>,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { windows: Windows::default(), aside: TaskTracker::new(), room: Arc::new(Semaphore::new(WINDOW_MAX)) }
    }
}

/// What a search that is to be gathered has found.
pub(super) struct Listed {
    /// All candidates, in the order of a search on its own.
    pub(super) ranked: Vec<Candidate>,
    /// The drivers they were ranked from.
    pub(super) drivers: Vec<DriverSnapshot>,
    /// When.
    pub(super) at: EpochMs,
}

impl Engine {
    /// Moves a dispatch on like [`Engine::advance_by_id`], but lets nobody wait for a window: a queue's poller has other messages, the
    /// sweeper other dispatches. What is lost with the process the sweeper finds. Where too many wait already, the caller waits.
    pub async fn advance_aside(self: &Arc<Self>, id: &DispatchId, trigger: Trigger) -> Result<(), EngineError> {
        if self.city.settings().policy.matching.mode == MatchingMode::Sequential {
            return self.advance_by_id(id, trigger).await;
        }
        let Ok(room) = Arc::clone(&self.gathering.room).try_acquire_owned() else {
            return self.advance_by_id(id, trigger).await;
        };
        let (engine, id) = (Arc::clone(self), id.clone());
        self.gathering.aside.spawn(async move {
            let _room = room;
            match engine.advance_by_id(&id, trigger).await {
                Ok(()) | Err(EngineError::NotFound) => {}
                Err(error) => {
                    let reason = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(dispatch = %id, %error, reason, "left to the sweeper");
                }
            }
        });
        Ok(())
    }

    /// Ends the window that is open, and gathers nothing any more: whoever waits goes on.
    pub fn stop_gathering(&self) {
        if let Some(last) = self.gathering.windows.stop() {
            self.count(&last.settle());
        }
    }

    /// Waits for the dispatches of [`Engine::advance_aside`], once nobody brings new ones.
    pub async fn aside_done(&self) {
        self.gathering.aside.close();
        self.gathering.aside.wait().await;
    }

    /// For how long a search is to be gathered; `None` where it goes on at once.
    pub(super) fn gathers_for(
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
        let late_ms = window_ms * LATE_AFTER_WINDOWS + LATE_BESIDES_MS;
        if trigger == Trigger::Event && now.since_ms(changed_at(stored)) > late_ms {
            self.metrics.search_not_gathered("overload", 1);
            return None;
        }
        Some(Duration::from_millis(window_ms))
    }

    /// Waits for the window's end; gives the order in which the candidates are to be asked, or `None` where the dispatch is
    /// known to have gone on meanwhile.
    pub(super) async fn gather(
        &self,
        stored: &StoredDispatch,
        listed: Listed,
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
        let mut ticket = match self.gathering.windows.join(entry, window, Instant::now()) {
            Joined::Waits(ticket) => ticket,
            Joined::AtOnce(reason) => {
                if let Some(reason) = reason {
                    self.metrics.search_not_gathered(reason, 1);
                }
                return Some(own(listed.ranked));
            }
        };
        let order = tokio::select! {
            order = &mut ticket.order => order,
            () = tokio::time::sleep_until(ticket.closes_at) => {
                if let Some(closed) = self.gathering.windows.close(ticket.window, Instant::now()) {
                    self.count(&closed.settle());
                }
                ticket.order.await
            }
        };
        if self.known.has_gone_on(&stored.state.id, stored.state.ver) {
            return None;
        }
        // An error: whoever matched the window broke over it.
        let order = order.unwrap_or_else(|_| own(listed.ranked));
        if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            let drivers: Vec<&str> = order.iter().map(|candidate| candidate.driver_id.as_str()).collect();
            tracing::info!(target: TARGET, dispatch = %stored.state.id, order = drivers.join(","), "matched in a window");
        }
        Some(order)
    }

    fn count(&self, settled: &window::Settled) {
        self.metrics.batch_closed(settled.requests);
        if let Some(reason) = settled.kept_their_order {
            self.metrics.search_not_gathered(reason, settled.requests);
        }
        self.metrics.batch_left_over(settled.left_over);
        if settled.plentiful {
            self.gathering.windows.rest();
        }
        tracing::info!(
            requests = settled.requests,
            left_over = settled.left_over,
            sequential = settled.kept_their_order,
            took_us = u64::try_from(settled.took.as_micros()).unwrap_or(u64::MAX),
            "matched"
        );
    }
}

/// The rules for a search that is gathered: it lists more candidates than it will ask.
pub(super) fn for_listing(policy: &DispatchPolicy) -> DispatchPolicy {
    DispatchPolicy { max_candidates: policy.max_candidates.max(LIST_MAX), ..policy.clone() }
}

/// When the dispatch was last changed, as far as it tells.
fn changed_at(stored: &StoredDispatch) -> EpochMs {
    let told = stored.item.events.last().and_then(|event| parse_timestamp(&event.timestamp));
    told.unwrap_or(stored.state.created_at)
}
