//! The worker configuration: the document the operator writes and every worker reads at start and on change.
//!
//! It is the whole contract between control plane and data plane. It holds no secret: secrets are named by the
//! environment variable that carries them. Fields that need no new connection ([`WorkerConfig::dispatch`] and the
//! stream's ARN) are taken over by a running worker when the file changes; a change of any other field needs a
//! restart, which the operator brings about.

mod access;
mod eta;
mod fare;
mod matching;

use dispatch_core::fare::{FareError, FareTable, NightSurcharge};
use dispatch_core::policy::{DispatchPolicy, PolicyError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use access::{AuthConfig, ClaimsConfig, LimitsConfig, LocalAccess, RateConfig, SampleTokens};
pub use eta::{EtaConfig, RouterConfig, RouterKind};
pub use fare::{FareConfig, NightSurchargeConfig};
pub use matching::{MatchingConfig, MatchingModeConfig};

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
    /// Who may call the HTTP API. Without it no role that serves the API starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthConfig>,
    /// How much one caller may ask of the HTTP API.
    #[serde(default)]
    pub limits: LimitsConfig,
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
    /// ARN of its stream, which changes when the stream is switched off and on: reloaded without a restart.
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
    /// Dead letters of the offer timers, and stream records that were set aside.
    pub offers_dead_letters_url: String,
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
    /// Share of dispatches in which a new driver comes first, per cent.
    #[serde(default)]
    pub exploration_share_percent: u8,
    /// How long drivers need to a pickup.
    #[serde(default)]
    pub eta: EtaConfig,
    /// How requests get their drivers.
    #[serde(default)]
    pub matching: MatchingConfig,
    /// The fare table.
    pub fare: FareConfig,
}

/// Why a worker refuses its configuration. The worker keeps what it has, or does not start; the operator writes a
/// better one.
#[derive(Debug, Error)]
pub enum WorkerConfigError {
    /// The document is of another version: operator and worker are too far apart.
    #[error("the worker configuration has version {found}, this program reads version {WORKER_CONFIG_VERSION}")]
    Version {
        /// Its version.
        found: u64,
    },
    /// It is not the JSON document of this version.
    #[error("the worker configuration cannot be read at {path}")]
    Shape {
        /// Path of the field.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The time zone is unknown on this machine.
    #[error("the worker configuration cannot be used at timezone: {name:?} is not a known time zone")]
    TimeZone {
        /// What was given.
        name: String,
    },
    /// The cache's address carries credentials, or is of another scheme. It is not repeated.
    #[error(
        "the worker configuration cannot be used at cache.url: redis:// or rediss:// without credentials is allowed"
    )]
    CacheUrl,
    /// A number of GSI1 partition keys outside 1 to 64.
    #[error("the worker configuration cannot be used at table.gsi1Shards: {found} is not 1 to 64")]
    Shards {
        /// What was given.
        found: u16,
    },
    /// Nobody's tokens could be checked by it, or more than one would do. Values are not repeated.
    #[error("the worker configuration cannot be used at auth.{part}")]
    Auth {
        /// Which part.
        part: &'static str,
    },
    /// A limit is out of bounds.
    #[error("the worker configuration cannot be used at limits.{part}")]
    Limits {
        /// Which part.
        part: &'static str,
    },
    /// The dispatch rules are out of bounds.
    #[error("the worker configuration cannot be used at dispatch")]
    Policy(#[source] PolicyError),
    /// The router's address carries credentials, or is of another scheme. It is not repeated.
    #[error("the worker configuration cannot be used at dispatch.eta.router.url")]
    RouterUrl,
    /// The fare table is out of bounds.
    #[error("the worker configuration cannot be used at dispatch.fare")]
    Fare(#[source] FareError),
}

impl WorkerConfig {
    /// Reads and checks a whole document. The version is looked at first, so that a document of another version is
    /// called that and not a list of strange fields.
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

    /// Whether a worker that runs with `other` has to start again to run with this.
    pub fn needs_restart(&self, other: &Self) -> bool {
        self.read_at_start() != other.read_at_start()
    }

    /// The document without what a running worker takes over.
    #[must_use]
    pub fn read_at_start(&self) -> Self {
        let mut rest = self.clone();
        rest.table.stream_arn.clear();
        rest.dispatch = DispatchConfig::of(&DispatchPolicy::default(), &FareTable::default());
        rest
    }

    /// The document as the operator writes it: pretty, fields in the order of the types, a line feed at its end.
    pub fn to_json_pretty(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|json| json + "\n")
    }
}

impl DispatchConfig {
    /// The settings of checked rules.
    pub fn of(policy: &DispatchPolicy, fare: &FareTable) -> Self {
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
            eta: EtaConfig::of(policy),
            matching: MatchingConfig::of(policy.matching),
            fare: FareConfig::of(fare),
        }
    }

    /// The settings of a validated system.
    #[cfg(feature = "crd")]
    pub fn from_validated(system: &crate::validate::ValidatedSystem) -> Self {
        let mut config = Self::of(&system.policy, &system.fare);
        config.eta.router = RouterConfig::of(&system.spec.dispatch.eta);
        config
    }

    /// The rules as core understands them, checked again: the file may have been written by another version of the
    /// operator.
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
        }
        .checked()
    }

    /// The fare table as core understands it, checked again.
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
