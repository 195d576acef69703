//! The reconcile: `observe -> plan -> apply -> status`, for both the command line and the Kubernetes controller.

use crate::engine::error::EngineError;
use crate::engine::settings::DriftDetection;
use crate::engine::settings::Mode;
use crate::engine::settings::RetryPolicy;
use crate::engine::settings::Settings;
use crate::engine::settings::WaitPolicy;
use crate::engine::stack_input::StackInput;

use dispatch_api::conditions::{ConditionType, Reason};
use dispatch_api::dispatch_system::{DispatchSystemStatus, ManagementPolicy, OutputsStatus};
use dispatch_api::validate::ValidatedSystem;

use crate::cloud::ResourceChange;
use crate::cloud::ports::Ports;
use crate::cloud::stack::{ChangeSetKind, ChangeSetState, StackDescription};
use crate::engine::apply::{self, Run};
use crate::engine::comparison::Comparison;
use crate::engine::former_names::{find_names, refuse_unfit};
use crate::engine::outcome::{StackResult, Verdict};
use crate::engine::outputs::ArnBase;
use crate::engine::plan::{
    Credential, DirectFinding, DirectResources, DirectStep, Input, Plan, Retry, StackStep, direct_steps, next_step,
};
use crate::engine::progress::Progress;
use crate::engine::{observe, outputs, status};

/// Result of a reconcile.
#[derive(Clone, Debug)]
pub struct ReconcileReport {
    pub status: DispatchSystemStatus,
    /// Names and addresses, once the stack reports all of them.
    pub outputs: Option<OutputsStatus>,
    pub plan: Plan,
    /// Whether the run changed anything in AWS.
    pub changed: bool,
}

impl ReconcileReport {
    /// Whether the system serves and matches its spec.
    pub fn is_ready(&self) -> bool {
        status::is_true(&self.status, ConditionType::Ready)
    }
}

/// Converges the environment to the spec, subject to its policies, and reports the status.
///
/// Changes that AWS rejects or rolls back are reported in the status ([`ReconcileReport::is_ready`] is then false). An
/// error means that a call failed; the caller should retry later, or ask for action if
/// [`EngineError::is_transient`] is false. With `managementPolicy: Observe` or `suspend: true` it makes no mutating
/// call.
pub async fn reconcile(
    system: &ValidatedSystem,
    ports: &Ports,
    settings: &Settings,
    progress: &mut dyn Progress,
) -> Result<ReconcileReport, EngineError> {
    if system.spec.suspend || system.spec.management_policy == ManagementPolicy::Observe {
        return Box::pin(inspect(system, ports, settings)).await;
    }
    if settings.mode == Mode::DryRun {
        return Box::pin(examine(system, ports, settings, Depth::Resources)).await;
    }
    let named = find_names(system, ports, settings.previous.as_ref()).await?;
    let system = named.as_deref().unwrap_or(system);
    let (found, account) = find(system, ports, settings).await?;
    refuse_unfit(system, found.as_ref())?;
    let desired = StackInput::new(system, &settings.secrets, &account)?;
    let before = Comparison::new(&desired, found.as_ref());
    let mut run = Run {
        system,
        desired: &desired,
        ports,
        approval: &settings.approval,
        retry: retry(system, &desired, settings),
        adoption: &settings.adoption,
        table_names: &settings.table_names,
        gate: settings.gate.as_deref(),
        credential: before.credential,
        wait_policy: settings.wait_policy,
        skip: settings.skip.as_slice(),
        progress,
    };
    let tags = before.tag_step();
    // The future is too large for the stack.
    let mut stack = Box::pin(run.converge(found)).await?;
    let (mut found_parts, mut finding) = (DirectResources::default(), DirectFinding::default());
    let mut steps = Vec::new();
    let after = Comparison::new(&desired, stack.stack.as_ref());
    if let Some(living) = stack.stack.as_ref().filter(|_| after.is_usable) {
        found_parts = observe::direct_resources(system, ports, living, drift(settings)).await?;
        // `converge` has sent a changed credential to SNS right before the stack recorded it.
        finding = direct_steps(system, &found_parts, Credential::Same);
        steps = std::mem::take(&mut finding.steps);
        let refused = run.repair(&steps, &mut found_parts).await?;
        if let (Verdict::Settled, Some(refused)) = (&stack.verdict, refused) {
            stack.verdict = refused;
        }
    }
    let changed = stack.changed || !steps.is_empty();
    // A process that was killed after it submitted the input could not record that; a stack that has the input proves
    // it.
    stack.attempted |= after.input == Input::Applied;
    match tags {
        Some(tags) if stack.changed => steps.push(tags),
        tags => finding.reported.extend(tags),
    }
    let plan = Plan::new(&desired.hash(), stack.step.clone(), stack.changes.clone(), steps);
    Ok(conclude(Conclusion {
        system,
        desired: &desired,
        comparison: &after,
        ports,
        settings,
        stack,
        parts: found_parts,
        finding,
        plan,
        changed,
    }))
}

/// Reports the state of the environment and changes nothing, whatever the policies are. Drift is reported, not
/// corrected. Requires no secret: missing ones are assumed to be those already applied.
pub async fn inspect(
    system: &ValidatedSystem,
    ports: &Ports,
    settings: &Settings,
) -> Result<ReconcileReport, EngineError> {
    examine(system, ports, settings, Depth::Digests).await
}

/// Level of detail of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Only whether anything differs.
    Digests,
    /// Resource by resource, if necessary through a temporary change set.
    Resources,
}

async fn examine(
    system: &ValidatedSystem,
    ports: &Ports,
    settings: &Settings,
    depth: Depth,
) -> Result<ReconcileReport, EngineError> {
    let named = find_names(system, ports, settings.previous.as_ref()).await?;
    let system = named.as_deref().unwrap_or(system);
    let (found, account) = find(system, ports, settings).await?;
    refuse_unfit(system, found.as_ref())?;
    let desired = match StackInput::new(system, &settings.secrets, &account) {
        Err(EngineError::SecretMissing { .. }) => StackInput::without_secrets(system, found.as_ref(), &account)?,
        other => other?,
    };
    let comparison = Comparison::new(&desired, found.as_ref());
    let input = comparison.recorded;
    let (mut found_parts, mut finding) = (DirectResources::default(), DirectFinding::default());
    if let Some(living) = found.as_ref().filter(|_| comparison.is_usable) {
        found_parts = observe::direct_resources(system, ports, living, drift_look(settings, input)).await?;
        finding = direct_steps(system, &found_parts, Credential::Same);
        let (drift, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut finding.steps).into_iter().partition(DirectStep::corrects_drift);
        finding.reported.extend(drift);
        finding.problems.extend(rest.iter().map(|step| format!("pending: {step}")));
        finding.reported.extend(comparison.tag_step());
    }
    let step = next_step(found.as_ref(), input, Retry::Allowed);
    let mut verdict = match desired.refusal(found.as_ref(), &settings.adoption) {
        Some(message) => Verdict::Refused { reason: Reason::OwnedByAnother, message },
        None => apply::inspect(found.as_ref(), input),
    };
    let mut changes = Vec::new();
    if depth == Depth::Resources && verdict == Verdict::Untouched {
        (verdict, changes) = planned(&desired, ports, found.as_ref(), settings.wait_policy).await?;
    }
    let plan = Plan::new(&desired.hash(), step.clone(), changes, Vec::new());
    let stack = StackResult {
        verdict,
        stack: found,
        step,
        changes: Vec::new(),
        changed: false,
        attempted: false,
        skipped: Vec::new(),
    };
    Ok(conclude(Conclusion {
        system,
        desired: &desired,
        comparison: &comparison,
        ports,
        settings,
        stack,
        parts: found_parts,
        finding,
        plan,
        changed: false,
    }))
}

/// What [`reconcile`] would do, resource by resource.
///
/// CloudFormation compares an existing stack through a temporary change set. With `Observe` or `suspend` no change set
/// is created, and the plan says only whether anything differs.
pub async fn preview(system: &ValidatedSystem, ports: &Ports, settings: &Settings) -> Result<Plan, EngineError> {
    let named = find_names(system, ports, settings.previous.as_ref()).await?;
    let system = named.as_deref().unwrap_or(system);
    let (found, account) = find(system, ports, settings).await?;
    refuse_unfit(system, found.as_ref())?;
    let desired = StackInput::new(system, &settings.secrets, &account)?;
    if let Some(message) = desired.refusal(found.as_ref(), &settings.adoption) {
        return Err(EngineError::OwnedByAnother(message));
    }
    let comparison = Comparison::new(&desired, found.as_ref());
    let mut step = comparison.next_step(found.as_ref(), Retry::Allowed);
    let may_write = !system.spec.suspend && system.spec.management_policy == ManagementPolicy::Full;
    let changes = match step {
        StackStep::Create | StackStep::DeleteThenCreate => desired.resources.clone(),
        StackStep::Update if may_write => preview_update(&desired, ports, found.as_ref(), settings.wait_policy).await?,
        _ => Vec::new(),
    };
    if step == StackStep::Update && may_write && changes.is_empty() {
        step = StackStep::UpToDate;
    }
    let mut steps = Vec::new();
    if let Some(living) = found.as_ref().filter(|_| comparison.is_usable) {
        let input = if step == StackStep::UpToDate { Input::Applied } else { Input::Different };
        let found_parts = observe::direct_resources(system, ports, living, drift_look(settings, input)).await?;
        steps = direct_steps(system, &found_parts, comparison.credential).steps;
    }
    Ok(Plan::new(&desired.hash(), step, changes, steps))
}

/// The stack and its account. Fails if the spec leads to another region or account than the recorded stack.
async fn find(
    system: &ValidatedSystem,
    ports: &Ports,
    settings: &Settings,
) -> Result<(Option<StackDescription>, String), EngineError> {
    let arn = settings.previous.as_ref().and_then(|previous| previous.stack_arn.as_deref());
    let place = arn.and_then(ArnBase::parse);
    let moved = |field, was: &str| Err(EngineError::Moved { field, was: was.to_owned() });
    if let Some(place) = place.as_ref().filter(|place| place.region != system.spec.region) {
        return moved("spec.region", place.region);
    }
    observe::guard_account(system, ports).await?;
    let found = ports.stacks.describe(&system.names.stack).await?;
    let account = observe::account(ports, found.as_ref()).await?;
    match place.filter(|place| place.account != account) {
        Some(place) => moved("spec.aws.roleArn", place.account),
        None => Ok((found, account)),
    }
}

/// The changes that an apply would make. A change set that is not computed in time stays for the next run.
async fn planned(
    desired: &StackInput,
    ports: &Ports,
    found: Option<&StackDescription>,
    wait_policy: WaitPolicy,
) -> Result<(Verdict, Vec<ResourceChange>), EngineError> {
    if next_step(found, Input::Different, Retry::Allowed) != StackStep::Update {
        return Ok((Verdict::Planned, desired.resources.clone()));
    }
    let mut request = apply::change_set(desired, ChangeSetKind::Update, found);
    // A change set of the same input may be a running apply's, which must not be removed.
    request.name.push_str("-dry-run");
    let set = apply::compute(ports, &request, wait_policy).await?;
    if set.state == ChangeSetState::Pending {
        return Ok((Verdict::Comparing, Vec::new()));
    }
    ports.stacks.discard(&request.stack, &request.name).await?;
    match set.state {
        ChangeSetState::Failed(reason) => Err(EngineError::ChangeSet(reason)),
        ChangeSetState::Empty => Ok((Verdict::Settled, Vec::new())),
        _ => Ok((Verdict::Planned, set.changes)),
    }
}

async fn preview_update(
    desired: &StackInput,
    ports: &Ports,
    found: Option<&StackDescription>,
    wait_policy: WaitPolicy,
) -> Result<Vec<ResourceChange>, EngineError> {
    let mut request = apply::change_set(desired, ChangeSetKind::Update, found);
    // Of this plan alone: another run with the same input, which may be an apply, keeps its change set.
    request.name = format!("{}-plan-{:08x}", request.name, rand::random::<u32>());
    let set = apply::compute(ports, &request, wait_policy).await;
    ports.stacks.discard(&request.stack, &request.name).await?;
    let set = set?;
    match set.state {
        ChangeSetState::Ready | ChangeSetState::Empty => Ok(set.changes),
        ChangeSetState::Pending => Err(EngineError::ChangeSet("the change set was not ready in time".to_owned())),
        ChangeSetState::Failed(reason) => Err(EngineError::ChangeSet(reason)),
    }
}

/// Differences that are only not applied yet are not drift.
fn drift_look(settings: &Settings, input: Input) -> DriftDetection {
    if input == Input::Applied { drift(settings) } else { DriftDetection::Skip }
}

/// Once drift or a missing resource was found, every run checks again until it is resolved.
fn drift(settings: &Settings) -> DriftDetection {
    let wrong = |status: &DispatchSystemStatus| {
        status::is_true(status, ConditionType::Drifted) || status::stalled_for(status, Reason::ResourceGone)
    };
    if settings.previous.as_ref().is_some_and(wrong) { DriftDetection::Look } else { settings.drift }
}

/// The controller does not repeat what it attempted for the same generation; an explicit request does. The stack's
/// state shows whether the attempt failed.
fn retry(system: &ValidatedSystem, desired: &StackInput, settings: &Settings) -> Retry {
    let attempt = settings.previous.as_ref().and_then(|previous| previous.last_attempt.as_ref());
    let tried =
        attempt.is_some_and(|attempt| attempt.generation == system.generation && attempt.hash == desired.hash());
    if settings.retry_policy == RetryPolicy::Refuse && tried { Retry::Refused } else { Retry::Allowed }
}

struct Conclusion<'a> {
    system: &'a ValidatedSystem,
    desired: &'a StackInput,
    comparison: &'a Comparison,
    ports: &'a Ports,
    settings: &'a Settings,
    stack: StackResult,
    parts: DirectResources,
    finding: DirectFinding,
    plan: Plan,
    changed: bool,
}

fn conclude(end: Conclusion<'_>) -> ReconcileReport {
    let stack = end.stack.stack.as_ref();
    let (comparison, index_steps) = (end.comparison, end.comparison.index_steps.as_ref());
    // Workers query both indexes from their start.
    let whole = stack.filter(|_| comparison.is_usable && index_steps.is_none());
    let outputs = whole.and_then(|stack| outputs::read(end.system, &stack.outputs, &end.parts));
    let status = status::from_facts(&status::Facts {
        system: end.system,
        verdict: &end.stack.verdict,
        stack,
        applied_hash: (comparison.input == Input::Applied).then(|| end.desired.hash()),
        attempted_hash: end.stack.attempted.then(|| end.desired.hash()),
        skipped: &end.stack.skipped,
        approval: &end.settings.approval,
        approver: end.settings.approver,
        account: &end.desired.account,
        index_steps,
        outputs: outputs.as_ref(),
        parts: &end.parts,
        finding: &end.finding,
        plan: &end.plan,
        previous: end.settings.previous.as_ref(),
        now: (end.ports.clock)(),
    });
    ReconcileReport { status, outputs, plan: end.plan, changed: end.changed }
}
