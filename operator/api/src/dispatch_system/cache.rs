//! `spec.cache`: Redis, where live positions are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;

/// The Redis cache. Either the stack makes an ElastiCache replication group (the default), or `external` names one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CacheSpec {
    /// ElastiCache node type. Default `cache.t4g.small`.
    #[serde(default = "node_type")]
    pub node_type: String,
    /// Replicas beside the primary, 0 to 5. Default 1; above 0 switches automatic failover and Multi-AZ on.
    #[serde(default = "replicas")]
    pub replicas: u8,
    /// Redis OSS engine version, `7.0` or `7.1`. Default `7.1`.
    #[serde(default = "engine_version")]
    pub engine_version: String,
    /// Subnets of the cache; with at least one given the stack makes a subnet group. Default: the VPC default.
    #[serde(default)]
    pub subnet_ids: Vec<String>,
    /// Security groups of the cache. Default: the VPC default.
    #[serde(default)]
    pub security_group_ids: Vec<String>,
    /// Where the Redis AUTH token is kept (16 to 128 printable characters without `@ " /`). Default: no AUTH token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<SecretKeyRef>,
    /// A Redis that already runs somewhere; the stack then makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalCacheSpec>,
}

impl Default for CacheSpec {
    fn default() -> Self {
        Self {
            node_type: node_type(),
            replicas: replicas(),
            engine_version: engine_version(),
            subnet_ids: Vec::new(),
            security_group_ids: Vec::new(),
            auth_secret_ref: None,
            external: None,
        }
    }
}

/// A Redis the operator does not manage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalCacheSpec {
    /// `redis://host:port` or `rediss://host:port` (TLS). No user name or password in it: use `authSecretRef`.
    pub url: String,
}

fn node_type() -> String {
    "cache.t4g.small".to_owned()
}

fn replicas() -> u8 {
    1
}

fn engine_version() -> String {
    "7.1".to_owned()
}
