//! The worker configuration: the document the operator writes and every worker reads at start and on change.
//!
//! It is the whole contract between control plane and data plane. It holds no secret: secrets are named by the
//! environment variable that carries them. Fields that need no new connection ([`WorkerConfig::dispatch`]) are taken over by a
//! running worker when the file changes; a change of any other field needs a restart, which the operator brings about.

use serde::{Deserialize, Serialize};

/// Version of this document's shape. A worker refuses any other.
pub const WORKER_CONFIG_VERSION: u32 = 1;

/// Configuration of the workers of one city.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerConfig {
    /// [`WORKER_CONFIG_VERSION`].
    pub version: u32,
    /// `namespace/name` of the system, for logs and metrics.
    pub system: String,
    /// City name: part of every Redis key.
    pub city: String,
    /// IANA time zone of stored timestamps.
    pub timezone: String,
    /// ISO 4217 code of money amounts.
    pub currency: String,
    /// Where AWS is.
    pub aws: AwsEndpoint,
    /// The single table.
    pub table: TableConfig,
    /// Table of the stream consumers' leases and checkpoints.
    pub lease_table: String,
    /// The queues.
    pub queues: QueuesConfig,
    /// The notification topic and platform.
    pub notifications: NotificationsConfig,
    /// Redis.
    pub cache: CacheConfig,
    /// The algorithm: reloaded without a restart.
    pub dispatch: DispatchConfig,
}

/// Where AWS is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AwsEndpoint {
    /// Region.
    pub region: String,
    /// One address for all services instead of AWS's own; only local runs set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
}

/// The single table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableConfig {
    /// Name.
    pub name: String,
    /// ARN of its stream.
    pub stream_arn: String,
    /// Number of GSI1 partition keys; 1 is the seed's literal key.
    pub gsi1_shards: u16,
}

/// The queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueuesConfig {
    /// Offer timers.
    pub offers_url: String,
    /// Driver responses.
    pub responses_url: String,
    /// Notifications from the topic.
    pub notifications_url: String,
}

/// Notifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationsConfig {
    /// Topic every notification is published to.
    pub topic_arn: String,
    /// Platform application for device tokens; absent where no FCM key was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_application_arn: Option<String>,
}

/// Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CacheConfig {
    /// `redis://` or `rediss://` (TLS) address without credentials.
    pub url: String,
    /// Environment variable that carries the AUTH token, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_token_env: Option<String>,
}

/// The algorithm's settings in base units. [`DispatchConfig::policy`] and [`DispatchConfig::fare_table`] check them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DispatchConfig {
    /// Drivers ranked for one dispatch.
    pub max_candidates: u8,
    /// Offers made for one dispatch.
    pub max_attempts: u8,
    /// Time a driver has to answer, ms.
    pub offer_timeout_ms: u64,
    /// Time an unanswerable request is searched again, ms.
    pub search_budget_ms: u64,
    /// Search radii, m, rising.
    pub search_rings_m: Vec<u32>,
    /// Width of a distance bucket, m.
    pub distance_bucket_m: u32,
    /// Age at which a position is stale, ms.
    pub stale_after_ms: u64,
    /// Rest after a rejection, ms.
    pub cool_down_after_reject_ms: u64,
    /// Rest after an offer that ran out, ms.
    pub cool_down_after_timeout_ms: u64,
    /// Days of the acceptance window.
    pub acceptance_window_days: u8,
    /// Whether drivers with `autoAccept` are assigned at once.
    pub auto_accept: bool,
    /// The fare table.
    pub fare: FareConfig,
}

/// The fare table in base units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FareConfig {
    /// Money for the base distance.
    pub base: u32,
    /// Metres the base covers.
    pub base_distance_m: u32,
    /// Money per distance step.
    pub per_distance: u32,
    /// Metres of a distance step.
    pub per_distance_m: u32,
    /// Money per time step.
    pub per_time: u32,
    /// Seconds of a time step.
    pub per_time_s: u32,
    /// Night surcharges.
    pub night_surcharges: Vec<NightSurchargeConfig>,
    /// Road distance in per cent of the straight line.
    pub road_factor_percent: u32,
    /// Average speed, km/h.
    pub average_speed_kmh: u32,
    /// Fares are rounded up to a multiple of this.
    pub round_to: u32,
}

/// One night surcharge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NightSurchargeConfig {
    /// Local minute of the day it begins, 0 to 1439.
    pub from_minute: u16,
    /// Local minute of the day it ends.
    pub to_minute: u16,
    /// Per cent added.
    pub percent: u32,
}
