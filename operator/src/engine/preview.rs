//! Plans without applying: what an apply would do, and what would block it.

use dispatch_api::conditions::Reason;
use dispatch_api::dispatch_system::{DriftPolicy, ManagementPolicy};
use dispatch_api::validate::ValidatedSystem;

use crate::cloud::ResourceChange;
use crate::cloud::ports::Ports;
use crate::cloud::stack::{ChangeSetKind, ChangeSetState, StackDescription, StackState};
use crate::engine::apply::{self, Rules};
use crate::engine::comparison::Comparison;
use crate::engine::error::EngineError;
use crate::engine::former_names::{find_names, refuse_unfit};
use crate::engine::inspection::Inspection;
use crate::engine::observe;
use crate::engine::outcome::Verdict;
use crate::engine::plan::{
    Blockage, Input, LiveValues, Plan, Retry, StackStep, direct_steps, next_step, only_reported,
};
use crate::engine::settings::Settings;
use crate::engine::stack_input::StackInput;

/// What is planned.
pub(crate) struct Target<'a> {
    pub system: &'a ValidatedSystem,
    pub desired: &'a StackInput,
    pub ports: &'a Ports,
    pub settings: &'a Settings,
}

impl Target<'_> {
    fn rules(&self) -> Rules<'_> {
        Rules {
            system: self.system,
            ports: self.ports,
            account: &self.desired.account,
            adoption: &self.settings.adoption,
            table_names: &self.settings.table_names,
        }
    }

    fn may_write(&self) -> bool {
        !self.system.spec.suspend && self.system.spec.management_policy == ManagementPolicy::Full
    }
}

/// The next step of the stack, what would block it, and its changes.
struct Outlook {
    step: StackStep,
    verdict: Verdict,
    changes: Vec<ResourceChange>,
    live: LiveValues,
}

impl Outlook {
    fn without_changes(step: StackStep, verdict: Verdict) -> Self {
        Self { step, verdict, changes: Vec::new(), live: LiveValues::None }
    }
}

/// What [`reconcile`](crate::engine::reconcile::reconcile) would do, resource by resource, and what would block it.
///
/// CloudFormation compares an existing stack through a temporary change set. With `Observe` or `suspend` no change set
/// is created, and the plan says only whether anything differs.
pub async fn preview(system: &ValidatedSystem, ports: &Ports, settings: &Settings) -> Result<Plan, EngineError> {
    let named = find_names(system, ports, settings.previous.as_ref()).await?;
    let system = named.as_deref().unwrap_or(system);
    let (found, account) = observe::stack(system, ports, settings.previous.as_ref()).await?;
    refuse_unfit(system, found.as_ref())?;
    let desired = StackInput::new(system, &settings.secrets, &account)?;
    let comparison = Comparison::new(&desired, found.as_ref());
    let target = Target { system, desired: &desired, ports, settings };
    let Outlook { step, verdict, changes, live } = outlook(&target, found.as_ref(), &comparison).await?;
    let mut plan = Plan::new(&desired.hash(), step, changes, Vec::new());
    plan.live = live;
    let mut gone = Vec::new();
    if let Some(living) = found.as_ref().filter(|_| comparison.is_usable) {
        let input = if plan.stack == StackStep::UpToDate { Input::Applied } else { Input::Different };
        let inspection = Inspection::new(system, settings, (ports.clock)()).before(input);
        let seen = observe::direct_resources(system, ports, living, inspection).await?;
        let blueprint = desired.blueprint(living);
        let mut finding = direct_steps(system, &seen, comparison.credential, blueprint.as_ref());
        if !target.may_write() {
            finding = only_reported(system, finding);
        }
        (plan.parts, plan.existence, gone) = (finding.steps, seen.existence, finding.gone);
    }
    if target.may_write() && system.spec.drift_policy == DriftPolicy::Correct {
        plan.parts.extend(comparison.tag_step());
    }
    plan.blockage = Blockage::find(&desired.stack, &verdict, &gone);
    Ok(plan)
}

async fn outlook(
    target: &Target<'_>,
    found: Option<&StackDescription>,
    comparison: &Comparison,
) -> Result<Outlook, EngineError> {
    let Target { desired, ports, settings, .. } = target;
    let step = comparison.next_step(found, Retry::Allowed);
    let none = |verdict, step| Ok(Outlook::without_changes(step, verdict));
    if let Some(message) = desired.refusal(found, &settings.adoption) {
        return none(Verdict::Refused { reason: Reason::OwnedByAnother, message }, step);
    }
    let state = || found.map_or(StackState::DeleteComplete, |stack| stack.state.clone());
    match (&step, found) {
        (StackStep::Create | StackStep::DeleteThenCreate, _) => match target.rules().creation().await? {
            Ok(_) => {
                let changes = desired.resources.clone();
                Ok(Outlook { step, verdict: Verdict::Untouched, changes, live: LiveValues::None })
            }
            Err(verdict) => none(verdict, step),
        },
        (StackStep::Update, _) if target.may_write() => update(target, found).await,
        (StackStep::UpToDate, _) => none(Verdict::Settled, step),
        (StackStep::Wait, _) => none(Verdict::StillRunning(state()), step),
        (StackStep::Skip(state), _) => none(Verdict::Skipped(state.clone()), step),
        (StackStep::Stalled(_), Some(stack)) => none(apply::stalled(ports, stack).await?, step),
        _ => none(Verdict::Untouched, step),
    }
}

/// The changes of an update, through a change set of this plan alone: another run with the same input, which may be an
/// apply, keeps its own.
async fn update(target: &Target<'_>, found: Option<&StackDescription>) -> Result<Outlook, EngineError> {
    let Target { desired, ports, settings, .. } = target;
    let step = StackStep::Update;
    if let Some(verdict) = target.rules().update_refusal(found) {
        return Ok(Outlook::without_changes(step, verdict));
    }
    let mut request = apply::change_set(desired, ChangeSetKind::Update, found);
    request.name = format!("{}-plan-{:08x}", request.name, rand::random::<u32>());
    let set = apply::compute(ports, &request, settings.wait_policy).await;
    let failure = match &set {
        Ok(set) => match &set.state {
            ChangeSetState::Failed(reason) => Some(apply::failed_change_set(ports, &request, found, reason).await),
            _ => None,
        },
        Err(_) => None,
    };
    ports.stacks.discard(&request.stack, &request.name).await?;
    let set = set?;
    match (set.state, failure) {
        (_, Some(verdict)) => Ok(Outlook::without_changes(step, verdict)),
        (ChangeSetState::Pending, _) => Err(EngineError::ChangeSet("the change set was not ready in time".to_owned())),
        _ if set.changes.is_empty() => Ok(Outlook::without_changes(StackStep::UpToDate, Verdict::Settled)),
        _ => {
            let changes = apply::with_values(ports, &request, set.changes).await;
            let verdict = apply::replacement_refusal(&changes).unwrap_or(Verdict::Untouched);
            let (changes, live) = apply::with_live_values(ports, &request, settings.wait_policy, changes).await;
            Ok(Outlook { step, verdict, changes, live })
        }
    }
}

/// The changes that an apply would make, for a dry run in a cluster. A change set that is not computed in time stays
/// for the next run.
pub(crate) async fn dry_run(
    target: &Target<'_>,
    found: Option<&StackDescription>,
) -> Result<(Verdict, Vec<ResourceChange>, LiveValues), EngineError> {
    let none = |verdict| Ok((verdict, Vec::new(), LiveValues::None));
    let Target { desired, ports, settings, .. } = target;
    if next_step(found, Input::Different, Retry::Allowed) != StackStep::Update {
        return match target.rules().creation().await? {
            Ok(_) => Ok((Verdict::Planned, desired.resources.clone(), LiveValues::None)),
            Err(verdict) => none(verdict),
        };
    }
    if let Some(verdict) = target.rules().update_refusal(found) {
        return none(verdict);
    }
    let mut request = apply::change_set(desired, ChangeSetKind::Update, found);
    // A change set of the same input may be a running apply's, which must not be removed.
    request.name.push_str("-dry-run");
    let set = apply::compute(ports, &request, settings.wait_policy).await?;
    let (verdict, changes) = match set.state {
        ChangeSetState::Pending => return none(Verdict::Comparing),
        ChangeSetState::Failed(reason) => (apply::failed_change_set(ports, &request, found, &reason).await, Vec::new()),
        ChangeSetState::Empty => (Verdict::Settled, Vec::new()),
        ChangeSetState::Ready => {
            let changes = apply::with_values(ports, &request, set.changes).await;
            (apply::replacement_refusal(&changes).unwrap_or(Verdict::Planned), changes)
        }
    };
    ports.stacks.discard(&request.stack, &request.name).await?;
    if verdict != Verdict::Planned {
        return none(verdict);
    }
    let (changes, live) = apply::with_live_values(ports, &request, settings.wait_policy, changes).await;
    Ok((verdict, changes, live))
}
