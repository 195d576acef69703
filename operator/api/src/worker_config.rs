//! The worker configuration: the document that the operator writes, and that each worker reads at start and on change.
//!
//! It is the complete contract between control plane and data plane. It contains no secrets; it names the environment
//! variables that carry them. A running worker applies changes of [`WorkerConfig::dispatch`] and of the stream ARN. A
//! change of any other field requires a restart, which the operator triggers.

mod access;
mod eta;
mod fare;
mod matching;
mod presence;
mod privacy;
mod requests;
mod rides;

use dispatch_core::fare::{FareError, FareTable, NightSurcharge};
use dispatch_core::policy::{DispatchPolicy, PolicyError};
use dispatch_core::service_area::{AreaError, Rings, ServiceArea};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use access::{AuthConfig, ClaimsConfig, LimitsConfig, LocalAccess, RateConfig, SampleTokens};
pub use eta::{EtaConfig, RouterConfig, RouterKind};
pub use fare::{FareConfig, NightSurchargeConfig};
pub use matching::{MatchingConfig, MatchingModeConfig};
pub use presence::PresenceConfig;
pub use privacy::{OfferAddressesConfig, PrivacyConfig};
pub use requests::CancellationsConfig;
pub use rides::RidesConfig;

/// Version of the document format. A worker refuses any other.
pub const WORKER_CONFIG_VERSION: u32 = 1;

/// Environment variable with the image of a worker. The operator sets it; a worker that starts while a dependency is
/// silent asks whether this image has worked before with its configuration.
pub const IMAGE_ENV: &str = "DISPATCH_IMAGE";

/// Configuration of the workers of one city.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerConfig {
    /// Format version, [`WORKER_CONFIG_VERSION`].
    pub version: u32,
    /// `namespace/name` of the system, for logs and metrics.
    pub system: String,
    /// Name of the city, part of every Redis key.
    pub city: String,
    /// IANA time zone of stored timestamps.
    pub timezone: String,
    /// ISO 4217 code of amounts of money.
    pub currency: String,
    /// Region and endpoint of AWS.
    pub aws: AwsEndpoint,
    /// The DynamoDB single table.
    pub table: TableConfig,
    /// Name of the table of stream leases and checkpoints.
    pub lease_table: String,
    /// The SQS queues.
    pub queues: QueuesConfig,
    /// The notification topic and the platform application.
    pub notifications: NotificationsConfig,
    /// The Redis cache.
    pub cache: CacheConfig,
    /// Callers of the HTTP API. Without it, no role that serves the API starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthConfig>,
    /// Rate limits of the HTTP API.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// The dispatch rules; reloaded without a restart.
    pub dispatch: DispatchConfig,
}

/// Region and endpoint of AWS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AwsEndpoint {
    /// AWS region.
    pub region: String,
    /// Endpoint of all services instead of the AWS endpoints; only local runs set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
}

/// The DynamoDB single table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableConfig {
    /// Name of the table.
    pub name: String,
    /// ARN of the stream, which changes when the stream is disabled and enabled; reloaded without a restart.
    pub stream_arn: String,
    /// Number of GSI1 partition keys of one status, 1 to 64; with 1, keys have no suffix (spec §6).
    pub gsi1_shards: u16,
}

/// URLs of the SQS queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueuesConfig {
    /// Queue of offer timers.
    pub offers_url: String,
    /// Dead-letter queue of offer timers, which also receives stream records that cannot be processed.
    pub offers_dead_letters_url: String,
    /// Queue of driver responses.
    pub responses_url: String,
    /// Queue of notifications from the topic.
    pub notifications_url: String,
}

/// The notification topic and the platform application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationsConfig {
    /// ARN of the topic to which all notifications are published.
    pub topic_arn: String,
    /// ARN of the platform application for device tokens; absent without an FCM key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_application_arn: Option<String>,
}

/// The Redis cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CacheConfig {
    /// Address, `redis://` or `rediss://` (TLS), without credentials.
    pub url: String,
    /// Environment variable with the AUTH token; absent without a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_token_env: Option<String>,
}

/// The dispatch rules in base units. [`DispatchConfig::policy`] and [`DispatchConfig::fare_table`] check them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DispatchConfig {
    /// Maximum number of drivers ranked in one search.
    pub max_candidates: u8,
    /// Maximum number of offers for one dispatch.
    pub max_attempts: u8,
    /// Time a driver has to answer, ms.
    pub offer_timeout_ms: u64,
    /// Time in which a search without a free driver is repeated, ms.
    pub search_budget_ms: u64,
    /// Search radii, m, increasing.
    pub search_rings_m: Vec<u32>,
    /// Width of a distance bucket, m; 0 compares exact distances.
    pub distance_bucket_m: u32,
    /// Age at which a position is stale, ms.
    pub stale_after_ms: u64,
    /// Time without offers after a rejection, ms.
    pub cool_down_after_reject_ms: u64,
    /// Time without offers after an unanswered offer, ms.
    pub cool_down_after_timeout_ms: u64,
    /// Period of the acceptance rate, days.
    pub acceptance_window_days: u8,
    /// Whether drivers with `autoAccept` are assigned without an answer.
    pub auto_accept: bool,
    /// Share of dispatches in which a new driver is ranked first, percent.
    #[serde(default)]
    pub exploration_share_percent: u8,
    /// Estimated time from a driver to the pickup.
    #[serde(default)]
    pub eta: EtaConfig,
    /// How concurrent requests are matched with drivers.
    #[serde(default)]
    pub matching: MatchingConfig,
    /// How rides are billed and ended.
    #[serde(default)]
    pub rides: RidesConfig,
    /// Limits for users who request and cancel.
    #[serde(default)]
    pub cancellations: CancellationsConfig,
    /// Longest straight line from pickup to destination, m.
    #[serde(default = "longest_trip_m")]
    pub longest_trip_m: u32,
    /// When drivers become `INACTIVE` without having asked for it.
    #[serde(default)]
    pub presence: PresenceConfig,
    /// Where rides start and end, as the `coordinates` of a GeoJSON `MultiPolygon`; absent without a service area.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_area: Option<Vec<Rings>>,
    /// What drivers see of users, and how long data is kept: here, because running workers reload this section.
    #[serde(default)]
    pub privacy: PrivacyConfig,
    /// The fare table.
    pub fare: FareConfig,
}

fn longest_trip_m() -> u32 {
    DispatchPolicy::default().longest_trip_m
}

/// Why a worker refuses its configuration. A running worker keeps its current configuration; a new one does not start.
/// The operator has to write a valid document.
#[derive(Debug, Error)]
pub enum WorkerConfigError {
    /// The document has another format version: operator and worker are from releases too far apart.
    #[error("the worker configuration has version {found}; this program supports version {WORKER_CONFIG_VERSION}")]
    Version {
        /// Version of the document.
        found: u64,
    },
    /// The document is not the JSON document of this version.
    #[error("the worker configuration cannot be read at {path}")]
    Shape {
        /// Path of the field.
        path: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The time zone is unknown on this machine.
    #[error("the worker configuration is invalid at timezone: {name:?} is not a known time zone")]
    TimeZone {
        /// The refused value.
        name: String,
    },
    /// The address of the cache contains credentials or has another scheme. It is not repeated.
    #[error(
        "the worker configuration is invalid at cache.url: must be a redis:// or rediss:// address without credentials"
    )]
    CacheUrl,
    /// The number of GSI1 partition keys is not 1 to 64.
    #[error("the worker configuration is invalid at table.gsi1Shards: {found} is not 1 to 64")]
    Shards {
        /// The refused value.
        found: u16,
    },
    /// Tokens cannot be checked with these settings, or two scopes have the same name. Values are not repeated.
    #[error("the worker configuration is invalid at auth.{part}")]
    Auth {
        /// The invalid field.
        part: &'static str,
    },
    /// A rate limit is out of bounds.
    #[error("the worker configuration is invalid at limits.{part}")]
    Limits {
        /// The invalid field.
        part: &'static str,
    },
    /// The dispatch rules are out of bounds.
    #[error("the worker configuration is invalid at dispatch")]
    Policy(#[source] PolicyError),
    /// The address of the router contains credentials or has another scheme. It is not repeated.
    #[error("the worker configuration is invalid at dispatch.eta.router.url")]
    RouterUrl,
    /// The service area is not valid.
    #[error("the worker configuration is invalid at dispatch.serviceArea")]
    ServiceArea(#[source] AreaError),
    /// The fare table is out of bounds.
    #[error("the worker configuration is invalid at dispatch.fare")]
    Fare(#[source] FareError),
}

impl WorkerConfig {
    /// Reads and checks a document. The version is checked first, so that the error for a document of another version
    /// is the version and not a list of unknown fields.
    pub fn read(json: &str) -> Result<Self, WorkerConfigError> {
        #[derive(Deserialize)]
        struct Head {
            version: u64,
        }
        let head: Head = read_json(json)?;
        if head.version != u64::from(WORKER_CONFIG_VERSION) {
            return Err(WorkerConfigError::Version { found: head.version });
        }
        let config: Self = read_json(json)?;
        config.dispatch.policy().map_err(WorkerConfigError::Policy)?;
        config.dispatch.fare_table().map_err(WorkerConfigError::Fare)?;
        config.dispatch.checked_area().map_err(WorkerConfigError::ServiceArea)?;
        if !config.dispatch.eta.is_usable() {
            return Err(WorkerConfigError::RouterUrl);
        }
        if jiff::tz::TimeZone::get(&config.timezone).is_err() {
            return Err(WorkerConfigError::TimeZone { name: config.timezone });
        }
        let redis = config.cache.url.starts_with("redis://") || config.cache.url.starts_with("rediss://");
        if !redis || config.cache.url.contains('@') {
            return Err(WorkerConfigError::CacheUrl);
        }
        if !(1..=64).contains(&config.table.gsi1_shards) {
            return Err(WorkerConfigError::Shards { found: config.table.gsi1_shards });
        }
        if let Some(part) = config.auth.as_ref().and_then(AuthConfig::wrong_part) {
            return Err(WorkerConfigError::Auth { part });
        }
        if let Some(part) = config.limits.wrong_part() {
            return Err(WorkerConfigError::Limits { part });
        }
        Ok(config)
    }

    /// Whether a worker that runs with `other` must restart to apply this configuration.
    pub fn needs_restart(&self, other: &Self) -> bool {
        self.read_at_start() != other.read_at_start()
    }

    /// The document without the fields that a running worker reloads.
    #[must_use]
    pub fn read_at_start(&self) -> Self {
        let mut rest = self.clone();
        rest.table.stream_arn.clear();
        rest.dispatch = DispatchConfig::new(&DispatchPolicy::default(), &FareTable::default());
        rest
    }

    /// The document as the operator writes it: indented, with fields in declaration order and a final newline.
    pub fn to_json_pretty(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|json| json + "\n")
    }
}

impl DispatchConfig {
    /// The rules of a policy and a fare table.
    pub fn new(policy: &DispatchPolicy, fare: &FareTable) -> Self {
        Self {
            max_candidates: policy.max_candidates,
            max_attempts: policy.max_attempts,
            offer_timeout_ms: policy.offer_timeout_ms,
            search_budget_ms: policy.search_budget_ms,
            search_rings_m: policy.search_rings_m.clone(),
            distance_bucket_m: policy.distance_bucket_m,
            stale_after_ms: policy.stale_after_ms,
            cool_down_after_reject_ms: policy.cool_down_after_reject_ms,
            cool_down_after_timeout_ms: policy.cool_down_after_timeout_ms,
            acceptance_window_days: policy.acceptance_window_days,
            auto_accept: policy.auto_accept,
            exploration_share_percent: policy.exploration_share_percent,
            eta: EtaConfig::from_policy(policy),
            matching: MatchingConfig::from_policy(policy.matching),
            rides: RidesConfig::from_policy(policy.rides),
            cancellations: CancellationsConfig::from_policy(policy.cancellations),
            longest_trip_m: policy.longest_trip_m,
            presence: PresenceConfig::from_policy(policy.presence),
            service_area: None,
            privacy: PrivacyConfig::default(),
            fare: FareConfig::from_table(fare),
        }
    }

    /// The rules of a validated system.
    #[cfg(feature = "crd")]
    pub fn from_validated(system: &crate::validate::ValidatedSystem) -> Self {
        let mut config = Self::new(&system.policy, &system.fare);
        config.eta.router = RouterConfig::from_spec(&system.spec.dispatch.eta);
        config.service_area = system.service_area.as_ref().map(ServiceArea::polygons);
        config.privacy = PrivacyConfig::from_spec(&system.spec.privacy);
        config
    }

    /// The rules as a policy of `dispatch-core`, checked again because another version of the operator may have written
    /// the file.
    pub fn policy(&self) -> Result<DispatchPolicy, PolicyError> {
        DispatchPolicy {
            max_candidates: self.max_candidates,
            max_attempts: self.max_attempts,
            offer_timeout_ms: self.offer_timeout_ms,
            search_budget_ms: self.search_budget_ms,
            search_rings_m: self.search_rings_m.clone(),
            distance_bucket_m: self.distance_bucket_m,
            stale_after_ms: self.stale_after_ms,
            cool_down_after_reject_ms: self.cool_down_after_reject_ms,
            cool_down_after_timeout_ms: self.cool_down_after_timeout_ms,
            acceptance_window_days: self.acceptance_window_days,
            auto_accept: self.auto_accept,
            exploration_share_percent: self.exploration_share_percent,
            eta_timeout_ms: self.eta.timeout_ms,
            eta_top_k: self.eta.top_k,
            matching: self.matching.policy(),
            rides: self.rides.policy(),
            cancellations: self.cancellations.policy(),
            longest_trip_m: self.longest_trip_m,
            presence: self.presence.policy(),
        }
        .checked()
    }

    /// The service area of `dispatch-core`, checked again.
    pub fn checked_area(&self) -> Result<Option<ServiceArea>, AreaError> {
        self.service_area.as_deref().map(ServiceArea::from_polygons).transpose()
    }

    /// The fare table of `dispatch-core`, checked again.
    pub fn fare_table(&self) -> Result<FareTable, FareError> {
        let night = |night: &NightSurchargeConfig| NightSurcharge {
            from_minute: night.from_minute,
            to_minute: night.to_minute,
            percent: night.percent,
        };
        FareTable {
            base: self.fare.base,
            base_distance_m: self.fare.base_distance_m,
            per_distance: self.fare.per_distance,
            per_distance_m: self.fare.per_distance_m,
            per_time: self.fare.per_time,
            per_time_s: self.fare.per_time_s,
            night_surcharges: self.fare.night_surcharges.iter().map(night).collect(),
            road_factor_percent: self.fare.road_factor_percent,
            average_speed_kmh: self.fare.average_speed_kmh,
            round_to: self.fare.round_to,
        }
        .checked()
    }
}

fn read_json<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, WorkerConfigError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let shape = |path: String, source| WorkerConfigError::Shape { path, source };
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| shape(error.path().to_string(), error.into_inner()))?;
    deserializer.end().map_err(|source| shape("the end".to_owned(), source))?;
    Ok(value)
}

#[cfg(test)]
mod tests;
