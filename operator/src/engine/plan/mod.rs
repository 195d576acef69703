//! Plans: what to do, derived from the desired and the observed state. Pure: nothing here reads or writes anything.

pub mod digests;
mod direct_resources;
mod direct_steps;
pub mod existence;
pub mod exports;
pub mod indexes;
mod missing;
pub mod monthly_cost;
pub mod ownership;
pub mod property_values;
pub mod recreation;
mod retained;
pub mod skip_resources;
pub mod table_names;
pub mod template;
pub mod workers;

use sha2::{Digest, Sha256};

use dispatch_api::conditions::Reason;
use dispatch_api::dispatch_system::{ApprovalPolicy, LastPlan, PlannedChange, PlannedCost, PlannedValue};

use crate::cloud::stack::{Next, StackDescription, StackState};
use crate::cloud::{ChangeCounts, ChangeKind, LiveDrift, PropertyValue, ResourceChange};

use existence::Existence;
use monthly_cost::FixedCost;

pub use direct_resources::{DirectFinding, DirectResources, DirectStep, QueueLook};
pub use direct_steps::{Credential, direct_steps, only_reported};
pub use retained::{ImportRefusal, RetainedData, importable};

/// Hexadecimal digits of a plan id: enough to distinguish plans, few enough to type.
const PLAN_ID_DIGITS: usize = 12;
/// Maximum number of changes in a status. Changes that endanger data come first; the command `plan` lists all.
const LISTED_MAX: usize = 20;

/// Maximum number of values of one change in a status: with the longest values, a plan takes some 40 KiB of the 1.5 MiB
/// that an object may have.
const VALUES_MAX: usize = 10;

fn planned_value(value: &PropertyValue) -> PlannedValue {
    let PropertyValue { path, before, after, live } = value.clone();
    PlannedValue { path, before, after, live }
}

/// What a person has approved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Approval {
    #[default]
    None,
    /// Any replacement or removal of a resource with data; applies with `approvalPolicy: OnReplacement`.
    Replacements,
    /// The plan with this id, and no other.
    Plan(String),
}

/// Whether template, tags and secrets are the ones that were last applied to the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    Applied,
    Different,
}

/// Whether an input that failed before may be applied again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Allowed,
    /// Not until the manifest changes.
    Refused,
}

/// The next operation on the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackStep {
    /// None: the desired template and parameters are applied.
    UpToDate,
    Create,
    /// Compare and update through a change set.
    Update,
    /// Wait for the operation in progress.
    Wait,
    /// Delete the remains of a failed creation, then create.
    DeleteThenCreate,
    /// `ContinueUpdateRollback`.
    ContinueRollback,
    /// `RollbackStack`.
    RollBack,
    /// A person has to act.
    Stalled(StackState),
    /// The state is unknown to this version.
    Skip(StackState),
}

impl StackStep {
    /// Whether the step starts an operation on the stack.
    pub fn begins_an_operation(&self) -> bool {
        use StackStep::{ContinueRollback, Create, DeleteThenCreate, RollBack, Update};
        matches!(self, Create | Update | DeleteThenCreate | ContinueRollback | RollBack)
    }
}

/// Decides the next step. If the desired input is already applied, CloudFormation is not called.
pub fn next_step(found: Option<&StackDescription>, input: Input, retry: Retry) -> StackStep {
    let Some(stack) = found else { return StackStep::Create };
    let failed_before = matches!(
        stack.state,
        StackState::RollbackComplete | StackState::RollbackFailed | StackState::UpdateRollbackComplete
    );
    match stack.state.next() {
        Next::Update if input == Input::Applied => StackStep::UpToDate,
        Next::Update | Next::DeleteThenCreate if failed_before && retry == Retry::Refused => {
            StackStep::Stalled(stack.state.clone())
        }
        Next::Create => StackStep::Create,
        Next::Update => StackStep::Update,
        Next::Wait => StackStep::Wait,
        Next::DeleteThenCreate => StackStep::DeleteThenCreate,
        Next::ContinueRollback => StackStep::ContinueRollback,
        Next::RollBack => StackStep::RollBack,
        Next::Stalled => StackStep::Stalled(stack.state.clone()),
        Next::Nothing => StackStep::Skip(stack.state.clone()),
    }
}

/// What prevents a system from reaching its spec until a person acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blockage {
    /// Reason of the conditions.
    pub reason: Reason,
    /// What blocks the system and what to do.
    pub message: String,
}

/// The stack operation, its resource changes, and the steps for direct resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Id of the plan. Equal plans have equal ids, and an approval names one.
    pub id: String,
    /// Operation on the stack.
    pub stack: StackStep,
    /// Resource changes of that operation.
    pub changes: Vec<ResourceChange>,
    /// Steps for the direct resources.
    pub parts: Vec<DirectStep>,
    /// What prevents the plan from leading to the spec.
    pub blockage: Option<Blockage>,
    /// What was checked of the resources of the stack.
    pub existence: Existence,
    /// What differs between the live resources and the template that was last applied.
    pub live: LiveValues,
}

/// Live resources compared with the template that was last applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LiveValues {
    /// The plan has no changes of a stack that exists.
    #[default]
    None,
    /// They were not compared, for this reason.
    NotCompared(String),
    /// Differences that the plan does not change. Those that it changes are among the values of its changes.
    Compared(Vec<LiveDrift>),
}

impl Plan {
    /// Creates a plan. `wanted` is the hash of template and parameters.
    pub fn new(wanted: &str, stack: StackStep, changes: Vec<ResourceChange>, parts: Vec<DirectStep>) -> Self {
        let mut digest = Sha256::new();
        digest.update(wanted);
        // A template and a change set list the same resources in different orders.
        let mut sorted: Vec<_> = changes.iter().collect();
        sorted.sort_unstable_by_key(|change| &change.logical_id);
        for change in sorted {
            digest.update(format!("{:?} {} {}\n", change.kind, change.logical_id, change.resource_type));
        }
        let id = hex(&digest.finalize()).chars().take(PLAN_ID_DIGITS).collect();
        Self { id, stack, changes, parts, blockage: None, existence: Existence::default(), live: LiveValues::None }
    }

    /// Whether the plan changes nothing. It may be blocked nevertheless.
    pub fn is_empty(&self) -> bool {
        self.stack == StackStep::UpToDate && self.parts.is_empty()
    }

    /// Whether `policy` requires an approval.
    pub fn needs_approval(&self, policy: ApprovalPolicy) -> bool {
        match policy {
            ApprovalPolicy::Auto => false,
            ApprovalPolicy::OnReplacement => self.changes.iter().any(ResourceChange::endangers_data),
            ApprovalPolicy::Always => !self.changes.is_empty(),
        }
    }

    /// Whether the plan may be executed with this approval. An approval of another plan does not count.
    pub fn may_run(&self, policy: ApprovalPolicy, approval: &Approval) -> bool {
        if !self.needs_approval(policy) {
            return true;
        }
        match approval {
            Approval::None => false,
            Approval::Replacements => policy == ApprovalPolicy::OnReplacement,
            Approval::Plan(id) => *id == self.id,
        }
    }

    /// Summary for the status.
    pub fn summary(&self) -> LastPlan {
        let ChangeCounts { add, change, replace, may_replace, remove } = ChangeCounts::from_changes(&self.changes);
        LastPlan {
            id: self.id.clone(),
            add,
            change,
            replace,
            may_replace,
            remove,
            fixed_cost: self.planned_cost(),
            changes: self.listed(),
            more: u32::try_from(self.changes.len().saturating_sub(LISTED_MAX)).unwrap_or(u32::MAX),
        }
    }

    /// What the plan adds to the charges of a month that do not depend on use.
    pub fn fixed_cost(&self) -> FixedCost {
        FixedCost::from_changes(&self.changes)
    }

    /// The same as a document; `None` if the plan changes no resource.
    pub fn planned_cost(&self) -> Option<PlannedCost> {
        (!self.changes.is_empty()).then(|| self.fixed_cost().document())
    }

    fn listed(&self) -> Vec<PlannedChange> {
        let mut sorted: Vec<_> = self.changes.iter().collect();
        sorted.sort_by_key(|change| (!change.endangers_data(), change.kind != ChangeKind::Replace, &change.logical_id));
        let listed = sorted.into_iter().take(LISTED_MAX);
        listed
            .map(|change| PlannedChange {
                logical_id: change.logical_id.clone(),
                resource_type: change.resource_type.clone(),
                action: change.kind.name().to_owned(),
                replacement: change.replacement.name().to_owned(),
                endangers_data: change.endangers_data(),
                values: change.values.iter().take(VALUES_MAX).map(planned_value).collect(),
                more_values: u32::try_from(change.values.len().saturating_sub(VALUES_MAX)).unwrap_or(u32::MAX),
            })
            .collect()
    }

    /// The plan in one line: the number of changes of each kind, the change of the fixed cost, and the data at risk.
    pub fn in_words(&self) -> String {
        let mut words = ChangeCounts::from_changes(&self.changes).to_string();
        let cost = self.fixed_cost();
        if !cost.is_unchanged() {
            words = format!("{words}; fixed cost: {cost}");
        }
        let danger = self.changes.iter().filter(|change| change.endangers_data());
        let how = |change: &ResourceChange| if change.may_replace() { "may be replaced" } else { change.kind.name() };
        let danger: Vec<String> = danger.map(|change| format!("{} ({})", change.logical_id, how(change))).collect();
        if danger.is_empty() { words } else { format!("{words}; data at risk: {}", danger.join(", ")) }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::Replacement;

    fn stack(state: &str) -> StackDescription {
        StackDescription {
            arn: "arn:aws:cloudformation:ap-northeast-2:000000000000:stack/s/1".to_owned(),
            state: StackState::parse(state),
            reason: None,
            outputs: std::collections::BTreeMap::new(),
            changed_at: None,
            tags: std::collections::BTreeMap::new(),
        }
    }

    fn change(kind: ChangeKind, resource_type: &str) -> ResourceChange {
        ResourceChange {
            kind,
            replacement: if kind == ChangeKind::Replace { Replacement::Certain } else { Replacement::None },
            ..ResourceChange::added("Thing", resource_type)
        }
    }

    #[test]
    fn equal_hashes_need_nothing_and_others_an_update() {
        assert_eq!(next_step(None, Input::Different, Retry::Allowed), StackStep::Create);
        let living = stack("UPDATE_ROLLBACK_COMPLETE");
        assert_eq!(next_step(Some(&living), Input::Applied, Retry::Refused), StackStep::UpToDate);
        assert_eq!(next_step(Some(&living), Input::Different, Retry::Allowed), StackStep::Update);
    }

    #[test]
    fn a_failed_input_is_tried_again_only_when_allowed() {
        for (state, step) in [
            ("ROLLBACK_COMPLETE", StackStep::DeleteThenCreate),
            ("ROLLBACK_FAILED", StackStep::DeleteThenCreate),
            ("UPDATE_ROLLBACK_COMPLETE", StackStep::Update),
        ] {
            let found = stack(state);
            assert_eq!(next_step(Some(&found), Input::Different, Retry::Allowed), step);
            let refused = next_step(Some(&found), Input::Different, Retry::Refused);
            assert_eq!(refused, StackStep::Stalled(StackState::parse(state)));
        }
    }

    #[test]
    fn a_dead_stack_is_not_up_to_date_even_with_the_right_hash() {
        let found = stack("ROLLBACK_COMPLETE");
        assert_eq!(next_step(Some(&found), Input::Applied, Retry::Allowed), StackStep::DeleteThenCreate);
    }

    #[test]
    fn only_danger_to_data_needs_approval_on_replacement() {
        let table = change(ChangeKind::Replace, "AWS::DynamoDB::Table");
        let queue = change(ChangeKind::Replace, "AWS::SQS::Queue");
        let bucket = change(ChangeKind::Remove, "AWS::S3::Bucket");
        let grown = change(ChangeKind::Change, "AWS::DynamoDB::Table");
        let plan = |changes| Plan::new("h", StackStep::Update, changes, Vec::new());
        let policy = ApprovalPolicy::OnReplacement;
        assert!(plan(vec![table.clone()]).needs_approval(policy));
        assert!(plan(vec![bucket]).needs_approval(policy));
        assert!(!plan(vec![queue.clone(), grown]).needs_approval(policy));
        assert!(plan(vec![queue]).needs_approval(ApprovalPolicy::Always));
        assert!(!plan(vec![table]).needs_approval(ApprovalPolicy::Auto));
    }

    #[test]
    fn a_plan_in_the_status_is_bounded_and_begins_with_the_danger_to_data() {
        let named = |id: String, mut change: ResourceChange| {
            change.logical_id = id;
            change
        };
        let mut changes: Vec<_> =
            (0..30).map(|n| named(format!("Queue{n:02}"), change(ChangeKind::Change, "AWS::SQS::Queue"))).collect();
        changes.push(named("Table".to_owned(), change(ChangeKind::Replace, "AWS::DynamoDB::Table")));
        let plan = Plan::new("h", StackStep::Update, changes, Vec::new());
        let shown = plan.summary();
        assert_eq!((shown.change, shown.replace, shown.changes.len(), shown.more), (30, 1, 20, 11));
        let values = |count: u32| {
            let one = Some("1".to_owned());
            let value = |n| PropertyValue { path: format!("P{n}"), before: None, after: one.clone(), live: None };
            (0..count).map(value).collect()
        };
        let many = ResourceChange { values: values(13), ..change(ChangeKind::Change, "AWS::SQS::Queue") };
        let listed = Plan::new("h", StackStep::Update, vec![many], Vec::new()).summary().changes;
        assert_eq!((listed[0].values.len(), listed[0].more_values), (10, 3));
        let first = &shown.changes[0];
        assert_eq!(
            (first.logical_id.as_str(), first.action.as_str(), first.replacement.as_str()),
            ("Table", "replace", "True")
        );
        assert!(first.endangers_data && !shown.changes[1].endangers_data);
        let words = "0 to add, 30 to change, 1 to replace, 0 to remove; data at risk: Table (replace)";
        assert_eq!(plan.in_words(), words);
    }

    #[test]
    fn an_approval_of_another_plan_is_none() {
        let plan = Plan::new("h", StackStep::Update, vec![change(ChangeKind::Remove, "AWS::S3::Bucket")], Vec::new());
        let other = Plan::new("i", StackStep::Update, plan.changes.clone(), Vec::new());
        let policy = ApprovalPolicy::OnReplacement;
        assert_ne!(plan.id, other.id);
        assert!(!plan.may_run(policy, &Approval::None));
        assert!(plan.may_run(policy, &Approval::Replacements));
        assert!(plan.may_run(policy, &Approval::Plan(plan.id.clone())));
        assert!(!plan.may_run(policy, &Approval::Plan(other.id)));
        assert!(!plan.may_run(ApprovalPolicy::Always, &Approval::Replacements));
    }
}
