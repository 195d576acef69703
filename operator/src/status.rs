//! From what happened to the status people and programs read. Pure, and the only place that writes conditions.
//!
//! Exactly one of `Ready`, `Reconciling` and `Stalled` is true at any time (kstatus); every condition carries the generation it
//! speaks of.

mod cluster;
mod connection;
mod exports;

use dispatch_api::annotations::{APPROVE, DRY_RUN, RECONCILE_REQUESTED_AT};
use dispatch_api::conditions as condition;
use dispatch_api::dispatch_system::{AttemptStatus, DispatchSystemStatus, ManagementPolicy, OutputsStatus};
use dispatch_api::validate::ValidatedSystem;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::apply::Verdict;
use crate::plan::indexes::IndexSteps;
use crate::plan::{Approval, PartFinding, PartStep, Plan, StackStep};
use crate::stack::{StackDescription, StackState};
use crate::text::shown;

pub use cluster::{
    Trio, WorkersFinding, WorkersState, deletion, keep_drift, operates, unfinished, waits_for_nothing, waits_for_turn,
    with_workers,
};
pub use connection::{ConnectionFinding, ConnectionState, NOT_PUBLISHED, with_connection};
pub use exports::{EXPORT_NOT_STARTED, ExportsFinding, ExportsState, with_exports};

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
    pub finding: &'a PartFinding,
    /// What was to be done.
    pub plan: &'a Plan,
    /// The status before.
    pub previous: Option<&'a DispatchSystemStatus>,
    /// Now.
    pub now: Timestamp,
}

/// The one-word summary, of which exactly one is true.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Summary {
    Ready,
    Reconciling,
    Stalled,
}

struct Said {
    summary: Summary,
    reason: &'static str,
    message: String,
}

/// Whether a condition is true.
pub fn is_true(status: &DispatchSystemStatus, kind: &str) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

/// Whether a system is stalled for this reason.
pub fn stalled_for(status: &DispatchSystemStatus, reason: &str) -> bool {
    status.conditions.iter().any(|c| c.type_ == condition::STALLED && c.status == "True" && c.reason == reason)
}

/// Writes the status.
pub fn of(facts: &Facts<'_>) -> DispatchSystemStatus {
    let said = summary(facts);
    let stack_ready = stack_condition(facts);
    let (parts_status, parts_reason, parts_message) = parts_condition(facts);
    let drift: Vec<String> = facts.finding.reported.iter().flat_map(PartStep::differences).collect();
    let corrected = facts.plan.parts.iter().any(PartStep::corrects_drift);
    let on = |summary: Summary| if said.summary == summary { "True" } else { "False" };
    let told = [
        (condition::READY, on(Summary::Ready), said.reason, said.message.clone()),
        (condition::RECONCILING, on(Summary::Reconciling), said.reason, said.message.clone()),
        (condition::STALLED, on(Summary::Stalled), said.reason, said.message.clone()),
        (condition::STACK_READY, stack_ready.0, stack_ready.1, stack_ready.2),
        (condition::DATA_PLANE_READY, parts_status, parts_reason, parts_message),
        (condition::CREDENTIALS_VALID, "True", "Accepted", identity(facts)),
        match (drift.is_empty(), corrected) {
            (false, _) => (condition::DRIFTED, "True", "DriftDetected", drift.join("; ")),
            (true, true) => (condition::DRIFTED, "False", "DriftCorrected", drift_corrected(facts.plan)),
            (true, false) => (condition::DRIFTED, "False", "InSync", "no drift was found".to_owned()),
        },
        pending(facts),
        if facts.system.spec.suspend {
            (condition::PAUSED, "True", "Suspended", "spec.suspend is true".to_owned())
        } else {
            (condition::PAUSED, "False", "Active", "spec.suspend is false".to_owned())
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
fn summary(facts: &Facts<'_>) -> Said {
    let mut said = finding(facts);
    let stack = &facts.system.names.stack;
    let next = match (&said.summary, facts.verdict) {
        (Summary::Ready, _) => return said,
        (Summary::Reconciling, _) if waits(said.reason) => return said,
        (Summary::Reconciling, _) => "it goes on by itself".to_owned(),
        (Summary::Stalled, Verdict::Failed { .. }) => {
            format!(
                "it waits for you: change the spec, or give the annotation {RECONCILE_REQUESTED_AT} a new value to try the same again"
            )
        }
        (Summary::Stalled, _) => "it waits for you".to_owned(),
    };
    let about = if said.message.contains(stack.as_str()) { String::new() } else { format!(" (stack {stack})") };
    said.message = format!("{}{about}; {next}", said.message);
    said
}

/// Reasons of systems that are not ready and on which the operator does not work: their words say why and until when.
fn waits(reason: &str) -> bool {
    matches!(reason, "Suspended" | "NotCreated" | "ChangesPending" | "UnknownStackState" | condition::DRY_RUN)
}

fn finding(facts: &Facts<'_>) -> Said {
    let say = |summary, reason, message: String| Said { summary, reason, message };
    let stack = &facts.system.names.stack;
    match facts.verdict {
        Verdict::Stalled(state) => say(Summary::Stalled, stalled_reason(state), stalled_message(stack, state)),
        Verdict::Failed { state, cause } => say(Summary::Stalled, failed_reason(state), cause.clone()),
        Verdict::Refused { reason, message } => say(Summary::Stalled, reason, message.clone()),
        Verdict::Blocked => say(Summary::Stalled, condition::APPROVAL_REQUIRED, approval_message(facts)),
        Verdict::Planned => say(Summary::Reconciling, condition::DRY_RUN, dry_run_message(facts)),
        Verdict::LeftAlone(state) => say(
            Summary::Reconciling,
            "UnknownStackState",
            format!(
                "stack {stack} is in state {}, which this version does not know; nothing is done until it is in another one",
                state.name()
            ),
        ),
        Verdict::Comparing => say(
            Summary::Reconciling,
            "ComputingChanges",
            format!("CloudFormation compares stack {stack} with the manifest"),
        ),
        Verdict::Waiting => say(
            Summary::Reconciling,
            condition::WAITING_FOR_TURN,
            format!("as many other stacks are being changed as may be at once; stack {stack} follows when one is done"),
        ),
        Verdict::StillRunning(state) if facts.index_steps.is_some() => {
            let step = facts.index_steps.map(ToString::to_string).unwrap_or_default();
            let (table, state) = (&facts.system.names.table, state.name());
            let message =
                format!("{step} to table {table}: stack {stack} is in {state}; DynamoDB makes one index at a time");
            say(Summary::Reconciling, "AddingIndex", message)
        }
        Verdict::StillRunning(state) => {
            say(Summary::Reconciling, "StackBusy", format!("stack {stack} is in {}", state.name()))
        }
        _ if facts.system.spec.suspend => {
            let message =
                format!("stack {stack} stays as it is and the workers are stopped until spec.suspend is false");
            say(Summary::Reconciling, "Suspended", message)
        }
        Verdict::Untouched if facts.plan.stack == StackStep::Create => {
            let message = format!("stack {stack} does not exist yet, and {} makes none", only_looks(facts));
            say(Summary::Reconciling, "NotCreated", message)
        }
        Verdict::Untouched => {
            let message = format!("stack {stack} differs from the manifest, and {} changes nothing", only_looks(facts));
            say(Summary::Reconciling, "ChangesPending", message)
        }
        Verdict::Settled if !facts.finding.gone.is_empty() => {
            say(Summary::Stalled, condition::RESOURCE_GONE, facts.finding.gone.join("; "))
        }
        Verdict::Settled if !facts.finding.problems.is_empty() => {
            say(Summary::Reconciling, "DataPlaneNotReady", facts.finding.problems.join("; "))
        }
        Verdict::Settled if facts.outputs.is_none() => {
            say(Summary::Reconciling, "OutputsMissing", format!("stack {stack} does not show all its outputs"))
        }
        Verdict::Settled => say(Summary::Ready, "InSync", "the environment is as the manifest says".to_owned()),
    }
}

/// What it is that only looked.
fn only_looks(facts: &Facts<'_>) -> &'static str {
    match facts.system.spec.management_policy {
        ManagementPolicy::Observe => "managementPolicy: Observe",
        ManagementPolicy::Full => "this look",
    }
}

fn stalled_reason(state: &StackState) -> &'static str {
    match state {
        StackState::DeleteFailed => "DeleteFailed",
        StackState::RollbackComplete => "CreateFailed",
        StackState::UpdateRollbackComplete => "UpdateRolledBack",
        StackState::UpdateRollbackFailed => "UpdateRollbackFailed",
        _ => "StackStalled",
    }
}

fn failed_reason(state: &StackState) -> &'static str {
    match state {
        StackState::RollbackComplete | StackState::RollbackFailed | StackState::CreateFailed => "CreateFailed",
        StackState::ReviewInProgress => "ChangeSetFailed",
        StackState::UpdateRollbackFailed => "UpdateRollbackFailed",
        StackState::DeleteFailed => "DeleteFailed",
        _ => "UpdateRolledBack",
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

fn stack_condition(facts: &Facts<'_>) -> (&'static str, &'static str, String) {
    let Some(stack) = facts.stack else {
        return ("False", "NotCreated", "there is no stack".to_owned());
    };
    if matches!(facts.verdict, Verdict::Refused { reason: condition::OWNED_BY_ANOTHER, .. }) {
        return ("False", condition::OWNED_BY_ANOTHER, stack.state.name().to_owned());
    }
    let name = stack.state.name().to_owned();
    match &stack.state {
        StackState::Unknown(_) => ("Unknown", "UnknownStackState", name),
        state if state.serves() => ("True", "StackComplete", name),
        _ => ("False", "StackNotComplete", name),
    }
}

fn parts_condition(facts: &Facts<'_>) -> (&'static str, &'static str, String) {
    if !facts.stack.is_some_and(|stack| stack.state.serves()) {
        return ("Unknown", "StackNotReady", "looked at once the stack is complete".to_owned());
    }
    let wrong: Vec<&str> = facts.finding.gone.iter().chain(&facts.finding.problems).map(String::as_str).collect();
    if wrong.is_empty() {
        ("True", "AsWanted", "the parts beside the stack are as wanted".to_owned())
    } else {
        ("False", "DataPlaneNotReady", wrong.join("; "))
    }
}

/// Only a plan that was made resource by resource has an identity that an approval can name.
fn pending(facts: &Facts<'_>) -> (&'static str, &'static str, &'static str, String) {
    let kind = condition::PLAN_PENDING;
    match facts.verdict {
        Verdict::Blocked => (kind, "True", condition::APPROVAL_REQUIRED, approval_message(facts)),
        Verdict::Planned => (kind, "True", condition::DRY_RUN, dry_run_message(facts)),
        Verdict::Untouched => {
            (kind, "True", "ChangesPending", "the manifest has changes that are not applied".to_owned())
        }
        _ => (kind, "False", "NothingPending", "no plan waits".to_owned()),
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
    plan.parts.iter().flat_map(PartStep::differences).collect::<Vec<_>>().join("; ")
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

fn write(facts: &Facts<'_>, told: (&str, &str, &str, String)) -> Condition {
    let frame = Frame { generation: facts.system.generation, previous: facts.previous, now: facts.now };
    frame.write(told)
}

impl Frame<'_> {
    /// The time of a condition is that of its last change of status, so that a status that says the same is the same.
    fn write(&self, told: (&str, &str, &str, String)) -> Condition {
        let (kind, status, reason, message) = told;
        let before = self.previous.and_then(|previous| previous.conditions.iter().find(|c| c.type_ == kind));
        let since = before.filter(|c| c.status == status).map_or(Time(self.now), |c| c.last_transition_time.clone());
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
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
            finding: &PartFinding::default(),
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
                    let trio = [condition::READY, condition::RECONCILING, condition::STALLED];
                    let count = trio.into_iter().filter(|kind| is_true(&status, kind)).count();
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
                let ready = status.conditions.iter().find(|c| c.type_ == condition::READY).expect("Ready");
                if ready.status == "True" {
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
        assert!(status.conditions.iter().all(|c| c.message.len() <= crate::text::MESSAGE_MAX));
        assert!(status.conditions.iter().map(|c| c.message.len()).sum::<usize>() <= 32 * 1024);
        assert!(status.conditions.iter().all(|c| !c.message.contains('\u{1b}')));
    }

    #[test]
    fn a_suspended_system_is_never_ready() {
        let status = status_of(&Verdict::Settled, Some("CREATE_COMPLETE"), true);
        assert!(!is_true(&status, condition::READY) && is_true(&status, condition::PAUSED));
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
            finding: &PartFinding::default(),
            plan: &plan,
            previous: Some(&first),
            now: Timestamp::from_second(1000).expect("in range"),
        };
        let since = |status: &DispatchSystemStatus, kind: &str| {
            status.conditions.iter().find(|c| c.type_ == kind).map(|c| c.last_transition_time.clone())
        };
        let second = of(&facts);
        assert_eq!(since(&second, condition::READY), since(&first, condition::READY));
        facts.verdict = &Verdict::Untouched;
        assert_ne!(since(&of(&facts), condition::READY), since(&first, condition::READY));
    }
}
