//! Traces of a user in the data of a driver: after a ride, the place of the driver is the destination, with the address
//! as the user entered it.

use dispatch_core::ids::DriverId;
use dispatch_core::person::PersonStatus;
use dispatch_core::privacy::district_of_address;

use crate::adapters::store::convert::Item;
use crate::adapters::store::error::{DynamoFailure, Meaning};
use crate::adapters::store::expression::{Expression, key, string, text};
use crate::adapters::store::{DynamoStore, keys};
use crate::ports::PortError;

const ACTION: &str = "erasing a destination from the data of its driver";

/// Entries of each status after the end of a ride that may name its destination: the driver keeps it as its place until
/// the end of the next ride.
const ENTRIES_MAX: i32 = 25;

/// Length of a time without milliseconds and offset: `2025-05-25T15:45:00`.
const SORT_TIME_CHARS: usize = 19;

/// The destination of a completed ride, as its driver's data names it.
struct Destination {
    driver: DriverId,
    address: String,
    /// Local time of the end, as in sort keys.
    ended: String,
}

impl Destination {
    fn from_dispatch(dispatch: &Item) -> Option<Self> {
        let driver = DriverId::parse(string(dispatch, "driverId")?).ok()?;
        let address = string(dispatch.get("destination")?.as_m().ok()?, "address")?.to_owned();
        let events = dispatch.get("events")?.as_l().ok()?.iter().filter_map(|event| event.as_m().ok());
        let completed = events.filter(|event| string(event, "type") == Some("TRIP_COMPLETED")).last()?;
        let ended = string(completed, "timestamp")?.get(..SORT_TIME_CHARS)?.to_owned();
        Some(Self { driver, address, ended })
    }
}

impl DynamoStore {
    /// Shortens the destination of a completed ride to its district in the profile and the history of the driver. It
    /// must run before the dispatch itself is erased, and can be repeated.
    pub(super) async fn forget_destination(&self, dispatch: &Item) -> Result<(), PortError> {
        let Some(destination) = Destination::from_dispatch(dispatch) else { return Ok(()) };
        let pk = destination.driver.as_str();
        let path = "currentStatus.currentLocation.address";
        self.shorten(key(pk, keys::PROFILE_SK), path, &destination.address).await?;
        for status in [PersonStatus::Active, PersonStatus::Dispatched, PersonStatus::Inactive] {
            let first = keys::driver_history_sk(status, &destination.ended);
            // `~` sorts after every time.
            let last = keys::driver_history_sk(status, "~");
            let request = self.client.query().table_name(&self.table).consistent_read(true).limit(ENTRIES_MAX);
            let output = request
                .key_condition_expression("PK = :driver AND SK BETWEEN :first AND :last")
                .expression_attribute_values(":driver", text(pk))
                .expression_attribute_values(":first", text(first))
                .expression_attribute_values(":last", text(last))
                .projection_expression("PK, SK")
                .send()
                .await
                .map_err(|error| DynamoFailure::from_sdk(&error).into_port(ACTION))?;
            for entry in output.items.into_iter().flatten() {
                self.shorten(entry, "location.address", &destination.address).await?;
            }
        }
        Ok(())
    }

    /// Replaces an address by its district, if the item has this address.
    async fn shorten(&self, key: Item, path: &str, address: &str) -> Result<(), PortError> {
        let district = district_of_address(address);
        if district == address {
            return Ok(());
        }
        let mut update = Expression::default();
        update.set(path, text(district));
        update.equals(path, text(address));
        // Idempotent, so the SDK may retry it.
        let request = update.fill(self.client.update_item().table_name(&self.table).set_key(Some(key)));
        match request.send().await.map_err(|error| DynamoFailure::from_sdk(&error)) {
            Err(failure) if failure.meaning != Meaning::ConditionFailed => Err(failure.into_port(ACTION)),
            _ => Ok(()),
        }
    }
}
