//! Places with addresses, and position reports of drivers.

use dispatch_core::geo;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A place with its address.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"}))]
pub struct Location {
    /// Latitude in degrees.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Longitude in degrees.
    #[schema(minimum = -180, maximum = 180)]
    pub lng: f64,
    /// The address as people read it. Control characters and invisible formatting characters are not allowed.
    #[schema(min_length = 1, max_length = 200)]
    pub address: String,
}

/// A place as it is stored with a profile.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"}))]
pub struct StoredLocation {
    /// Latitude in degrees.
    pub lat: f64,
    /// Longitude in degrees.
    pub lng: f64,
    /// The address as people read it. Empty until a location is stored for the first time.
    pub address: String,
}

/// One position report (ping) of a driver.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"lat": 37.5655, "lng": 126.9785, "accuracyMeters": 8.5}))]
pub struct PostLocation {
    /// Latitude in degrees.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Longitude in degrees.
    #[schema(minimum = -180, maximum = 180)]
    pub lng: f64,
    /// The accuracy that the device reports, in metres. A position with a value above 50 is discarded; without a value,
    /// the position is taken as accurate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 20_020_000)]
    pub accuracy_meters: Option<f64>,
    /// When the device measured the position, by its own clock (ISO 8601 with an offset). It is compared only with
    /// earlier positions of the same driver, to detect positions that arrive out of order. How current a position is
    /// depends on when it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub timestamp: Option<String>,
}

/// One position report (ping) in a batch.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"driverId": "driver#00001", "lat": 37.5655, "lng": 126.9785}))]
pub struct BatchLocation {
    /// The driver at this position.
    #[schema(pattern = "^driver#[A-Za-z0-9_-]{1,64}$")]
    pub driver_id: String,
    /// Latitude in degrees.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Longitude in degrees.
    #[schema(minimum = -180, maximum = 180)]
    pub lng: f64,
    /// The accuracy that the device reports, in metres. A position with a value above 50 is discarded; without a value,
    /// the position is taken as accurate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 20_020_000)]
    pub accuracy_meters: Option<f64>,
    /// When the device measured the position, by its own clock (ISO 8601 with an offset). It is compared only with
    /// earlier positions of the same driver, to detect positions that arrive out of order. How current a position is
    /// depends on when it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub timestamp: Option<String>,
}

/// Position reports of several drivers.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"locations": [{"driverId": "driver#00001", "lat": 37.5655, "lng": 126.9785}]}))]
pub struct PostLocations {
    /// The positions, applied in this order. A driver may occur more than once.
    #[schema(min_items = 1, max_items = 500)]
    pub locations: Vec<BatchLocation>,
}

/// How many positions were accepted and how many were discarded, and which entries of a batch are not valid.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct LocationsTaken {
    /// The number of positions accepted.
    #[schema(example = 1)]
    pub accepted: u32,
    /// The number of positions discarded, because the driver has no profile, a newer position is known, the accuracy is
    /// worse than 50 m, or no car can get there in the time since the last position. Do not send them again.
    #[schema(example = 0)]
    pub dropped: u32,
    /// The entries of a batch that are not valid, in their order; absent if there are none. Correct them before you
    /// send them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 500)]
    pub rejected: Vec<RejectedLocation>,
}

/// An entry of a batch that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"index": 1, "field": "locations[1].lat", "detail": "lat must be a number from -90 to 90"}))]
pub struct RejectedLocation {
    /// The index of the entry in `locations`, from 0.
    #[schema(maximum = 499)]
    pub index: u32,
    /// The first field of the entry that is not valid.
    pub field: String,
    /// The rule that the field breaks.
    pub detail: String,
}

impl From<geo::Location> for Location {
    fn from(geo::Location { lat, lng, address }: geo::Location) -> Self {
        Self { lat, lng, address }
    }
}

impl From<Location> for geo::Location {
    fn from(Location { lat, lng, address }: Location) -> Self {
        Self { lat, lng, address }
    }
}
