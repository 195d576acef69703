//! CloudFormation as the engine sees it: a small port, the stack's states by their exact names, and what each asks for.

#[cfg(any(test, feature = "testing"))]
pub mod fake;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::cloud::ResourceChange;
use crate::cloud::ports::Call;

/// Every `StackStatus` of CloudFormation (API reference, `Stack`), and what is not one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are CloudFormation's own and mean what its API reference says")]
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
    /// A name this program does not know. Nothing is done to such a stack.
    Unknown(String),
}

/// Exact names, in one place for both directions.
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

/// What a stack's state asks for before the wanted template can be compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is no stack: create it.
    Create,
    /// It is at rest and can be updated.
    Update,
    /// An operation runs; wait for its end.
    Wait,
    /// Its creation failed and was rolled back: CloudFormation allows nothing but deletion. Delete it, then create.
    DeleteThenCreate,
    /// Its rollback stopped half way: `ContinueUpdateRollback`.
    ContinueRollback,
    /// It failed with rollback switched off: `RollbackStack`.
    RollBack,
    /// Only a person can go on.
    Stalled,
    /// Not understood: do nothing.
    Nothing,
}

impl StackState {
    /// Reads CloudFormation's name.
    pub fn parse(name: &str) -> Self {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map_or_else(|| Self::Unknown(name.to_owned()), |(_, s)| s.clone())
    }

    /// CloudFormation's name.
    pub fn name(&self) -> &str {
        if let Self::Unknown(name) = self {
            return name;
        }
        NAMES.iter().find(|(_, state)| state == self).map_or("", |(name, _)| name)
    }

    /// What this state asks for. "Complete" and "failed" cannot be read from the ending of the name: `ROLLBACK_COMPLETE`
    /// is a dead stack and `UPDATE_ROLLBACK_COMPLETE` a living one.
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
            Self::RollbackComplete => Next::DeleteThenCreate,
            Self::UpdateRollbackFailed => Next::ContinueRollback,
            Self::CreateFailed | Self::UpdateFailed => Next::RollBack,
            Self::RollbackFailed | Self::DeleteFailed | Self::ImportRollbackFailed => Next::Stalled,
            Self::Unknown(_) => Next::Nothing,
        }
    }

    /// Whether the stack's resources serve: its last operation ended with all of them in place.
    pub fn serves(&self) -> bool {
        self.next() == Next::Update
    }
}

/// A stack as described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackDescription {
    /// ARN.
    pub arn: String,
    /// State.
    pub state: StackState,
    /// CloudFormation's reason for the state.
    pub reason: Option<String>,
    /// Outputs by key.
    pub outputs: BTreeMap<String, String>,
    /// Time of the last change, or of the creation.
    pub changed_at: Option<Timestamp>,
    /// Tags by key.
    pub tags: BTreeMap<String, String>,
}

/// Whether a change set makes a stack or changes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeSetKind {
    /// `CREATE`
    Create,
    /// `UPDATE`
    Update,
}

/// What a change set does about resources that exist already under the names its template gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExisting {
    /// The creation fails at them.
    #[default]
    Refuse,
    /// They are taken into the stack as they are (`ImportExistingResources`).
    Import,
}

/// What a change set is made of. `Debug` shows no parameter value.
#[derive(Clone, Debug)]
pub struct ChangeSetRequest {
    /// Stack name.
    pub stack: String,
    /// Name of the change set; the same input has the same name.
    pub name: String,
    /// Kind.
    pub kind: ChangeSetKind,
    /// Template, JSON.
    pub template: String,
    /// Values of the template's parameters, some of them secret.
    pub parameters: BTreeMap<String, secrecy::SecretString>,
    /// Parameters that keep the value the stack has.
    pub unchanged: Vec<&'static str>,
    /// Capabilities acknowledged, for example `CAPABILITY_IAM`.
    pub capabilities: Vec<&'static str>,
    /// Tags of the stack, which CloudFormation hands on to its resources.
    pub tags: BTreeMap<String, String>,
    /// What becomes of resources that exist already.
    pub existing: OnExisting,
}

/// How far a change set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeSetState {
    /// Still being computed.
    Pending,
    /// Ready to be executed.
    Ready,
    /// There is nothing to change.
    Empty,
    /// It cannot be executed, for the reason given.
    Failed(String),
}

/// A change set as described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeSet {
    /// How far it is.
    pub state: ChangeSetState,
    /// Changes, in CloudFormation's order.
    pub changes: Vec<ResourceChange>,
}

/// One line of a stack's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackEvent {
    /// Identity.
    pub id: String,
    /// Time.
    pub at: Timestamp,
    /// Logical id of the resource; the stack's name for the stack itself.
    pub logical_id: String,
    /// Physical id, where it has one already.
    pub physical_id: Option<String>,
    /// Type, for example `AWS::SQS::Queue`.
    pub resource_type: String,
    /// CloudFormation's `ResourceStatus`.
    pub status: String,
    /// AWS's reason.
    pub reason: Option<String>,
}

impl StackEvent {
    /// Whether this event can be the cause of a failed operation. Resources CloudFormation stopped because another one failed
    /// first are reported as failed too, with a reason that begins like this; there is no code for it.
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
    /// Logical id.
    pub logical_id: String,
    /// Physical id.
    pub physical_id: Option<String>,
    /// Type.
    pub resource_type: String,
    /// CloudFormation's `ResourceStatus`.
    pub status: String,
    /// AWS's reason.
    pub reason: Option<String>,
}

/// The two ways back from a failed update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollback<'a> {
    /// `ContinueUpdateRollback`, from `UPDATE_ROLLBACK_FAILED`.
    ContinueRollback {
        /// Logical ids of resources that are left as they are.
        skip: &'a [String],
    },
    /// `RollbackStack`, from `CREATE_FAILED` and `UPDATE_FAILED`.
    RollBack,
}

/// CloudFormation stacks. `stack` is a name or an ARN everywhere; a deleted stack is found by its ARN only.
pub trait StackProvider: Send + Sync {
    /// The stack, or `None`.
    fn describe<'a>(&'a self, stack: &'a str) -> Call<'a, Option<StackDescription>>;
    /// Starts the computation of a change set. `AlreadyExists` when one of that name is there.
    fn create_change_set<'a>(&'a self, request: &'a ChangeSetRequest) -> Call<'a, ()>;
    /// State and changes of a change set.
    fn change_set<'a>(&'a self, stack: &'a str, name: &'a str) -> Call<'a, ChangeSet>;
    /// Starts its execution. `token` makes a repeated call harmless.
    fn execute<'a>(&'a self, stack: &'a str, name: &'a str, token: &'a str) -> Call<'a, ()>;
    /// Names of the change sets a stack has.
    fn change_sets<'a>(&'a self, stack: &'a str) -> Call<'a, Vec<String>>;
    /// Removes a change set that is not wanted. Idempotent.
    fn discard<'a>(&'a self, stack: &'a str, name: &'a str) -> Call<'a, ()>;
    /// Starts the way back to the last good state.
    fn roll_back<'a>(&'a self, stack: &'a str, way: Rollback<'a>, token: &'a str) -> Call<'a, ()>;
    /// Starts the deletion; the resources with the logical ids `retain` stay, which only a stack in `DELETE_FAILED` allows. Idempotent.
    fn delete<'a>(&'a self, stack: &'a str, retain: &'a [String], token: &'a str) -> Call<'a, ()>;
    /// Events newer than the one with id `after`, oldest first; all there are when `after` is `None`.
    fn events_since<'a>(&'a self, stack: &'a str, after: Option<&'a str>) -> Call<'a, Vec<StackEvent>>;
    /// What CloudFormation's validation before a deployment refused, as sentences that name the resource: of a change set, or of
    /// the stack's last operation. Such a refusal is no event of a resource.
    fn refusals<'a>(&'a self, stack: &'a str, change_set: Option<&'a str>) -> Call<'a, Vec<String>>;
    /// Resources, in CloudFormation's order.
    fn resources<'a>(&'a self, stack: &'a str) -> Call<'a, Vec<StackResource>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_named_and_asks_for_one_thing() {
        let expected = [
            ("CREATE_IN_PROGRESS", Next::Wait),
            ("CREATE_FAILED", Next::RollBack),
            ("CREATE_COMPLETE", Next::Update),
            ("ROLLBACK_IN_PROGRESS", Next::Wait),
            ("ROLLBACK_FAILED", Next::Stalled),
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

    /// The SDK's list is the authority: a status it learns and we do not know fails here.
    #[test]
    fn the_sdk_knows_no_other_state() {
        for name in aws_sdk_cloudformation::types::StackStatus::values() {
            assert!(!matches!(StackState::parse(name), StackState::Unknown(_)), "{name}");
        }
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
