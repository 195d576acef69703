//! How rides are billed and ended.

use dispatch_core::policy::RidePolicy;
use serde::{Deserialize, Serialize};

/// How rides are billed and ended. A document without it, from an older operator, means the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RidesConfig {
    /// Highest average speed of a ride, km/h.
    pub max_speed_kmh: u32,
    /// Highest fare that is billed without a review, percent of the estimate.
    pub max_fare_percent: u32,
    /// Distance from the destination beyond which the end of a ride is reported, m.
    pub destination_radius_m: u32,
    /// Time without a sign of life after which a ride is flagged, ms.
    pub silent_after_ms: u64,
    /// Time after the flag until a silent ride is ended, ms.
    pub end_silent_after_ms: u64,
}

impl Default for RidesConfig {
    fn default() -> Self {
        Self::from_policy(RidePolicy::default())
    }
}

impl RidesConfig {
    pub(super) fn from_policy(policy: RidePolicy) -> Self {
        Self {
            max_speed_kmh: policy.max_speed_kmh,
            max_fare_percent: policy.max_fare_percent,
            destination_radius_m: policy.destination_radius_m,
            silent_after_ms: policy.silent_after_ms,
            end_silent_after_ms: policy.end_silent_after_ms,
        }
    }

    pub(super) fn policy(self) -> RidePolicy {
        RidePolicy {
            max_speed_kmh: self.max_speed_kmh,
            max_fare_percent: self.max_fare_percent,
            destination_radius_m: self.destination_radius_m,
            silent_after_ms: self.silent_after_ms,
            end_silent_after_ms: self.end_silent_after_ms,
        }
    }
}
