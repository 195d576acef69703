//! The cache of live drivers. It proposes and reserves; it never decides, and all of it can be lost at any moment.

use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::time::EpochMs;

use crate::city::parse_timestamp;
use crate::port::FleetEntry;
use crate::store::entity::DriverItem;

/// What the table says of a driver, as the cache takes it. `None` where the item holds no usable id or place.
pub fn fleet_entry(item: &DriverItem) -> Option<FleetEntry> {
    let status = &item.current_status;
    Some(FleetEntry {
        driver: DriverId::parse(item.pk.clone()).ok()?,
        status: status.status,
        dispatch: status.current_dispatch_id.clone().and_then(|id| DispatchId::parse(id).ok()),
        position: Coordinate::new(status.current_location.lat, status.current_location.lng).ok()?,
        seen_at: parse_timestamp(&status.last_location_update).unwrap_or(EpochMs(0)),
        preferences: item.preferences.clone(),
    })
}
