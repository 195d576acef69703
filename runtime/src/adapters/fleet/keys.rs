//! Every Redis key and hash field.
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `geo:{seoul}` | geo set | free drivers only |
//! | `seen:{seoul}` | sorted set | last ping of each driver, ms |
//! | `drv:{seoul}:driver#00001` | hash | `lat lng lastUpdate status` of the specification, and the fields below |
//! | `hold:{seoul}:driver#00001` | string | `dispatch#…:<offer_seq>` that reserved the driver, expiring |
//! | `rest:{seoul}:driver#00001` | string | present while the driver cools down, expiring |
//! | `acc:{seoul}:driver#00001` | hash | `20250525:o` offers and `20250525:a` acceptances of a day |
//! | `route:{seoul}:dispatch#…` | list | points not yet stored as a chunk |
//! | `chunks:{seoul}:dispatch#…` | string | chunks stored so far |
//! | `warm:{seoul}` | string | present while the cache can answer for the city, expiring |
//! | `loc:{seoul}` | stream | the change feed for the indexes of all processes, a few seconds long |
//! | `probe:{seoul}` | string | written every second by each process to find out whether the cache accepts writes |
//! | `events:{seoul}` | channel | notifications for the event streams of all replicas |
//!
//! The braces are a Redis hash tag: all keys of a city share one slot, so that scripts may use several keys in a
//! cluster too. One slot is enough for any city: with 50,000 drivers a ring search costs the server about 140 µs.

use dispatch_core::ids::{DispatchId, DriverId};

/// Latitude of the last accepted ping, degrees (specification).
pub const LAT: &str = "lat";
/// Longitude of the last accepted ping, degrees (specification).
pub const LNG: &str = "lng";
/// `ACTIVE`, `DISPATCHED` or `INACTIVE` (specification).
pub const STATUS: &str = "status";
/// Time of the last accepted ping, ms.
pub const TS: &str = "ts";
/// Time of that ping by the phone's clock, ms, or empty.
pub const PHONE: &str = "phone";
/// Implausible pings since then; absent if there are none.
pub const DOUBT: &str = "doubt";
/// The driver's current dispatch, or empty.
pub const DISPATCH: &str = "disp";
/// `maxDistance`, kilometres.
pub const MAX_DISTANCE_KM: &str = "maxD";
/// `1` if the driver accepts every offer automatically.
pub const AUTO_ACCEPT: &str = "auto";
/// `minimumFare`.
pub const MINIMUM_FARE: &str = "minFare";
/// `preferredRegions`, separated by commas.
pub const REGIONS: &str = "regions";
/// When the driver became free, ms.
pub const IDLE_SINCE: &str = "idleSince";
/// When the cache first saw the driver as active, ms.
pub const ACTIVE_SINCE: &str = "activeSince";

/// Kinds of keys: what stands before the hash tag.
const KINDS: [&str; 10] = ["geo", "seen", "drv", "hold", "rest", "acc", "route", "chunks", "warm", "loc"];

/// The kind of a key.
pub(super) fn kind_of_key(key: &str) -> Option<&'static str> {
    let (name, _) = key.split_once(':')?;
    KINDS.into_iter().find(|kind| *kind == name)
}

/// The keys of one city.
#[derive(Debug, Clone)]
pub struct Keys {
    tag: String,
}

impl Keys {
    pub fn new(city: &str) -> Self {
        Self { tag: format!("{{{city}}}") }
    }

    /// Free drivers by position.
    pub fn geo(&self) -> String {
        format!("geo:{}", self.tag)
    }

    /// Drivers by the time of their last ping.
    pub fn seen(&self) -> String {
        format!("seen:{}", self.tag)
    }

    pub fn driver(&self, driver: &DriverId) -> String {
        format!("{}{driver}", self.driver_prefix())
    }

    /// The key of a driver without the id.
    pub fn driver_prefix(&self) -> String {
        format!("drv:{}:", self.tag)
    }

    /// The reservation of a driver.
    pub fn hold(&self, driver: &DriverId) -> String {
        format!("hold:{}:{driver}", self.tag)
    }

    /// The cooldown of a driver.
    pub fn rest(&self, driver: &DriverId) -> String {
        format!("rest:{}:{driver}", self.tag)
    }

    /// A driver's offers and acceptances by day.
    pub fn acceptance(&self, driver: &DriverId) -> String {
        format!("acc:{}:{driver}", self.tag)
    }

    /// The tail of a live route.
    pub fn route(&self, dispatch: &DispatchId) -> String {
        format!("route:{}:{dispatch}", self.tag)
    }

    /// The number of stored chunks of a live route.
    pub fn chunks(&self, dispatch: &DispatchId) -> String {
        format!("chunks:{}:{dispatch}", self.tag)
    }

    /// Whether the cache can answer for the city.
    pub fn warm(&self) -> String {
        format!("warm:{}", self.tag)
    }

    /// The change feed.
    pub fn feed(&self) -> String {
        format!("loc:{}", self.tag)
    }

    /// Written to find out whether the cache accepts writes.
    pub fn probe(&self) -> String {
        format!("probe:{}", self.tag)
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
        let keys = Keys::new("seoul");
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
            keys.probe(),
            keys.events(),
        ];
        assert!(all.iter().all(|key| key.contains(":{seoul}")), "{all:?}");
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    }
}
