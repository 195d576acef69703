//! The ElastiCache replication group of live positions; absent with an external Redis.
//!
//! There are no snapshots: the next pings of the drivers restore all content. AWS chooses the maintenance window, an
//! hour in the night of the region.

use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use crate::engine::plan::template::fragment::{Resource, TemplateFragment, attribute, reference};
use crate::engine::plan::template::{CACHE_AUTH_TOKEN, outputs};

pub const REPLICATION_GROUP: &str = "ReplicationGroup";
const PARAMETER_GROUP: &str = "CacheParameterGroup";
const SUBNET_GROUP: &str = "CacheSubnetGroup";

/// Whether the stack contains the cache.
pub(super) fn is_managed(system: &ValidatedSystem) -> bool {
    system.spec.cache.external.is_none()
}

/// Whether the stack contains a cache with an AUTH token.
pub(super) fn needs_auth_token(system: &ValidatedSystem) -> bool {
    is_managed(system) && system.spec.cache.auth_secret_ref.is_some()
}

/// Ids of the cache clusters of the group: without cluster mode, ElastiCache numbers them from `-001`.
pub(super) fn member_ids(system: &ValidatedSystem) -> Vec<String> {
    let members = if is_managed(system) { 1 + system.spec.cache.replicas } else { 0 };
    (1..=members).map(|number| format!("{}-{number:03}", system.names.replication_group)).collect()
}

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    if !is_managed(system) {
        return part;
    }
    if needs_auth_token(system) {
        part.parameters.insert(CACHE_AUTH_TOKEN.to_owned(), auth_token_parameter());
    }
    let spec = &system.spec.cache;
    part.resource(PARAMETER_GROUP, parameter_group(system));
    if !spec.subnet_ids.is_empty() {
        part.resource(
            SUBNET_GROUP,
            Resource::new(
                "AWS::ElastiCache::SubnetGroup",
                json!({ "Description": format!("Subnets of {}", system.names.prefix), "SubnetIds": spec.subnet_ids }),
            ),
        );
    }
    part.resource(REPLICATION_GROUP, replication_group(system));
    part.output(outputs::CACHE_ENDPOINT, &attribute(REPLICATION_GROUP, "PrimaryEndPoint.Address"));
    part.output(outputs::CACHE_PORT, &attribute(REPLICATION_GROUP, "PrimaryEndPoint.Port"));
    part
}

fn replication_group(system: &ValidatedSystem) -> Resource {
    let spec = &system.spec.cache;
    let security_groups = (!spec.security_group_ids.is_empty()).then_some(&spec.security_group_ids);
    let replicated = spec.replicas > 0;
    let group = Resource::new(
        "AWS::ElastiCache::ReplicationGroup",
        json!({
            "ReplicationGroupId": system.names.replication_group,
            "ReplicationGroupDescription": format!("Driver positions of {}", system.spec.city),
            "Engine": "redis",
            "EngineVersion": spec.engine_version,
            "CacheNodeType": spec.node_type,
            "NumCacheClusters": 1 + spec.replicas,
            "AutomaticFailoverEnabled": replicated,
            "MultiAZEnabled": replicated,
            "CacheParameterGroupName": reference(PARAMETER_GROUP),
            "CacheSubnetGroupName": (!spec.subnet_ids.is_empty()).then(|| reference(SUBNET_GROUP)),
            "SecurityGroupIds": security_groups,
            // At creation, this alone gives the mode `required`.
            "TransitEncryptionEnabled": true,
            "AtRestEncryptionEnabled": true,
            "KmsKeyId": system.spec.aws.kms_key_arn,
            "AuthToken": needs_auth_token(system).then(|| reference(CACHE_AUTH_TOKEN)),
            "AutoMinorVersionUpgrade": true,
            "SnapshotRetentionLimit": 0,
        }),
    )
    .policies(("Delete", "Delete"));
    // The token is in the Kubernetes Secret from which the workers read it. A copy in Secrets Manager, which the rule
    // requires, would be another place to protect and to update at a rotation.
    if needs_auth_token(system) { group.without_lint("W1011") } else { group }
}

/// Under memory pressure, a stale position is worth less than a new ping, so keys that expire soon are evicted first.
/// `noeviction` would refuse pings, and LRU considers reads, which do not indicate how recent a position is.
fn parameter_group(system: &ValidatedSystem) -> Resource {
    Resource::new(
        "AWS::ElastiCache::ParameterGroup",
        json!({
            "CacheParameterGroupFamily": "redis7",
            "Description": format!("Redis settings of {}", system.names.prefix),
            "Properties": { "maxmemory-policy": "volatile-ttl" },
        }),
    )
}

/// The special characters of an AUTH token that ElastiCache accepts at creation (API reference,
/// `CreateReplicationGroup`, `AuthToken`). Its list for a later change is longer.
pub const AUTH_TOKEN_SYMBOLS: &str = "!&#$^<>-";

/// Bounds of ElastiCache: 16 to 128 letters, digits and [`AUTH_TOKEN_SYMBOLS`].
fn auth_token_parameter() -> Value {
    json!({
        "Type": "String",
        "NoEcho": true,
        "Description": "Redis AUTH token",
        "MinLength": 16,
        "MaxLength": 128,
        "AllowedPattern": "[A-Za-z0-9!&#$^<>-]+",
        "ConstraintDescription": format!("16 to 128 letters, digits and {AUTH_TOKEN_SYMBOLS}"),
    })
}
