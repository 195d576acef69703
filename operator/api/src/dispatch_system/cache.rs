//! `spec.cache`: Redis, which holds the live driver positions.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{HOST_MESSAGE, HOST_RULE, SecretKeyRef};

/// The Redis cache of driver positions. The stack creates an ElastiCache replication group with TLS, unless `external`
/// names another Redis. The cache has no backups: drivers' pings refill it within a minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "!has(self.external) || (self.nodeType == 'cache.t4g.small' && self.replicas == 1 && self.engineVersion == \
         '7.1' && size(self.subnetIds) == 0 && size(self.securityGroupIds) == 0)"
    )
    .message("nodeType, replicas, engineVersion, subnetIds and securityGroupIds are not allowed with external")
    .field_path(".external")
    .reason(Reason::FieldValueForbidden),
    validation = Rule::new("!has(self.external) || !has(self.authSecretRef) || self.external.url.startsWith('rediss://')")
        .message("url must be rediss:// (TLS) with authSecretRef")
        .field_path(".external.url")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new("!self.nodeType.matches('^cache[.][a-z0-9]+gd[.]')")
        .message("node types with data tiering (r6gd) are not supported")
        .field_path(".nodeType")
        .reason(Reason::FieldValueInvalid),
)]
pub struct CacheSpec {
    /// ElastiCache node type, `cache.<family>.<size>`, without data tiering (r6gd). Default `cache.t4g.small`. Updated
    /// in place. Not allowed with `external`.
    #[serde(default = "node_type")]
    #[schemars(length(max = 64), regex(pattern = r"^cache[.][a-z0-9]+[.][a-z0-9]+$"))]
    pub node_type: String,
    /// Number of replicas in addition to the primary, 0 to 5. Default 1. With at least one, automatic failover and
    /// Multi-AZ are enabled. Updated in place. Not allowed with `external`.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 5))]
    pub replicas: u8,
    /// Redis OSS engine version, `7.0` or `7.1`, in quotes. Default `7.1`. An upgrade is applied in place; a downgrade
    /// is not possible for an existing cache. Not allowed with `external`.
    #[serde(default = "engine_version")]
    #[schemars(extend("enum" = ["7.0", "7.1"]))]
    pub engine_version: String,
    /// Subnets of the cache, at most 20, from which the stack creates a subnet group. Default: the default subnet group
    /// of ElastiCache. The list is updated in place, but an existing cache cannot move between the default and its own
    /// subnet group: such a change fails and is rolled back. Not allowed with `external`.
    #[serde(default)]
    #[schemars(length(max = 20), inner(length(max = 24), regex(pattern = r"^subnet-([0-9a-f]{8}|[0-9a-f]{17})$")))]
    pub subnet_ids: Vec<String>,
    /// Security groups of the cache, at most 5. Default: the default security group of the VPC. Updated in place. Not
    /// allowed with `external`.
    #[serde(default)]
    #[schemars(length(max = 5), inner(length(max = 20), regex(pattern = r"^sg-([0-9a-f]{8}|[0-9a-f]{17})$")))]
    pub security_group_ids: Vec<String>,
    /// Secret key with the Redis AUTH token. With a managed cache, it has 16 to 128 letters, digits and `!&#$^<>-`,
    /// which is what ElastiCache accepts. Default: no AUTH token. A changed token updates the managed cache and
    /// restarts the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<SecretKeyRef>,
    /// A Redis that the operator does not manage; the stack then contains no cache. Setting it on an existing system
    /// deletes the managed cache, a plan that waits for an approval with `approvalPolicy: OnReplacement`. A change
    /// restarts the workers.
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

/// A Redis that the operator does not manage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
// A rule of the object and not a pattern of the field: the API server repeats a value that does not match a pattern,
// and this one may contain a password.
#[x_kube(
    validation = Rule::new(
        r"self.url.matches(r'^rediss?://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$')"
    )
    .message("url must be redis://host:port or rediss://host:port, without user name, password or path")
    .field_path(".url")
    .reason(Reason::FieldValueInvalid)
)]
pub struct ExternalCacheSpec {
    /// Address, `redis://host:port` or `rediss://host:port` (TLS), at most 512 characters. The default port is 6379.
    /// User name, password and path are not allowed; use `authSecretRef` for the AUTH token, which requires TLS.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(HOST_RULE).message(HOST_MESSAGE).reason(Reason::FieldValueInvalid))]
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
