//! Creates, finds, awaits and removes change sets.

use tokio::time::{Instant, sleep};

use crate::cloud::ports::{PortError, PortErrorKind, Ports};
use crate::cloud::stack::{ChangeSet, ChangeSetRequest, ChangeSetState};
use crate::engine::desired::CHANGE_SET_PREFIX;
use crate::engine::settings::WaitPolicy;

/// Creates a change set, or finds the one that an earlier run created from the same input, and waits until it is
/// computed.
pub(crate) async fn compute(
    ports: &Ports,
    request: &ChangeSetRequest,
    wait_policy: WaitPolicy,
) -> Result<ChangeSet, PortError> {
    match ports.stacks.create_change_set(request).await {
        Ok(()) => discard_others(ports, request).await,
        Err(error) if error.kind == PortErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let deadline = Instant::now() + wait_policy.total;
    let mut pause = wait_policy.first;
    loop {
        let set = ports.stacks.change_set(&request.stack, &request.name).await?;
        if set.state != ChangeSetState::Pending || Instant::now() >= deadline {
            return Ok(set);
        }
        sleep(pause).await;
        pause = (pause * 2).min(wait_policy.longest);
    }
}

/// Removes change sets that an interrupted run created from another input. A failure is only logged: the next execution
/// removes them as well.
async fn discard_others(ports: &Ports, request: &ChangeSetRequest) {
    let found = async {
        for name in ports.stacks.change_sets(&request.stack).await? {
            if name != request.name && name.starts_with(CHANGE_SET_PREFIX) {
                ports.stacks.discard(&request.stack, &name).await?;
            }
        }
        Ok::<_, PortError>(())
    };
    if let Err(error) = found.await {
        tracing::warn!(%error, stack = request.stack, "older change sets may remain");
    }
}

/// The validation errors of a change set or stack. If they cannot be read, the failure itself is still reported.
pub(super) async fn refusals(ports: &Ports, stack: &str, change_set: Option<&str>) -> Vec<String> {
    match ports.stacks.refusals(stack, change_set).await {
        Ok(refusals) => refusals,
        Err(error) => {
            tracing::warn!(%error, stack, "cannot read the validation errors");
            Vec::new()
        }
    }
}
