//! Resources that a person allows to be skipped because CloudFormation cannot process them. Pure.

use dispatch_api::annotations::SKIP_RESOURCES;
use dispatch_api::dispatch_system::DeletionPolicy;

use crate::cloud::stack::{StackResource, StackState};
use crate::engine::plan::template::DATA_RESOURCES;

/// Parses the annotation: logical ids separated by commas.
pub fn read_ids(text: &str) -> Vec<String> {
    let mut ids: Vec<String> = text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Status of the resources that CloudFormation allows to be skipped in a stack state; `None` if it allows none (API
/// reference, `ResourcesToSkip` and `RetainResources`).
pub fn status_left(state: &StackState) -> Option<&'static str> {
    match state {
        StackState::UpdateRollbackFailed => Some("UPDATE_FAILED"),
        StackState::DeleteFailed => Some("DELETE_FAILED"),
        _ => None,
    }
}

/// Logical ids of the resources that can be skipped.
pub fn candidates(state: &StackState, resources: &[StackResource]) -> Vec<String> {
    let Some(status) = status_left(state) else { return Vec::new() };
    resources.iter().filter(|resource| resource.status == status).map(|resource| resource.logical_id.clone()).collect()
}

/// What a person can do if skipping a resource is the only way; empty if no resource can be skipped.
pub fn advice(state: &StackState, resources: &[StackResource]) -> String {
    let candidates = candidates(state, resources);
    if candidates.is_empty() {
        return String::new();
    }
    format!(
        ". Resources that cannot be repaired can be skipped with the annotation {SKIP_RESOURCES} (--skip-resource): {}",
        candidates.join(", ")
    )
}

/// The resources to skip: all that a person named, or an error.
///
/// Only resources that failed in CloudFormation can be skipped: a stack no longer manages a resource that its deletion
/// skips, and treats a resource that its rollback skips as rolled back. Data that `deletionPolicy: Delete` requires to
/// be deleted is not skipped.
pub fn skippable(
    asked: &[String],
    state: &StackState,
    resources: &[StackResource],
    policy: DeletionPolicy,
) -> Result<Vec<String>, String> {
    let Some(status) = status_left(state) else { return Ok(Vec::new()) };
    let candidates = candidates(state, resources);
    for id in asked {
        let Some(found) = resources.iter().find(|resource| resource.logical_id == *id) else {
            return Err(format!(
                "{SKIP_RESOURCES} names {id}, which is not a resource of the stack; {}",
                possible(&candidates)
            ));
        };
        if found.status != status {
            let is = &found.status;
            return Err(format!(
                "{SKIP_RESOURCES} names {id}, which is in {is}; only resources in {status} can be skipped; {}",
                possible(&candidates)
            ));
        }
        let data = *state == StackState::DeleteFailed && DATA_RESOURCES.contains(&id.as_str());
        if data && policy == DeletionPolicy::Delete {
            return Err(format!(
                "{SKIP_RESOURCES} names {id}, whose data deletionPolicy: Delete requires to be deleted; to retain it, \
                 set deletionPolicy: Retain"
            ));
        }
    }
    Ok(asked.to_vec())
}

fn possible(candidates: &[String]) -> String {
    if candidates.is_empty() {
        "no resource can be skipped".to_owned()
    } else {
        format!("resources that can be skipped: {}", candidates.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(logical_id: &str, status: &str) -> StackResource {
        StackResource {
            logical_id: logical_id.to_owned(),
            physical_id: None,
            resource_type: "AWS::SQS::Queue".to_owned(),
            status: status.to_owned(),
            reason: None,
        }
    }

    fn ids(text: &str) -> Vec<String> {
        read_ids(text)
    }

    #[test]
    fn only_failed_resources_can_be_skipped_and_only_when_named() {
        let resources =
            [resource("A", "UPDATE_FAILED"), resource("B", "UPDATE_COMPLETE"), resource("C", "UPDATE_FAILED")];
        let state = StackState::UpdateRollbackFailed;
        let judge = |text: &str| skippable(&ids(text), &state, &resources, DeletionPolicy::Retain);
        assert_eq!(judge(""), Ok(Vec::new()));
        assert_eq!(judge(" C , A,,A"), Ok(vec!["A".to_owned(), "C".to_owned()]));
        let refused = judge("A,B").expect_err("B did not fail");
        assert!(refused.contains("names B, which is in UPDATE_COMPLETE") && refused.ends_with("A, C"), "{refused}");
        assert!(judge("D").expect_err("unknown").contains("D, which is not a resource of the stack"));
    }

    #[test]
    fn in_any_other_state_nothing_is_skipped() {
        let resources = [resource("A", "UPDATE_FAILED")];
        for name in aws_sdk_cloudformation::types::StackStatus::values() {
            let state = StackState::parse(name);
            let left = skippable(&ids("A"), &state, &resources, DeletionPolicy::Retain);
            match state {
                StackState::UpdateRollbackFailed => assert_eq!(left, Ok(ids("A"))),
                StackState::DeleteFailed => assert!(left.is_err()),
                _ => assert_eq!(left, Ok(Vec::new()), "{name}"),
            }
        }
    }

    #[test]
    fn data_that_must_be_deleted_is_not_skipped() {
        let resources = [resource("ExportBucket", "DELETE_FAILED"), resource("OffersQueue", "DELETE_FAILED")];
        let state = StackState::DeleteFailed;
        let judge = |text: &str, policy| skippable(&ids(text), &state, &resources, policy);
        assert!(judge("ExportBucket", DeletionPolicy::Delete).expect_err("data").contains("deletionPolicy: Retain"));
        assert_eq!(judge("ExportBucket", DeletionPolicy::Retain), Ok(ids("ExportBucket")));
        assert_eq!(judge("OffersQueue", DeletionPolicy::Delete), Ok(ids("OffersQueue")));
        assert!(advice(&state, &resources).ends_with("ExportBucket, OffersQueue"));
    }
}
