//! Builds a system's status from what a run found and did. Pure, and the only place that writes conditions.
//!
//! Exactly one of `Ready`, `Reconciling` and `Stalled` is true at any time (kstatus). Every condition carries the
//! generation it describes.

pub mod autoscaling;
mod cluster;
mod connection;
mod drift;
mod exports;
pub mod pods;
mod push;
pub mod routes;

use dispatch_api::annotations::{APPROVALS, APPROVE, DRY_RUN, RECONCILE_REQUESTED_AT};
use dispatch_api::conditions::{ConditionStatus, ConditionType, Reason};
use dispatch_api::dispatch_system::{AttemptStatus, DispatchSystemStatus, LastPlan, ManagementPolicy, OutputsStatus};
use dispatch_api::validate::ValidatedSystem;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::cloud::stack::{StackDescription, StackState};
use crate::engine::outcome::Verdict;
use crate::engine::plan::indexes::IndexSteps;
use crate::engine::plan::{Approval, Blockage, DirectFinding, DirectResources, Plan, StackStep};
use crate::engine::settings::Approver;
use crate::sanitize::shown;

pub use cluster::{
    Finding, RoutesFinding, SEE_READY, SystemPhase, WorkersFinding, WorkersState, condition, deletion, keep_drift,
    operates, unfinished, waits_for_nothing, waits_for_operation_slot, with_spec_allowed, with_workers,
};
pub use connection::{ConnectionFinding, ConnectionState, NOT_PUBLISHED, with_connection};
pub use exports::{ExportsFinding, ExportsState, with_exports};

/// Input of [`from_facts`].
pub struct Facts<'a> {
    pub system: &'a ValidatedSystem,
    /// How the run ended for the stack.
    pub verdict: &'a Verdict,
    /// The stack as last described.
    pub stack: Option<&'a StackDescription>,
    /// Hash of the desired input, if the stack has it.
    pub applied_hash: Option<String>,
    /// Hash of the desired input, if this run submitted it to CloudFormation.
    pub attempted_hash: Option<String>,
    /// AWS account of the stack.
    pub account: &'a str,
    pub approval: &'a Approval,
    /// Who approves the plan.
    pub approver: Approver,
    /// Progress of the indexes that an imported table lacks.
    pub index_steps: Option<&'a IndexSteps>,
    /// Logical ids that this run skipped in a rollback.
    pub skipped: &'a [String],
    pub outputs: Option<&'a OutputsStatus>,
    /// The resources managed outside CloudFormation.
    pub parts: &'a DirectResources,
    /// Remaining problems and drift of the resources managed outside CloudFormation.
    pub finding: &'a DirectFinding,
    /// What this run planned.
    pub plan: &'a Plan,
    /// Status before this run.
    pub previous: Option<&'a DispatchSystemStatus>,
    pub now: Timestamp,
}

struct Summary {
    phase: SystemPhase,
    reason: Reason,
    message: String,
}

/// Whether a condition is true.
pub fn is_true(status: &DispatchSystemStatus, kind: ConditionType) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == kind && condition.status == ConditionStatus::True)
}

/// Whether a status has the condition, whatever its value.
pub fn reports(status: &DispatchSystemStatus, kind: ConditionType) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == kind)
}

/// Whether a system is stalled for this reason.
pub fn stalled_for(status: &DispatchSystemStatus, reason: Reason) -> bool {
    status
        .conditions
        .iter()
        .any(|c| c.type_ == ConditionType::Stalled && c.status == ConditionStatus::True && c.reason == reason)
}

/// Whether a role of a system has no ready Pod although its workers were started.
pub fn is_unavailable(status: &DispatchSystemStatus) -> bool {
    status.conditions.iter().any(|c| c.type_ == ConditionType::Available && c.reason == Reason::RoleUnavailable)
}

/// The status of a system after a run.
pub fn from_facts(facts: &Facts<'_>) -> DispatchSystemStatus {
    let said = phase(facts);
    let stack_ready = stack_condition(facts);
    let (parts_status, parts_reason, parts_message) = parts_condition(facts);
    let [ready, reconciling, stalled] = cluster::phase_conditions(said.phase, said.reason, &said.message);
    let conditions = [
        ready,
        reconciling,
        stalled,
        (ConditionType::StackReady, stack_ready.0, stack_ready.1, stack_ready.2),
        (ConditionType::DirectResourcesReady, parts_status, parts_reason, parts_message),
        (ConditionType::CredentialsValid, ConditionStatus::True, Reason::Accepted, identity(facts)),
        drift::condition(facts),
        pending(facts),
        if facts.system.spec.suspend {
            (ConditionType::Paused, ConditionStatus::True, Reason::Suspended, "spec.suspend is true".to_owned())
        } else {
            (ConditionType::Paused, ConditionStatus::False, Reason::Active, "spec.suspend is false".to_owned())
        },
    ];
    DispatchSystemStatus {
        observed_generation: facts.system.generation,
        conditions: conditions
            .into_iter()
            .chain(push::condition(facts))
            .map(|condition| write(facts, condition))
            .collect(),
        operator_version: facts.previous.and_then(|previous| previous.operator_version.clone()),
        identity: facts.previous.and_then(|previous| previous.identity.clone()),
        access: facts.previous.and_then(|previous| previous.access.clone()),
        stack_arn: facts.stack.map(|stack| stack.arn.clone()),
        stack_status: facts.stack.map(|stack| stack.state.name().to_owned()),
        applied_hash: facts.applied_hash.clone(),
        last_attempt: match &facts.attempted_hash {
            Some(hash) => Some(AttemptStatus { hash: hash.clone(), generation: facts.system.generation }),
            None => facts.previous.and_then(|previous| previous.last_attempt.clone()),
        },
        deletion_policy: Some(facts.system.deletion_policy),
        deletion_policy_from: Some(facts.system.deletion_policy_from.name().to_owned()),
        skipped_resources: skipped(facts),
        failures_in_a_row: None,
        last_handled_reconcile_at: facts.previous.and_then(|previous| previous.last_handled_reconcile_at.clone()),
        // A stack reports no outputs during an operation; the previous ones stay valid.
        outputs: facts
            .outputs
            .cloned()
            .or_else(|| facts.stack.and(facts.previous).and_then(|previous| previous.outputs.clone())),
        last_plan: last_plan(facts),
        last_export: facts.previous.and_then(|previous| previous.last_export.clone()),
        connection_secret_name: facts.previous.and_then(|previous| previous.connection_secret_name.clone()),
        export_schedule: facts.previous.and_then(|previous| previous.export_schedule.clone()),
    }
}

/// The plan while it waits, is only shown, or is carried out. A later run that finds the operation still in progress
/// has no changes of its own.
fn last_plan(facts: &Facts<'_>) -> Option<LastPlan> {
    let now = || facts.plan.summary();
    match facts.verdict {
        Verdict::StillRunning(_) if facts.plan.changes.is_empty() => {
            facts.previous.and_then(|previous| previous.last_plan.clone())
        }
        Verdict::Blocked | Verdict::Planned | Verdict::StillRunning(_) => Some(now()),
        _ => None,
    }
}

/// The AWS identity of the operator for this system.
fn identity(facts: &Facts<'_>) -> String {
    let own = "the operator's own identity";
    let aws = &facts.system.spec.aws;
    let id = aws.external_id.as_ref().map(|id| format!(" with external ID {id}")).unwrap_or_default();
    let role = aws.role_arn.as_ref().map_or_else(|| own.to_owned(), |role| format!("role {role}{id}"));
    format!("account {}, {role}", facts.account)
}

/// Skipped resources stay in the status for as long as the stack exists.
fn skipped(facts: &Facts<'_>) -> Vec<String> {
    let before = facts.previous.filter(|previous| previous.stack_arn == facts.stack.map(|stack| stack.arn.clone()));
    match (facts.skipped, before) {
        ([], Some(previous)) => previous.skipped_resources.clone(),
        (skipped, _) => skipped.to_vec(),
    }
}

/// What the system is doing, which stack it concerns, and what happens next. Messages contain no time (the condition
/// has its own), so that an unchanged status stays equal.
fn phase(facts: &Facts<'_>) -> Summary {
    let mut said = finding(facts);
    let stack = &facts.system.names.stack;
    let next = match (&said.phase, facts.verdict) {
        // The messages of these verdicts already name the stack and the next step.
        (SystemPhase::Ready, _) | (_, Verdict::Waiting | Verdict::Blocked | Verdict::Stalled(_)) => return said,
        (SystemPhase::Reconciling, _) if waits(said.reason) => return said,
        (SystemPhase::Reconciling, Verdict::Comparing | Verdict::StillRunning(_)) => {
            "; the operator will check again".to_owned()
        }
        (SystemPhase::Reconciling, _) => "; the operator will retry".to_owned(),
        (SystemPhase::Stalled, Verdict::Failed { .. }) => {
            format!(
                "; action required: change the spec, or set the annotation {RECONCILE_REQUESTED_AT} to a new value to \
                 retry"
            )
        }
        (SystemPhase::Stalled, _) if said.message.contains("action required") => String::new(),
        (SystemPhase::Stalled, _) => "; action required".to_owned(),
    };
    let about = if said.message.contains(stack.as_str()) { String::new() } else { format!(" (stack {stack})") };
    said.message = format!("{}{about}{next}", said.message);
    said
}

/// Reasons for which the operator neither works nor retries; the message says why and what ends it.
fn waits(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Suspended | Reason::NotCreated | Reason::ChangesPending | Reason::UnknownStackState | Reason::DryRun
    )
}

fn finding(facts: &Facts<'_>) -> Summary {
    let say = |phase, reason, message: String| Summary { phase, reason, message };
    let stack = &facts.system.names.stack;
    let suspend = facts.system.spec.suspend;
    if let Some(Blockage { reason, message }) = Blockage::find(stack, facts.verdict, &facts.finding.gone) {
        match reason {
            Reason::UnknownStackState => return say(SystemPhase::Reconciling, reason, message),
            // A suspended system is not expected to serve.
            Reason::ResourceGone if suspend => {}
            _ => return say(SystemPhase::Stalled, reason, message),
        }
    }
    match facts.verdict {
        Verdict::Blocked => say(SystemPhase::Stalled, Reason::ApprovalRequired, approval_message(facts)),
        Verdict::Planned => say(SystemPhase::Reconciling, Reason::DryRun, dry_run_message(facts)),
        Verdict::Comparing => say(
            SystemPhase::Reconciling,
            Reason::ComputingChanges,
            format!("CloudFormation is computing the changes of stack {stack}"),
        ),
        Verdict::Waiting => say(
            SystemPhase::Reconciling,
            Reason::WaitingForOperationSlot,
            format!("waiting: the limit of concurrent stack operations is reached; stack {stack} is queued"),
        ),
        Verdict::StillRunning(state) if facts.index_steps.is_some() => {
            let step = facts.index_steps.map(ToString::to_string).unwrap_or_default();
            let (table, state) = (&facts.system.names.table, state.name());
            let message =
                format!("{step} to table {table}: stack {stack} is in {state}; DynamoDB creates one index at a time");
            say(SystemPhase::Reconciling, Reason::AddingIndex, message)
        }
        Verdict::StillRunning(state) => {
            say(SystemPhase::Reconciling, Reason::StackBusy, format!("stack {stack} is in {}", state.name()))
        }
        _ if suspend => {
            let message =
                format!("suspended: stack {stack} is not changed and workers are stopped until spec.suspend is false");
            say(SystemPhase::Reconciling, Reason::Suspended, message)
        }
        Verdict::Untouched if facts.plan.stack == StackStep::Create => {
            let message = format!("stack {stack} does not exist; {}", next_apply(facts, "creates it"));
            say(SystemPhase::Reconciling, Reason::NotCreated, message)
        }
        Verdict::Untouched => {
            let message = format!("stack {stack} differs from the spec; {}", next_apply(facts, "updates it"));
            say(SystemPhase::Reconciling, Reason::ChangesPending, message)
        }
        Verdict::Settled if !facts.finding.problems.is_empty() => {
            say(SystemPhase::Reconciling, Reason::DirectResourcesNotReady, facts.finding.problems.join("; "))
        }
        Verdict::Settled if facts.outputs.is_none() => say(
            SystemPhase::Reconciling,
            Reason::OutputsMissing,
            format!("stack {stack} does not report all its outputs yet"),
        ),
        Verdict::Settled => say(SystemPhase::Ready, Reason::InSync, in_sync(facts)),
        // Each of them is a blockage, see above.
        Verdict::Stalled(_) | Verdict::Failed { .. } | Verdict::Refused { .. } | Verdict::Skipped(_) => {
            say(SystemPhase::Stalled, Reason::StackStalled, format!("stack {stack} cannot reach the spec"))
        }
    }
}

/// What happens next about a difference that this run does not resolve. `verb` is what an apply does about it.
fn next_apply(facts: &Facts<'_>, verb: &str) -> String {
    match facts.system.spec.management_policy {
        ManagementPolicy::Observe => "nothing is changed because spec.managementPolicy is Observe".to_owned(),
        ManagementPolicy::Full => format!("the next apply {verb}"),
    }
}

/// What every run inspects, so that the message is the same in all of them.
fn in_sync(facts: &Facts<'_>) -> String {
    let exist = if facts.system.spec.cache.external.is_some() { "the table exists" } else { "table and cache exist" };
    format!("stack {} has the template of the spec; {exist}", facts.system.names.stack)
}

fn stack_condition(facts: &Facts<'_>) -> (ConditionStatus, Reason, String) {
    let Some(stack) = facts.stack else {
        return (ConditionStatus::False, Reason::NotCreated, "the stack does not exist".to_owned());
    };
    if matches!(facts.verdict, Verdict::Refused { reason: Reason::OwnedByAnother, .. }) {
        return (ConditionStatus::False, Reason::OwnedByAnother, stack.state.name().to_owned());
    }
    let name = stack.state.name().to_owned();
    match &stack.state {
        StackState::Unknown(_) => (ConditionStatus::Unknown, Reason::UnknownStackState, name),
        state if state.serves() => (ConditionStatus::True, Reason::StackComplete, name),
        _ => (ConditionStatus::False, Reason::StackNotComplete, name),
    }
}

fn parts_condition(facts: &Facts<'_>) -> (ConditionStatus, Reason, String) {
    if !facts.stack.is_some_and(|stack| stack.state.serves()) {
        let message = "resources managed outside CloudFormation are inspected once the stack is complete";
        return (ConditionStatus::Unknown, Reason::StackNotReady, message.to_owned());
    }
    let wrong: Vec<&str> = facts.finding.gone.iter().chain(&facts.finding.problems).map(String::as_str).collect();
    if wrong.is_empty() {
        let message = "the table exists, and cache and platform application are as the spec says";
        (ConditionStatus::True, Reason::InSync, message.to_owned())
    } else {
        (ConditionStatus::False, Reason::DirectResourcesNotReady, wrong.join("; "))
    }
}

/// Only a plan that lists its resources has an id that an approval can name.
fn pending(facts: &Facts<'_>) -> (ConditionType, ConditionStatus, Reason, String) {
    let kind = ConditionType::PlanPending;
    match facts.verdict {
        Verdict::Blocked => (kind, ConditionStatus::True, Reason::ApprovalRequired, approval_message(facts)),
        Verdict::Planned => (kind, ConditionStatus::True, Reason::DryRun, dry_run_message(facts)),
        Verdict::Untouched => (
            kind,
            ConditionStatus::True,
            Reason::ChangesPending,
            "the spec has changes that are not applied".to_owned(),
        ),
        _ => (kind, ConditionStatus::False, Reason::NothingPending, "no plan is pending".to_owned()),
    }
}

/// The plan and how to approve it. Names an approval of another plan, which has no effect.
fn approval_message(facts: &Facts<'_>) -> String {
    let (id, words) = (&facts.plan.id, facts.plan.in_words());
    let stale = match facts.approval {
        Approval::Plan(other) if other != id => format!("the approval of plan {other} does not apply to it; "),
        _ => String::new(),
    };
    let ValidatedSystem { namespace, name, names, .. } = facts.system;
    let how = match facts.approver {
        Approver::Author => format!("approve it with the annotation {APPROVE}={id} (--approve {id})"),
        Approver::Second => {
            format!("an approver sets the annotation {APPROVALS}: {name}={id} on namespace {namespace}")
        }
    };
    format!("plan {id} of stack {} requires approval: {words}; {stale}action required: {how}", names.stack)
}

fn dry_run_message(facts: &Facts<'_>) -> String {
    let (id, words) = (&facts.plan.id, facts.plan.in_words());
    let stack = &facts.system.names.stack;
    format!("dry run: plan {id} of stack {stack} is not applied: {words}; remove the annotation {DRY_RUN} to apply it")
}

/// What all conditions of one status share.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// Generation the status describes.
    pub generation: i64,
    /// Status before this run.
    pub previous: Option<&'a DispatchSystemStatus>,
    pub now: Timestamp,
}

fn write(facts: &Facts<'_>, condition: (ConditionType, ConditionStatus, Reason, String)) -> Condition {
    let frame = Frame { generation: facts.system.generation, previous: facts.previous, now: facts.now };
    frame.write(condition)
}

impl Frame<'_> {
    /// A condition keeps its transition time while its status stays the same, so that an unchanged status stays equal.
    fn write(&self, condition: (ConditionType, ConditionStatus, Reason, String)) -> Condition {
        let (kind, status, reason, message) = condition;
        let before = self.previous.and_then(|previous| previous.conditions.iter().find(|c| c.type_ == kind));
        let since =
            before.filter(|c| c.status == status.as_str()).map_or(Time(self.now), |c| c.last_transition_time.clone());
        Condition {
            type_: kind.to_string(),
            status: status.to_string(),
            reason: reason.to_string(),
            message: shown(&message),
            observed_generation: Some(self.generation),
            last_transition_time: since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{stack_in, system};

    fn verdicts() -> Vec<Verdict> {
        let states = aws_sdk_cloudformation::types::StackStatus::values();
        let states: Vec<StackState> = states.iter().map(|name| StackState::parse(name)).collect();
        let mut all = vec![
            Verdict::Settled,
            Verdict::Blocked,
            Verdict::Planned,
            Verdict::Untouched,
            Verdict::Comparing,
            Verdict::Waiting,
        ];
        for state in states {
            all.push(Verdict::Failed { state: state.clone(), cause: "Table CREATE_FAILED: no".to_owned() });
            all.push(Verdict::StillRunning(state.clone()));
            all.push(Verdict::Stalled(state.clone()));
            all.push(Verdict::Skipped(state));
        }
        all
    }

    fn status_of(verdict: &Verdict, state: Option<&str>, suspend: bool) -> DispatchSystemStatus {
        let mut system = system();
        system.spec.suspend = suspend;
        system.generation = 7;
        let stack = state.map(stack_in);
        let plan = Plan::new("h", StackStep::Update, Vec::new(), Vec::new());
        from_facts(&Facts {
            system: &system,
            verdict,
            stack: stack.as_ref(),
            applied_hash: None,
            attempted_hash: None,
            skipped: &[],
            approval: &Approval::None,
            approver: Approver::Author,
            account: "000000000000",
            index_steps: None,
            outputs: Some(&OutputsStatus::default()),
            parts: &DirectResources::default(),
            finding: &DirectFinding::default(),
            plan: &plan,
            previous: None,
            now: Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn exactly_one_phase_condition_is_true_in_every_state() {
        for verdict in verdicts() {
            for state in [None].into_iter().chain(aws_sdk_cloudformation::types::StackStatus::values().iter().map(Some))
            {
                for suspend in [false, true] {
                    let status = status_of(&verdict, state.copied(), suspend);
                    let phase = [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled];
                    let count = phase.into_iter().filter(|kind| is_true(&status, *kind)).count();
                    assert_eq!(count, 1, "{verdict:?} {state:?} {suspend}");
                    assert!(status.conditions.iter().all(|c| c.observed_generation == Some(7)));
                    assert_eq!(status.observed_generation, 7);
                }
            }
        }
    }

    #[test]
    fn every_message_that_is_not_ready_names_the_stack_and_the_next_step() {
        for verdict in verdicts() {
            for suspend in [false, true] {
                let status = status_of(&verdict, Some("UPDATE_COMPLETE"), suspend);
                let ready = status.conditions.iter().find(|c| c.type_ == ConditionType::Ready).expect("Ready");
                if ready.status == ConditionStatus::True {
                    continue;
                }
                let text = &ready.message;
                assert!(text.contains("stack coactus-default-seoul"), "{verdict:?}: {text}");
                let next =
                    ["the operator will", "action required", " until ", "is queued", "the next apply", "to apply it"];
                assert!(next.iter().any(|words| text.contains(words)), "{verdict:?}: {text}");
            }
        }
    }

    #[test]
    fn messages_are_bounded_and_contain_no_control_characters() {
        let cause = format!("Table CREATE_FAILED: \u{1b}[2J{}", "long ".repeat(100_000));
        let verdict = Verdict::Failed { state: StackState::RollbackComplete, cause };
        let status = status_of(&verdict, Some("ROLLBACK_COMPLETE"), false);
        assert!(status.conditions.iter().all(|c| c.message.len() <= crate::sanitize::MESSAGE_MAX));
        assert!(status.conditions.iter().map(|c| c.message.len()).sum::<usize>() <= 32 * 1024);
        assert!(status.conditions.iter().all(|c| !c.message.contains('\u{1b}')));
    }

    #[test]
    fn a_suspended_system_is_never_ready() {
        let status = status_of(&Verdict::Settled, Some("CREATE_COMPLETE"), true);
        assert!(!is_true(&status, ConditionType::Ready) && is_true(&status, ConditionType::Paused));
    }

    #[test]
    fn an_unchanged_condition_keeps_its_transition_time() {
        let first = status_of(&Verdict::Settled, Some("CREATE_COMPLETE"), false);
        let system = system();
        let plan = Plan::new("h", StackStep::Update, Vec::new(), Vec::new());
        let mut facts = Facts {
            system: &system,
            verdict: &Verdict::Settled,
            stack: None,
            applied_hash: None,
            attempted_hash: None,
            skipped: &[],
            approval: &Approval::None,
            approver: Approver::Author,
            account: "000000000000",
            index_steps: None,
            outputs: Some(&OutputsStatus::default()),
            parts: &DirectResources::default(),
            finding: &DirectFinding::default(),
            plan: &plan,
            previous: Some(&first),
            now: Timestamp::from_second(1000).expect("in range"),
        };
        let since = |status: &DispatchSystemStatus, kind: ConditionType| {
            status.conditions.iter().find(|c| c.type_ == kind).map(|c| c.last_transition_time.clone())
        };
        let second = from_facts(&facts);
        assert_eq!(since(&second, ConditionType::Ready), since(&first, ConditionType::Ready));
        facts.verdict = &Verdict::Untouched;
        assert_ne!(since(&from_facts(&facts), ConditionType::Ready), since(&first, ConditionType::Ready));
    }
}
