//! The fare table.

use dispatch_core::fare::{FareTable, NightSurcharge};
use serde::{Deserialize, Serialize};

/// The fare table in base units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FareConfig {
    /// Base fare, in whole units of the currency.
    pub base: u32,
    /// Distance included in the base fare, m.
    pub base_distance_m: u32,
    /// Amount per distance step.
    pub per_distance: u32,
    /// Length of a distance step, m.
    pub per_distance_m: u32,
    /// Amount per time step.
    pub per_time: u32,
    /// Length of a time step, s.
    pub per_time_s: u32,
    /// Night surcharges.
    pub night_surcharges: Vec<NightSurchargeConfig>,
    /// Road distance in percent of the straight-line distance.
    pub road_factor_percent: u32,
    /// Average speed for estimates, km/h.
    pub average_speed_kmh: u32,
    /// Fares are rounded up to a multiple of this amount.
    pub round_to: u32,
}

/// One night surcharge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NightSurchargeConfig {
    /// Start, local minute of the day, 0 to 1439.
    pub from_minute: u16,
    /// End, local minute of the day, 0 to 1439.
    pub to_minute: u16,
    /// Surcharge in percent of the fare.
    pub percent: u32,
}

impl FareConfig {
    pub(super) fn from_table(fare: &FareTable) -> Self {
        let night = |night: &NightSurcharge| NightSurchargeConfig {
            from_minute: night.from_minute,
            to_minute: night.to_minute,
            percent: night.percent,
        };
        Self {
            base: fare.base,
            base_distance_m: fare.base_distance_m,
            per_distance: fare.per_distance,
            per_distance_m: fare.per_distance_m,
            per_time: fare.per_time,
            per_time_s: fare.per_time_s,
            night_surcharges: fare.night_surcharges.iter().map(night).collect(),
            road_factor_percent: fare.road_factor_percent,
            average_speed_kmh: fare.average_speed_kmh,
            round_to: fare.round_to,
        }
    }
}
