//! What prevents a system from reaching its spec until a person acts. Decided here alone, so that a plan, an apply and
//! a status say the same about the same observation. Pure.

use dispatch_api::conditions::Reason;

use crate::cloud::stack::StackState;
use crate::engine::outcome::Verdict;
use crate::engine::plan::Blockage;

impl Blockage {
    /// The blockage, if there is one. A plan that waits for its approval is none: it shows how to approve it.
    ///
    /// `gone` are resources of the stack that were deleted and that an apply does not create again.
    pub fn find(stack: &str, verdict: &Verdict, gone: &[String]) -> Option<Self> {
        let blockage = |reason, message| Some(Self { reason, message });
        match verdict {
            Verdict::Stalled(state) => blockage(stalled_reason(state), stalled_message(stack, state)),
            Verdict::Failed { state, cause } => blockage(failed_reason(state), cause.clone()),
            Verdict::Refused { reason, message } => blockage(*reason, message.clone()),
            Verdict::Skipped(state) => {
                let state = state.name();
                let message = format!(
                    "stack {stack} is in {state}, a state that this version does not know; nothing is done until it changes"
                );
                blockage(Reason::UnknownStackState, message)
            }
            Verdict::Settled | Verdict::Untouched | Verdict::Planned if !gone.is_empty() => {
                blockage(Reason::ResourceGone, gone.join("; "))
            }
            Verdict::Settled
            | Verdict::Untouched
            | Verdict::Planned
            | Verdict::Blocked
            | Verdict::Comparing
            | Verdict::StillRunning(_)
            | Verdict::Waiting => None,
        }
    }
}

fn stalled_reason(state: &StackState) -> Reason {
    match state {
        StackState::DeleteFailed => Reason::DeleteFailed,
        StackState::RollbackComplete | StackState::RollbackFailed => Reason::CreateFailed,
        StackState::UpdateRollbackComplete => Reason::UpdateRolledBack,
        StackState::UpdateRollbackFailed => Reason::UpdateRollbackFailed,
        _ => Reason::StackStalled,
    }
}

fn failed_reason(state: &StackState) -> Reason {
    match state {
        StackState::RollbackComplete | StackState::RollbackFailed | StackState::CreateFailed => Reason::CreateFailed,
        // The change set failed; the stack is as it was.
        StackState::ReviewInProgress
        | StackState::CreateComplete
        | StackState::UpdateComplete
        | StackState::ImportComplete => Reason::ChangeSetFailed,
        StackState::UpdateRollbackFailed => Reason::UpdateRollbackFailed,
        StackState::DeleteFailed => Reason::DeleteFailed,
        _ => Reason::UpdateRolledBack,
    }
}

fn stalled_message(stack: &str, state: &StackState) -> String {
    let action = match state {
        StackState::DeleteFailed => {
            "remove what prevents the deletion (see the stack's events), delete the system, then apply it again; \
             retained data is imported"
        }
        StackState::RollbackComplete | StackState::RollbackFailed | StackState::UpdateRollbackComplete => {
            "change the spec; the same input failed before"
        }
        _ => "see the stack's events and bring it to a stable state",
    };
    format!("stack {stack} is in {}; action required: {action}", state.name())
}
