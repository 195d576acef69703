//! Waits for the end of a CloudFormation operation.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use crate::cloud::ports::PortError;
use crate::cloud::ports::StackProvider;
use crate::cloud::stack::{Next, StackDescription, StackEvent, StackState};
use crate::engine::progress::{Event, Progress};
use crate::engine::settings::WaitPolicy;

/// Which stable state ends a wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// Any: the operation was started by an earlier run or another client.
    Any,
    /// Only one that an event since the start of the wait confirms: CloudFormation still reports the old state for a
    /// moment after it accepts an operation.
    New,
}

/// How a wait ended.
#[derive(Clone, Debug)]
pub(crate) enum FinalState {
    /// The stack is in a stable state.
    At(StackDescription),
    /// The stack does not exist.
    Gone,
    /// The wait policy ended first.
    StillRunning(StackDescription),
}

/// The event that caused the failure of the last operation. `events` are oldest first.
pub(crate) fn last_cause<'a>(events: &'a [StackEvent], arn: &str) -> Option<&'a StackEvent> {
    let start = events.iter().rposition(|event| event.begins_operation(arn))?;
    events.iter().skip(start).find(|event| event.is_cause())
}

/// Waits for a stack and collects its events meanwhile.
pub(crate) struct StackWaiter<'a> {
    stacks: &'a Arc<dyn StackProvider>,
    arn: String,
    wait_policy: WaitPolicy,
    seen: Option<String>,
    own_status: Option<String>,
    cause: Option<StackEvent>,
    kept: Vec<StackEvent>,
}

impl<'a> StackWaiter<'a> {
    /// Starts after the latest event, so that older ones are not reported.
    pub(crate) async fn new(
        stacks: &'a Arc<dyn StackProvider>,
        arn: &str,
        wait_policy: WaitPolicy,
    ) -> Result<Self, PortError> {
        let seen = stacks.events_since(arn, None).await?.pop().map(|event| event.id);
        let arn = arn.to_owned();
        Ok(Self { stacks, arn, wait_policy, seen, own_status: None, cause: None, kept: Vec::new() })
    }

    /// The first event that can be the cause of a failure.
    pub(crate) fn cause(&self) -> Option<&StackEvent> {
        self.cause.as_ref()
    }

    /// Resources that a deletion retained.
    pub(crate) fn kept(&self) -> Vec<StackEvent> {
        self.kept.clone()
    }

    /// Polls at growing intervals until the stack is in a stable state.
    pub(crate) async fn until_rest(
        &mut self,
        freshness: Since,
        progress: &mut dyn Progress,
    ) -> Result<FinalState, PortError> {
        let deadline = Instant::now() + self.wait_policy.total;
        let mut pause = self.wait_policy.first;
        loop {
            let Some(stack) = self.stacks.describe(&self.arn).await? else { return Ok(FinalState::Gone) };
            // Events are read after the state, so that a final state has all its events.
            self.read_events(progress).await?;
            if stack.state == StackState::DeleteComplete {
                return Ok(FinalState::Gone);
            }
            let at_rest = stack.state.next() != Next::Wait;
            let fresh = freshness == Since::Any || self.own_status.as_deref() == Some(stack.state.name());
            if at_rest && fresh {
                return Ok(FinalState::At(stack));
            }
            if Instant::now() >= deadline {
                return Ok(FinalState::StillRunning(stack));
            }
            sleep(pause).await;
            pause = (pause * 2).min(self.wait_policy.longest);
        }
    }

    async fn read_events(&mut self, progress: &mut dyn Progress) -> Result<(), PortError> {
        for event in self.stacks.events_since(&self.arn, self.seen.as_deref()).await? {
            self.seen = Some(event.id.clone());
            if event.physical_id.as_deref() == Some(self.arn.as_str()) {
                self.own_status = Some(event.status.clone());
            } else if event.status == "DELETE_SKIPPED" {
                self.kept.push(event.clone());
            }
            if self.cause.is_none() && event.is_cause() {
                self.cause = Some(event.clone());
            }
            progress.report(Event::Stack(event));
        }
        Ok(())
    }
}
