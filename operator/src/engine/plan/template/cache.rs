//! The ElastiCache replication group that holds live positions; absent where the system names a Redis of its own.
//!
//! There are no snapshots: everything in the cache comes back with the drivers' next pings. The maintenance window is left to
//! AWS, which picks an hour of the region's night.

use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use crate::engine::plan::template::fragment::{Resource, TemplateFragment, attribute, reference};
use crate::engine::plan::template::{CACHE_AUTH_TOKEN, outputs};

pub(super) const REPLICATION_GROUP: &str = "ReplicationGroup";
const PARAMETER_GROUP: &str = "CacheParameterGroup";
const SUBNET_GROUP: &str = "CacheSubnetGroup";

/// Whether the stack makes the cache.
pub(super) fn is_managed(system: &ValidatedSystem) -> bool {
    system.spec.cache.external.is_none()
}

/// Whether the stack makes a cache with an AUTH token.
pub(super) fn needs_auth_token(system: &ValidatedSystem) -> bool {
    is_managed(system) && system.spec.cache.auth_secret_ref.is_some()
}

/// Ids of the group's cache clusters: ElastiCache numbers the members of a group without cluster mode `-001` onwards.
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
            "TransitEncryptionEnabled": true,
            "TransitEncryptionMode": "required",
            "AtRestEncryptionEnabled": true,
            "KmsKeyId": system.spec.aws.kms_key_arn,
            "AuthToken": needs_auth_token(system).then(|| reference(CACHE_AUTH_TOKEN)),
            "AutoMinorVersionUpgrade": true,
            "SnapshotRetentionLimit": 0,
        }),
    )
    .policies(("Delete", "Delete"));
    // The token lives in the Kubernetes Secret the workers read it from; a copy in Secrets Manager, which the rule asks for,
    // would be one more place to leak it from and to forget when it is rotated.
    if needs_auth_token(system) { group.without_lint("W1011") } else { group }
}

/// Under memory pressure a stale position is worth less than a fresh ping, so keys that are about to expire go first.
/// `noeviction` would refuse the pings instead, and an LRU would weigh by reads, which say nothing about a driver's freshness.
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

/// Bounds of ElastiCache's "Authenticating with the AUTH command": 16 to 128 printable characters without `@`, `"` and `/`.
fn auth_token_parameter() -> Value {
    json!({
        "Type": "String",
        "NoEcho": true,
        "Description": "Redis AUTH token",
        "MinLength": 16,
        "MaxLength": 128,
        "AllowedPattern": "[!#-.0-?A-~]+",
        "ConstraintDescription": "16 to 128 printable characters without @, double quote and slash",
    })
}
