//! `spec.dispatch.rides`: how rides are billed and ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How rides are billed, and when a ride without a sign of life is ended. Changes reach running workers without a
/// restart.
///
/// A ride whose positions are missing or not plausible, or whose metered fare exceeds `maxFarePercent`, costs the
/// estimate and is listed for a review by operations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RidesSpec {
    /// Highest average speed of a ride, in km/h, 30 to 300. No longer distance is billed than a car drives at this
    /// speed between the pickup and the end of the ride, by the clock of the workers. Default 150.
    #[serde(default = "max_speed")]
    #[schemars(range(min = 30, max = 300))]
    pub max_speed_kmh: u32,
    /// Highest fare that is billed without a review, in percent of the estimate, 100 to 1000. Default 300.
    #[serde(default = "max_fare")]
    #[schemars(range(min = 100, max = 1000))]
    pub max_fare_percent: u32,
    /// Distance from the destination, in meters, 100 to 100000. If a ride ends farther away, the passenger is notified
    /// of the estimated and the metered fare. Default 1000.
    #[serde(default = "destination_radius")]
    #[schemars(range(min = 100, max = 100_000))]
    pub destination_radius_meters: u32,
    /// Time without a position and without an event of the ride, in seconds, after which the ride is listed for a
    /// review, 5 to 86400. Default 600.
    #[serde(default = "silent_after")]
    #[schemars(range(min = 5, max = 86_400))]
    pub silent_after_seconds: u32,
    /// Time after that, in seconds, after which the ride is ended if it is still silent, 5 to 86400: before the pickup
    /// it is cancelled, after the pickup it is completed with the estimate as its fare. Default 1800.
    #[serde(default = "end_silent_after")]
    #[schemars(range(min = 5, max = 86_400))]
    pub end_silent_after_seconds: u32,
}

impl Default for RidesSpec {
    fn default() -> Self {
        Self {
            max_speed_kmh: max_speed(),
            max_fare_percent: max_fare(),
            destination_radius_meters: destination_radius(),
            silent_after_seconds: silent_after(),
            end_silent_after_seconds: end_silent_after(),
        }
    }
}

fn max_speed() -> u32 {
    150
}

fn max_fare() -> u32 {
    300
}

fn destination_radius() -> u32 {
    1000
}

fn silent_after() -> u32 {
    600
}

fn end_silent_after() -> u32 {
    1800
}
