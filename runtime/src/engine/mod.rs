//! Carries out core's decisions: load, step, commit, follow up.
//!
//! There are two entry points. [`Engine::apply`] applies an answer or a report to a dispatch; it ends with the stored
//! change and its side effects. [`Engine::advance`] searches for the next driver; only the role `dispatch-algorithm`
//! calls it, for a stream record, a timer or the sweeper.
//!
//! Side effects run after the commit, may be lost in a crash and never undo it. Each failure is logged and counted; the
//! stream, an offer's timer or the sweeper compensates for it (see `follow_ups`).

mod advance;
mod batching;
mod completion;
mod dispatch_lock;
mod follow_ups;
mod foreign;
mod local_wakeups;
mod notification_text;
mod offer_cache;
mod operations;
mod presence;
mod ranking;
pub mod ranking_record;
mod release;
mod set_aside;
mod silence;
mod table_search;

use std::sync::Arc;
use std::time::Duration;

use dispatch_core::dispatch::{Event, Refusal, Rules, Step, step};
use dispatch_core::ids::DispatchId;
use thiserror::Error;

use advance::ArmedWakes;
use batching::Batching;
use dispatch_lock::DispatchLocks;
use local_wakeups::LocalWaker;
pub use local_wakeups::LocalWakeups;
pub use notification_text::response as notifications_of_response;
use offer_cache::OfferCache;
use set_aside::SetAside;
use table_search::ActiveDrivers;
pub use trigger::Trigger;

use crate::city::City;
use crate::ports::{Commit, CreateOutcome, NewDispatch, Person, PortError, Ports, StoredDispatch, TravelledRoute};
use crate::telemetry::metrics::Metrics;

/// Attempts to commit a decision that loses races. Few parties write one dispatch (a user, a driver, a timer, the
/// algorithm), so losing this often in a row means that something else is wrong.
const COMMIT_ATTEMPTS_MAX: u32 = 8;

/// Longest pause before the next attempt, ms: enough to separate two writers, too short to notice.
const CONTENTION_PAUSE_MS: u64 = 20;

/// The engine: the ports, the city and the metrics.
pub struct Engine {
    pub ports: Ports,
    pub city: City,
    pub metrics: Arc<Metrics>,
    wakes: ArmedWakes,
    known: OfferCache,
    local_waker: LocalWaker,
    batching: Batching,
    locks: DispatchLocks,
    active_drivers: ActiveDrivers,
    /// Dispatches that the sweeper leaves alone.
    pub set_aside: SetAside,
}

/// An event that took effect, now or earlier.
#[derive(Debug)]
pub struct Advance {
    /// The current dispatch.
    pub stored: StoredDispatch,
    /// False if the same event took effect earlier.
    pub changed: bool,
}

/// Why an event had no effect.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The dispatch does not exist.
    #[error("there is no such dispatch")]
    NotFound,
    /// The current dispatch does not allow the event. Repeating it does not help.
    #[error("the dispatch does not allow the event")]
    Refused {
        #[source]
        refusal: Refusal,
        /// The current dispatch.
        current: Box<StoredDispatch>,
    },
    /// A service failed. The caller may repeat the event, which is idempotent.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Other writers were faster every time. The caller may repeat the event.
    #[error("the dispatch is being changed by too many writers at the same time")]
    Contended,
}

impl EngineError {
    /// Whether a stored record cannot be read. The log has named it.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Port(error) if error.is_unreadable())
    }
}

/// A decision that was committed, or that changed nothing.
struct Decision {
    stored: StoredDispatch,
    step: Step,
}

impl Engine {
    /// Creates an engine with these ports.
    pub fn new(ports: Ports, city: City, metrics: Arc<Metrics>) -> Self {
        Self {
            ports,
            city,
            metrics,
            wakes: ArmedWakes::default(),
            known: OfferCache::default(),
            local_waker: LocalWaker::default(),
            batching: Batching::default(),
            locks: DispatchLocks::default(),
            active_drivers: ActiveDrivers::default(),
            set_aside: SetAside::default(),
        }
    }

    /// Stores a request. Its stream record starts the search. A user who is on a dispatch that is gone or over is freed
    /// first.
    pub async fn create(&self, new: NewDispatch) -> Result<CreateOutcome, PortError> {
        let count = |error: &PortError| self.metrics.port_error(error);
        let mut created = self.ports.dispatches.create(new.clone()).await.inspect_err(count)?;
        if let CreateOutcome::UserBusy { current: Some(current) } = &created
            && self.release_if_over(&Person::User(new.user.clone()), current).await?
        {
            created = self.ports.dispatches.create(new).await.inspect_err(count)?;
        }
        if let CreateOutcome::Stored(stored) = &created {
            self.metrics.request_stored();
            self.local_waker.wake(stored);
        }
        Ok(created)
    }

    /// Applies an answer or a report to a dispatch. Repeating it is harmless and gives the same result.
    pub async fn apply(&self, id: &DispatchId, event: Event) -> Result<Advance, EngineError> {
        if let Some(offered) = self.known.take_open(id)
            && let Some(applied) = self.apply_unread(&offered, &event).await?
        {
            return Ok(applied);
        }
        let before = self.load(id).await?;
        self.apply_to(before, event, None).await
    }

    /// Applies an event to the cached dispatch. The write succeeds only if the table still has that version. Returns
    /// `None` if it does not, or if the event would be refused: a cached dispatch is no basis for a refusal.
    async fn apply_unread(&self, before: &StoredDispatch, event: &Event) -> Result<Option<Advance>, EngineError> {
        let settings = self.city.settings();
        let rules = Rules { policy: &settings.policy, now: self.ports.clock.now() };
        let Ok(step) = step(&before.state, event.clone(), rules) else { return Ok(None) };
        if !step.changed {
            return Ok(None);
        }
        let Commit::Applied(stored) = self.commit(before, &step, None).await? else { return Ok(None) };
        self.after_commit(&stored, &step).await;
        self.local_waker.wake(&stored);
        Ok(Some(Advance { stored: *stored, changed: true }))
    }

    async fn apply_to(
        &self,
        before: StoredDispatch,
        event: Event,
        route: Option<TravelledRoute>,
    ) -> Result<Advance, EngineError> {
        let Decision { stored, step } = self.decide(before, event, route).await?;
        self.after_commit(&stored, &step).await;
        if step.changed {
            self.local_waker.wake(&stored);
        }
        Ok(Advance { stored, changed: step.changed })
    }

    /// Repeats load, step and commit until the event takes effect or is refused.
    async fn decide(
        &self,
        mut before: StoredDispatch,
        event: Event,
        route: Option<TravelledRoute>,
    ) -> Result<Decision, EngineError> {
        for attempt in 1..=COMMIT_ATTEMPTS_MAX {
            let settings = self.city.settings();
            let rules = Rules { policy: &settings.policy, now: self.ports.clock.now() };
            let step = match step(&before.state, event.clone(), rules) {
                Ok(step) if step.changed => step,
                Ok(step) => return Ok(Decision { stored: before, step }),
                Err(refusal) => return Err(EngineError::Refused { refusal, current: Box::new(before) }),
            };
            match self.commit(&before, &step, route.clone()).await? {
                Commit::Applied(stored) => return Ok(Decision { stored: *stored, step }),
                Commit::CompanionRefused => {
                    if let Event::Accept { driver, offer_seq } = event {
                        self.correct_fleet(&before, &driver).await;
                        let void = Event::AcceptImpossible { driver, offer_seq };
                        return Err(self.refuse_accept(before, void).await);
                    }
                    tracing::warn!(dispatch = %before.state.id, "an item of the same transaction refused the change");
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

    /// Voids the offer of a driver whose own item shows that the driver is not free; the search continues without this
    /// driver.
    async fn refuse_accept(&self, before: StoredDispatch, void: Event) -> EngineError {
        match Box::pin(self.apply_to(before, void, None)).await {
            Ok(Advance { stored, .. }) => {
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
                if let Some(reason) = step.state.review.filter(|_| before.state.review != step.state.review) {
                    self.metrics.review_requested(reason);
                }
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
        // Any jitter separates two writers. The low digits of the clock suffice, and tests with a fixed clock do not
        // wait.
        let spread = self.ports.clock.now().0.unsigned_abs() % CONTENTION_PAUSE_MS;
        tokio::time::sleep(Duration::from_millis(spread)).await;
    }
}

#[cfg(test)]
mod tests;
mod trigger;
