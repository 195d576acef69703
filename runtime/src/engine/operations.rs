//! What operations do to dispatches. Each action names its operator and a reason, which the dispatch records.

use dispatch_core::dispatch::{Event, OperationsAction, Refusal};
use dispatch_core::ids::DispatchId;
use dispatch_core::person::PersonStatus;

use super::{Advance, Engine, EngineError};
use crate::ports::{Person, PortError, StoredDispatch};

impl Engine {
    /// Cancels a dispatch in any status that is not final.
    pub async fn cancel_by_operations(&self, id: &DispatchId, note: String) -> Result<Advance, EngineError> {
        self.apply(id, Event::ByOperations { action: OperationsAction::Cancel, note }).await
    }

    /// Ends a ride in progress, with the bill that its driver's report would give.
    pub async fn complete_by_operations(&self, id: &DispatchId, note: String) -> Result<Advance, EngineError> {
        let before = self.load(id).await?;
        let (bill, route) = self.measure(&before).await?;
        let action = OperationsAction::Complete(bill);
        self.apply_to(before, Event::ByOperations { action, note }, Some(route)).await
    }

    /// Ends the review of a ride.
    pub async fn close_review(&self, id: &DispatchId, note: String) -> Result<Advance, EngineError> {
        self.apply(id, Event::ByOperations { action: OperationsAction::CloseReview, note }).await
    }

    /// Frees people whose profile still names a dispatch that is over, gone or not readable: those of the dispatch, if
    /// it is readable, and those of `named`. Returns those who were on it. A dispatch that continues is refused.
    pub async fn release_by_operations(
        &self,
        id: &DispatchId,
        named: Vec<Person>,
        note: String,
    ) -> Result<Vec<Person>, EngineError> {
        let stored = match self.ports.dispatches.load(id).await.inspect_err(|error| self.metrics.port_error(error)) {
            Ok(stored) => stored,
            // An item that cannot be read is the reason why its people hang.
            Err(PortError::Unreadable { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(stored) = stored.as_ref().filter(|stored| !stored.state.status.is_terminal()) {
            let refusal = Refusal::WrongStatus(stored.state.status);
            return Err(EngineError::Refused { refusal, current: Box::new(stored.clone()) });
        }
        let mut people = stored.as_ref().map(people_of).unwrap_or_default();
        people.extend(named);
        let mut released = Vec::new();
        for person in people {
            if !released.contains(&person) && self.free_person(&person, id).await? {
                released.push(person);
            }
        }
        if stored.is_some() && !released.is_empty() {
            self.apply(id, Event::ByOperations { action: OperationsAction::Release, note }).await?;
        }
        Ok(released)
    }

    /// Frees a person in the table and in the cache. False if the person is not on the dispatch.
    async fn free_person(&self, person: &Person, id: &DispatchId) -> Result<bool, PortError> {
        let count = |error: &PortError| self.metrics.port_error(error);
        let freed = self.ports.profiles.release(person, id, self.ports.clock.now()).await.inspect_err(count)?;
        if let Person::Driver(driver) = person
            && freed
        {
            // The next ping of the driver, or a change of status, repairs the cache.
            let shown = self.ports.fleet.reservations.set_status(driver, PersonStatus::Active, None).await;
            let _ = shown.inspect_err(count);
        }
        Ok(freed)
    }
}

fn people_of(stored: &StoredDispatch) -> Vec<Person> {
    let driver = stored.state.driver.clone().map(Person::Driver);
    std::iter::once(Person::User(stored.state.user.clone())).chain(driver).collect()
}
