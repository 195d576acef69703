//! CloudFormation as the engine uses it: the port, the stack states by their exact names, and the next step of each.

#[cfg(any(test, feature = "testing"))]
pub mod fake;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::cloud::{LiveDrift, ResourceChange};

/// `StackStatus` of CloudFormation; see its API reference, `Stack`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackState {
    CreateInProgress,
    CreateFailed,
    CreateComplete,
    RollbackInProgress,
    RollbackFailed,
    RollbackComplete,
    DeleteInProgress,
    DeleteFailed,
    DeleteComplete,
    UpdateInProgress,
    UpdateCompleteCleanupInProgress,
    UpdateComplete,
    UpdateFailed,
    UpdateRollbackInProgress,
    UpdateRollbackFailed,
    UpdateRollbackCompleteCleanupInProgress,
    UpdateRollbackComplete,
    ReviewInProgress,
    ImportInProgress,
    ImportComplete,
    ImportRollbackInProgress,
    ImportRollbackFailed,
    ImportRollbackComplete,
    /// A status that this version does not know. The engine never changes such a stack.
    Unknown(String),
}

/// Names for parsing and formatting.
const NAMES: [(&str, StackState); 23] = [
    ("CREATE_IN_PROGRESS", StackState::CreateInProgress),
    ("CREATE_FAILED", StackState::CreateFailed),
    ("CREATE_COMPLETE", StackState::CreateComplete),
    ("ROLLBACK_IN_PROGRESS", StackState::RollbackInProgress),
    ("ROLLBACK_FAILED", StackState::RollbackFailed),
    ("ROLLBACK_COMPLETE", StackState::RollbackComplete),
    ("DELETE_IN_PROGRESS", StackState::DeleteInProgress),
    ("DELETE_FAILED", StackState::DeleteFailed),
    ("DELETE_COMPLETE", StackState::DeleteComplete),
    ("UPDATE_IN_PROGRESS", StackState::UpdateInProgress),
    ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", StackState::UpdateCompleteCleanupInProgress),
    ("UPDATE_COMPLETE", StackState::UpdateComplete),
    ("UPDATE_FAILED", StackState::UpdateFailed),
    ("UPDATE_ROLLBACK_IN_PROGRESS", StackState::UpdateRollbackInProgress),
    ("UPDATE_ROLLBACK_FAILED", StackState::UpdateRollbackFailed),
    ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", StackState::UpdateRollbackCompleteCleanupInProgress),
    ("UPDATE_ROLLBACK_COMPLETE", StackState::UpdateRollbackComplete),
    ("REVIEW_IN_PROGRESS", StackState::ReviewInProgress),
    ("IMPORT_IN_PROGRESS", StackState::ImportInProgress),
    ("IMPORT_COMPLETE", StackState::ImportComplete),
    ("IMPORT_ROLLBACK_IN_PROGRESS", StackState::ImportRollbackInProgress),
    ("IMPORT_ROLLBACK_FAILED", StackState::ImportRollbackFailed),
    ("IMPORT_ROLLBACK_COMPLETE", StackState::ImportRollbackComplete),
];

/// The step that a stack's state requires before the desired template can be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The stack does not exist.
    Create,
    /// The stack is stable and can be updated.
    Update,
    /// An operation is in progress.
    Wait,
    /// The creation failed, and its rollback ended or failed. CloudFormation allows only the deletion of such a stack.
    DeleteThenCreate,
    /// The rollback failed: `ContinueUpdateRollback`.
    ContinueRollback,
    /// An operation failed with rollback disabled: `RollbackStack`.
    RollBack,
    /// A person has to act.
    Stalled,
    /// The state is unknown: do nothing.
    Nothing,
}

impl StackState {
    pub fn parse(name: &str) -> Self {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map_or_else(|| Self::Unknown(name.to_owned()), |(_, s)| s.clone())
    }

    pub fn name(&self) -> &str {
        if let Self::Unknown(name) = self {
            return name;
        }
        NAMES.iter().find(|(_, state)| state == self).map_or("", |(name, _)| name)
    }

    /// The step that this state requires. The suffix of the name is misleading: a stack in `ROLLBACK_COMPLETE` can only
    /// be deleted, one in `UPDATE_ROLLBACK_COMPLETE` can be updated.
    pub fn next(&self) -> Next {
        match self {
            Self::DeleteComplete | Self::ReviewInProgress => Next::Create,
            Self::CreateComplete
            | Self::UpdateComplete
            | Self::UpdateRollbackComplete
            | Self::ImportComplete
            | Self::ImportRollbackComplete => Next::Update,
            Self::CreateInProgress
            | Self::RollbackInProgress
            | Self::DeleteInProgress
            | Self::UpdateInProgress
            | Self::UpdateCompleteCleanupInProgress
            | Self::UpdateRollbackInProgress
            | Self::UpdateRollbackCompleteCleanupInProgress
            | Self::ImportInProgress
            | Self::ImportRollbackInProgress => Next::Wait,
            Self::RollbackComplete | Self::RollbackFailed => Next::DeleteThenCreate,
            Self::UpdateRollbackFailed => Next::ContinueRollback,
            Self::CreateFailed | Self::UpdateFailed => Next::RollBack,
            Self::DeleteFailed | Self::ImportRollbackFailed => Next::Stalled,
            Self::Unknown(_) => Next::Nothing,
        }
    }

    /// Whether the stack's resources are usable: its last operation ended with all of them in place.
    pub fn serves(&self) -> bool {
        self.next() == Next::Update
    }
}

/// A stack as described by CloudFormation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackDescription {
    pub arn: String,
    pub state: StackState,
    /// CloudFormation's reason for the state.
    pub reason: Option<String>,
    pub outputs: BTreeMap<String, String>,
    /// Time of the last update, or of the creation.
    pub changed_at: Option<Timestamp>,
    pub tags: BTreeMap<String, String>,
}

/// The name in the ARN of a stack: `arn:<partition>:cloudformation:<region>:<account>:stack/<name>/<id>`.
pub fn stack_name(arn: &str) -> Option<&str> {
    let resource = arn.splitn(6, ':').nth(5)?;
    resource.strip_prefix("stack/")?.split('/').next()
}

/// Whether a change set creates a stack or updates one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeSetKind {
    /// `CREATE`
    Create,
    /// `UPDATE`
    Update,
}

/// How a change set treats existing resources with the names of its template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExisting {
    /// The creation fails.
    #[default]
    Refuse,
    /// The stack imports them (`ImportExistingResources`).
    Import,
}

/// Input of a change set. `Debug` shows no parameter value.
#[derive(Clone, Debug)]
pub struct ChangeSetRequest {
    /// Name of the stack.
    pub stack: String,
    /// Name of the change set, derived from its input.
    pub name: String,
    pub kind: ChangeSetKind,
    /// Template as JSON.
    pub template: String,
    /// Values of the template's parameters, some of them secret.
    pub parameters: BTreeMap<String, secrecy::SecretString>,
    /// Parameters that keep the stack's current value.
    pub unchanged: Vec<&'static str>,
    /// Acknowledged capabilities, for example `CAPABILITY_IAM`.
    pub capabilities: Vec<&'static str>,
    /// Tags of the stack, which CloudFormation propagates to its resources.
    pub tags: BTreeMap<String, String>,
    pub existing: OnExisting,
    pub mode: DeploymentMode,
}

/// What a change set compares the template with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeploymentMode {
    /// The template that was last applied.
    #[default]
    Standard,
    /// That and the live resources (`REVERT_DRIFT`).
    RevertDrift,
}

/// State of a change set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeSetState {
    /// CloudFormation is computing it.
    Pending,
    /// It can be executed.
    Ready,
    /// It contains no changes.
    Empty,
    /// It cannot be executed, for this reason.
    Failed(String),
}

/// A change set as described by CloudFormation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeSet {
    pub state: ChangeSetState,
    /// Changes in CloudFormation's order.
    pub changes: Vec<ResourceChange>,
    /// Resources that were changed outside CloudFormation; `None` if the live resources were not compared.
    pub drift: Option<Vec<LiveDrift>>,
}

/// A change set in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeSetSummary {
    pub name: String,
    pub created: Option<Timestamp>,
}

/// An event in a stack's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackEvent {
    pub id: String,
    pub at: Timestamp,
    /// Logical id of the resource; the stack's name for the stack itself.
    pub logical_id: String,
    /// `None` until the resource has one.
    pub physical_id: Option<String>,
    /// Type, for example `AWS::SQS::Queue`.
    pub resource_type: String,
    /// CloudFormation's `ResourceStatus`.
    pub status: String,
    pub reason: Option<String>,
}

impl StackEvent {
    /// Whether the stack with this ARN began an operation with this event. A rollback belongs to the operation that it
    /// undoes.
    pub fn begins_operation(&self, arn: &str) -> bool {
        const BEGINNINGS: [&str; 3] = ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"];
        self.physical_id.as_deref() == Some(arn) && BEGINNINGS.contains(&self.status.as_str())
    }

    /// Whether this event can be the cause of a failed operation. CloudFormation also reports resources as failed that
    /// it cancelled because another one failed first. Only the beginning of the reason distinguishes them; there is no
    /// code.
    pub fn is_cause(&self) -> bool {
        const STOPPED: [&str; 3] =
            ["Resource creation cancelled", "Resource update cancelled", "Resource deletion cancelled"];
        let stopped = self.reason.as_deref().is_some_and(|reason| STOPPED.iter().any(|text| reason.starts_with(text)));
        self.status.ends_with("_FAILED") && !stopped
    }
}

/// A resource of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackResource {
    pub logical_id: String,
    pub physical_id: Option<String>,
    pub resource_type: String,
    /// CloudFormation's `ResourceStatus`.
    pub status: String,
    pub reason: Option<String>,
}

/// Whether a resource exists, as far as CloudFormation knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceState {
    /// It exists, with the properties of the template or with others.
    Exists,
    /// It was deleted outside CloudFormation.
    Deleted,
    /// CloudFormation could not tell.
    Unknown,
}

/// The two rollbacks of a failed operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollback<'a> {
    /// `ContinueUpdateRollback`, from `UPDATE_ROLLBACK_FAILED`.
    ContinueRollback {
        /// Logical ids of resources to skip.
        skip: &'a [String],
    },
    /// `RollbackStack`, from `CREATE_FAILED` and `UPDATE_FAILED`.
    RollBack,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_name_and_one_next_step() {
        let expected = [
            ("CREATE_IN_PROGRESS", Next::Wait),
            ("CREATE_FAILED", Next::RollBack),
            ("CREATE_COMPLETE", Next::Update),
            ("ROLLBACK_IN_PROGRESS", Next::Wait),
            ("ROLLBACK_FAILED", Next::DeleteThenCreate),
            ("ROLLBACK_COMPLETE", Next::DeleteThenCreate),
            ("DELETE_IN_PROGRESS", Next::Wait),
            ("DELETE_FAILED", Next::Stalled),
            ("DELETE_COMPLETE", Next::Create),
            ("UPDATE_IN_PROGRESS", Next::Wait),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Next::Wait),
            ("UPDATE_COMPLETE", Next::Update),
            ("UPDATE_FAILED", Next::RollBack),
            ("UPDATE_ROLLBACK_IN_PROGRESS", Next::Wait),
            ("UPDATE_ROLLBACK_FAILED", Next::ContinueRollback),
            ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", Next::Wait),
            ("UPDATE_ROLLBACK_COMPLETE", Next::Update),
            ("REVIEW_IN_PROGRESS", Next::Create),
            ("IMPORT_IN_PROGRESS", Next::Wait),
            ("IMPORT_COMPLETE", Next::Update),
            ("IMPORT_ROLLBACK_IN_PROGRESS", Next::Wait),
            ("IMPORT_ROLLBACK_FAILED", Next::Stalled),
            ("IMPORT_ROLLBACK_COMPLETE", Next::Update),
        ];
        assert_eq!(expected.len(), NAMES.len());
        for (name, next) in expected {
            let state = StackState::parse(name);
            assert!(!matches!(state, StackState::Unknown(_)), "{name}");
            assert_eq!(state.name(), name);
            assert_eq!(state.next(), next, "{name}");
        }
    }

    /// Fails if an update of the SDK adds a status that is missing here.
    #[test]
    fn the_sdk_knows_no_other_state() {
        for name in aws_sdk_cloudformation::types::StackStatus::values() {
            assert!(!matches!(StackState::parse(name), StackState::Unknown(_)), "{name}");
        }
    }

    #[test]
    fn the_arn_of_a_stack_has_its_name() {
        let arn = "arn:aws:cloudformation:ap-northeast-2:123456789012:stack/coactus-a-b/1-2";
        assert_eq!(stack_name(arn), Some("coactus-a-b"));
        assert_eq!(stack_name("arn:aws:dynamodb:ap-northeast-2:123456789012:table/t"), None);
        assert_eq!(stack_name("coactus-a-b"), None);
    }

    #[test]
    fn an_unknown_state_is_left_alone() {
        let state = StackState::parse("CREATE_COMPLETE_ISH");
        assert_eq!(state, StackState::Unknown("CREATE_COMPLETE_ISH".to_owned()));
        assert_eq!(state.name(), "CREATE_COMPLETE_ISH");
        assert_eq!(state.next(), Next::Nothing);
        assert!(!state.serves());
    }
}
