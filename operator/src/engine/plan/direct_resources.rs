//! Resources managed outside CloudFormation: their observed state and the steps that correct it.

use dispatch_api::dispatch_system::{BillingMode, CapacitySpec, DriftPolicy, QueueSpec};
use dispatch_api::validate::ValidatedSystem;

use crate::cloud::ports::{
    CacheEndpoint, ObservedTable, PushStatus, QueueSettings, Recovery, TableCorrection, Throughput,
};
use crate::engine::plan::template::{STREAM_VIEW, TTL_ATTRIBUTE};

/// Observed state of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLook {
    /// `offers`, `responses` or `notifications`.
    pub name: &'static str,
    pub url: String,
    /// ARN of its dead-letter queue.
    pub dead_letter_arn: String,
    /// Settings; `None` if the queue does not exist.
    pub settings: Option<QueueSettings>,
}

/// Observed state of the direct resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectResources {
    /// The table; `None` if it does not exist.
    pub table: Option<ObservedTable>,
    /// Point-in-time recovery of the table; `None` if not inspected.
    pub recovery: Option<Recovery>,
    /// Time-to-live attribute of the table, `Some(None)` if disabled; `None` if not inspected.
    pub expiry: Option<Option<String>>,
    /// ARN that the platform application has or would have.
    pub push_arn: String,
    /// The platform application; `None` if it does not exist.
    pub push: Option<PushStatus>,
    /// Endpoint of the managed cache.
    pub cache: Option<CacheEndpoint>,
    /// The queues; empty if not inspected.
    pub queues: Vec<QueueLook>,
}

/// A step for a direct resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectStep {
    /// Enable point-in-time recovery.
    EnableRecovery,
    /// Create the platform application.
    CreatePush,
    /// Update the credential of the platform application.
    UpdatePush,
    /// Delete the platform application.
    DeletePush,
    /// Restore the tags of the stack, through an update of the stack.
    CorrectTags {
        /// Differences, for people.
        differences: Vec<String>,
    },
    /// Restore the settings of the table.
    CorrectTable {
        correction: TableCorrection,
        /// Differences, for people.
        differences: Vec<String>,
    },
    /// Restore the settings of a queue.
    CorrectQueue {
        name: &'static str,
        url: String,
        settings: QueueSettings,
        /// Differences, for people.
        differences: Vec<String>,
    },
}

impl DirectStep {
    /// Whether this step reverts a change made outside the operator.
    pub fn corrects_drift(&self) -> bool {
        !self.differences().is_empty()
    }

    /// Changes made outside the operator, one per field: the observed value and the specified one.
    pub fn differences(&self) -> Vec<String> {
        match self {
            Self::EnableRecovery => vec![differs("table.pointInTimeRecovery", "false", "true")],
            Self::CorrectTags { differences }
            | Self::CorrectTable { differences, .. }
            | Self::CorrectQueue { differences, .. } => differences.clone(),
            Self::CreatePush | Self::UpdatePush | Self::DeletePush => Vec::new(),
        }
    }
}

impl std::fmt::Display for DirectStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EnableRecovery => write!(f, "enable point-in-time recovery of the table"),
            Self::CreatePush => write!(f, "create the SNS platform application for FCM"),
            Self::UpdatePush => write!(f, "update the credential of the SNS platform application for FCM"),
            Self::DeletePush => write!(f, "delete the SNS platform application for FCM"),
            Self::CorrectTags { differences }
            | Self::CorrectTable { differences, .. }
            | Self::CorrectQueue { differences, .. } => {
                write!(f, "correct {}", differences.join("; "))
            }
        }
    }
}

/// Steps, drift and problems of the direct resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectFinding {
    /// Steps to execute now.
    pub steps: Vec<DirectStep>,
    /// Drift that is only reported, as `driftPolicy` specifies.
    pub reported: Vec<DirectStep>,
    /// Problems that no step solves and that may resolve with time.
    pub problems: Vec<String>,
    /// Resources of the stack that were deleted, and what a person can do.
    pub gone: Vec<String>,
}

/// Whether the recorded credential is the desired one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// It is, or none is desired.
    Same,
    Changed,
}

/// Compares the direct resources with the manifest.
pub fn direct_steps(system: &ValidatedSystem, parts: &DirectResources, credential: Credential) -> DirectFinding {
    let mut finding = DirectFinding::default();
    let mut drift = Vec::new();
    match &parts.table {
        None => finding
            .gone
            .push(format!("table {} is gone: restore it from a backup under the same name", system.names.table)),
        Some(table) => {
            drift.extend(table_step(system, table, parts.expiry.as_ref()));
            let name = &table.name;
            finding
                .problems
                .extend(table.building.iter().map(|index| format!("index {index} of table {name} is being built")));
        }
    }
    if parts.recovery == Some(Recovery::Disabled) && system.spec.table.point_in_time_recovery {
        drift.push(DirectStep::EnableRecovery);
    }
    match (system.spec.notifications.fcm.is_some(), parts.push.is_some()) {
        (true, false) => finding.steps.push(DirectStep::CreatePush),
        (true, true) if credential == Credential::Changed => finding.steps.push(DirectStep::UpdatePush),
        (false, true) => finding.steps.push(DirectStep::DeletePush),
        _ => {}
    }
    if system.spec.cache.external.is_none() && parts.cache.is_none() {
        finding.problems.push(format!("replication group {} has no endpoint", system.names.replication_group));
    }
    for look in &parts.queues {
        match &look.settings {
            None => finding.gone.push(format!(
                "queue {} is gone: destroy the system with deletionPolicy: Retain and reapply it to import its data",
                look.name
            )),
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

fn differs(field: &str, is: impl std::fmt::Display, wanted: impl std::fmt::Display) -> String {
    format!("{field}: {is} instead of {wanted}")
}

fn table_step(system: &ValidatedSystem, found: &ObservedTable, expiry: Option<&Option<String>>) -> Option<DirectStep> {
    let wanted = &system.spec.table;
    let mut correction = TableCorrection::default();
    let mut differences = Vec::new();
    if found.deletion_protection != wanted.deletion_protection {
        differences.push(differs("table.deletionProtection", found.deletion_protection, wanted.deletion_protection));
        correction.deletion_protection = Some(wanted.deletion_protection);
    }
    match found.stream_view.as_deref() {
        Some(STREAM_VIEW) => {}
        // DynamoDB can enable a stream only while it is disabled.
        None => {
            differences.push(differs("table's stream", "off", STREAM_VIEW));
            correction.stream = Some(());
        }
        Some(other) => differences.push(differs("table's stream", other, STREAM_VIEW)),
    }
    if found.billing != wanted.billing.mode {
        let mode = |mode: BillingMode| if mode == BillingMode::OnDemand { "OnDemand" } else { "Provisioned" };
        differences.push(differs("table.billing.mode", mode(found.billing), mode(wanted.billing.mode)));
        let units = |capacity: &Option<CapacitySpec>| capacity.as_ref().map(|capacity| i64::from(capacity.min));
        let capacity = units(&wanted.billing.read).zip(units(&wanted.billing.write));
        let capacity = capacity.map(|(read, write)| Throughput { read, write });
        let indexes = found.keys.keys().filter(|name| !name.is_empty()).cloned().collect();
        correction.billing = Some((capacity, indexes));
    }
    if let Some(attribute) = expiry.filter(|attribute| attribute.as_deref() != Some(TTL_ATTRIBUTE)) {
        differences.push(differs("table's time to live", attribute.as_deref().unwrap_or("off"), TTL_ATTRIBUTE));
        // Another attribute would first have to be disabled, after which DynamoDB refuses changes for up to an hour.
        correction.expiry = attribute.is_none().then(|| TTL_ATTRIBUTE.to_owned());
    }
    if differences.is_empty() { None } else { Some(DirectStep::CorrectTable { correction, differences }) }
}

fn queue_step(look: &QueueLook, found: &QueueSettings, wanted: &QueueSpec) -> Option<DirectStep> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, is: Option<u32>, should: u32| {
        if is != Some(should) {
            let is = is.map_or_else(|| "absent".to_owned(), |value| value.to_string());
            differences.push(differs(&format!("queues.{}.{what}", look.name), is, should));
        }
    };
    compare("retentionSeconds", Some(found.retention_seconds), wanted.retention_seconds);
    compare("visibilityTimeoutSeconds", Some(found.visibility_timeout_seconds), wanted.visibility_timeout_seconds);
    compare("maxReceiveCount", found.max_receive_count, wanted.max_receive_count);
    if found.dead_letter_arn.as_ref() != Some(&look.dead_letter_arn) {
        let is = found.dead_letter_arn.as_deref().unwrap_or("absent");
        differences.push(differs(&format!("queue {}'s dead-letter queue", look.name), is, &look.dead_letter_arn));
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
    Some(DirectStep::CorrectQueue { name: look.name, url: look.url.clone(), settings, differences })
}
