//! Live values of the resources that a plan changes, through a drift-aware change set that is never executed.
//!
//! An update executes an ordinary change set: a drift-aware one would also change what scaling or people changed, and
//! create a deleted table again without its data.

use crate::cloud::ports::{PortError, Ports};
use crate::cloud::stack::{ChangeSet, ChangeSetKind, ChangeSetRequest, ChangeSetState, DeploymentMode};
use crate::cloud::{LiveDrift, ResourceChange};
use crate::engine::apply::change_set::compute;
use crate::engine::plan::LiveValues;
use crate::engine::settings::WaitPolicy;

/// Adds live values to the changes of an update. A failure is part of the result, so that the plan itself is shown.
pub(crate) async fn with_live_values(
    ports: &Ports,
    request: &ChangeSetRequest,
    wait_policy: WaitPolicy,
    changes: Vec<ResourceChange>,
) -> (Vec<ResourceChange>, LiveValues) {
    if request.kind == ChangeSetKind::Create {
        return (changes, LiveValues::None);
    }
    let mut request = request.clone();
    request.mode = DeploymentMode::RevertDrift;
    // Of this run alone, because it is removed at once.
    request.name = format!("{}-live-{:08x}", request.name, rand::random::<u32>());
    let set = compute(ports, &request, wait_policy).await;
    if let Err(error) = ports.stacks.discard(&request.stack, &request.name).await {
        // The next run removes it.
        tracing::warn!(%error, stack = request.stack, "a change set remains");
    }
    match drift(set) {
        Ok(drift) => merge(changes, drift),
        Err(why) => (changes, LiveValues::NotCompared(why)),
    }
}

/// The drift that a change set shows, or why it shows none.
fn drift(set: Result<ChangeSet, PortError>) -> Result<Vec<LiveDrift>, String> {
    let set = set.map_err(|error| error.to_string())?;
    match (set.state, set.drift) {
        (ChangeSetState::Pending, _) => Err("CloudFormation did not compute them in time".to_owned()),
        (ChangeSetState::Failed(reason), _) => Err(reason),
        (ChangeSetState::Ready | ChangeSetState::Empty, Some(drift)) => Ok(drift),
        (ChangeSetState::Ready | ChangeSetState::Empty, None) => {
            Err("the endpoint does not know drift-aware change sets".to_owned())
        }
    }
}

/// Adds drift to the changes of its resource; what the plan does not change is kept apart.
fn merge(mut changes: Vec<ResourceChange>, drift: Vec<LiveDrift>) -> (Vec<ResourceChange>, LiveValues) {
    let mut others = Vec::new();
    for mut resource in drift {
        let planned = changes.iter_mut().find(|change| change.logical_id == resource.logical_id);
        if let Some(change) = planned {
            resource.values.retain(|found| match change.values.iter_mut().find(|value| value.path == found.path) {
                Some(value) => {
                    value.live = Some(found.live.clone().unwrap_or_else(|| "absent".to_owned()));
                    false
                }
                None => true,
            });
        }
        if resource.deleted || !resource.values.is_empty() {
            others.push(resource);
        }
    }
    (changes, LiveValues::Compared(others))
}
