//! `spec.dispatch`: the algorithm of the seed's section 8 and the city's fare table.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EtaSpec;

/// The dispatch algorithm. Changes here reach running workers without a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DispatchSpec {
    /// Drivers ranked for one dispatch (the seed's `MAX_CANDIDATES`), 1 to 50. Default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 50))]
    pub max_candidates: u8,
    /// Offers made for one dispatch before it fails (the seed's `MAX_ATTEMPTS`), 1 to 50. Default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 50))]
    pub max_attempts: u8,
    /// Seconds a driver has to answer an offer, 5 to 900 (the longest delay of an SQS message). Default 120.
    #[serde(default = "offer_timeout")]
    #[schemars(range(min = 5, max = 900))]
    pub offer_timeout_seconds: u32,
    /// Seconds a request is searched again while no driver is free, 0 to 900. 0 fails at the first empty search,
    /// which is the seed's text. Default 60.
    #[serde(default = "search_budget")]
    #[schemars(range(min = 0, max = 900))]
    pub search_budget_seconds: u32,
    /// Radii of the search around the pickup, in metres, rising; 1 to 8 rings, each 100 to 100000. The search stops at
    /// the first ring with enough drivers. Default 700, 1500, 3000, 5000, 20000.
    #[serde(default = "rings")]
    #[schemars(length(min = 1, max = 8), inner(range(min = 100, max = 100_000)))]
    #[x_kube(
        validation = Rule::new("self.isSorted() && self.all(a, self.exists_one(b, a == b))").message("radii must rise")
    )]
    pub search_rings_meters: Vec<u32>,
    /// Width of a distance bucket, in metres, 0 to 5000: inside one bucket autoAccept and acceptance rate decide. 0
    /// is the seed's literal order, in which they never do. Default 200.
    #[serde(default = "bucket")]
    #[schemars(range(min = 0, max = 5000))]
    pub distance_bucket_meters: u32,
    /// Seconds after its last ping that a driver is no longer offered anything, 5 to 3600. Default 30.
    #[serde(default = "stale")]
    #[schemars(range(min = 5, max = 3600))]
    pub stale_after_seconds: u32,
    /// Rest after an unanswered or rejected offer.
    #[serde(default)]
    pub cool_downs: CoolDownsSpec,
    /// Days of offers the acceptance rate looks back on, 1 to 30. Default 7.
    #[serde(default = "window")]
    #[schemars(range(min = 1, max = 30))]
    pub acceptance_window_days: u8,
    /// Whether drivers with `autoAccept` are assigned at once. Default `true`.
    #[serde(default = "yes")]
    pub auto_accept: bool,
    /// Share of dispatches, in per cent, in which a driver with fewer than 5 offers in the acceptance window comes first where
    /// one is about as near as the best, 0 to 50. 0 is the seed's order. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 50))]
    pub exploration_share_percent: u8,
    /// How long drivers need to the pickup.
    #[serde(default)]
    pub eta: EtaSpec,
    /// How requests that wait at the same time get their drivers.
    #[serde(default)]
    pub matching: MatchingSpec,
    /// The fare table.
    #[serde(default)]
    pub fare: FareSpec,
}

impl Default for DispatchSpec {
    fn default() -> Self {
        Self {
            max_candidates: five(),
            max_attempts: five(),
            offer_timeout_seconds: offer_timeout(),
            search_budget_seconds: search_budget(),
            search_rings_meters: rings(),
            distance_bucket_meters: bucket(),
            stale_after_seconds: stale(),
            cool_downs: CoolDownsSpec::default(),
            acceptance_window_days: window(),
            auto_accept: true,
            exploration_share_percent: 0,
            eta: EtaSpec::default(),
            matching: MatchingSpec::default(),
            fare: FareSpec::default(),
        }
    }
}

/// Seconds a driver rests before the next offer, whoever asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CoolDownsSpec {
    /// After a rejection, 0 to 3600. Default 10.
    #[serde(default = "after_reject")]
    #[schemars(range(min = 0, max = 3600))]
    pub after_reject_seconds: u32,
    /// After an offer that ran out, 0 to 3600. Default 30.
    #[serde(default = "after_timeout")]
    #[schemars(range(min = 0, max = 3600))]
    pub after_timeout_seconds: u32,
}

impl Default for CoolDownsSpec {
    fn default() -> Self {
        Self { after_reject_seconds: after_reject(), after_timeout_seconds: after_timeout() }
    }
}

/// Whether requests are matched with drivers one by one or together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MatchingSpec {
    /// `Sequential`: each request is offered to its best driver at once. `Batched`: requests are gathered for a window and
    /// matched together, which shortens the way to the pickup where drivers are scarce and costs the window's time
    /// there. Default `Sequential`.
    #[serde(default)]
    pub mode: MatchingMode,
    /// Milliseconds requests are gathered for with mode `Batched`, 500 to 5000. Default 2000.
    #[serde(default = "matching_window")]
    #[schemars(range(min = 500, max = 5000))]
    pub window_milliseconds: u32,
}

impl Default for MatchingSpec {
    fn default() -> Self {
        Self { mode: MatchingMode::default(), window_milliseconds: matching_window() }
    }
}

/// The two modes of matching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MatchingMode {
    /// One by one, as they come.
    #[default]
    Sequential,
    /// Those of a window together.
    Batched,
}

/// The fare of a ride: a base fare that covers a base distance, then a step per distance and a step per time.
///
/// The defaults are Seoul's medium taxi of 2023: 4,800 won for 1.6 km, 100 won per 131 m, 100 won per 30 s, 20 % more
/// from 22:00 to 04:00 and 40 % from 23:00 to 02:00.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FareSpec {
    /// Money for the first `baseDistanceMeters`, 0 to 10000000. Default 4800.
    #[serde(default = "base")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub base: u32,
    /// Metres the base covers, 0 to 1000000. Default 1600.
    #[serde(default = "base_distance")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub base_distance_meters: u32,
    /// Money per distance step, 0 to 1000000. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub per_distance: u32,
    /// Metres of a distance step, 1 to 1000000. Default 131.
    #[serde(default = "distance_step")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_distance_meters: u32,
    /// Money per time step, 0 to 1000000. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub per_time: u32,
    /// Seconds of a time step, 1 to 86400. Default 30.
    #[serde(default = "time_step")]
    #[schemars(range(min = 1, max = 86_400))]
    pub per_time_seconds: u32,
    /// Night surcharges; where two cover a minute the larger one counts. At most 4. Default 20 % from 22:00
    /// to 04:00 and 40 % from 23:00 to 02:00.
    #[serde(default = "night")]
    #[schemars(length(max = 4))]
    pub night_surcharges: Vec<NightSurchargeSpec>,
    /// Road distance as a multiple of the straight line, in per cent, 100 to 300. Default 130.
    #[serde(default = "road_factor")]
    #[schemars(range(min = 100, max = 300))]
    pub road_factor_percent: u32,
    /// Average speed for estimates, in km/h, 1 to 200. Default 25.
    #[serde(default = "speed")]
    #[schemars(range(min = 1, max = 200))]
    pub average_speed_kmh: u32,
    /// Fares are rounded up to a multiple of this, 1 to 1000000. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub round_to: u32,
}

impl Default for FareSpec {
    fn default() -> Self {
        Self {
            base: base(),
            base_distance_meters: base_distance(),
            per_distance: hundred(),
            per_distance_meters: distance_step(),
            per_time: hundred(),
            per_time_seconds: time_step(),
            night_surcharges: night(),
            road_factor_percent: road_factor(),
            average_speed_kmh: speed(),
            round_to: hundred(),
        }
    }
}

/// A surcharge for rides that begin in a part of the night.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.from != self.to").message("to must be another time than from"),
)]
pub struct NightSurchargeSpec {
    /// Local time it begins, `HH:MM`, 00:00 to 23:59.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// Local time it ends, `HH:MM`; earlier than `from` means the next day.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub to: String,
    /// Per cent added to the fare, 1 to 200.
    #[schemars(range(min = 1, max = 200))]
    pub percent: u32,
}

fn five() -> u8 {
    5
}

fn offer_timeout() -> u32 {
    120
}

fn search_budget() -> u32 {
    60
}

fn rings() -> Vec<u32> {
    vec![700, 1500, 3000, 5000, 20_000]
}

fn bucket() -> u32 {
    200
}

fn stale() -> u32 {
    30
}

fn window() -> u8 {
    7
}

fn yes() -> bool {
    true
}

fn after_reject() -> u32 {
    10
}

fn after_timeout() -> u32 {
    30
}

fn matching_window() -> u32 {
    2000
}

fn base() -> u32 {
    4800
}

fn base_distance() -> u32 {
    1600
}

fn hundred() -> u32 {
    100
}

fn distance_step() -> u32 {
    131
}

fn time_step() -> u32 {
    30
}

fn night() -> Vec<NightSurchargeSpec> {
    vec![
        NightSurchargeSpec { from: "22:00".to_owned(), to: "04:00".to_owned(), percent: 20 },
        NightSurchargeSpec { from: "23:00".to_owned(), to: "02:00".to_owned(), percent: 40 },
    ]
}

fn road_factor() -> u32 {
    130
}

fn speed() -> u32 {
    25
}
