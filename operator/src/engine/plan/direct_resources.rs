//! Resources managed outside CloudFormation: their observed state and the steps that correct it.

use crate::cloud::ports::{CacheGroup, ObservedTable, PushStatus, QueueSettings, Recovery, TableCorrection};
use crate::engine::plan::existence::Existence;
use crate::engine::plan::recreation::Recreation;

/// Observed state of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLook {
    /// `offers`, `responses` or `notifications`.
    pub name: &'static str,
    /// Logical id in the template.
    pub logical_id: &'static str,
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
    /// The managed cache; `None` if it does not exist.
    pub cache: Option<CacheGroup>,
    /// The queues; empty if not inspected.
    pub queues: Vec<QueueLook>,
    /// Whether settings were compared with the spec.
    pub drift_checked: bool,
    /// Whether the resources of the stack exist.
    pub existence: Existence,
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
    /// Create a deleted resource of the stack again.
    Recreate {
        /// Logical id, type and physical id.
        resource: String,
        recreation: Recreation,
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
            Self::EnableRecovery => vec!["table.pointInTimeRecovery: false instead of true".to_owned()],
            Self::CorrectTags { differences }
            | Self::CorrectTable { differences, .. }
            | Self::CorrectQueue { differences, .. } => differences.clone(),
            Self::Recreate { resource, .. } => vec![format!("{resource}: deleted outside the operator")],
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
            Self::Recreate { resource, .. } => write!(f, "create {resource}, which was deleted, again"),
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
    /// Resources of the stack that were deleted and that no step creates again, and what a person can do.
    pub gone: Vec<String>,
}
