//! Resources of the stack that were deleted: what creates them again, or what a person can do. Pure.

use dispatch_api::dispatch_system::ManagementPolicy;
use dispatch_api::validate::ValidatedSystem;

use crate::engine::plan::direct_resources::{DirectResources, DirectStep};
use crate::engine::plan::existence::{Method, Presence, ResourceCheck};
use crate::engine::plan::recreation::Blueprint;
use crate::engine::plan::template::{REPLICATION_GROUP, TABLE};

/// The steps that create deleted resources again, in order. What none creates is added to `gone`.
pub(super) fn steps(
    system: &ValidatedSystem,
    parts: &DirectResources,
    blueprint: Option<&Blueprint<'_>>,
    gone: &mut Vec<String>,
) -> Vec<DirectStep> {
    let mut recreations = Vec::new();
    for check in missing(system, parts) {
        match blueprint.and_then(|blueprint| blueprint.recreation(&check.logical_id)) {
            Some(recreation) => recreations.push((check.to_string(), recreation)),
            None => gone.push(format!("{check} is gone: {}", remedy(&check, &system.names.table))),
        }
    }
    recreations.sort_by_key(|(_, recreation)| recreation.rank());
    let step = |(resource, recreation)| DirectStep::Recreate { resource, recreation };
    recreations.into_iter().map(step).collect()
}

/// What the check found to be gone, and the table and cache, which every run reads.
fn missing(system: &ValidatedSystem, parts: &DirectResources) -> Vec<ResourceCheck> {
    let names = &system.names;
    let check = |logical_id: &str, resource_type: &str, physical_id: &str| {
        let (logical_id, resource_type) = (logical_id.to_owned(), resource_type.to_owned());
        ResourceCheck { logical_id, resource_type, physical_id: Some(physical_id.to_owned()), presence: Presence::Gone }
    };
    let uncovered = |id: &str| !parts.existence.covers(id);
    let table = parts.table.is_none() && uncovered(&names.table);
    let cache = system.spec.cache.external.is_none() && parts.cache.is_none() && uncovered(&names.replication_group);
    let queues = parts.queues.iter().filter(|queue| queue.settings.is_none() && uncovered(&queue.url));
    table
        .then(|| check(TABLE, "AWS::DynamoDB::Table", &names.table))
        .into_iter()
        .chain(cache.then(|| check(REPLICATION_GROUP, "AWS::ElastiCache::ReplicationGroup", &names.replication_group)))
        .chain(queues.map(|queue| check(queue.logical_id, "AWS::SQS::Queue", &queue.url)))
        .chain(parts.existence.checks().iter().filter(|check| check.presence == Presence::Gone).cloned())
        .collect()
}

/// What a person can do about a resource that the operator does not create again.
fn remedy(check: &ResourceCheck, table: &str) -> String {
    const RETURN: &str =
        "delete the system with deletionPolicy: Retain and apply it again, which imports table and bucket";
    match Method::for_type(&check.resource_type) {
        Method::Table if check.physical_id.as_deref() == Some(table) => {
            "restore it from a backup under the same name".to_owned()
        }
        Method::ReplicationGroup => format!("create it again under the same id, or {RETURN}"),
        Method::Queue | Method::Topic | Method::Subscription => {
            "it is created again once the stack has the spec".to_owned()
        }
        _ => RETURN.to_owned(),
    }
}

/// For a run that changes nothing: what is gone and will be created again.
pub(super) fn until_the_next_apply(system: &ValidatedSystem, step: &DirectStep) -> Option<String> {
    let next = match (system.spec.management_policy, system.spec.suspend) {
        (ManagementPolicy::Observe, _) => "it is not created again because spec.managementPolicy is Observe",
        (ManagementPolicy::Full, true) => "it is created again once spec.suspend is false",
        (ManagementPolicy::Full, false) => "the next apply creates it again",
    };
    says_gone(step, next)
}

/// With `driftPolicy: ReportOnly`: what is gone and what creates it again.
pub(super) fn until_it_may_be_corrected(step: &DirectStep) -> Option<String> {
    says_gone(step, "set driftPolicy to Correct to have it created again, or create it under the same name")
}

fn says_gone(step: &DirectStep, remedy: &str) -> Option<String> {
    match step {
        DirectStep::Recreate { resource, .. } => Some(format!("{resource} is gone: {remedy}")),
        _ => None,
    }
}
