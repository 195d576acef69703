//! `spec.privacy`: what drivers see of users, and how long data of rides is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What drivers see of users, and how long data of rides is kept. Changes reach running workers without a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrivacySpec {
    /// What a driver sees of a ride before accepting it. `Full` (default): the addresses as the user entered them.
    /// `District`: pickup and destination are shortened to their district in offers, pushes and reads, coordinates are
    /// rounded to about a kilometer, and the id of the user is left out. After the acceptance the driver sees all of
    /// them.
    #[serde(default)]
    pub offer_addresses: OfferAddresses,
    /// Time after the end of a ride from which its driver sees only districts and rounded coordinates, in hours, 0 to
    /// 87600. Default 24. Users and `operations` still see the whole ride, and stored data does not change.
    #[serde(default = "blur_rides_after")]
    #[schemars(range(min = 0, max = 87_600))]
    pub blur_rides_after_hours: u32,
    /// How long data of rides is kept in the table. `export.retentionDays` limits the exports.
    #[serde(default)]
    pub retention: RetentionSpec,
}

impl Default for PrivacySpec {
    fn default() -> Self {
        Self {
            offer_addresses: OfferAddresses::default(),
            blur_rides_after_hours: blur_rides_after(),
            retention: RetentionSpec::default(),
        }
    }
}

/// What a driver sees of a ride before accepting it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OfferAddresses {
    /// The addresses as the user entered them.
    #[default]
    Full,
    /// The districts of the addresses.
    District,
}

/// How long data of rides is kept in the table. An item gets its expiry when it is written for the last time; a change
/// applies to items that are written after it. DynamoDB deletes expired items within a few days.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetentionSpec {
    /// Days after the end of a dispatch until it expires, with its entries in the histories of user and driver, 1 to
    /// 3650. Default 365. Choose at least as long as accounting needs fares and times.
    #[serde(default = "year")]
    #[schemars(range(min = 1, max = 3650))]
    pub dispatch_days: u32,
    /// Days until the recorded positions of a ride expire, 7 to 3650. Default 30. The simplified route is part of the
    /// dispatch.
    #[serde(default = "month")]
    #[schemars(range(min = 7, max = 3650))]
    pub route_days: u32,
    /// Days until an entry of a driver's status history expires, 1 to 3650, but not before the routes. Default 365.
    #[serde(default = "year")]
    #[schemars(range(min = 1, max = 3650))]
    pub history_days: u32,
}

impl Default for RetentionSpec {
    fn default() -> Self {
        Self { dispatch_days: year(), route_days: month(), history_days: year() }
    }
}

fn blur_rides_after() -> u32 {
    24
}

fn year() -> u32 {
    365
}

fn month() -> u32 {
    30
}
