//! Places, and the positions of drivers.

use dispatch_core::geo;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A place with its address.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"}))]
pub struct Location {
    /// Latitude, degrees.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Longitude, degrees.
    #[schema(minimum = -180, maximum = 180)]
    pub lng: f64,
    /// Address.
    #[schema(min_length = 1, max_length = 200)]
    pub address: String,
}

/// Where a driver is.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"lat": 37.5655, "lng": 126.9785, "accuracyMeters": 8.5}))]
pub struct PostLocation {
    /// Latitude, degrees.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Longitude, degrees.
    #[schema(minimum = -180, maximum = 180)]
    pub lng: f64,
    /// Accuracy the device claims, m. A position that is more than 50 m off is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub accuracy_meters: Option<f64>,
    /// When the device made the position, by its own clock, ISO 8601: puts the positions of this driver in order and is compared with
    /// nothing else. A position counts from when it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub timestamp: Option<String>,
}

/// Where one of several drivers is.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"driverId": "driver#00001", "lat": 37.5655, "lng": 126.9785}))]
pub struct BatchLocation {
    /// Who.
    #[schema(pattern = "^driver#[A-Za-z0-9_-]{1,64}$")]
    pub driver_id: String,
    /// Latitude, degrees.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Longitude, degrees.
    #[schema(minimum = -180, maximum = 180)]
    pub lng: f64,
    /// Accuracy the device claims, m. A position that is more than 50 m off is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub accuracy_meters: Option<f64>,
    /// When the device made the position, by its own clock, ISO 8601: puts the positions of this driver in order and is compared with
    /// nothing else. A position counts from when it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub timestamp: Option<String>,
}

/// Where several drivers are.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"locations": [{"driverId": "driver#00001", "lat": 37.5655, "lng": 126.9785}]}))]
pub struct PostLocations {
    /// The positions, taken in this order.
    #[schema(min_items = 1, max_items = 500)]
    pub locations: Vec<BatchLocation>,
}

/// What became of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct LocationsTaken {
    /// Positions taken over.
    #[schema(example = 1)]
    pub accepted: u32,
    /// Positions dropped: of unknown drivers, older than what is known, too inaccurate, or where nobody gets to that fast.
    #[schema(example = 0)]
    pub dropped: u32,
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
