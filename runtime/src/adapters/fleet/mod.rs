//! The cache of live drivers in Redis. It proposes and reserves drivers; the table decides. Everything in it can be
//! lost at any moment.
//!
//! [`keys`] defines every key. Changes that belong together run in one Lua script ([`scripts`]); all keys of a city
//! share one hash tag and therefore one slot.
//!
//! [`IndexedFleet`] searches an index in the process's memory, which [`IndexSync`] keeps up to date; [`RedisFleet`]
//! searches in Redis.

mod connect;
mod connection;
mod entry;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod feed;
mod health;
pub mod index;
mod index_sync;
mod indexed;
pub mod keys;
mod ping_batcher;
mod probe;
mod record_pings;
mod redis;
mod scripts;
mod server_clock;

use dispatch_core::geo::Coordinate;
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;

pub(crate) use connect::RESPONSE_TIMEOUT;
pub use connect::{ConnectError, RedisConnector, TokenSource};
pub(crate) use connection::Connection;
pub use index_sync::{IndexSync, indexed_fleet};
pub use indexed::IndexedFleet;
pub use probe::CacheProbe;
pub use redis::RedisFleet;

use crate::city::{City, parse_timestamp};
use crate::ports::{Driver, FleetEntry};

/// How long the entry of a driver without pings is kept. A later ping is answered `Unknown`, and the caller loads the
/// driver again.
const DRIVER_TTL_MS: u64 = DAY_MS;

/// Points of a live route per chunk. With a ping every four seconds that is one write in four minutes, and 5 KB of the
/// 400 KB that an item may have.
pub const ROUTE_CHUNK_POINTS: usize = 60;

/// How much newer than the table the cache's last ping must be to take precedence: more than the clocks of two workers
/// differ.
const FRESHER_BY_MS: i64 = 10_000;

/// Days of offer counts to keep: the longest acceptance window a policy may have.
const ACCEPTANCE_DAYS_KEPT: u64 = 30;

/// How far a stored time may be ahead of the server's clock, ms. AWS refuses the calls of a worker whose clock differs
/// more, so such a worker does not run for long.
const AHEAD_MAX_MS: i64 = 300_000;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The cache entry of a stored driver. `None` if the profile has no usable position.
pub fn fleet_entry(driver: &Driver) -> Option<FleetEntry> {
    let status = &driver.current_status;
    Some(FleetEntry {
        driver: driver.id.clone(),
        status: status.status,
        dispatch: status.dispatch.clone(),
        position: Coordinate::new(status.location.lat, status.location.lng).ok()?,
        seen_at: parse_timestamp(&status.located_at).unwrap_or(EpochMs(0)),
        preferences: driver.preferences.clone(),
    })
}

/// The specification's spelling of a status.
fn status_text(status: PersonStatus) -> &'static str {
    match status {
        PersonStatus::Active => "ACTIVE",
        PersonStatus::Dispatched => "DISPATCHED",
        PersonStatus::Inactive => "INACTIVE",
    }
}

/// Drivers whose last ping is older than this are no candidates.
fn fresh_since(city: &City, now: EpochMs) -> EpochMs {
    now.minus_ms(city.settings().policy.stale_after_ms)
}

/// Number of the first chunk of a route whose counter was lost with the cache. It is the minute since 1970, which
/// exceeds every number used before, because those count from 1.
fn chunks_after_loss(now: EpochMs) -> u32 {
    u32::try_from(now.0 / 60_000).unwrap_or(u32::MAX / 2)
}
