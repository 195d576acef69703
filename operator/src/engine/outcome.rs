//! What became of the stack in a run.

use dispatch_api::conditions::Reason;

use crate::cloud::ResourceChange;
use crate::cloud::stack::{StackDescription, StackState};
use crate::engine::plan::StackStep;

/// How it ended with the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as wanted.
    Settled,
    /// The plan waits for an approval.
    Blocked,
    /// There is a plan, and it is not to be carried out.
    Planned,
    /// CloudFormation refused or rolled back; the first event that failed is the cause.
    Failed {
        /// State it ended in.
        state: StackState,
        /// First failed event, or CloudFormation's reason.
        cause: String,
    },
    /// CloudFormation still computes the change set and patience has ended; the next run finds it.
    Comparing,
    /// An operation still runs and patience has ended.
    StillRunning(StackState),
    /// Other operations run, as many as may at once.
    Waiting,
    /// Only a person can go on.
    Stalled(StackState),
    /// The engine or AWS refuses, and only a person can go on.
    Refused {
        /// Reason of the condition.
        reason: Reason,
        /// What is refused and what to do.
        message: String,
    },
    /// The state is not understood; nothing was done.
    LeftAlone(StackState),
    /// Nothing was to be done to it in this run, and it differs from what is wanted.
    Untouched,
}

/// The stack after a run.
#[derive(Clone, Debug)]
pub struct StackResult {
    /// How it ended.
    pub verdict: Verdict,
    /// As last seen.
    pub stack: Option<StackDescription>,
    /// First step that was to be done.
    pub step: StackStep,
    /// Resources of the change set, or of the template for a new stack.
    pub changes: Vec<ResourceChange>,
    /// Whether anything was changed.
    pub changed: bool,
    /// Whether the wanted input was handed to CloudFormation in this run.
    pub attempted: bool,
    /// Resources that were left out of a rollback.
    pub skipped: Vec<String>,
}
