//! Resources a person allows to be left behind, where CloudFormation cannot go on with them. Pure.

use dispatch_api::annotations::SKIP_RESOURCES;
use dispatch_api::dispatch_system::DeletionPolicy;

use crate::cloud::stack::{StackResource, StackState};
use crate::engine::plan::template::DATA_RESOURCES;

/// Reads the annotation: logical ids with commas between them.
pub fn read_ids(text: &str) -> Vec<String> {
    let mut ids: Vec<String> = text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Status of the resources CloudFormation allows to be left behind in a state of the stack; `None` where it allows none (API
/// reference, `ResourcesToSkip` and `RetainResources`).
pub fn status_left(state: &StackState) -> Option<&'static str> {
    match state {
        StackState::UpdateRollbackFailed => Some("UPDATE_FAILED"),
        StackState::DeleteFailed => Some("DELETE_FAILED"),
        _ => None,
    }
}

/// Logical ids that could be left behind.
pub fn candidates(state: &StackState, resources: &[StackResource]) -> Vec<String> {
    let Some(status) = status_left(state) else { return Vec::new() };
    resources.iter().filter(|resource| resource.status == status).map(|resource| resource.logical_id.clone()).collect()
}

/// What a person can do where only leaving something behind helps; nothing where nothing can be left.
pub fn advice(state: &StackState, resources: &[StackResource]) -> String {
    let candidates = candidates(state, resources);
    if candidates.is_empty() {
        return String::new();
    }
    format!(
        ". What cannot be mended can be left behind by naming it in the annotation {SKIP_RESOURCES} (--skip-resource): {}",
        candidates.join(", ")
    )
}

/// What is left behind of what a person has named: all of it or, with the reason, nothing.
///
/// Only resources CloudFormation has failed at are: a stack forgets what is left out of its deletion, and takes what is left out of its
/// rollback for rolled back. Data that `deletionPolicy: Delete` says must go is not left behind by the way.
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
                "{SKIP_RESOURCES} names {id}, which the stack does not have; {}",
                possible(&candidates)
            ));
        };
        if found.status != status {
            let is = &found.status;
            return Err(format!(
                "{SKIP_RESOURCES} names {id}, which is in {is} and not in {status}; {}",
                possible(&candidates)
            ));
        }
        let data = *state == StackState::DeleteFailed && DATA_RESOURCES.contains(&id.as_str());
        if data && policy == DeletionPolicy::Delete {
            return Err(format!(
                "{SKIP_RESOURCES} names {id}, whose data deletionPolicy: Delete says must go; to keep it set deletionPolicy: Retain"
            ));
        }
    }
    Ok(asked.to_vec())
}

fn possible(candidates: &[String]) -> String {
    if candidates.is_empty() {
        "nothing can be left behind".to_owned()
    } else {
        format!("what can be left behind: {}", candidates.join(", "))
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
    fn only_what_failed_can_be_left_behind_and_only_when_named() {
        let resources =
            [resource("A", "UPDATE_FAILED"), resource("B", "UPDATE_COMPLETE"), resource("C", "UPDATE_FAILED")];
        let state = StackState::UpdateRollbackFailed;
        let judge = |text: &str| skippable(&ids(text), &state, &resources, DeletionPolicy::Retain);
        assert_eq!(judge(""), Ok(Vec::new()));
        assert_eq!(judge(" C , A,,A"), Ok(vec!["A".to_owned(), "C".to_owned()]));
        let refused = judge("A,B").expect_err("B is well");
        assert!(refused.contains("names B, which is in UPDATE_COMPLETE") && refused.ends_with("A, C"), "{refused}");
        assert!(judge("D").expect_err("unknown").contains("D, which the stack does not have"));
    }

    #[test]
    fn in_any_other_state_nothing_is_left_behind() {
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
    fn data_that_must_go_is_not_left_behind_by_the_way() {
        let resources = [resource("ExportBucket", "DELETE_FAILED"), resource("OffersQueue", "DELETE_FAILED")];
        let state = StackState::DeleteFailed;
        let judge = |text: &str, policy| skippable(&ids(text), &state, &resources, policy);
        assert!(judge("ExportBucket", DeletionPolicy::Delete).expect_err("data").contains("deletionPolicy: Retain"));
        assert_eq!(judge("ExportBucket", DeletionPolicy::Retain), Ok(ids("ExportBucket")));
        assert_eq!(judge("OffersQueue", DeletionPolicy::Delete), Ok(ids("OffersQueue")));
        assert!(advice(&state, &resources).ends_with("ExportBucket, OffersQueue"));
    }
}
