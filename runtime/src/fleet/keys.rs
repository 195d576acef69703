//! Every Redis key and hash field.
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `geo:{seoul}` | geo set | free drivers only |
//! | `seen:{seoul}` | sorted set | last ping of each driver, ms |
//! | `drv:{seoul}:driver#00001` | hash | the seed's `lat lng lastUpdate status`, and ours |
//! | `hold:{seoul}:driver#00001` | string | `dispatch#…:<offer_seq>` that reserved the driver, expiring |
//! | `rest:{seoul}:driver#00001` | string | present while the driver cools down, expiring |
//! | `acc:{seoul}:driver#00001` | hash | `20250525:o` offers and `20250525:a` acceptances of a day |
//! | `route:{seoul}:dispatch#…` | list | points not yet stored as a chunk |
//! | `chunks:{seoul}:dispatch#…` | string | chunks stored so far |
//! | `warm:{seoul}` | string | present while the cache speaks for the city, expiring |
//! | `loc:{seoul}` | stream | the feed of changes the indexes of all processes follow, some seconds long |
//! | `events:{seoul}` | channel | notifications for the event streams of all replicas |
//!
//! The braces are Redis' hash tag: one city, one slot, so that scripts may touch several keys in a cluster too. One slot
//! carries any city: at 50,000 drivers a ring search costs the server some 140 µs.

use dispatch_core::ids::{DispatchId, DriverId};

/// Latitude, degrees (seed): of the last ping that was believed.
pub const LAT: &str = "lat";
/// Longitude, degrees (seed).
pub const LNG: &str = "lng";
/// ISO 8601 time of the last ping (seed).
pub const LAST_UPDATE: &str = "lastUpdate";
/// `ACTIVE`, `DISPATCHED` or `INACTIVE` (seed).
pub const STATUS: &str = "status";
/// Time of the last ping that was believed, ms.
pub const TS: &str = "ts";
/// When that ping was made by the phone's own clock, ms, or empty.
pub const PHONE: &str = "phone";
/// Pings that came since and were not believed; absent where there are none.
pub const DOUBT: &str = "doubt";
/// The dispatch the driver is on, or empty.
pub const DISPATCH: &str = "disp";
/// `maxDistance` in kilometres, as the seed has it.
pub const MAX_DISTANCE_KM: &str = "maxD";
/// `1` where the driver takes every offer.
pub const AUTO_ACCEPT: &str = "auto";
/// `minimumFare`.
pub const MINIMUM_FARE: &str = "minFare";
/// `preferredRegions`, separated by commas.
pub const REGIONS: &str = "regions";
/// Since when the driver is free, ms.
pub const IDLE_SINCE: &str = "idleSince";

/// The keys of one city.
#[derive(Debug, Clone)]
pub struct Keys {
    tag: String,
}

impl Keys {
    /// The keys of `city`.
    pub fn of(city: &str) -> Self {
        Self { tag: format!("{{{city}}}") }
    }

    /// Free drivers by place.
    pub fn geo(&self) -> String {
        format!("geo:{}", self.tag)
    }

    /// Drivers by their last ping.
    pub fn seen(&self) -> String {
        format!("seen:{}", self.tag)
    }

    /// One driver.
    pub fn driver(&self, driver: &DriverId) -> String {
        format!("{}{driver}", self.driver_prefix())
    }

    /// What stands in front of the id in the key of every driver.
    pub fn driver_prefix(&self) -> String {
        format!("drv:{}:", self.tag)
    }

    /// Who reserved a driver.
    pub fn hold(&self, driver: &DriverId) -> String {
        format!("hold:{}:{driver}", self.tag)
    }

    /// Whether a driver cools down.
    pub fn rest(&self, driver: &DriverId) -> String {
        format!("rest:{}:{driver}", self.tag)
    }

    /// A driver's answers by day.
    pub fn acceptance(&self, driver: &DriverId) -> String {
        format!("acc:{}:{driver}", self.tag)
    }

    /// The tail of a live route.
    pub fn route(&self, dispatch: &DispatchId) -> String {
        format!("route:{}:{dispatch}", self.tag)
    }

    /// Stored chunks of a live route.
    pub fn chunks(&self, dispatch: &DispatchId) -> String {
        format!("chunks:{}:{dispatch}", self.tag)
    }

    /// Whether the cache speaks for the city.
    pub fn warm(&self) -> String {
        format!("warm:{}", self.tag)
    }

    /// The feed of what changes for searches.
    pub fn feed(&self) -> String {
        format!("loc:{}", self.tag)
    }

    /// The channel of the event streams.
    pub fn events(&self) -> String {
        format!("events:{}", self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_city_share_its_hash_tag() {
        let keys = Keys::of("seoul");
        let driver = DriverId::parse("driver#00001").unwrap();
        let dispatch = DispatchId::parse("dispatch#00001").unwrap();
        assert_eq!(keys.driver(&driver), "drv:{seoul}:driver#00001");
        let all = [
            keys.geo(),
            keys.seen(),
            keys.driver(&driver),
            keys.hold(&driver),
            keys.rest(&driver),
            keys.acceptance(&driver),
            keys.route(&dispatch),
            keys.chunks(&dispatch),
            keys.warm(),
            keys.feed(),
            keys.events(),
        ];
        assert!(all.iter().all(|key| key.contains(":{seoul}")), "{all:?}");
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    }
}
