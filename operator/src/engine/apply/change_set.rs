//! Builds, creates, finds, awaits and removes change sets.

use jiff::SignedDuration;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::cloud::ports::{PortError, PortErrorKind, Ports};
use crate::cloud::stack::{
    ChangeSet, ChangeSetKind, ChangeSetRequest, ChangeSetState, DeploymentMode, OnExisting, StackDescription,
    StackState,
};
use crate::cloud::{ChangeKind, ResourceChange};
use crate::engine::comparison::Comparison;
use crate::engine::outcome::Verdict;
use crate::engine::plan::digests::{IMPORTED, RECORD, TEMPLATE_DIGEST};
use crate::engine::plan::hex;
use crate::engine::plan::indexes::IndexSteps;
use crate::engine::plan::monthly_cost::{cost_of_change, cost_without_template};
use crate::engine::plan::property_values::differences;
use crate::engine::plan::template;
use crate::engine::settings::WaitPolicy;
use crate::engine::stack_input::StackInput;

/// Prefix of the names of this program's change sets.
pub(crate) const CHANGE_SET_PREFIX: &str = "coactus-";

/// Age from which a change set of this program counts as abandoned. A run waits at most an hour for its change set, and
/// executes or removes it afterwards.
const ABANDONED_AFTER: SignedDuration = SignedDuration::from_hours(2);

/// Creates a change set, or finds the one that an earlier run created from the same input, and waits until it is
/// computed.
pub(crate) async fn compute(
    ports: &Ports,
    request: &ChangeSetRequest,
    wait_policy: WaitPolicy,
) -> Result<ChangeSet, PortError> {
    match ports.stacks.create_change_set(request).await {
        Ok(()) => discard_abandoned(ports, request).await,
        Err(error) if error.kind == PortErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let deadline = Instant::now() + wait_policy.total;
    let mut pause = wait_policy.first;
    loop {
        let set = ports.stacks.change_set(&request.stack, &request.name).await;
        let set = set.map_err(|error| superseded(error, &request.stack))?;
        if set.state != ChangeSetState::Pending || Instant::now() >= deadline {
            return Ok(set);
        }
        sleep(pause).await;
        pause = (pause * 2).min(wait_policy.longest);
    }
}

/// Names the cause of an error that a change set no longer exists, or can no longer be executed: another run has
/// executed its own.
pub(super) fn superseded(error: PortError, stack: &str) -> PortError {
    if !matches!(error.kind, PortErrorKind::NotFound | PortErrorKind::Conflict) {
        return error;
    }
    let message =
        format!("another run has changed stack {stack} meanwhile, and this run has changed nothing; apply again");
    PortError { action: "apply the changes", kind: PortErrorKind::Conflict, message, ..error }
}

/// Removes change sets that interrupted runs left. A younger one may be another run's, which is about to execute it. A
/// failure is only logged: the next execution removes them as well.
async fn discard_abandoned(ports: &Ports, request: &ChangeSetRequest) {
    let now = (ports.clock)();
    let found = async {
        for set in ports.stacks.change_sets(&request.stack).await? {
            let is_old = set.created.is_some_and(|created| now.duration_since(created) > ABANDONED_AFTER);
            if is_old && set.name != request.name && set.name.starts_with(CHANGE_SET_PREFIX) {
                ports.stacks.discard(&request.stack, &set.name).await?;
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

/// Adds to the changes the values that an update changes, and what they add to the charges of a month. Without the last
/// template they stay without values.
pub(crate) async fn with_values(
    ports: &Ports,
    request: &ChangeSetRequest,
    mut changes: Vec<ResourceChange>,
) -> Vec<ResourceChange> {
    let old = match request.kind {
        ChangeSetKind::Create => Some(Value::Null),
        ChangeSetKind::Update => match ports.stacks.template(&request.stack).await {
            Ok(old) => Some(old),
            Err(error) => {
                tracing::warn!(%error, stack = request.stack, "the plan shows no values");
                None
            }
        },
    };
    let new: Value = serde_json::from_str(&request.template).unwrap_or_default();
    for change in &mut changes {
        let new = &new["Resources"][change.logical_id.as_str()];
        let Some(old) = old.as_ref().map(|old| &old["Resources"][change.logical_id.as_str()]) else {
            change.cost = cost_without_template(change, new);
            continue;
        };
        if matches!(change.kind, ChangeKind::Change | ChangeKind::Replace) {
            change.values = differences(old, new);
        }
        // An imported resource is charged already.
        let is_imported = change.kind == ChangeKind::Add && change.physical_id.is_some();
        if !is_imported {
            let kind = if change.may_replace() { ChangeKind::Change } else { change.kind };
            change.cost = cost_of_change(kind, old, new);
        }
    }
    changes
}

/// The verdict on a change set that CloudFormation could not compute. Its validation errors are read, so it must still
/// exist.
pub(crate) async fn failed_change_set(
    ports: &Ports,
    request: &ChangeSetRequest,
    found: Option<&StackDescription>,
    reason: &str,
) -> Verdict {
    let refusals = refusals(ports, &request.stack, Some(&request.name)).await;
    let state = found.map_or(StackState::ReviewInProgress, |stack| stack.state.clone());
    let cause = if refusals.is_empty() { format!("the change set failed: {reason}") } else { refusals.join("; ") };
    Verdict::Failed { state, cause }
}

/// The change set that creates the stack and imports the data that an earlier one retained.
///
/// Imported resources get `Retain`, not `RetainExceptOnCreate`, so that a failed creation leaves them in place.
/// Otherwise both policies mean the same, so the digests stay, unless the spec's policy is `Delete`: CloudFormation
/// imports only resources with a retaining policy, so the next comparison has to find a difference. A table that
/// lacks indexes is imported without them; they are added one by one.
pub(crate) fn import(
    desired: &StackInput,
    found: Option<&StackDescription>,
    steps: Option<&IndexSteps>,
) -> ChangeSetRequest {
    let mut request = change_set(desired, ChangeSetKind::Create, found);
    request.existing = OnExisting::Import;
    let mut body = desired.template.clone();
    for id in template::DATA_RESOURCES {
        if body["Resources"][id]["DeletionPolicy"] == "Delete" {
            record(&mut body, IMPORTED);
        }
        body["Resources"][id]["DeletionPolicy"] = json!("Retain");
    }
    if let Some(steps) = steps {
        lack_indexes(&mut body, steps);
    }
    request.template = body.to_string();
    request.name.push_str("-import");
    request
}

/// The change set that updates `found` to this input, or adds the next missing index of its table. Its name is
/// derived from both, so that a run after an interrupted one finds the same change set.
pub(crate) fn change_set(
    desired: &StackInput,
    kind: ChangeSetKind,
    found: Option<&StackDescription>,
) -> ChangeSetRequest {
    let living = found.filter(|_| kind == ChangeSetKind::Update);
    let base = living.map(|stack| format!("{} {:?}", stack.arn, stack.changed_at)).unwrap_or_default();
    let digest = hex(&Sha256::digest(format!("{} {base}", desired.hash())));
    let lacking = Comparison::new(desired, living).index_steps.and_then(|steps| steps.after());
    let template = lacking.map_or_else(
        || desired.body.clone(),
        |steps| {
            let mut body = desired.template.clone();
            lack_indexes(&mut body, &steps);
            body.to_string()
        },
    );
    ChangeSetRequest {
        stack: desired.stack.clone(),
        name: format!("{CHANGE_SET_PREFIX}{}", digest.get(..32).unwrap_or(&digest)),
        kind,
        template,
        parameters: desired.parameters.clone(),
        unchanged: desired.unchanged.clone(),
        capabilities: template::CAPABILITIES.to_vec(),
        tags: desired.stack_tags(found),
        existing: OnExisting::Refuse,
        mode: DeploymentMode::Standard,
    }
}

/// Replaces the template digest, so that the next comparison finds a difference.
fn record(body: &mut Value, text: &str) {
    body["Outputs"][TEMPLATE_DIGEST]["Value"] = json!(text);
    body["Resources"][RECORD]["Metadata"][TEMPLATE_DIGEST] = json!(text);
}

fn lack_indexes(body: &mut Value, steps: &IndexSteps) {
    template::without_indexes(body, &steps.missing());
    record(body, &steps.record());
}
