//! The condition `Drifted`. Pure.

use dispatch_api::conditions::{ConditionStatus, ConditionType, Reason};

use crate::engine::plan::{DirectStep, StackStep};
use crate::engine::status::Facts;

/// The condition before it is written.
pub(super) fn condition(facts: &Facts<'_>) -> (ConditionType, ConditionStatus, Reason, String) {
    let kind = ConditionType::Drifted;
    let reported: Vec<String> = facts.finding.reported.iter().flat_map(DirectStep::differences).collect();
    if !reported.is_empty() {
        return (kind, ConditionStatus::True, Reason::DriftDetected, reported.join("; "));
    }
    let corrected: Vec<String> = facts.plan.parts.iter().flat_map(DirectStep::differences).collect();
    if !corrected.is_empty() && completes_creation(facts) {
        let message = format!("no drift; set after the creation: {}", corrected.join("; "));
        return (kind, ConditionStatus::False, Reason::InSync, message);
    }
    if !corrected.is_empty() {
        return (kind, ConditionStatus::False, Reason::DriftCorrected, corrected.join("; "));
    }
    no_drift(facts)
}

/// Whether the resources were never in use: what CloudFormation does not set at their creation is no drift.
fn completes_creation(facts: &Facts<'_>) -> bool {
    matches!(facts.plan.stack, StackStep::Create | StackStep::DeleteThenCreate)
        || facts.previous.is_some_and(|previous| previous.outputs.is_none())
}

/// What drift detection covered. Without one there is nothing to say about drift.
fn no_drift(facts: &Facts<'_>) -> (ConditionType, ConditionStatus, Reason, String) {
    let kind = ConditionType::Drifted;
    let parts = facts.parts;
    if !facts.stack.is_some_and(|stack| stack.state.serves()) {
        let message = "drift is detected once the stack is complete".to_owned();
        return (kind, ConditionStatus::Unknown, Reason::StackNotReady, message);
    }
    if !parts.drift_checked {
        let message = match facts.system.spec.drift_interval_seconds {
            0 => "drift is not checked, because spec.driftIntervalSeconds is 0".to_owned(),
            _ => "drift was not checked yet".to_owned(),
        };
        return (kind, ConditionStatus::Unknown, Reason::NotChecked, message);
    }
    let message = format!("no drift in the settings of table and queues and in the stack's tags; {}", parts.existence);
    if parts.existence.is_denied() {
        return (kind, ConditionStatus::Unknown, Reason::AwsAccessDenied, message);
    }
    (kind, ConditionStatus::False, Reason::InSync, message)
}
