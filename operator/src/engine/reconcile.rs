//! The reconcile: `observe -> plan -> apply -> status`, for both the command line and the Kubernetes controller.

use crate::engine::error::EngineError;
use crate::engine::settings::Mode;
use crate::engine::settings::RetryPolicy;
use crate::engine::settings::Settings;
use crate::engine::stack_input::StackInput;

use dispatch_api::conditions::{ConditionType, Reason};
use dispatch_api::dispatch_system::{DispatchSystemStatus, ManagementPolicy, OutputsStatus};
use dispatch_api::validate::ValidatedSystem;

use crate::cloud::ports::Ports;
use crate::engine::apply::{self, Run};
use crate::engine::comparison::Comparison;
use crate::engine::former_names::{find_names, refuse_unfit};
use crate::engine::inspection::Inspection;
use crate::engine::outcome::{StackResult, Verdict};
use crate::engine::plan::{
    Credential, DirectFinding, DirectResources, Input, LiveValues, Plan, Retry, direct_steps, next_step, only_reported,
};
use crate::engine::preview::{Target, dry_run};
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
    let (found, account) = observe::stack(system, ports, settings.previous.as_ref()).await?;
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
        let inspection = Inspection::new(system, settings, (ports.clock)());
        found_parts = observe::direct_resources(system, ports, living, inspection).await?;
        // A plan that is not approved must not reach a resource that is created again.
        let may_create = matches!(stack.verdict, Verdict::Settled | Verdict::Failed { .. });
        let blueprint = desired.blueprint(living).filter(|_| may_create);
        // `converge` has sent a changed credential to SNS right before the stack recorded it.
        finding = direct_steps(system, &found_parts, Credential::Same, blueprint.as_ref());
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
    let mut plan = Plan::new(&desired.hash(), stack.step.clone(), stack.changes.clone(), steps);
    plan.live = stack.live.clone();
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
    let (found, account) = observe::stack(system, ports, settings.previous.as_ref()).await?;
    refuse_unfit(system, found.as_ref())?;
    let desired = match StackInput::new(system, &settings.secrets, &account) {
        Err(EngineError::SecretMissing { .. }) => StackInput::without_secrets(system, found.as_ref(), &account)?,
        other => other?,
    };
    let comparison = Comparison::new(&desired, found.as_ref());
    let input = comparison.recorded;
    let (mut found_parts, mut finding) = (DirectResources::default(), DirectFinding::default());
    if let Some(living) = found.as_ref().filter(|_| comparison.is_usable) {
        let inspection = Inspection::new(system, settings, (ports.clock)()).before(input);
        found_parts = observe::direct_resources(system, ports, living, inspection).await?;
        let blueprint = desired.blueprint(living);
        finding = only_reported(system, direct_steps(system, &found_parts, Credential::Same, blueprint.as_ref()));
        finding.reported.extend(comparison.tag_step());
    }
    let step = next_step(found.as_ref(), input, Retry::Allowed);
    let mut verdict = match desired.refusal(found.as_ref(), &settings.adoption) {
        Some(message) => Verdict::Refused { reason: Reason::OwnedByAnother, message },
        None => apply::inspect(found.as_ref(), input),
    };
    let (mut changes, mut live) = (Vec::new(), LiveValues::None);
    if depth == Depth::Resources && verdict == Verdict::Untouched {
        (verdict, changes, live) =
            dry_run(&Target { system, desired: &desired, ports, settings }, found.as_ref()).await?;
    }
    let mut plan = Plan::new(&desired.hash(), step.clone(), changes, Vec::new());
    plan.live = live;
    let stack = StackResult {
        verdict,
        stack: found,
        step,
        changes: Vec::new(),
        live: LiveValues::None,
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
