//! What a cluster adds to a status: workers, objects that cannot be read or validated, and deletion. Pure.

use dispatch_api::conditions::{ConditionStatus, ConditionType, Reason};
use dispatch_api::dispatch_system::DispatchSystemStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::Value;

use crate::engine::status::{Frame, is_true};

/// Message of a condition whose details are those of `Ready`.
pub const SEE_READY: &str = "see Ready";
/// Message of a condition whose details are those of `WorkersReady`.
const SEE_WORKERS: &str = "see WorkersReady";

/// The one of `Ready`, `Reconciling` and `Stalled` that is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemPhase {
    /// The system serves and matches its spec.
    Ready,
    /// The operator is working on it, or will retry.
    Reconciling,
    /// The operator cannot continue until something changes.
    Stalled,
}

/// State of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkersState {
    /// Every role has its replicas.
    Serving,
    RollingOut,
    /// A Deployment exceeded its progress deadline.
    Failing,
    /// The stack is not complete yet.
    NotStarted,
    /// `spec.suspend` has stopped them.
    Suspended,
    /// `spec.managementPolicy` is `Observe`.
    Unmanaged,
    /// An object of a worker's name belongs to another owner.
    NameTaken,
}

/// Status, reason and message of a condition.
pub type Finding = (ConditionStatus, Reason, String);

/// The condition of a kind in the status of an object of Kubernetes.
pub fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// The objects that lead to the API, as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutesFinding {
    /// Not read: the condition stays.
    Unseen,
    /// The spec asks for none.
    Absent,
    /// The condition `RoutesAccepted`.
    Found(Finding),
}

impl RoutesFinding {
    /// Whether a proxy may still accept them, which is not watched.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Found((status, _, _)) if *status != ConditionStatus::True)
    }
}

/// The workers as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkersFinding {
    pub state: WorkersState,
    /// Message of the condition.
    pub message: String,
    /// Why the workers are not ready, where a Deployment or a Pod shows it.
    pub cause: Option<Reason>,
    /// The condition `Available`.
    pub available: Finding,
    /// The condition `WorkersSpread`; `None` where it does not apply or the Pods could not be read.
    pub spread: Option<Finding>,
    pub routes: RoutesFinding,
    /// The condition `AutoscalingActive`; `None` without autoscalers, or where they were not read.
    pub autoscaling: Option<Finding>,
}

impl WorkersFinding {
    /// Workers without Pods.
    pub fn without_pods(state: WorkersState, message: String) -> Self {
        let of_state = of_state(state);
        Self {
            state,
            available: (of_state.0, of_state.1, SEE_WORKERS.to_owned()),
            message,
            cause: None,
            spread: None,
            routes: RoutesFinding::Unseen,
            autoscaling: None,
        }
    }

    fn condition(&self) -> (ConditionStatus, Reason) {
        let (status, reason) = of_state(self.state);
        match (status, self.state, self.cause) {
            (ConditionStatus::False, WorkersState::RollingOut | WorkersState::Failing, Some(cause)) => (status, cause),
            _ => (status, reason),
        }
    }
}

fn of_state(state: WorkersState) -> (ConditionStatus, Reason) {
    match state {
        WorkersState::Serving => (ConditionStatus::True, Reason::Serving),
        WorkersState::RollingOut => (ConditionStatus::False, Reason::RollingOut),
        WorkersState::Failing => (ConditionStatus::False, Reason::WorkersFailing),
        WorkersState::NotStarted => (ConditionStatus::False, Reason::WaitingForStack),
        WorkersState::Suspended => (ConditionStatus::False, Reason::Suspended),
        WorkersState::Unmanaged => (ConditionStatus::Unknown, Reason::ObserveOnly),
        WorkersState::NameTaken => (ConditionStatus::False, Reason::NameTaken),
    }
}

/// Adds the workers to a status that describes AWS only. A system without workers serves no requests, so `Ready` needs
/// both.
pub fn with_workers(
    mut status: DispatchSystemStatus,
    workers: &WorkersFinding,
    frame: &Frame<'_>,
) -> DispatchSystemStatus {
    let (on, reason) = workers.condition();
    let phase = match workers.state {
        WorkersState::Failing | WorkersState::NameTaken => Some(SystemPhase::Stalled),
        WorkersState::RollingOut | WorkersState::NotStarted => Some(SystemPhase::Reconciling),
        WorkersState::Serving | WorkersState::Suspended | WorkersState::Unmanaged => None,
    };
    let phase = phase.filter(|_| is_true(&status, ConditionType::Ready));
    let message = if phase.is_some() { SEE_READY } else { &workers.message };
    put(&mut status, frame.write((ConditionType::WorkersReady, on, reason, message.to_owned())));
    let (available, why, detail) = workers.available.clone();
    let detail = if detail == SEE_WORKERS && phase.is_some() { SEE_READY.to_owned() } else { detail };
    put(&mut status, frame.write((ConditionType::Available, available, why, detail)));
    for (kind, finding) in
        [(ConditionType::WorkersSpread, &workers.spread), (ConditionType::AutoscalingActive, &workers.autoscaling)]
    {
        let written = finding.clone().map(|(on, why, detail)| frame.write((kind, on, why, detail)));
        put_or_remove(&mut status, kind, written);
    }
    put_routes(&mut status, &workers.routes, frame);
    if let Some(phase) = phase {
        set_phase(&mut status, frame, (phase, reason, &workers.message));
    }
    settle_times(&mut status, frame);
    status
}

fn put_routes(status: &mut DispatchSystemStatus, routes: &RoutesFinding, frame: &Frame<'_>) {
    let kind = ConditionType::RoutesAccepted;
    let recorded = || frame.previous.and_then(|previous| previous.conditions.iter().find(|found| found.type_ == kind));
    let written = match routes {
        RoutesFinding::Unseen => recorded().cloned(),
        RoutesFinding::Absent => None,
        RoutesFinding::Found((on, reason, message)) => Some(frame.write((kind, *on, *reason, message.clone()))),
    };
    put_or_remove(status, kind, written);
}

fn put_or_remove(status: &mut DispatchSystemStatus, kind: ConditionType, written: Option<Condition>) {
    match written {
        Some(condition) => put(status, condition),
        None => status.conditions.retain(|condition| condition.type_ != kind),
    }
}

/// Reasons that concern the credentials.
const CREDENTIALS_REASONS: [Reason; 4] =
    [Reason::WrongAccount, Reason::RoleNotAllowed, Reason::CredentialsMissing, Reason::AwsAccessDenied];

/// The status of an object whose reconcile failed. Everything else in the status stays, with the generation it
/// describes.
pub fn unfinished(frame: &Frame<'_>, phase: SystemPhase, reason: Reason, message: &str) -> DispatchSystemStatus {
    let mut status = frame.previous.cloned().unwrap_or_default();
    status.observed_generation = frame.generation;
    status.failures_in_a_row = None;
    keep_details(&mut status);
    set_phase(&mut status, frame, (phase, reason, message));
    if CREDENTIALS_REASONS.contains(&reason) {
        put(
            &mut status,
            frame.write((ConditionType::CredentialsValid, ConditionStatus::False, reason, message.to_owned())),
        );
    }
    status
}

/// Reports what the spec asks for and no administrator allows. Without it, the condition is absent.
pub fn with_spec_allowed(
    mut status: DispatchSystemStatus,
    denied: Option<(Reason, &str)>,
    frame: &Frame<'_>,
) -> DispatchSystemStatus {
    let kind = ConditionType::SpecAllowed;
    let write =
        |(reason, message): (Reason, &str)| frame.write((kind, ConditionStatus::False, reason, message.to_owned()));
    put_or_remove(&mut status, kind, denied.map(write));
    status
}

/// The status of an object that is being deleted. `blocked` says why the deletion cannot proceed.
pub fn deletion(frame: &Frame<'_>, blocked: Option<(Reason, &str)>, doing: &str) -> DispatchSystemStatus {
    let mut status = match blocked {
        Some((reason, message)) => unfinished(frame, SystemPhase::Stalled, reason, message),
        None => unfinished(frame, SystemPhase::Reconciling, Reason::Deleting, doing),
    };
    let condition = match blocked {
        Some((reason, message)) => (ConditionType::DeletionBlocked, ConditionStatus::True, reason, message.to_owned()),
        None => (ConditionType::DeletionBlocked, ConditionStatus::False, Reason::Deleting, doing.to_owned()),
    };
    put(&mut status, frame.write(condition));
    status
}

/// If this run did not check for drift, keeps the last `DriftCorrected` until the next check.
pub fn keep_drift(mut status: DispatchSystemStatus, frame: &Frame<'_>) -> DispatchSystemStatus {
    let found =
        |status: &DispatchSystemStatus| status.conditions.iter().position(|c| c.type_ == ConditionType::Drifted);
    let before = frame.previous.and_then(|previous| found(previous).and_then(|index| previous.conditions.get(index)));
    let (Some(before), Some(index)) = (before.filter(|c| c.status != ConditionStatus::True), found(&status)) else {
        return status;
    };
    let unchecked = [Reason::NotChecked, Reason::StackNotReady];
    let is_unchecked = |now: &&mut Condition| unchecked.iter().any(|reason| now.reason == *reason);
    if let Some(now) = status.conditions.get_mut(index).filter(is_unchecked) {
        now.clone_from(before);
        now.observed_generation = Some(frame.generation);
    }
    status
}

/// Whether a system that is not ready waits for a person, and neither for AWS nor for the operator.
pub fn waits_for_nothing(status: &DispatchSystemStatus) -> bool {
    reason(status).is_some_and(crate::engine::status::waits)
}

/// Whether a system waits for a free slot for its stack operation.
pub fn waits_for_operation_slot(status: &DispatchSystemStatus) -> bool {
    reason(status) == Some(Reason::WaitingForOperationSlot)
}

/// Whether an operation of its stack is in progress, or about to start.
pub fn operates(status: &DispatchSystemStatus) -> bool {
    matches!(reason(status), Some(Reason::StackBusy | Reason::ComputingChanges | Reason::AddingIndex))
}

fn reason(status: &DispatchSystemStatus) -> Option<Reason> {
    let ready = status.conditions.iter().find(|c| c.type_ == ConditionType::Ready)?;
    Reason::parse(&ready.reason)
}

fn set_phase(status: &mut DispatchSystemStatus, frame: &Frame<'_>, said: (SystemPhase, Reason, &str)) {
    let (phase, reason, message) = said;
    for condition in phase_conditions(phase, reason, message) {
        put(status, frame.write(condition));
    }
}

/// `Ready`, `Reconciling` and `Stalled`. `Ready` and the one that is true have the message: tools show either of them.
/// The others refer to it, so that a description does not repeat it.
pub(super) fn phase_conditions(
    phase: SystemPhase,
    reason: Reason,
    message: &str,
) -> [(ConditionType, ConditionStatus, Reason, String); 3] {
    [
        (ConditionType::Ready, SystemPhase::Ready),
        (ConditionType::Reconciling, SystemPhase::Reconciling),
        (ConditionType::Stalled, SystemPhase::Stalled),
    ]
    .map(|(kind, which)| {
        let holds = which == phase;
        let message = if holds || kind == ConditionType::Ready { message } else { SEE_READY };
        (kind, ConditionStatus::from(holds), reason, message.to_owned())
    })
}

/// Before `Ready` gets another message, gives its present one to the conditions that refer to it.
fn keep_details(status: &mut DispatchSystemStatus) {
    let ready = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready);
    let Some(detail) = ready.map(|ready| ready.message.clone()) else { return };
    let phases = [ConditionType::Reconciling, ConditionType::Stalled];
    for condition in &mut status.conditions {
        if condition.message == SEE_READY && phases.iter().all(|phase| condition.type_ != *phase) {
            condition.message.clone_from(&detail);
        }
    }
}

/// Sets the transition times of a status that was assembled from an earlier one.
fn settle_times(status: &mut DispatchSystemStatus, frame: &Frame<'_>) {
    for condition in &mut status.conditions {
        let before = frame.previous.and_then(|p| p.conditions.iter().find(|c| c.type_ == condition.type_));
        if let Some(before) = before {
            let same = before.status == condition.status;
            condition.last_transition_time = if same { before.last_transition_time.clone() } else { Time(frame.now) };
        }
    }
}

pub(super) fn put(status: &mut DispatchSystemStatus, condition: Condition) {
    match status.conditions.iter_mut().find(|other| other.type_ == condition.type_) {
        Some(place) => *place = condition,
        None => status.conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn each_thing_is_said_once_and_a_reference_never_points_to_something_else() {
        let frame = Frame { generation: 1, previous: None, now: Timestamp::UNIX_EPOCH };
        let mut status = DispatchSystemStatus::default();
        set_phase(&mut status, &frame, (SystemPhase::Ready, Reason::InSync, "the stack matches the spec"));
        let workers = WorkersFinding {
            routes: RoutesFinding::Unseen,
            autoscaling: None,
            state: WorkersState::RollingOut,
            message: "save-dispatch: Pod x waits for the cache".to_owned(),
            cause: Some(Reason::WaitingForDependency),
            available: (ConditionStatus::True, Reason::RolesAvailable, "every role has a ready Pod".to_owned()),
            spread: None,
        };
        let status = with_workers(status, &workers, &frame);
        let said = |status: &DispatchSystemStatus, kind: ConditionType| {
            let found = status.conditions.iter().find(|condition| condition.type_ == kind);
            found.map(|found| (found.status.clone(), found.reason.clone(), found.message.clone()))
        };
        let expect = |status: &str, reason: Reason, message: &str| {
            Some((status.to_owned(), reason.as_str().to_owned(), message.to_owned()))
        };
        let waits = Reason::WaitingForDependency;
        assert_eq!(said(&status, ConditionType::Ready), expect("False", waits, &workers.message));
        assert_eq!(said(&status, ConditionType::WorkersReady), expect("False", waits, SEE_READY));
        let available = expect("True", Reason::RolesAvailable, "every role has a ready Pod");
        assert_eq!(said(&status, ConditionType::Available), available);
        // The next reconcile fails for another reason.
        let frame = Frame { previous: Some(&status), ..frame };
        let status = unfinished(&frame, SystemPhase::Reconciling, Reason::AwsThrottled, "slow down");
        assert_eq!(said(&status, ConditionType::WorkersReady), expect("False", waits, &workers.message));
        assert_eq!(said(&status, ConditionType::Stalled), expect("False", Reason::AwsThrottled, SEE_READY));
    }

    #[test]
    fn rejected_credentials_show_in_their_condition() {
        let frame = Frame { generation: 1, previous: None, now: Timestamp::UNIX_EPOCH };
        for reason in CREDENTIALS_REASONS {
            let status = unfinished(&frame, SystemPhase::Stalled, reason, "account 1 instead of 2");
            let condition = status.conditions.iter().find(|c| c.type_ == ConditionType::CredentialsValid);
            let condition = condition.map(|c| (c.status.as_str(), c.reason.as_str(), c.message.as_str()));
            assert_eq!(condition, Some(("False", reason.as_str(), "account 1 instead of 2")));
        }
        let status = unfinished(&frame, SystemPhase::Reconciling, Reason::AwsThrottled, "slow down");
        assert!(
            status.conditions.iter().all(|c| c.type_ != ConditionType::CredentialsValid),
            "throttling does not concern credentials"
        );
    }
}
