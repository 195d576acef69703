//! Builds the worker configuration of a system from its spec and outputs. Pure.

use dispatch_api::dispatch_system::{ApiSpec, OutputsStatus, RateSpec};
use dispatch_api::validate::ValidatedSystem;
use dispatch_api::worker_config::{
    AuthConfig, AwsEndpoint, CacheConfig, ClaimsConfig, DispatchConfig, LimitsConfig, NotificationsConfig,
    QueuesConfig, RateConfig, TableConfig, WORKER_CONFIG_VERSION, WorkerConfig,
};

/// Environment variable that carries the Redis AUTH token to a worker.
pub const CACHE_AUTH_TOKEN_ENV: &str = "DISPATCH_CACHE_AUTH_TOKEN";

/// Environment variable with the path of a file that holds the same token. Workers read the file each time they
/// connect.
pub const CACHE_AUTH_TOKEN_FILE_ENV: &str = "DISPATCH_CACHE_AUTH_TOKEN_FILE";

/// Header in which the system's API Gateway forwards the client address. A mapping cannot set the usual headers, and
/// their value may begin with what the client sent.
pub const CLIENT_ADDRESS_HEADER: &str = "x-client-address";
/// Header to which the proxies of a cluster append the address of the client.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Replacements for a local run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerOverrides {
    /// Endpoint of all AWS services.
    pub endpoint_url: Option<String>,
    /// URL of Redis, which is then used without an AUTH token.
    pub cache_url: Option<String>,
    /// The key of the local run instead of the city's issuer.
    pub auth: Option<AuthConfig>,
    /// Rate limits; on one machine all callers share an address.
    pub limits: Option<LimitsConfig>,
}

/// The complete configuration of a worker.
pub fn worker_config(system: &ValidatedSystem, outputs: &OutputsStatus, overrides: &WorkerOverrides) -> WorkerConfig {
    let spec = &system.spec;
    let has_token = spec.cache.auth_secret_ref.is_some() && overrides.cache_url.is_none();
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
            // The template names the dead-letter queue after its queue, and a queue's URL ends in its name.
            offers_dead_letters_url: format!("{}-dlq", outputs.offers_queue_url),
            responses_url: outputs.responses_queue_url.clone(),
            notifications_url: outputs.notifications_queue_url.clone(),
        },
        notifications: NotificationsConfig {
            topic_arn: outputs.topic_arn.clone(),
            platform_application_arn: outputs.platform_application_arn.clone(),
        },
        cache: CacheConfig {
            url: overrides.cache_url.clone().unwrap_or_else(|| outputs.cache_url.clone()),
            auth_token_env: has_token.then(|| CACHE_AUTH_TOKEN_ENV.to_owned()),
        },
        auth: overrides.auth.clone().or_else(|| auth(&spec.api)),
        limits: overrides.limits.clone().unwrap_or_else(|| limits(&spec.api)),
        dispatch: DispatchConfig::from_validated(system),
    }
}

/// The token issuer that the workers trust; `None` if the spec names none.
pub fn auth(api: &ApiSpec) -> Option<AuthConfig> {
    if let Some(auth) = &api.auth {
        let claims = &auth.claims;
        return Some(AuthConfig {
            issuer: auth.issuer.clone(),
            audiences: auth.audiences.clone(),
            jwks_url: Some(auth.jwks_url.clone().unwrap_or_else(|| keys_of(&auth.issuer))),
            jwks_file: None,
            claims: ClaimsConfig {
                id: claims.id.clone(),
                scopes: claims.scopes.clone(),
                user: claims.user.clone(),
                driver: claims.driver.clone(),
                payments: claims.payments.clone(),
                operations: claims.operations.clone(),
                city: claims.city.clone(),
            },
        });
    }
    let jwt = api.gateway.jwt.as_ref()?;
    Some(AuthConfig {
        issuer: jwt.issuer.clone(),
        audiences: jwt.audiences.clone(),
        jwks_url: Some(keys_of(&jwt.issuer)),
        jwks_file: None,
        claims: ClaimsConfig::default(),
    })
}

/// Default location of an issuer's keys, as used by Amazon Cognito, Auth0 and others.
fn keys_of(issuer: &str) -> String {
    format!("{}/.well-known/jwks.json", issuer.trim_end_matches('/'))
}

fn limits(api: &ApiSpec) -> LimitsConfig {
    let rate = |rate: &RateSpec| RateConfig { per_second: rate.rate_per_second, burst: rate.burst };
    let of_gateway = || api.gateway.enabled.then(|| CLIENT_ADDRESS_HEADER.to_owned());
    // Without it, all clients would share the limits of the proxy's address.
    let of_proxy = || (api.ingress.is_some() || api.http_route.is_some()).then(|| FORWARDED_FOR.to_owned());
    LimitsConfig {
        per_subject: rate(&api.limits.per_subject),
        per_address: rate(&api.limits.per_address),
        client_address_header: api.limits.client_address_header.clone().or_else(of_gateway).or_else(of_proxy),
        client_address_hops: api.limits.client_address_hops,
        address_share_percent: api.limits.address_share_percent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(text: &str) -> ApiSpec {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn workers_trust_the_gateways_issuer_unless_the_spec_names_another() {
        assert_eq!(auth(&api("{}")), None, "no token is accepted by default");
        let jwt = r#""gateway": {"jwt": {"issuer": "https://login.example.com/", "audiences": ["app"]}}"#;
        let same = auth(&api(&format!("{{{jwt}}}"))).unwrap();
        assert_eq!(same.jwks_url.as_deref(), Some("https://login.example.com/.well-known/jwks.json"));
        assert_eq!((same.audiences, same.claims), (vec!["app".to_owned()], ClaimsConfig::default()));
        let own = r#""auth": {"issuer": "https://id.example.com", "audiences": ["workers"],
            "jwksUrl": "https://keys.example.com/set", "claims": {"scopes": "cognito:groups"}}"#;
        let own = auth(&api(&format!("{{{jwt}, {own}}}"))).unwrap();
        assert_eq!(own.jwks_url.as_deref(), Some("https://keys.example.com/set"));
        assert_eq!((own.claims.scopes.as_str(), own.claims.id.as_str()), ("cognito:groups", "sub"));
    }

    #[test]
    fn limits_default_to_those_of_the_worker_configuration() {
        assert_eq!(limits(&api("{}")), LimitsConfig::default());
        let behind = limits(&api(r#"{"gateway": {"enabled": true}}"#));
        assert_eq!(behind.client_address_header.as_deref(), Some("x-client-address"));
        let host = r#"{"host": "seoul.example.com"}"#;
        let header = |text: &str| limits(&api(text)).client_address_header;
        assert_eq!(header(&format!(r#"{{"ingress": {host}}}"#)).as_deref(), Some("x-forwarded-for"));
        let own = format!(r#"{{"ingress": {host}, "limits": {{"clientAddressHeader": "x-real-ip"}}}}"#);
        assert_eq!(header(&own).as_deref(), Some("x-real-ip"));
    }
}
