//! What other services write into the table.

use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;

use crate::adapters::fleet::fleet_entry;
use crate::engine::Engine;
use crate::ports::{PortError, StoredDispatch};

impl Engine {
    /// Adds the index keys of a dispatch that was stored without them, so that lists and the sweeper find it.
    pub async fn index(&self, stored: &StoredDispatch) -> Result<(), PortError> {
        self.ports.dispatches.index(&stored.state).await.inspect_err(|error| self.metrics.port_error(error))
    }

    /// Copies a driver from the table into the cache. The stream's image may be outdated, so the table is read.
    pub async fn refresh_driver(&self, driver: &DriverId) -> Result<(), PortError> {
        let refreshed = async {
            let known = self.ports.profiles.drivers(std::slice::from_ref(driver)).await?;
            match known.first().and_then(fleet_entry) {
                Some(entry) => {
                    let (status, dispatch) = (entry.status, entry.dispatch.clone());
                    self.ports.fleet.positions.put(&[entry]).await?;
                    // The position in the cache may be newer, and then keeps the status it came with.
                    self.ports.fleet.reservations.set_status(driver, status, dispatch.as_ref()).await
                }
                // Deleted, or not readable: no offer can be made to this driver.
                None => self.ports.fleet.reservations.set_status(driver, PersonStatus::Inactive, None).await,
            }
        };
        refreshed.await.inspect_err(|error| self.metrics.port_error(error))
    }

    /// Marks a driver in the cache as busy with a dispatch that another service gave to the driver.
    pub async fn occupy_in_fleet(&self, driver: &DriverId, dispatch: &DispatchId) -> Result<(), PortError> {
        let reservations = &self.ports.fleet.reservations;
        let marked = reservations.set_status(driver, PersonStatus::Dispatched, Some(dispatch)).await;
        marked.inspect_err(|error| self.metrics.port_error(error))
    }
}
