//! Events: what a person who runs `kubectl describe` reads. Pure: they follow from what changed between two statuses, so that a
//! reconcile that changes nothing tells nothing.
//!
//! Reasons are API and stand in [`Reason`].

use dispatch_api::conditions as condition;
use dispatch_api::dispatch_system::{DispatchSystemStatus, ExportStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::plan::exports::{COMPLETED, FAILED};
use crate::progress;
use crate::status::{EXPORT_NOT_STARTED, NOT_PUBLISHED};

/// Longest text of an event (Kubernetes API reference, `Event` v1, `note`).
const NOTE_MAX: usize = 1000;

/// Reasons of `Reconciling` that a person should know of although the operator goes on by itself.
const FAILURES: [&str; 9] = [
    "SecretMissing",
    "AwsRefused",
    "AwsThrottled",
    "AwsAccessDenied",
    "AwsQuotaExceeded",
    "AwsUnavailable",
    "KubernetesUnavailable",
    "InternalError",
    "DeadlineExceeded",
];

/// Why an event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is explained by the words it is told with")]
pub enum Reason {
    StackCreateStarted,
    StackUpdateStarted,
    StackCreated,
    StackUpdated,
    StackDeleteStarted,
    RollbackResumed,
    ResourcesLeftBehind,
    Ready,
    WorkersReady,
    WorkersNotReady,
    DriftDetected,
    DriftCorrected,
    ExportStarted,
    ExportCompleted,
    ExportFailed,
    ConnectionNotPublished,
    PlanReady,
    Paused,
    Resumed,
    Stalled,
    ReconcileFailed,
    DeletionBlocked,
    Deleted,
}

impl Reason {
    /// As Kubernetes shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::StackCreateStarted => "StackCreateStarted",
            Self::StackUpdateStarted => "StackUpdateStarted",
            Self::StackCreated => "StackCreated",
            Self::StackUpdated => "StackUpdated",
            Self::StackDeleteStarted => "StackDeleteStarted",
            Self::RollbackResumed => "RollbackResumed",
            Self::ResourcesLeftBehind => "ResourcesLeftBehind",
            Self::Ready => "Ready",
            Self::WorkersReady => "WorkersReady",
            Self::WorkersNotReady => "WorkersNotReady",
            Self::DriftDetected => "DriftDetected",
            Self::DriftCorrected => "DriftCorrected",
            Self::ExportStarted => "ExportStarted",
            Self::ExportCompleted => "ExportCompleted",
            Self::ExportFailed => "ExportFailed",
            Self::ConnectionNotPublished => "ConnectionNotPublished",
            Self::PlanReady => "PlanReady",
            Self::Paused => "Paused",
            Self::Resumed => "Resumed",
            Self::Stalled => "Stalled",
            Self::ReconcileFailed => "ReconcileFailed",
            Self::DeletionBlocked => "DeletionBlocked",
            Self::Deleted => "Deleted",
        }
    }

    /// Whether it is a warning.
    pub fn warns(self) -> bool {
        matches!(
            self,
            Self::ResourcesLeftBehind
                | Self::WorkersNotReady
                | Self::DriftDetected
                | Self::ExportFailed
                | Self::ConnectionNotPublished
                | Self::PlanReady
                | Self::Stalled
                | Self::ReconcileFailed
                | Self::DeletionBlocked
        )
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Why.
    pub reason: Reason,
    /// In words.
    pub note: String,
}

impl Announcement {
    /// With its words cut to what an event holds.
    pub fn new(reason: Reason, note: impl Into<String>) -> Self {
        let note: String = note.into().chars().take(NOTE_MAX).collect();
        Self { reason, note }
    }
}

/// What changed, as events, in the order it is to be told.
pub fn announcements(before: Option<&DispatchSystemStatus>, after: &DispatchSystemStatus) -> Vec<Announcement> {
    let mut told = Vec::new();
    let stack = |status: Option<&DispatchSystemStatus>| status.and_then(|status| status.stack_status.clone());
    if stack(before) != stack(Some(after)) {
        let arn = after.stack_arn.clone().unwrap_or_default();
        match after.stack_status.as_deref() {
            Some("CREATE_COMPLETE") => told.push(Announcement::new(Reason::StackCreated, format!("{arn} is created"))),
            Some("UPDATE_COMPLETE") => told.push(Announcement::new(Reason::StackUpdated, format!("{arn} is updated"))),
            _ => {}
        }
    }
    let change = |kind: &str| {
        let now = find(Some(after), kind)?;
        let was = find(before, kind);
        let same = was.is_some_and(|was| (&was.status, &was.reason) == (&now.status, &now.reason));
        (!same).then_some((was, now))
    };
    let mut tell = |reason, now: &Condition| told.push(Announcement::new(reason, now.message.clone()));
    if let Some((was, now)) = change(condition::DRIFTED) {
        match (now.status.as_str(), now.reason.as_str()) {
            ("True", _) => tell(Reason::DriftDetected, now),
            (_, "DriftCorrected") => {
                if was.is_none_or(|was| was.status != "True") {
                    tell(Reason::DriftDetected, now);
                }
                tell(Reason::DriftCorrected, now);
            }
            _ => {}
        }
    }
    if let Some((_, now)) = change(condition::EXPORTS_READY).filter(|(_, now)| now.reason == EXPORT_NOT_STARTED) {
        tell(Reason::ExportFailed, now);
    }
    let in_the_way = |now: &Condition| NOT_PUBLISHED.contains(&now.reason.as_str());
    if let Some((_, now)) = change(condition::CONNECTION_PUBLISHED).filter(|(_, now)| in_the_way(now)) {
        tell(Reason::ConnectionNotPublished, now);
    }
    // Nothing can be approved where nothing was planned resource by resource. Another plan is news, though the condition is the same.
    let planned = |now: &&Condition| {
        now.status == "True" && [condition::APPROVAL_REQUIRED, condition::DRY_RUN].contains(&now.reason.as_str())
    };
    let plan = find(Some(after), condition::PLAN_PENDING).filter(planned);
    let plan_before = find(before, condition::PLAN_PENDING).filter(planned);
    if let Some(now) = plan.filter(|now| plan_before.is_none_or(|was| was.message != now.message)) {
        tell(Reason::PlanReady, now);
    }
    if let Some((was, now)) = change(condition::PAUSED) {
        match now.status.as_str() {
            "True" => tell(Reason::Paused, now),
            _ if was.is_some_and(|was| was.status == "True") => tell(Reason::Resumed, now),
            _ => {}
        }
    }
    if let Some((was, now)) = change(condition::WORKERS_READY) {
        match now.status.as_str() {
            "True" => tell(Reason::WorkersReady, now),
            "False" if was.is_some_and(|was| was.status == "True") && now.reason != "Suspended" => {
                tell(Reason::WorkersNotReady, now);
            }
            _ => {}
        }
    }
    let blocked = change(condition::DELETION_BLOCKED).filter(|(_, now)| now.status == "True");
    if let Some((_, now)) = &blocked {
        tell(Reason::DeletionBlocked, now);
    }
    if let Some((_, now)) = change(condition::STALLED).filter(|(_, now)| now.status == "True" && blocked.is_none()) {
        tell(Reason::Stalled, now);
    }
    let in_trouble = |now: &Condition| now.status == "True" && FAILURES.contains(&now.reason.as_str());
    if let Some((_, now)) = change(condition::RECONCILING).filter(|(_, now)| in_trouble(now)) {
        tell(Reason::ReconcileFailed, now);
    }
    if let Some((_, now)) = change(condition::READY).filter(|(_, now)| now.status == "True") {
        tell(Reason::Ready, now);
    }
    told.extend(export(before.and_then(|status| status.last_export.as_ref()), after.last_export.as_ref()));
    told
}

/// What became of an export. One that was found with its end already is told with both words.
fn export(before: Option<&ExportStatus>, after: Option<&ExportStatus>) -> Vec<Announcement> {
    let mut told = Vec::new();
    let Some(after) = after else { return told };
    let same = before.filter(|before| before.export_arn == after.export_arn);
    let arn = &after.export_arn;
    if same.is_none() {
        told.push(Announcement::new(Reason::ExportStarted, format!("{arn} is started")));
    }
    if same.is_some_and(|same| same.state == after.state) {
        return told;
    }
    match after.state.as_str() {
        COMPLETED => {
            let items = after.item_count.map_or_else(String::new, |items| format!(": {items} items"));
            told.push(Announcement::new(Reason::ExportCompleted, format!("{arn} is complete{items}")));
        }
        FAILED => {
            let failure = after.failure.as_deref().unwrap_or("no reason is given");
            told.push(Announcement::new(Reason::ExportFailed, format!("{arn} failed: {failure}")));
        }
        _ => {}
    }
    told
}

/// What the engine began, as events.
pub fn begun(event: &progress::Event) -> Option<Announcement> {
    match event {
        progress::Event::Stack(event) if event.resource_type == "AWS::CloudFormation::Stack" => {
            let reason = match event.status.as_str() {
                "CREATE_IN_PROGRESS" => Reason::StackCreateStarted,
                "UPDATE_IN_PROGRESS" => Reason::StackUpdateStarted,
                "DELETE_IN_PROGRESS" => Reason::StackDeleteStarted,
                _ => return None,
            };
            Some(Announcement::new(reason, format!("stack {}: {}", event.logical_id, event.status)))
        }
        progress::Event::LeftBehind(operation, ids) => {
            let note = format!("left out of {operation}: {}", ids.join(", "));
            Some(Announcement::new(Reason::ResourcesLeftBehind, note))
        }
        progress::Event::Step(text)
            if text.starts_with("continuing the rollback") || text.starts_with("rolling stack") =>
        {
            Some(Announcement::new(Reason::RollbackResumed, text.clone()))
        }
        _ => None,
    }
}

fn find<'a>(status: Option<&'a DispatchSystemStatus>, kind: &str) -> Option<&'a Condition> {
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

    fn reasons(before: Option<&DispatchSystemStatus>, after: &DispatchSystemStatus) -> Vec<Reason> {
        announcements(before, after).into_iter().map(|told| told.reason).collect()
    }

    #[test]
    fn a_reconcile_that_changes_nothing_tells_nothing() {
        let after = status(&[("Ready", "True", "InSync", "m"), ("Drifted", "True", "DriftDetected", "m")]);
        assert_eq!(announcements(Some(&after), &after), []);
    }

    #[test]
    fn the_first_failed_event_is_told_once() {
        let failed =
            status(&[("Ready", "False", "CreateFailed", "c"), ("Stalled", "True", "CreateFailed", "Table no")]);
        let told = announcements(None, &failed);
        assert_eq!(told, [Announcement::new(Reason::Stalled, "Table no")]);
        assert!(told[0].reason.warns());
        assert_eq!(announcements(Some(&failed), &failed), []);
    }

    #[test]
    fn drift_that_was_corrected_at_once_is_told_with_both_words() {
        let before = status(&[("Drifted", "False", "InSync", "none")]);
        let after = status(&[("Drifted", "False", "DriftCorrected", "queue offers")]);
        assert_eq!(reasons(Some(&before), &after), [Reason::DriftDetected, Reason::DriftCorrected]);
    }

    #[test]
    fn a_pause_and_its_end_are_told() {
        let off = status(&[("Paused", "False", "Active", "m")]);
        let on = status(&[("Paused", "True", "Suspended", "m")]);
        assert_eq!(reasons(None, &off), []);
        assert_eq!(reasons(Some(&off), &on), [Reason::Paused]);
        assert_eq!(reasons(Some(&on), &off), [Reason::Resumed]);
    }

    #[test]
    fn another_plan_is_told_though_one_waited_before() {
        let plan = |id: &str| status(&[("PlanPending", "True", "ApprovalRequired", id)]);
        assert_eq!(reasons(None, &plan("plan a")), [Reason::PlanReady]);
        assert_eq!(reasons(Some(&plan("plan a")), &plan("plan b")), [Reason::PlanReady]);
        assert_eq!(reasons(Some(&plan("plan a")), &plan("plan a")), []);
        assert_eq!(reasons(None, &status(&[("PlanPending", "True", "ChangesPending", "no id")])), []);
    }

    #[test]
    fn a_note_is_cut_to_what_an_event_holds() {
        assert_eq!(Announcement::new(Reason::Stalled, "x".repeat(5000)).note.len(), NOTE_MAX);
    }
}
