//! From what happened to the status people and programs read. Pure, and the only place that writes conditions.
//!
//! Exactly one of `Ready`, `Reconciling` and `Stalled` is true at any time (kstatus); every condition carries the generation it
//! speaks of.

mod cluster;
mod connection;
mod exports;

use dispatch_api::annotations::{APPROVE, DRY_RUN, RECONCILE_REQUESTED_AT};
use dispatch_api::conditions::{ConditionStatus, ConditionType, Reason};
use dispatch_api::dispatch_system::{AttemptStatus, DispatchSystemStatus, ManagementPolicy, OutputsStatus};
use dispatch_api::validate::ValidatedSystem;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::cloud::stack::{StackDescription, StackState};
use crate::engine::outcome::Verdict;
use crate::engine::plan::indexes::IndexSteps;
use crate::engine::plan::{Approval, DirectFinding, DirectStep, Plan, StackStep};
use crate::sanitize::shown;

pub use cluster::{
    SystemPhase, WorkersFinding, WorkersState, deletion, keep_drift, operates, unfinished, waits_for_nothing,
    waits_for_operation_slot, with_workers,
};
pub use connection::{ConnectionFinding, ConnectionState, NOT_PUBLISHED, with_connection};
pub use exports::{ExportsFinding, ExportsState, with_exports};

/// What the status is made of.
pub struct Facts<'a> {
    /// The system.
    pub system: &'a ValidatedSystem,
    /// How it ended with the stack.
    pub verdict: &'a Verdict,
    /// The stack as last seen.
    pub stack: Option<&'a StackDescription>,
    /// Hash of the wanted input, when the stack has it.
    pub applied_hash: Option<String>,
    /// Hash of the wanted input, when it was handed to CloudFormation in this run.
    pub attempted_hash: Option<String>,
    /// Account AWS has answered for.
    pub account: &'a str,
    /// What a person has approved.
    pub approval: &'a Approval,
    /// How far the indexes of a table that was taken in without them are.
    pub index_steps: Option<&'a IndexSteps>,
    /// Resources that were left out of a rollback in this run.
    pub skipped: &'a [String],
    /// Names and addresses.
    pub outputs: Option<&'a OutputsStatus>,
    /// What is still wrong with the parts beside the stack.
    pub finding: &'a DirectFinding,
    /// What was to be done.
    pub plan: &'a Plan,
    /// The status before.
    pub previous: Option<&'a DispatchSystemStatus>,
    /// Now.
    pub now: Timestamp,
}

struct Said {
    phase: SystemPhase,
    reason: Reason,
    message: String,
}

/// Whether a condition is true.
pub fn is_true(status: &DispatchSystemStatus, kind: ConditionType) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == kind && condition.status == ConditionStatus::True)
}

/// Whether a system is stalled for this reason.
pub fn stalled_for(status: &DispatchSystemStatus, reason: Reason) -> bool {
    status
        .conditions
        .iter()
        .any(|c| c.type_ == ConditionType::Stalled && c.status == ConditionStatus::True && c.reason == reason)
}

/// Writes the status.
pub fn of(facts: &Facts<'_>) -> DispatchSystemStatus {
    let said = phase(facts);
    let stack_ready = stack_condition(facts);
    let (parts_status, parts_reason, parts_message) = parts_condition(facts);
    let drift: Vec<String> = facts.finding.reported.iter().flat_map(DirectStep::differences).collect();
    let corrected = facts.plan.parts.iter().any(DirectStep::corrects_drift);
    let on = |phase: SystemPhase| ConditionStatus::from(said.phase == phase);
    let told = [
        (ConditionType::Ready, on(SystemPhase::Ready), said.reason, said.message.clone()),
        (ConditionType::Reconciling, on(SystemPhase::Reconciling), said.reason, said.message.clone()),
        (ConditionType::Stalled, on(SystemPhase::Stalled), said.reason, said.message.clone()),
        (ConditionType::StackReady, stack_ready.0, stack_ready.1, stack_ready.2),
        (ConditionType::DirectResourcesReady, parts_status, parts_reason, parts_message),
        (ConditionType::CredentialsValid, ConditionStatus::True, Reason::Accepted, identity(facts)),
        match (drift.is_empty(), corrected) {
            (false, _) => (ConditionType::Drifted, ConditionStatus::True, Reason::DriftDetected, drift.join("; ")),
            (true, true) => {
                (ConditionType::Drifted, ConditionStatus::False, Reason::DriftCorrected, drift_corrected(facts.plan))
            }
            (true, false) => {
                (ConditionType::Drifted, ConditionStatus::False, Reason::InSync, "no drift was found".to_owned())
            }
        },
        pending(facts),
        if facts.system.spec.suspend {
            (ConditionType::Paused, ConditionStatus::True, Reason::Suspended, "spec.suspend is true".to_owned())
        } else {
            (ConditionType::Paused, ConditionStatus::False, Reason::Active, "spec.suspend is false".to_owned())
        },
    ];
    DispatchSystemStatus {
        observed_generation: facts.system.generation,
        conditions: told.into_iter().map(|told| write(facts, told)).collect(),
        operator_version: facts.previous.and_then(|previous| previous.operator_version.clone()),
        identity: facts.previous.and_then(|previous| previous.identity.clone()),
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
        // While an operation runs the stack tells no outputs, and those it had go on serving.
        outputs: facts
            .outputs
            .cloned()
            .or_else(|| facts.stack.and(facts.previous).and_then(|previous| previous.outputs.clone())),
        last_plan: Some(facts.plan.summary()),
        last_export: facts.previous.and_then(|previous| previous.last_export.clone()),
        connection_secret_name: facts.previous.and_then(|previous| previous.connection_secret_name.clone()),
        export_schedule: facts.previous.and_then(|previous| previous.export_schedule.clone()),
    }
}

/// Who the operator is at AWS.
fn identity(facts: &Facts<'_>) -> String {
    let own = "the operator's own identity";
    let role = facts.system.spec.aws.role_arn.as_ref().map_or_else(|| own.to_owned(), |role| format!("role {role}"));
    format!("account {}, {role}", facts.account)
}

/// What was left behind stays told for as long as the stack lives.
fn skipped(facts: &Facts<'_>) -> Vec<String> {
    let before = facts.previous.filter(|previous| previous.stack_arn == facts.stack.map(|stack| stack.arn.clone()));
    match (facts.skipped, before) {
        ([], Some(previous)) => previous.skipped_resources.clone(),
        (skipped, _) => skipped.to_vec(),
    }
}

/// What the system is doing, which AWS object it is about, and what comes next. Since when is the condition's own time; no time stands in
/// the words, so that a status which says the same is the same.
fn phase(facts: &Facts<'_>) -> Said {
    let mut said = finding(facts);
    let stack = &facts.system.names.stack;
    let next = match (&said.phase, facts.verdict) {
        (SystemPhase::Ready, _) => return said,
        (SystemPhase::Reconciling, _) if waits(said.reason) => return said,
        (SystemPhase::Reconciling, _) => "it goes on by itself".to_owned(),
        (SystemPhase::Stalled, Verdict::Failed { .. }) => {
            format!(
                "it waits for you: change the spec, or give the annotation {RECONCILE_REQUESTED_AT} a new value to try the same again"
            )
        }
        (SystemPhase::Stalled, _) => "it waits for you".to_owned(),
    };
    let about = if said.message.contains(stack.as_str()) { String::new() } else { format!(" (stack {stack})") };
    said.message = format!("{}{about}; {next}", said.message);
    said
}

/// Reasons of systems that are not ready and on which the operator does not work: their words say why and until when.
fn waits(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Suspended | Reason::NotCreated | Reason::ChangesPending | Reason::UnknownStackState | Reason::DryRun
    )
}

fn finding(facts: &Facts<'_>) -> Said {
    let say = |phase, reason, message: String| Said { phase, reason, message };
    let stack = &facts.system.names.stack;
    match facts.verdict {
        Verdict::Stalled(state) => say(SystemPhase::Stalled, stalled_reason(state), stalled_message(stack, state)),
        Verdict::Failed { state, cause } => say(SystemPhase::Stalled, failed_reason(state), cause.clone()),
        Verdict::Refused { reason, message } => say(SystemPhase::Stalled, *reason, message.clone()),
        Verdict::Blocked => say(SystemPhase::Stalled, Reason::ApprovalRequired, approval_message(facts)),
        Verdict::Planned => say(SystemPhase::Reconciling, Reason::DryRun, dry_run_message(facts)),
        Verdict::LeftAlone(state) => say(
            SystemPhase::Reconciling,
            Reason::UnknownStackState,
            format!(
                "stack {stack} is in state {}, which this version does not know; nothing is done until it is in another one",
                state.name()
            ),
        ),
        Verdict::Comparing => say(
            SystemPhase::Reconciling,
            Reason::ComputingChanges,
            format!("CloudFormation compares stack {stack} with the manifest"),
        ),
        Verdict::Waiting => say(
            SystemPhase::Reconciling,
            Reason::WaitingForOperationSlot,
            format!("as many other stacks are being changed as may be at once; stack {stack} follows when one is done"),
        ),
        Verdict::StillRunning(state) if facts.index_steps.is_some() => {
            let step = facts.index_steps.map(ToString::to_string).unwrap_or_default();
            let (table, state) = (&facts.system.names.table, state.name());
            let message =
                format!("{step} to table {table}: stack {stack} is in {state}; DynamoDB makes one index at a time");
            say(SystemPhase::Reconciling, Reason::AddingIndex, message)
        }
        Verdict::StillRunning(state) => {
            say(SystemPhase::Reconciling, Reason::StackBusy, format!("stack {stack} is in {}", state.name()))
        }
        _ if facts.system.spec.suspend => {
            let message =
                format!("stack {stack} stays as it is and the workers are stopped until spec.suspend is false");
            say(SystemPhase::Reconciling, Reason::Suspended, message)
        }
        Verdict::Untouched if facts.plan.stack == StackStep::Create => {
            let message = format!("stack {stack} does not exist yet, and {} makes none", only_looks(facts));
            say(SystemPhase::Reconciling, Reason::NotCreated, message)
        }
        Verdict::Untouched => {
            let message = format!("stack {stack} differs from the manifest, and {} changes nothing", only_looks(facts));
            say(SystemPhase::Reconciling, Reason::ChangesPending, message)
        }
        Verdict::Settled if !facts.finding.gone.is_empty() => {
            say(SystemPhase::Stalled, Reason::ResourceGone, facts.finding.gone.join("; "))
        }
        Verdict::Settled if !facts.finding.problems.is_empty() => {
            say(SystemPhase::Reconciling, Reason::DirectResourcesNotReady, facts.finding.problems.join("; "))
        }
        Verdict::Settled if facts.outputs.is_none() => say(
            SystemPhase::Reconciling,
            Reason::OutputsMissing,
            format!("stack {stack} does not show all its outputs"),
        ),
        Verdict::Settled => {
            say(SystemPhase::Ready, Reason::InSync, "the environment is as the manifest says".to_owned())
        }
    }
}

/// What it is that only looked.
fn only_looks(facts: &Facts<'_>) -> &'static str {
    match facts.system.spec.management_policy {
        ManagementPolicy::Observe => "managementPolicy: Observe",
        ManagementPolicy::Full => "this look",
    }
}

fn stalled_reason(state: &StackState) -> Reason {
    match state {
        StackState::DeleteFailed => Reason::DeleteFailed,
        StackState::RollbackComplete => Reason::CreateFailed,
        StackState::UpdateRollbackComplete => Reason::UpdateRolledBack,
        StackState::UpdateRollbackFailed => Reason::UpdateRollbackFailed,
        _ => Reason::StackStalled,
    }
}

fn failed_reason(state: &StackState) -> Reason {
    match state {
        StackState::RollbackComplete | StackState::RollbackFailed | StackState::CreateFailed => Reason::CreateFailed,
        StackState::ReviewInProgress => Reason::ChangeSetFailed,
        StackState::UpdateRollbackFailed => Reason::UpdateRollbackFailed,
        StackState::DeleteFailed => Reason::DeleteFailed,
        _ => Reason::UpdateRolledBack,
    }
}

fn stalled_message(stack: &str, state: &StackState) -> String {
    let what_now = match state {
        StackState::DeleteFailed => "see its events for the resource that could not be deleted, then delete it again",
        StackState::RollbackFailed => {
            "delete the stack, keeping the resources that cannot be deleted, then apply again"
        }
        StackState::RollbackComplete | StackState::UpdateRollbackComplete => {
            "the same input failed before; change the manifest"
        }
        _ => "see its events, and bring it to rest by hand",
    };
    format!("stack {stack} is in {}: {what_now}", state.name())
}

fn stack_condition(facts: &Facts<'_>) -> (ConditionStatus, Reason, String) {
    let Some(stack) = facts.stack else {
        return (ConditionStatus::False, Reason::NotCreated, "there is no stack".to_owned());
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
        return (ConditionStatus::Unknown, Reason::StackNotReady, "looked at once the stack is complete".to_owned());
    }
    let wrong: Vec<&str> = facts.finding.gone.iter().chain(&facts.finding.problems).map(String::as_str).collect();
    if wrong.is_empty() {
        (ConditionStatus::True, Reason::InSync, "the parts beside the stack are as wanted".to_owned())
    } else {
        (ConditionStatus::False, Reason::DirectResourcesNotReady, wrong.join("; "))
    }
}

/// Only a plan that was made resource by resource has an identity that an approval can name.
fn pending(facts: &Facts<'_>) -> (ConditionType, ConditionStatus, Reason, String) {
    let kind = ConditionType::PlanPending;
    match facts.verdict {
        Verdict::Blocked => (kind, ConditionStatus::True, Reason::ApprovalRequired, approval_message(facts)),
        Verdict::Planned => (kind, ConditionStatus::True, Reason::DryRun, dry_run_message(facts)),
        Verdict::Untouched => (
            kind,
            ConditionStatus::True,
            Reason::ChangesPending,
            "the manifest has changes that are not applied".to_owned(),
        ),
        _ => (kind, ConditionStatus::False, Reason::NothingPending, "no plan waits".to_owned()),
    }
}

/// What the plan is, that it waits, and how it is approved. An approval of an older plan is named, so that nobody wonders.
fn approval_message(facts: &Facts<'_>) -> String {
    let (id, words) = (&facts.plan.id, facts.plan.in_words());
    let stale = match facts.approval {
        Approval::Plan(other) if other != id => format!("the approval of plan {other} does not count for it; "),
        _ => String::new(),
    };
    format!(
        "plan {id} of stack {} waits for you: {words}; {stale}approve it with the annotation {APPROVE}={id} (--approve {id})",
        facts.system.names.stack
    )
}

fn dry_run_message(facts: &Facts<'_>) -> String {
    let (id, words) = (&facts.plan.id, facts.plan.in_words());
    let stack = &facts.system.names.stack;
    format!(
        "plan {id} of stack {stack} is not carried out: {words}; remove the annotation {DRY_RUN} to have it carried out"
    )
}

fn drift_corrected(plan: &Plan) -> String {
    plan.parts.iter().flat_map(DirectStep::differences).collect::<Vec<_>>().join("; ")
}

/// What every condition of one status shares.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// Generation the status speaks of.
    pub generation: i64,
    /// The status before.
    pub previous: Option<&'a DispatchSystemStatus>,
    /// Now.
    pub now: Timestamp,
}

fn write(facts: &Facts<'_>, told: (ConditionType, ConditionStatus, Reason, String)) -> Condition {
    let frame = Frame { generation: facts.system.generation, previous: facts.previous, now: facts.now };
    frame.write(told)
}

impl Frame<'_> {
    /// The time of a condition is that of its last change of status, so that a status that says the same is the same.
    fn write(&self, told: (ConditionType, ConditionStatus, Reason, String)) -> Condition {
        let (kind, status, reason, message) = told;
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
            all.push(Verdict::LeftAlone(state));
        }
        all
    }

    fn status_of(verdict: &Verdict, state: Option<&str>, suspend: bool) -> DispatchSystemStatus {
        let mut system = system();
        system.spec.suspend = suspend;
        system.generation = 7;
        let stack = state.map(stack_in);
        let plan = Plan::new("h", StackStep::Update, Vec::new(), Vec::new());
        of(&Facts {
            system: &system,
            verdict,
            stack: stack.as_ref(),
            applied_hash: None,
            attempted_hash: None,
            skipped: &[],
            approval: &Approval::None,
            account: "000000000000",
            index_steps: None,
            outputs: Some(&OutputsStatus::default()),
            finding: &DirectFinding::default(),
            plan: &plan,
            previous: None,
            now: Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn exactly_one_of_the_trio_is_true_whatever_happens() {
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
    fn what_is_not_ready_says_which_stack_and_what_comes_next() {
        for verdict in verdicts() {
            for suspend in [false, true] {
                let status = status_of(&verdict, Some("UPDATE_COMPLETE"), suspend);
                let ready = status.conditions.iter().find(|c| c.type_ == ConditionType::Ready).expect("Ready");
                if ready.status == ConditionStatus::True {
                    continue;
                }
                let text = &ready.message;
                assert!(text.contains("stack coactus-default-seoul"), "{verdict:?}: {text}");
                let next = [
                    "by itself",
                    "waits for you",
                    " until ",
                    "changes nothing",
                    "makes none",
                    "to have it carried out",
                ];
                assert!(next.iter().any(|words| text.contains(words)), "{verdict:?}: {text}");
            }
        }
    }

    #[test]
    fn messages_are_bounded_one_by_one_and_together_and_steer_no_terminal() {
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
    fn the_same_status_has_the_same_times() {
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
            account: "000000000000",
            index_steps: None,
            outputs: Some(&OutputsStatus::default()),
            finding: &DirectFinding::default(),
            plan: &plan,
            previous: Some(&first),
            now: Timestamp::from_second(1000).expect("in range"),
        };
        let since = |status: &DispatchSystemStatus, kind: ConditionType| {
            status.conditions.iter().find(|c| c.type_ == kind).map(|c| c.last_transition_time.clone())
        };
        let second = of(&facts);
        assert_eq!(since(&second, ConditionType::Ready), since(&first, ConditionType::Ready));
        facts.verdict = &Verdict::Untouched;
        assert_ne!(since(&of(&facts), ConditionType::Ready), since(&first, ConditionType::Ready));
    }
}
