//! The parts CloudFormation does not carry: what was found of them and what is to be done about it.

use dispatch_api::dispatch_system::{DriftPolicy, QueueSpec};
use dispatch_api::validate::ValidatedSystem;

use crate::ports::{CacheEndpoint, QueueSettings, Recovery};

/// One queue as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLook {
    /// `offers`, `responses` or `notifications`.
    pub name: &'static str,
    /// URL.
    pub url: String,
    /// ARN its dead-letter queue has.
    pub dead_letter_arn: String,
    /// Settings; `None` when the queue is gone.
    pub settings: Option<QueueSettings>,
}

/// The parts as found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Point-in-time recovery of the table; `None` when the table is gone.
    pub recovery: Option<Recovery>,
    /// ARN the platform application has or would have.
    pub push_arn: String,
    /// Whether the platform application exists.
    pub push_exists: bool,
    /// Endpoint of the managed cache.
    pub cache: Option<CacheEndpoint>,
    /// The queues; empty when nobody looked.
    pub queues: Vec<QueueLook>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartStep {
    /// Switch point-in-time recovery on again.
    EnableRecovery,
    /// Make the platform application.
    CreatePush,
    /// Give the platform application the wanted credential.
    UpdatePush,
    /// Remove the platform application.
    DeletePush,
    /// Give a queue its settings back.
    CorrectQueue {
        /// Which.
        name: &'static str,
        /// Its URL.
        url: String,
        /// What it is to have.
        settings: QueueSettings,
        /// What differs, for people.
        differences: Vec<String>,
    },
}

impl PartStep {
    /// Whether this undoes a change somebody made behind the operator's back.
    pub fn corrects_drift(&self) -> bool {
        matches!(self, Self::EnableRecovery | Self::CorrectQueue { .. })
    }
}

impl std::fmt::Display for PartStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EnableRecovery => write!(f, "switch point-in-time recovery of the table on"),
            Self::CreatePush => write!(f, "create the SNS platform application for FCM"),
            Self::UpdatePush => write!(f, "update the credential of the SNS platform application for FCM"),
            Self::DeletePush => write!(f, "remove the SNS platform application for FCM"),
            Self::CorrectQueue { name, differences, .. } => {
                write!(f, "correct queue {name}: {}", differences.join(", "))
            }
        }
    }
}

/// What was found and what is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartFinding {
    /// To be done now.
    pub steps: Vec<PartStep>,
    /// Drift that is only reported, because `driftPolicy` says so.
    pub reported: Vec<PartStep>,
    /// What no step can mend.
    pub problems: Vec<String>,
}

/// Whether the credential on record is the wanted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// It is, or none is wanted.
    Same,
    /// It is another one.
    Changed,
}

/// Compares the parts with the manifest.
pub fn part_steps(system: &ValidatedSystem, parts: &Parts, credential: Credential) -> PartFinding {
    let mut finding = PartFinding::default();
    let mut drift = Vec::new();
    match parts.recovery {
        None => finding.problems.push(format!("table {} is gone", system.names.table)),
        Some(Recovery::Disabled) if system.spec.table.point_in_time_recovery => drift.push(PartStep::EnableRecovery),
        Some(_) => {}
    }
    match (system.spec.notifications.fcm.is_some(), parts.push_exists) {
        (true, false) => finding.steps.push(PartStep::CreatePush),
        (true, true) if credential == Credential::Changed => finding.steps.push(PartStep::UpdatePush),
        (false, true) => finding.steps.push(PartStep::DeletePush),
        _ => {}
    }
    if system.spec.cache.external.is_none() && parts.cache.is_none() {
        finding.problems.push(format!("replication group {} has no endpoint", system.names.replication_group));
    }
    for look in &parts.queues {
        match &look.settings {
            None => finding.problems.push(format!("queue {} is gone", look.name)),
            Some(found) => drift.extend(queue_step(look, found, wanted_queue(system, look.name))),
        }
    }
    match system.spec.drift_policy {
        DriftPolicy::Correct => finding.steps.extend(drift),
        DriftPolicy::ReportOnly => finding.reported = drift,
    }
    finding
}

fn wanted_queue<'a>(system: &'a ValidatedSystem, name: &str) -> &'a QueueSpec {
    match name {
        "offers" => &system.spec.queues.offers,
        "responses" => &system.spec.queues.responses,
        _ => &system.spec.queues.notifications,
    }
}

fn queue_step(look: &QueueLook, found: &QueueSettings, wanted: &QueueSpec) -> Option<PartStep> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, is: Option<u32>, should: u32| {
        if is != Some(should) {
            let is = is.map_or_else(|| "absent".to_owned(), |value| value.to_string());
            differences.push(format!("{what} is {is}, wanted {should}"));
        }
    };
    compare("retentionSeconds", Some(found.retention_seconds), wanted.retention_seconds);
    compare("visibilityTimeoutSeconds", Some(found.visibility_timeout_seconds), wanted.visibility_timeout_seconds);
    compare("maxReceiveCount", found.max_receive_count, wanted.max_receive_count);
    if found.dead_letter_arn.as_ref() != Some(&look.dead_letter_arn) {
        differences.push("the dead-letter queue is another one".to_owned());
    }
    if differences.is_empty() {
        return None;
    }
    let settings = QueueSettings {
        retention_seconds: wanted.retention_seconds,
        visibility_timeout_seconds: wanted.visibility_timeout_seconds,
        max_receive_count: Some(wanted.max_receive_count),
        dead_letter_arn: Some(look.dead_letter_arn.clone()),
    };
    Some(PartStep::CorrectQueue { name: look.name, url: look.url.clone(), settings, differences })
}
