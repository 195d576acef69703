//! The cache of live drivers in Redis. It proposes and reserves; it never decides, and all of it can be lost at any moment.
//!
//! Every key is spelled in [`keys`]. What must change together changes in one Lua script ([`scripts`]); all keys of a city share
//! one hash tag and so one slot.
//!
//! [`IndexedFleet`] searches a copy in the process's own memory, which a [`IndexSync`] keeps; [`RedisFleet`] searches in Redis.

mod connect;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod feed;
pub mod index;
mod index_sync;
mod indexed;
pub mod keys;
mod ping_batcher;
mod record_pings;
mod redis;
mod scripts;

use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;

pub(crate) use connect::RESPONSE_TIMEOUT;
pub use connect::{ConnectError, RedisConnector};
pub use index_sync::{IndexSync, indexed};
pub use indexed::IndexedFleet;
pub use redis::RedisFleet;

use crate::city::{City, parse_timestamp};
use crate::ports::FleetEntry;
use crate::store::entity::DriverItem;

/// Time the entry of a driver who no longer pings is kept. Afterwards a ping is answered `Unknown` and brings it back.
const DRIVER_TTL_MS: u64 = DAY_MS;

/// Points of a live route that make a chunk: at a ping each four seconds one write in four minutes, and 5 KB of the 400 KB an
/// item may have.
pub const ROUTE_CHUNK_POINTS: usize = 60;

/// How much newer the cache's ping must be before it is believed more than what the table is said to say: more than the
/// clocks of two workers differ.
const FRESHER_BY_MS: i64 = 10_000;

/// Days of answers kept for the acceptance window, the most a policy may ask for.
const ACCEPTANCE_DAYS_KEPT: u64 = 30;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

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

/// The seed's spelling of a status.
fn status_text(status: PersonStatus) -> &'static str {
    match status {
        PersonStatus::Active => "ACTIVE",
        PersonStatus::Dispatched => "DISPATCHED",
        PersonStatus::Inactive => "INACTIVE",
    }
}

/// Pings older than this make nobody a candidate.
fn fresh_since(city: &City, now: EpochMs) -> EpochMs {
    let stale_after_ms = i64::try_from(city.settings().policy.stale_after_ms).unwrap_or(i64::MAX);
    EpochMs(now.0.saturating_sub(stale_after_ms))
}

/// Number of the first chunk of a route whose counter was lost with the cache: above every number given before, because
/// those count from 1 and this one is the minute since 1970.
fn chunks_after_loss(now: EpochMs) -> u32 {
    u32::try_from(now.0 / 60_000).unwrap_or(u32::MAX / 2)
}
