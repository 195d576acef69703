//! Carries out what core decides: load, step, commit, follow up.
//!
//! Two ways lead in. [`Engine::apply`] brings somebody's answer or report to a dispatch; it ends with the stored change and its
//! side effects. [`Engine::advance`] looks for the next driver; only the `dispatch-algorithm` role calls it, for a stream
//! record, a timer or the sweeper.
//!
//! Side effects come after the commit, may be lost in a crash and never undo it: each of them is logged and counted when it
//! fails, and what is left undone is found by the stream, an offer's timer or the sweeper (see `follow_ups`).

mod advance;
mod batching;
mod completion;
mod dispatch_lock;
mod follow_ups;
mod local_wakeups;
mod notification_text;
mod offer_cache;
mod ranking;
pub mod ranking_record;

use std::sync::Arc;
use std::time::Duration;

use dispatch_core::dispatch::{Event, Refusal, Rules, Step, step};
use dispatch_core::ids::DispatchId;
use thiserror::Error;

use advance::ArmedWakes;
pub use advance::Trigger;
use batching::Gathering;
use dispatch_lock::DispatchLocks;
use local_wakeups::LocalWaker;
pub use local_wakeups::LocalWakeups;
pub use notification_text::response as notifications_of_response;
use offer_cache::OfferCache;

use crate::city::City;
use crate::ports::{Commit, CreateOutcome, NewDispatch, PortError, Ports, StoredDispatch, TravelledRoute};
use crate::telemetry::metrics::Metrics;

/// Times a lost race is decided anew. Few parties write one dispatch (a user, a driver, a timer, the algorithm), so losing this
/// often in a row means something else is wrong.
const COMMIT_ATTEMPTS_MAX: u32 = 8;

/// Longest pause before a lost race is decided anew: enough to part two writers, too short to notice.
const CONTENTION_PAUSE_MS: u64 = 20;

/// The engine: the ports, the city and the metrics everything else is done with.
pub struct Engine {
    /// What the engine works with.
    pub ports: Ports,
    /// Where it works.
    pub city: City,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    wakes: ArmedWakes,
    known: OfferCache,
    nudged: LocalWaker,
    gathering: Gathering,
    turns: DispatchLocks,
}

/// An event that took effect, or whose effect was there already.
#[derive(Debug)]
pub struct Applied {
    /// The dispatch as it now is.
    pub stored: StoredDispatch,
    /// False where the same event had taken effect before.
    pub changed: bool,
}

/// Why an event took no effect.
#[derive(Debug, Error)]
pub enum EngineError {
    /// There is no such dispatch.
    #[error("there is no such dispatch")]
    NotFound,
    /// The event cannot happen to the dispatch as it is. Another try will not help.
    #[error("the dispatch refuses the event")]
    Refused {
        /// Why.
        #[source]
        refusal: Refusal,
        /// The dispatch as it is.
        current: Box<StoredDispatch>,
    },
    /// A service failed; the caller may try again, the event is idempotent.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Other writers were faster every time; the caller may try again.
    #[error("the dispatch is being changed by too many at once")]
    Contended,
}

/// A decision that was committed, or that changed nothing.
struct Decided {
    stored: StoredDispatch,
    step: Step,
}

impl Engine {
    /// An engine over these ports.
    pub fn new(ports: Ports, city: City, metrics: Arc<Metrics>) -> Self {
        Self {
            ports,
            city,
            metrics,
            wakes: ArmedWakes::default(),
            known: OfferCache::default(),
            nudged: LocalWaker::default(),
            gathering: Gathering::default(),
            turns: DispatchLocks::default(),
        }
    }

    /// Stores a request. Its stream record starts the search.
    pub async fn create(&self, new: NewDispatch) -> Result<CreateOutcome, PortError> {
        let created = self.ports.dispatches.create(new).await.inspect_err(|error| self.metrics.port_error(error))?;
        if let CreateOutcome::Stored(stored) = &created {
            self.metrics.request_stored();
            self.nudged.nudge(stored);
        }
        Ok(created)
    }

    /// Brings an answer or a report to a dispatch. Repeating it is harmless and gives the same result.
    pub async fn apply(&self, id: &DispatchId, event: Event) -> Result<Applied, EngineError> {
        if let Some(offered) = self.known.take_open(id)
            && let Some(applied) = self.apply_unread(&offered, &event).await?
        {
            return Ok(applied);
        }
        let before = self.load(id).await?;
        self.apply_to(before, event, None).await
    }

    /// Brings an event to a dispatch as it is remembered. It counts where the table says that the dispatch still is so; nothing where it
    /// does not, or where the event would be refused: what is remembered is no reason to refuse anything.
    async fn apply_unread(&self, before: &StoredDispatch, event: &Event) -> Result<Option<Applied>, EngineError> {
        let settings = self.city.settings();
        let rules = Rules { policy: &settings.policy, now: self.ports.clock.now() };
        let Ok(step) = step(&before.state, event.clone(), rules) else { return Ok(None) };
        if !step.changed {
            return Ok(None);
        }
        let Commit::Applied(stored) = self.commit(before, &step, None).await? else { return Ok(None) };
        self.after_commit(&stored, &step).await;
        self.nudged.nudge(&stored);
        Ok(Some(Applied { stored: *stored, changed: true }))
    }

    async fn apply_to(
        &self,
        before: StoredDispatch,
        event: Event,
        route: Option<TravelledRoute>,
    ) -> Result<Applied, EngineError> {
        let Decided { stored, step } = self.decide(before, event, route).await?;
        self.after_commit(&stored, &step).await;
        if step.changed {
            self.nudged.nudge(&stored);
        }
        Ok(Applied { stored, changed: step.changed })
    }

    /// The loop of load, step and commit, until the event has taken effect or is refused.
    async fn decide(
        &self,
        mut before: StoredDispatch,
        event: Event,
        route: Option<TravelledRoute>,
    ) -> Result<Decided, EngineError> {
        for attempt in 1..=COMMIT_ATTEMPTS_MAX {
            let settings = self.city.settings();
            let rules = Rules { policy: &settings.policy, now: self.ports.clock.now() };
            let step = match step(&before.state, event.clone(), rules) {
                Ok(step) if step.changed => step,
                Ok(step) => return Ok(Decided { stored: before, step }),
                Err(refusal) => return Err(EngineError::Refused { refusal, current: Box::new(before) }),
            };
            match self.commit(&before, &step, route.clone()).await? {
                Commit::Applied(stored) => return Ok(Decided { stored: *stored, step }),
                Commit::CompanionRefused => {
                    if let Event::Accept { driver, offer_seq } = event {
                        self.correct_fleet(&before, &driver).await;
                        let void = Event::AcceptImpossible { driver, offer_seq };
                        return Err(self.refuse_accept(before, void).await);
                    }
                    tracing::warn!(dispatch = %before.state.id, "an item that must change with the dispatch says no");
                }
                Commit::Changed => {}
            }
            if attempt < COMMIT_ATTEMPTS_MAX {
                self.pause().await;
                before = self.load(&before.state.id).await?;
            }
        }
        Err(EngineError::Contended)
    }

    /// The driver's own item says that it is not free, so the offer is void: the search goes on without it.
    async fn refuse_accept(&self, before: StoredDispatch, void: Event) -> EngineError {
        match Box::pin(self.apply_to(before, void, None)).await {
            Ok(Applied { stored, .. }) => {
                EngineError::Refused { refusal: Refusal::OfferOver, current: Box::new(stored) }
            }
            Err(error) => error,
        }
    }

    async fn commit(
        &self,
        before: &StoredDispatch,
        step: &Step,
        route: Option<TravelledRoute>,
    ) -> Result<Commit, PortError> {
        let committed = self.ports.dispatches.commit(before, step, route).await;
        match &committed {
            Ok(Commit::Applied(stored)) => {
                self.known.note(stored);
                self.metrics.recorded(&step.records);
            }
            Ok(_) => {}
            Err(error) => self.metrics.port_error(error),
        }
        committed
    }

    async fn load(&self, id: &DispatchId) -> Result<StoredDispatch, EngineError> {
        let found = self.ports.dispatches.load(id).await.inspect_err(|error| self.metrics.port_error(error))?;
        found.ok_or(EngineError::NotFound)
    }

    async fn pause(&self) {
        // Any spread parts two writers; the low digits of the clock are spread enough, and tests with a fixed clock do not wait.
        let spread = self.ports.clock.now().0.unsigned_abs() % CONTENTION_PAUSE_MS;
        tokio::time::sleep(Duration::from_millis(spread)).await;
    }
}

#[cfg(test)]
mod tests;
