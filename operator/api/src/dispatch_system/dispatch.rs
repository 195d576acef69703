//! `spec.dispatch`: the rules of the dispatch algorithm (spec §8) and the fare table of the city.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EtaSpec, PresenceSpec, RidesSpec, ServiceAreaSpec};

/// The dispatch rules and the fare table. Changes reach running workers without a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DispatchSpec {
    /// Maximum number of drivers ranked in one search, 1 to 50. Default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 50))]
    pub max_candidates: u8,
    /// Maximum number of offers for one dispatch before it is cancelled, 1 to 50. Default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 50))]
    pub max_attempts: u8,
    /// Time a driver has to answer an offer, in seconds, 5 to 900 (the longest delay of an SQS message). Default 120.
    #[serde(default = "offer_timeout")]
    #[schemars(range(min = 5, max = 900))]
    pub offer_timeout_seconds: u32,
    /// Time in which a search that finds no free driver is repeated, in seconds from the request, 0 to 900. Default 60.
    /// With 0, the first search without a driver cancels the dispatch.
    #[serde(default = "search_budget")]
    #[schemars(range(min = 0, max = 900))]
    pub search_budget_seconds: u32,
    /// Radii of the search around the pickup, in meters: 1 to 8 increasing values of 100 to 100000. The search stops at
    /// the first radius that contains enough drivers; the last one limits the way to a pickup. Default 700, 1500, 3000,
    /// 5000, 20000.
    #[serde(default = "rings")]
    #[schemars(length(min = 1, max = 8), inner(range(min = 100, max = 100_000)))]
    #[x_kube(
        validation = Rule::new("self.isSorted() && self.all(a, self.exists_one(b, a == b))")
            .message("radii must increase")
            .reason(Reason::FieldValueInvalid)
    )]
    pub search_rings_meters: Vec<u32>,
    /// Width of a distance bucket, in meters, 0 to 5000. Drivers in one bucket are ranked by `autoAccept`, acceptance
    /// rate and idle time. With 0, drivers are ranked by exact distance. Default 200.
    #[serde(default = "bucket")]
    #[schemars(range(min = 0, max = 5000))]
    pub distance_bucket_meters: u32,
    /// Age of a driver's last position, in seconds, after which the driver gets no offers, 5 to 3600. Default 30.
    #[serde(default = "stale")]
    #[schemars(range(min = 5, max = 3600))]
    pub stale_after_seconds: u32,
    /// Time during which a driver gets no offer from any dispatch, after a rejected or unanswered offer.
    #[serde(default)]
    pub cool_downs: CoolDownsSpec,
    /// Period over which the acceptance rate of a driver is calculated, in days, 1 to 30. Default 7.
    #[serde(default = "window")]
    #[schemars(range(min = 1, max = 30))]
    pub acceptance_window_days: u8,
    /// Whether a driver whose profile sets `autoAccept` is assigned without an answer. Default `true`. With `false`,
    /// every driver has to accept.
    #[serde(default = "yes")]
    pub auto_accept: bool,
    /// Share of dispatches, in percent, in which a driver with fewer than 5 offers in the acceptance window is ranked
    /// first, if one is about as near as the best driver, 0 to 50. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 50))]
    pub exploration_share_percent: u8,
    /// Estimated time from a driver to the pickup.
    #[serde(default)]
    pub eta: EtaSpec,
    /// How concurrent requests are matched with drivers.
    #[serde(default)]
    pub matching: MatchingSpec,
    /// How rides are billed, and when a ride without a sign of life is ended.
    #[serde(default)]
    pub rides: RidesSpec,
    /// Limits for users who request rides and cancel them. A request beyond a limit gets status 429 with the time when
    /// the next one is possible. Cancellations by a driver do not count, nor does a dispatch that ends because no
    /// driver was found, nor a cancellation after a search of 30 seconds in which no driver got an offer.
    #[serde(default)]
    pub cancellations: CancellationsSpec,
    /// Longest straight line from pickup to destination, in meters, 1000 to 20100000 (half the circumference of the
    /// earth). A request for a longer trip gets status 422. Default 200000.
    #[serde(default = "longest_trip")]
    #[schemars(range(min = 1000, max = 20_100_000))]
    pub longest_trip_meters: u32,
    /// When a driver who is `ACTIVE` becomes `INACTIVE` without having asked for it.
    #[serde(default)]
    pub presence: PresenceSpec,
    /// The area in which rides start and end: exactly one of `polygon` and `multiPolygon`, with the `coordinates` of a
    /// GeoJSON geometry of that type (RFC 7946), at most 2000 positions in total. A request with a pickup or
    /// destination outside gets status 422. A place on an edge, also on the edge of a hole, is in the area. Default:
    /// anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_area: Option<ServiceAreaSpec>,
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
            rides: RidesSpec::default(),
            cancellations: CancellationsSpec::default(),
            longest_trip_meters: longest_trip(),
            presence: PresenceSpec::default(),
            service_area: None,
            fare: FareSpec::default(),
        }
    }
}

/// Time during which a driver gets no offer from any dispatch, after a rejected or unanswered offer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CoolDownsSpec {
    /// Time after a rejected offer, in seconds, 0 to 3600. Default 10.
    #[serde(default = "after_reject")]
    #[schemars(range(min = 0, max = 3600))]
    pub after_reject_seconds: u32,
    /// Time after an unanswered offer, in seconds, 0 to 3600. Default 30.
    #[serde(default = "after_timeout")]
    #[schemars(range(min = 0, max = 3600))]
    pub after_timeout_seconds: u32,
}

impl Default for CoolDownsSpec {
    fn default() -> Self {
        Self { after_reject_seconds: after_reject(), after_timeout_seconds: after_timeout() }
    }
}

/// How concurrent requests are matched with drivers. Changes reach running workers without a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MatchingSpec {
    /// `Sequential` (default): each request is offered to its best driver at once. `Batched`: the requests of a time
    /// window are matched together. This shortens the way to the pickup where drivers are scarce and delays the first
    /// offer by up to the window.
    #[serde(default)]
    pub mode: MatchingMode,
    /// Length of the window with mode `Batched`, in milliseconds, 500 to 5000. Default 2000.
    #[serde(default = "matching_window")]
    #[schemars(range(min = 500, max = 5000))]
    pub window_milliseconds: u32,
}

impl Default for MatchingSpec {
    fn default() -> Self {
        Self { mode: MatchingMode::default(), window_milliseconds: matching_window() }
    }
}

/// Limits for users who request rides and cancel them. Changes reach running workers without a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancellationsSpec {
    /// Number of cancellations within `windowSeconds` that starts a cool-down, 0 to 20. Default 3. With 0, there is no
    /// cool-down.
    #[serde(default = "cancellations_cool_down_after")]
    #[schemars(range(min = 0, max = 20))]
    pub cool_down_after: u8,
    /// Period in which cancellations are counted for the cool-down, in seconds, 60 to 86400. Default 600.
    #[serde(default = "cancellations_window")]
    #[schemars(range(min = 60, max = 86_400))]
    pub window_seconds: u32,
    /// Time after the last cancellation in which the user cannot request a ride, in seconds, 10 to 86400. Default 300.
    #[serde(default = "cancellations_cool_down")]
    #[schemars(range(min = 10, max = 86_400))]
    pub cool_down_seconds: u32,
    /// Number of cancellations in one day, in the time zone of the city, after which the user has to wait for the next
    /// day, 0 to 50. Default 20. With 0, there is no daily limit.
    #[serde(default = "cancellations_daily_max")]
    #[schemars(range(min = 0, max = 50))]
    pub daily_max: u8,
}

impl Default for CancellationsSpec {
    fn default() -> Self {
        Self {
            cool_down_after: cancellations_cool_down_after(),
            window_seconds: cancellations_window(),
            cool_down_seconds: cancellations_cool_down(),
            daily_max: cancellations_daily_max(),
        }
    }
}

/// Matching mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MatchingMode {
    /// Requests are matched one by one, as they arrive.
    #[default]
    Sequential,
    /// The requests of a time window are matched together.
    Batched,
}

/// The fare of a ride: a base fare that includes a base distance, plus an amount per distance step and per time step.
/// Amounts are whole units of `spec.currency`. Changes reach running workers without a restart.
///
/// The defaults are the fares of a medium-sized taxi in Seoul of 2023: 4,800 won for 1.6 km, 100 won per 131 m, 100 won
/// per 30 s, plus 20 % from 22:00 to 04:00 and 40 % from 23:00 to 02:00.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FareSpec {
    /// Base fare, including the first `baseDistanceMeters`, 0 to 10000000. Default 4800.
    #[serde(default = "base")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub base: u32,
    /// Distance included in the base fare, in meters, 0 to 1000000. Default 1600.
    #[serde(default = "base_distance")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub base_distance_meters: u32,
    /// Amount for each started distance step after the base distance, 0 to 1000000. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub per_distance: u32,
    /// Length of a distance step, in meters, 1 to 1000000. Default 131.
    #[serde(default = "distance_step")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_distance_meters: u32,
    /// Amount for each complete time step, 0 to 1000000. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub per_time: u32,
    /// Length of a time step, in seconds, 1 to 86400. Default 30.
    #[serde(default = "time_step")]
    #[schemars(range(min = 1, max = 86_400))]
    pub per_time_seconds: u32,
    /// Night surcharges, at most 4. Where several cover the start of a ride, the highest applies. Default: 20 % from
    /// 22:00 to 04:00 and 40 % from 23:00 to 02:00.
    #[serde(default = "night")]
    #[schemars(length(max = 4))]
    pub night_surcharges: Vec<NightSurchargeSpec>,
    /// Estimated road distance, in percent of the straight-line distance, 100 to 300. Default 130.
    #[serde(default = "road_factor")]
    #[schemars(range(min = 100, max = 300))]
    pub road_factor_percent: u32,
    /// Average speed for estimates, in km/h, 1 to 200. Default 25.
    #[serde(default = "speed")]
    #[schemars(range(min = 1, max = 200))]
    pub average_speed_kmh: u32,
    /// Fares are rounded up to a multiple of this amount, 1 to 1000000. Default 100.
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

/// A surcharge for rides that start in a period of the day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.from != self.to")
        .message("from and to must differ")
        .field_path(".to")
        .reason(Reason::FieldValueInvalid),
)]
pub struct NightSurchargeSpec {
    /// Start of the period, local time `HH:MM`, 00:00 to 23:59.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// End of the period, local time `HH:MM`, 00:00 to 23:59. A time earlier than `from` is on the next day.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub to: String,
    /// Surcharge in percent of the fare, 1 to 200.
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

fn cancellations_cool_down_after() -> u8 {
    3
}

fn cancellations_window() -> u32 {
    600
}

fn cancellations_cool_down() -> u32 {
    300
}

fn cancellations_daily_max() -> u8 {
    20
}

fn longest_trip() -> u32 {
    200_000
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
