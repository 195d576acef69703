//! How a run ended for the stack.

use dispatch_api::conditions::Reason;

use crate::cloud::ResourceChange;
use crate::cloud::stack::{StackDescription, StackState};
use crate::engine::plan::{LiveValues, StackStep};

/// How a run ended for the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It matches the spec.
    Settled,
    /// The plan waits for approval.
    Blocked,
    /// There is a plan, and this is a dry run.
    Planned,
    /// CloudFormation rejected or rolled back the change.
    Failed {
        /// State it ended in.
        state: StackState,
        /// First failed event, or CloudFormation's reason.
        cause: String,
    },
    /// The wait ended while CloudFormation was still computing the change set; the next run finds it.
    Comparing,
    /// The wait ended while an operation was still in progress.
    StillRunning(StackState),
    /// The limit of concurrent stack operations is reached.
    Waiting,
    /// The stack is in a state that requires a person.
    Stalled(StackState),
    /// The engine or AWS rejects the request, and a retry does not help.
    Refused {
        /// Reason of the condition.
        reason: Reason,
        /// What is rejected and what to do.
        message: String,
    },
    /// The state is unknown; nothing was done.
    Skipped(StackState),
    /// It differs from the spec, and this run does not change it.
    Untouched,
}

/// The stack after a run.
#[derive(Clone, Debug)]
pub struct StackResult {
    pub verdict: Verdict,
    /// The stack as last described.
    pub stack: Option<StackDescription>,
    /// First step that the run found necessary.
    pub step: StackStep,
    /// Resources of the change set, or of the template for a new stack.
    pub changes: Vec<ResourceChange>,
    /// Live values, if the plan waits for an approval.
    pub live: LiveValues,
    /// Whether the run changed anything in AWS.
    pub changed: bool,
    /// Whether the run submitted the desired input to CloudFormation.
    pub attempted: bool,
    /// Logical ids that a rollback skipped.
    pub skipped: Vec<String>,
}
