//! Kubernetes Events, as `kubectl describe` shows them. Pure: events are derived from the difference between two
//! statuses, so a reconcile that changes nothing publishes nothing.
//!
//! Event reasons are part of the API; see [`EventReason`].

use dispatch_api::conditions::{ConditionStatus, ConditionType, EventReason, Reason};
use dispatch_api::dispatch_system::{DispatchSystemStatus, ExportStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::cloud::stack::StackState;
use crate::engine::plan::exports::{COMPLETED, FAILED};
use crate::engine::progress;
use crate::engine::status::{NOT_PUBLISHED, SEE_READY};

/// Maximum length of an event's note (Kubernetes API reference, `Event` v1, `note`).
const NOTE_MAX: usize = 1000;

/// Reasons of `Reconciling` that are published as a warning although the operator retries.
const FAILURES: [Reason; 10] = [
    Reason::SecretMissing,
    Reason::AwsRefused,
    Reason::AwsThrottled,
    Reason::AwsAccessDenied,
    Reason::CredentialsMissing,
    Reason::AwsQuotaExceeded,
    Reason::AwsUnavailable,
    Reason::KubernetesUnavailable,
    Reason::InternalError,
    Reason::DeadlineExceeded,
];

/// An event about a `DispatchSystem`, before it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEvent {
    pub reason: EventReason,
    /// Text for the user.
    pub note: String,
}

impl ObjectEvent {
    /// Truncates the note to the maximum length of an event.
    pub fn new(reason: EventReason, note: impl Into<String>) -> Self {
        let note: String = note.into().chars().take(NOTE_MAX).collect();
        Self { reason, note }
    }

    /// Takes the message of a condition as the note.
    fn from_condition(reason: EventReason, condition: &Condition) -> Self {
        Self::new(reason, condition.message.clone())
    }
}

/// What changed between two statuses, as events in the order they are published.
pub fn events_between(before: Option<&DispatchSystemStatus>, after: &DispatchSystemStatus) -> Vec<ObjectEvent> {
    let changes = Changes { before, after };
    let mut events = changes.stack();
    events.extend(changes.drift());
    events.extend(changes.resources());
    events.extend(changes.workers());
    events.extend(changes.phase());
    events.extend(export(before.and_then(|status| status.last_export.as_ref()), after.last_export.as_ref()));
    events
}

/// Two statuses, one after the other.
#[derive(Clone, Copy)]
struct Changes<'a> {
    before: Option<&'a DispatchSystemStatus>,
    after: &'a DispatchSystemStatus,
}

impl<'a> Changes<'a> {
    /// A condition whose status or reason changed: the previous one, if any, and the current one.
    fn condition(self, kind: ConditionType) -> Option<(Option<&'a Condition>, &'a Condition)> {
        let now = find(Some(self.after), kind)?;
        let was = find(self.before, kind);
        let same = was.is_some_and(|was| (&was.status, &was.reason) == (&now.status, &now.reason));
        (!same).then_some((was, now))
    }

    fn stack(self) -> Vec<ObjectEvent> {
        if self.before.and_then(|before| before.stack_status.as_ref()) == self.after.stack_status.as_ref() {
            return Vec::new();
        }
        let arn = self.after.stack_arn.as_deref().unwrap_or_default();
        match self.after.stack_status.as_deref().map(StackState::parse) {
            Some(StackState::CreateComplete) => {
                vec![ObjectEvent::new(EventReason::StackCreated, format!("created stack {arn}"))]
            }
            Some(StackState::UpdateComplete) => {
                vec![ObjectEvent::new(EventReason::StackUpdated, format!("updated stack {arn}"))]
            }
            _ => Vec::new(),
        }
    }

    fn drift(self) -> Vec<ObjectEvent> {
        let Some((was, now)) = self.condition(ConditionType::Drifted) else { return Vec::new() };
        let detected = ObjectEvent::from_condition(EventReason::DriftDetected, now);
        if holds(now) {
            return vec![detected];
        }
        if now.reason != Reason::DriftCorrected {
            return Vec::new();
        }
        let corrected = ObjectEvent::from_condition(EventReason::DriftCorrected, now);
        if was.is_some_and(holds) { vec![corrected] } else { vec![detected, corrected] }
    }

    /// Exports, push notifications, connection and plans.
    fn resources(self) -> Vec<ObjectEvent> {
        let mut events = Vec::new();
        let export =
            self.condition(ConditionType::ExportsReady).filter(|(_, now)| now.reason == Reason::ExportNotStarted);
        events.extend(export.map(|(_, now)| ObjectEvent::from_condition(EventReason::ExportFailed, now)));
        if let Some((was, now)) = self.condition(ConditionType::PushReady) {
            if now.reason == Reason::PushDisabled {
                events.push(ObjectEvent::from_condition(EventReason::PushDisabled, now));
            } else if holds(now) && was.is_some_and(|was| was.reason == Reason::PushDisabled) {
                events.push(ObjectEvent::from_condition(EventReason::PushEnabled, now));
            }
        }
        // If the system is stalled for it, the event of the phase says so.
        let denied = self.condition(ConditionType::SpecAllowed).map(|(_, now)| now);
        let denied = denied.filter(|now| {
            let stalled = find(Some(self.after), ConditionType::Stalled);
            !stalled.is_some_and(|stalled| holds(stalled) && stalled.reason == now.reason)
        });
        events.extend(denied.map(|now| ObjectEvent::from_condition(EventReason::NotAllowed, now)));
        let connection =
            self.condition(ConditionType::ConnectionPublished).filter(|(_, now)| is_one_of(now, &NOT_PUBLISHED));
        events.extend(connection.map(|(_, now)| ObjectEvent::from_condition(EventReason::ConnectionNotPublished, now)));
        // Without a plan per resource there is nothing to approve. A different plan is published even if the condition
        // stays the same.
        let planned = |now: &&Condition| holds(now) && is_one_of(now, &[Reason::ApprovalRequired, Reason::DryRun]);
        let plan = find(Some(self.after), ConditionType::PlanPending).filter(planned);
        let plan_before = find(self.before, ConditionType::PlanPending).filter(planned);
        let plan = plan.filter(|now| plan_before.is_none_or(|was| was.message != now.message));
        events.extend(plan.map(|now| ObjectEvent::from_condition(EventReason::PlanReady, now)));
        events
    }

    fn workers(self) -> Vec<ObjectEvent> {
        let mut events = Vec::new();
        if let Some((was, now)) = self.condition(ConditionType::Paused) {
            if holds(now) {
                events.push(ObjectEvent::from_condition(EventReason::Paused, now));
            } else if was.is_some_and(holds) {
                events.push(ObjectEvent::from_condition(EventReason::Resumed, now));
            }
        }
        if let Some((was, now)) = self.condition(ConditionType::WorkersReady) {
            if holds(now) {
                events.push(ObjectEvent::from_condition(EventReason::WorkersReady, now));
            } else if now.status == ConditionStatus::False && was.is_some_and(holds) && now.reason != Reason::Suspended
            {
                events.push(ObjectEvent::new(EventReason::WorkersNotReady, self.detail(now)));
            }
        }
        events
    }

    /// The message of a condition, or that of `Ready` to which it refers.
    fn detail(self, now: &'a Condition) -> &'a str {
        let ready = find(Some(self.after), ConditionType::Ready).filter(|_| now.message == SEE_READY);
        &ready.unwrap_or(now).message
    }

    /// Changes of the phase. A blocked deletion also stalls the system, and is published only once.
    fn phase(self) -> Vec<ObjectEvent> {
        let became = |kind| self.condition(kind).map(|(_, now)| now).filter(|now| holds(now));
        let blocked = became(ConditionType::DeletionBlocked);
        let stalled = became(ConditionType::Stalled).filter(|_| blocked.is_none());
        let failing = became(ConditionType::Reconciling).filter(|now| is_one_of(now, &FAILURES));
        let ready = became(ConditionType::Ready);
        [
            (EventReason::DeletionBlocked, blocked),
            (EventReason::Stalled, stalled),
            (EventReason::ReconcileFailed, failing),
            (EventReason::Ready, ready),
        ]
        .into_iter()
        .filter_map(|(reason, now)| now.map(|now| ObjectEvent::from_condition(reason, now)))
        .collect()
    }
}

fn holds(condition: &Condition) -> bool {
    condition.status == ConditionStatus::True
}

fn is_one_of(condition: &Condition, reasons: &[Reason]) -> bool {
    reasons.iter().any(|reason| condition.reason == *reason)
}

/// Start and end of an export. An export that is first seen after its end gets both events.
fn export(before: Option<&ExportStatus>, after: Option<&ExportStatus>) -> Vec<ObjectEvent> {
    let mut events = Vec::new();
    let Some(after) = after else { return events };
    let same = before.filter(|before| before.export_arn == after.export_arn);
    let arn = &after.export_arn;
    if same.is_none() {
        events.push(ObjectEvent::new(EventReason::ExportStarted, format!("started export {arn}")));
    }
    if same.is_some_and(|same| same.state == after.state) {
        return events;
    }
    match after.state.as_str() {
        COMPLETED => {
            let items = after.item_count.map_or_else(String::new, |items| format!(": {items} items"));
            events.push(ObjectEvent::new(EventReason::ExportCompleted, format!("export {arn} completed{items}")));
        }
        FAILED => {
            let failure = after.failure.as_deref().unwrap_or("no reason given");
            events.push(ObjectEvent::new(EventReason::ExportFailed, format!("export {arn} failed: {failure}")));
        }
        _ => {}
    }
    events
}

/// The event for an operation that the engine started.
pub fn begun(event: &progress::Event) -> Option<ObjectEvent> {
    match event {
        progress::Event::Stack(event) if event.resource_type == "AWS::CloudFormation::Stack" => {
            let reason = match StackState::parse(&event.status) {
                StackState::CreateInProgress => EventReason::StackCreateStarted,
                StackState::UpdateInProgress => EventReason::StackUpdateStarted,
                StackState::DeleteInProgress => EventReason::StackDeleteStarted,
                _ => return None,
            };
            Some(ObjectEvent::new(reason, format!("stack {}: {}", event.logical_id, event.status)))
        }
        progress::Event::ResourcesSkipped(operation, ids) => {
            let note = format!("skipped in {operation}: {}", ids.join(", "));
            Some(ObjectEvent::new(EventReason::ResourcesSkipped, note))
        }
        progress::Event::Rollback(text) => Some(ObjectEvent::new(EventReason::RollbackResumed, text.clone())),
        _ => None,
    }
}

fn find(status: Option<&DispatchSystemStatus>, kind: ConditionType) -> Option<&Condition> {
    status?.conditions.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn status(conditions: &[(&str, &str, &str, &str)]) -> DispatchSystemStatus {
        let conditions = conditions.iter().map(|(kind, status, reason, message)| Condition {
            type_: (*kind).to_owned(),
            status: (*status).to_owned(),
            reason: (*reason).to_owned(),
            message: (*message).to_owned(),
            observed_generation: Some(1),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        });
        DispatchSystemStatus { conditions: conditions.collect(), ..DispatchSystemStatus::default() }
    }

    fn reasons(before: Option<&DispatchSystemStatus>, after: &DispatchSystemStatus) -> Vec<EventReason> {
        events_between(before, after).into_iter().map(|event| event.reason).collect()
    }

    #[test]
    fn a_reconcile_that_changes_nothing_publishes_nothing() {
        let after = status(&[("Ready", "True", "InSync", "m"), ("Drifted", "True", "DriftDetected", "m")]);
        assert_eq!(events_between(Some(&after), &after), []);
    }

    #[test]
    fn the_first_failed_event_is_published_once() {
        let failed =
            status(&[("Ready", "False", "CreateFailed", "c"), ("Stalled", "True", "CreateFailed", "Table no")]);
        let events = events_between(None, &failed);
        assert_eq!(events, [ObjectEvent::new(EventReason::Stalled, "Table no")]);
        assert!(events[0].reason.is_warning());
        assert_eq!(events_between(Some(&failed), &failed), []);
    }

    #[test]
    fn drift_corrected_at_once_is_published_as_detected_and_corrected() {
        let before = status(&[("Drifted", "False", "InSync", "none")]);
        let after = status(&[("Drifted", "False", "DriftCorrected", "queue offers")]);
        assert_eq!(reasons(Some(&before), &after), [EventReason::DriftDetected, EventReason::DriftCorrected]);
    }

    #[test]
    fn suspending_and_resuming_are_published() {
        let off = status(&[("Paused", "False", "Active", "m")]);
        let on = status(&[("Paused", "True", "Suspended", "m")]);
        assert_eq!(reasons(None, &off), []);
        assert_eq!(reasons(Some(&off), &on), [EventReason::Paused]);
        assert_eq!(reasons(Some(&on), &off), [EventReason::Resumed]);
    }

    #[test]
    fn a_disabled_platform_application_and_its_repair_are_published() {
        let on = status(&[("PushReady", "True", "PushEnabled", "m")]);
        let off = status(&[("PushReady", "False", "PushDisabled", "put a valid key")]);
        assert_eq!(reasons(None, &on), []);
        assert_eq!(events_between(Some(&on), &off), [ObjectEvent::new(EventReason::PushDisabled, "put a valid key")]);
        assert_eq!(events_between(Some(&off), &off), []);
        assert_eq!(reasons(Some(&off), &on), [EventReason::PushEnabled]);
        assert!(EventReason::PushDisabled.is_warning() && !EventReason::PushEnabled.is_warning());
    }

    #[test]
    fn a_different_plan_is_published_although_one_was_pending() {
        let plan = |id: &str| status(&[("PlanPending", "True", "ApprovalRequired", id)]);
        assert_eq!(reasons(None, &plan("plan a")), [EventReason::PlanReady]);
        assert_eq!(reasons(Some(&plan("plan a")), &plan("plan b")), [EventReason::PlanReady]);
        assert_eq!(reasons(Some(&plan("plan a")), &plan("plan a")), []);
        assert_eq!(reasons(None, &status(&[("PlanPending", "True", "ChangesPending", "no id")])), []);
    }

    #[test]
    fn what_is_not_allowed_is_published_once_whether_it_stalls_the_system_or_not() {
        let warned = status(&[("Ready", "True", "InSync", "m"), ("SpecAllowed", "False", "NotAllowed", "image")]);
        let events = events_between(None, &warned);
        assert_eq!(events[0], ObjectEvent::new(EventReason::NotAllowed, "image"));
        assert!(events[0].reason.is_warning());
        assert_eq!(events_between(Some(&warned), &warned), []);
        let stalled = status(&[
            ("Ready", "False", "NotAllowed", "image"),
            ("Stalled", "True", "NotAllowed", "image"),
            ("SpecAllowed", "False", "NotAllowed", "image"),
        ]);
        assert_eq!(reasons(None, &stalled), [EventReason::Stalled]);
    }

    #[test]
    fn a_note_is_truncated_to_the_maximum_length() {
        assert_eq!(ObjectEvent::new(EventReason::Stalled, "x".repeat(5000)).note.len(), NOTE_MAX);
    }
}
