//! `spec.cache`: Redis, where live positions are kept.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;

/// The Redis cache. Either the stack makes an ElastiCache replication group (the default), or `external` names one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "!has(self.external) || (self.nodeType == 'cache.t4g.small' && self.replicas == 1 && self.engineVersion == \
         '7.1' && size(self.subnetIds) == 0 && size(self.securityGroupIds) == 0)"
    )
    .message("nodeType, replicas, engineVersion, subnetIds and securityGroupIds are not allowed with external"),
)]
pub struct CacheSpec {
    /// ElastiCache node type, `cache.<family>.<size>`. Default `cache.t4g.small`.
    #[serde(default = "node_type")]
    #[schemars(length(max = 64), regex(pattern = r"^cache[.][a-z0-9]+[.][a-z0-9]+$"))]
    pub node_type: String,
    /// Replicas beside the primary, 0 to 5. Default 1; above 0 switches automatic failover and Multi-AZ on.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 5))]
    pub replicas: u8,
    /// Redis OSS engine version, `7.0` or `7.1`. Default `7.1`.
    #[serde(default = "engine_version")]
    #[schemars(extend("enum" = ["7.0", "7.1"]))]
    pub engine_version: String,
    /// Subnets of the cache, at most 20; with at least one given the stack makes a subnet group. Default: the VPC
    /// default.
    #[serde(default)]
    #[schemars(length(max = 20), inner(length(max = 24), regex(pattern = r"^subnet-([0-9a-f]{8}|[0-9a-f]{17})$")))]
    pub subnet_ids: Vec<String>,
    /// Security groups of the cache, at most 5. Default: the VPC default.
    #[serde(default)]
    #[schemars(length(max = 5), inner(length(max = 20), regex(pattern = r"^sg-([0-9a-f]{8}|[0-9a-f]{17})$")))]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
// A rule of the object and not a pattern of the field: the API server repeats a text that breaks a pattern, and this
// one may hold a password.
#[x_kube(
    validation = Rule::new(
        r"self.url.matches(r'^rediss?://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$')"
    )
    .message("url must be redis://host:port or rediss://host:port, without user name, password or path")
)]
pub struct ExternalCacheSpec {
    /// `redis://host:port` or `rediss://host:port` (TLS); the port may be left out and is then 6379. No user name,
    /// password or path: the AUTH token belongs into `authSecretRef`.
    #[schemars(length(max = 512))]
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
