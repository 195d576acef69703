//! People whose profile names a dispatch that no longer exists, or that is over: another service deleted or ended it.

use dispatch_core::geo::Location;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;

use crate::engine::Engine;
use crate::ports::{AvailabilityChange, Person, PortError};

impl Engine {
    /// Makes a driver available or unavailable. A driver who is on a dispatch that is gone or over is freed first.
    pub async fn set_availability(
        &self,
        driver: &DriverId,
        status: PersonStatus,
        at: &Location,
    ) -> Result<AvailabilityChange, PortError> {
        let profiles = &self.ports.profiles;
        let count = |error: &PortError| self.metrics.port_error(error);
        let now = self.ports.clock.now();
        let changed = profiles.set_availability(driver, status, at, now).await.inspect_err(count)?;
        match &changed {
            AvailabilityChange::OnDispatch { current: Some(current) }
                if self.release_if_over(&Person::Driver(driver.clone()), current).await? =>
            {
                profiles.set_availability(driver, status, at, now).await.inspect_err(count)
            }
            _ => Ok(changed),
        }
    }

    /// Frees a person from a dispatch if that is gone or over. A dispatch that ends frees its people in the same
    /// transaction, so such a reference comes from outside, and nothing else would ever clear it.
    pub(super) async fn release_if_over(&self, person: &Person, dispatch: &DispatchId) -> Result<bool, PortError> {
        let count = |error: &PortError| self.metrics.port_error(error);
        let stored = self.ports.dispatches.load(dispatch).await.inspect_err(count)?;
        if stored.is_some_and(|stored| !stored.state.status.is_terminal()) {
            return Ok(false);
        }
        let released = self.ports.profiles.release(person, dispatch, self.ports.clock.now()).await;
        let released = released.inspect_err(count)?;
        if released {
            tracing::warn!(person = person.as_str(), %dispatch, "freed a person from a dispatch that is gone or over");
        }
        Ok(released)
    }
}
