//! The worker configuration of a system, from its manifest and its outputs. Pure.

use dispatch_api::dispatch_system::OutputsStatus;
use dispatch_api::validate::ValidatedSystem;
use dispatch_api::worker_config::{
    AwsEndpoint, CacheConfig, DispatchConfig, NotificationsConfig, QueuesConfig, TableConfig, WORKER_CONFIG_VERSION,
    WorkerConfig,
};

/// Environment variable that carries the Redis AUTH token to a worker.
pub const CACHE_AUTH_TOKEN_ENV: &str = "DISPATCH_CACHE_AUTH_TOKEN";

/// Addresses that replace the found ones. Only local runs have any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerOverrides {
    /// One address for all AWS services.
    pub endpoint_url: Option<String>,
    /// Address of Redis; it is then used without an AUTH token.
    pub cache_url: Option<String>,
}

/// Writes down everything a worker needs to know.
pub fn worker_config(system: &ValidatedSystem, outputs: &OutputsStatus, overrides: &WorkerOverrides) -> WorkerConfig {
    let spec = &system.spec;
    let auth = spec.cache.auth_secret_ref.is_some() && overrides.cache_url.is_none();
    WorkerConfig {
        version: WORKER_CONFIG_VERSION,
        system: format!("{}/{}", system.namespace, system.name),
        city: spec.city.clone(),
        timezone: spec.timezone.clone(),
        currency: spec.currency.clone(),
        aws: AwsEndpoint { region: spec.region.clone(), endpoint_url: overrides.endpoint_url.clone() },
        table: TableConfig {
            name: outputs.table_name.clone(),
            stream_arn: outputs.stream_arn.clone(),
            gsi1_shards: spec.table.gsi1_shards,
        },
        lease_table: outputs.lease_table_name.clone(),
        queues: QueuesConfig {
            offers_url: outputs.offers_queue_url.clone(),
            responses_url: outputs.responses_queue_url.clone(),
            notifications_url: outputs.notifications_queue_url.clone(),
        },
        notifications: NotificationsConfig {
            topic_arn: outputs.topic_arn.clone(),
            platform_application_arn: outputs.platform_application_arn.clone(),
        },
        cache: CacheConfig {
            url: overrides.cache_url.clone().unwrap_or_else(|| outputs.cache_url.clone()),
            auth_token_env: auth.then(|| CACHE_AUTH_TOKEN_ENV.to_owned()),
        },
        dispatch: DispatchConfig::from_validated(system),
    }
}
