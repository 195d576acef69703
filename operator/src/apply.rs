//! Carries a plan out. Every operation is bounded, idempotent by its token or name, and told to whoever listens.

mod follow;

use dispatch_api::validate::ValidatedSystem;
use tokio::time::{Instant, sleep};

use crate::desired::Desired;
use crate::plan::{Approval, Input, PartStep, Parts, Plan, ResourceChange, Retry, StackStep, next_step};
use crate::ports::{PortError, PortErrorKind, Ports};
use crate::progress::{Event, Progress};
use crate::reconcile::Patience;
use crate::stack::{
    ChangeSet, ChangeSetKind, ChangeSetRequest, ChangeSetState, StackDescription, StackEvent, StackState, WayBack,
};

pub(crate) use follow::{Follower, Freshness, Rest};

/// Steps of one stack in one run. The longest sensible way is wait, go back, wait, update; a stack that needs more is not
/// settling.
const STEPS_MAX: usize = 6;

/// How it ended with the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as wanted.
    Settled,
    /// The plan waits for an approval.
    Blocked,
    /// CloudFormation refused or rolled back; the first event that failed is the cause.
    Failed {
        /// State it ended in.
        state: StackState,
        /// First failed event, or CloudFormation's reason.
        cause: String,
    },
    /// An operation still runs and patience has ended.
    StillRunning(StackState),
    /// Only a person can go on.
    Stalled(StackState),
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
}

/// One run over one system.
pub(crate) struct Run<'a> {
    pub system: &'a ValidatedSystem,
    pub desired: &'a Desired,
    pub ports: &'a Ports,
    pub approval: &'a Approval,
    pub retry: Retry,
    pub patience: Patience,
    pub progress: &'a mut dyn Progress,
}

impl Run<'_> {
    fn step(&mut self, text: impl Into<String>) {
        self.progress.report(Event::Step(text.into()));
    }

    /// Brings the stack to the wanted input, from whatever state it is in.
    pub async fn settle(&mut self, mut found: Option<StackDescription>) -> Result<StackResult, PortError> {
        let mut result = StackResult {
            verdict: Verdict::Untouched,
            stack: None,
            step: self.next(found.as_ref()),
            changes: Vec::new(),
            changed: false,
        };
        // A failed creation is deleted once and a failed update taken back once in one run; a second time would be a loop.
        let (mut deleted, mut gone_back) = (false, false);
        for _ in 0..STEPS_MAX {
            let step = self.next(found.as_ref());
            let rest = match (step, &found) {
                (StackStep::UpToDate, _) => {
                    return Ok(StackResult { verdict: Verdict::Settled, stack: found, ..result });
                }
                (StackStep::Create, _) => return self.change(ChangeSetKind::Create, found, result).await,
                (StackStep::Update, _) => return self.change(ChangeSetKind::Update, found, result).await,
                (StackStep::Wait, Some(stack)) => {
                    self.step(format!("waiting for stack {} ({})", self.desired.stack, stack.state.name()));
                    let mut follower = Follower::new(&self.ports.stacks, &stack.arn, self.patience).await?;
                    follower.until_rest(Freshness::Any, self.progress).await?
                }
                (StackStep::DeleteThenCreate, Some(stack)) if !deleted => {
                    deleted = true;
                    result.changed = true;
                    self.step(format!("deleting what the failed creation of stack {} left", self.desired.stack));
                    delete(self.ports, stack, self.patience, self.progress).await?.0
                }
                (StackStep::ContinueRollback, Some(stack)) if !gone_back => {
                    gone_back = true;
                    result.changed = true;
                    self.step(format!("continuing the rollback of stack {}", self.desired.stack));
                    self.go_back(stack, WayBack::ContinueRollback).await?
                }
                (StackStep::RollBack, Some(stack)) if !gone_back => {
                    gone_back = true;
                    result.changed = true;
                    self.step(format!("rolling stack {} back", self.desired.stack));
                    self.go_back(stack, WayBack::RollBack).await?
                }
                (StackStep::LeaveAlone(state), _) => {
                    return Ok(StackResult { verdict: Verdict::LeftAlone(state), stack: found, ..result });
                }
                (_, Some(stack)) => {
                    let verdict = Verdict::Stalled(stack.state.clone());
                    return Ok(StackResult { verdict, stack: found, ..result });
                }
                // `next_step` asks for `Create` whenever there is no stack.
                (_, None) => return Ok(result),
            };
            found = match rest {
                Rest::At(stack) => Some(stack),
                Rest::Gone => None,
                Rest::StillRunning(stack) => {
                    let verdict = Verdict::StillRunning(stack.state.clone());
                    return Ok(StackResult { verdict, stack: Some(stack), ..result });
                }
            };
        }
        let verdict = found.as_ref().map_or(Verdict::Untouched, |stack| Verdict::Stalled(stack.state.clone()));
        Ok(StackResult { verdict, stack: found, ..result })
    }

    fn next(&self, found: Option<&StackDescription>) -> StackStep {
        next_step(found, self.desired.compare(found), self.retry)
    }

    async fn go_back(&mut self, stack: &StackDescription, way: WayBack) -> Result<Rest, PortError> {
        let mut follower = Follower::new(&self.ports.stacks, &stack.arn, self.patience).await?;
        self.ports.stacks.go_back(&stack.arn, way, &token("back", stack)).await?;
        follower.until_rest(Freshness::New, self.progress).await
    }

    /// One change set: made, looked at, and executed if it may be.
    async fn change(
        &mut self,
        kind: ChangeSetKind,
        found: Option<StackDescription>,
        mut result: StackResult,
    ) -> Result<StackResult, PortError> {
        let request = self.desired.change_set(kind, found.as_ref());
        let verb = if kind == ChangeSetKind::Create { "creating" } else { "comparing" };
        self.step(format!("{verb} stack {}", self.desired.stack));
        let set = compute(self.ports, &request, self.patience).await?;
        let stacks = &self.ports.stacks;
        match set.state {
            ChangeSetState::Ready => {}
            ChangeSetState::Empty => {
                stacks.discard(&request.stack, &request.name).await?;
                return Ok(StackResult { verdict: Verdict::Settled, stack: found, ..result });
            }
            ChangeSetState::Pending | ChangeSetState::Failed(_) => {
                let refusals = self.refusals(&request.stack, Some(&request.name)).await;
                stacks.discard(&request.stack, &request.name).await?;
                let state = found.as_ref().map_or(StackState::ReviewInProgress, |stack| stack.state.clone());
                let cause = match set.state {
                    ChangeSetState::Failed(reason) if refusals.is_empty() => format!("the change set failed: {reason}"),
                    ChangeSetState::Failed(_) => refusals.join("; "),
                    _ => "the change set was not ready in time".to_owned(),
                };
                return Ok(StackResult { verdict: Verdict::Failed { state, cause }, stack: found, ..result });
            }
        }
        result.changes.clone_from(&set.changes);
        let policy = self.system.spec.approval_policy;
        let plan = Plan::new(&self.desired.hash(), result.step.clone(), set.changes.clone(), Vec::new());
        if !plan.may_run(policy, self.approval) {
            stacks.discard(&request.stack, &request.name).await?;
            return Ok(StackResult { verdict: Verdict::Blocked, stack: found, ..result });
        }
        self.progress.report(Event::Changes(set.changes));
        // The change set of a new stack has made it, in REVIEW_IN_PROGRESS.
        let Some(stack) = stacks.describe(&request.stack).await? else {
            let message = format!("stack {} is gone", request.stack);
            return Err(PortError::new("execute the change set", PortErrorKind::NotFound, message));
        };
        let mut follower = Follower::new(stacks, &stack.arn, self.patience).await?;
        stacks.execute(&request.stack, &request.name, &request.name).await?;
        result.changed = true;
        let rest = follower.until_rest(Freshness::New, self.progress).await?;
        let (verdict, stack) = match rest {
            Rest::StillRunning(stack) => (Verdict::StillRunning(stack.state.clone()), Some(stack)),
            Rest::Gone => (failed(StackState::DeleteComplete, follower.cause(), None), None),
            Rest::At(stack) if matches!(stack.state, StackState::CreateComplete | StackState::UpdateComplete) => {
                (Verdict::Settled, Some(stack))
            }
            Rest::At(stack) => {
                // Without a resource that failed it was the validation that refused, which tells its reasons elsewhere.
                let by_resource = follower.cause().filter(|event| event.physical_id.as_deref() != Some(&stack.arn));
                let refusals = if by_resource.is_none() { self.refusals(&stack.arn, None).await } else { Vec::new() };
                let verdict = if refusals.is_empty() {
                    failed(stack.state.clone(), follower.cause(), stack.reason.as_deref())
                } else {
                    Verdict::Failed { state: stack.state.clone(), cause: refusals.join("; ") }
                };
                (verdict, Some(stack))
            }
        };
        Ok(StackResult { verdict, stack, ..result })
    }

    /// The reasons of a refusal. That they cannot be read must not hide that there was one.
    async fn refusals(&self, stack: &str, change_set: Option<&str>) -> Vec<String> {
        match self.ports.stacks.refusals(stack, change_set).await {
            Ok(refusals) => refusals,
            Err(error) => {
                tracing::warn!(%error, stack, "the reasons of a refusal are not known");
                Vec::new()
            }
        }
    }

    /// Mends the parts CloudFormation does not carry.
    pub async fn mend(&mut self, steps: &[PartStep], parts: &mut Parts) -> Result<(), PortError> {
        for step in steps {
            self.step(step.to_string());
            match step {
                PartStep::EnableRecovery => {
                    self.ports.tables.enable_recovery(&self.system.names.table).await?;
                    parts.recovery = Some(crate::ports::Recovery::Enabled);
                }
                PartStep::CreatePush => {
                    if let Some(credential) = &self.desired.fcm {
                        let name = &self.system.names.platform_application;
                        parts.push_arn = self.ports.push.create(name, credential).await?;
                        parts.push_exists = true;
                    }
                }
                PartStep::UpdatePush => {
                    if let Some(credential) = &self.desired.fcm {
                        self.ports.push.update(&parts.push_arn, credential).await?;
                    }
                }
                PartStep::DeletePush => {
                    self.ports.push.delete(&parts.push_arn).await?;
                    parts.push_exists = false;
                }
                PartStep::CorrectQueue { url, settings, .. } => self.ports.queues.correct(url, settings).await?,
            }
        }
        Ok(())
    }
}

/// Makes a change set, or finds the one an earlier run made from the same input, and waits until it is computed.
pub(crate) async fn compute(
    ports: &Ports,
    request: &ChangeSetRequest,
    patience: Patience,
) -> Result<ChangeSet, PortError> {
    match ports.stacks.create_change_set(request).await {
        Ok(()) => {}
        Err(error) if error.kind == PortErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let deadline = Instant::now() + patience.total;
    let mut pause = patience.first;
    loop {
        let set = ports.stacks.change_set(&request.stack, &request.name).await?;
        if set.state != ChangeSetState::Pending || Instant::now() >= deadline {
            return Ok(set);
        }
        sleep(pause).await;
        pause = (pause * 2).min(patience.longest);
    }
}

/// Deletes a stack and follows the deletion. Answers with where it came to rest, the cause of a failure, and the resources that
/// CloudFormation kept.
pub(crate) async fn delete(
    ports: &Ports,
    stack: &StackDescription,
    patience: Patience,
    progress: &mut dyn Progress,
) -> Result<(Rest, Option<String>, Vec<StackEvent>), PortError> {
    let mut follower = Follower::new(&ports.stacks, &stack.arn, patience).await?;
    ports.stacks.delete(&stack.arn, &token("delete", stack)).await?;
    let rest = follower.until_rest(Freshness::New, progress).await?;
    Ok((rest, follower.cause().map(describe_cause), follower.kept()))
}

/// The token of an operation on a stack in the state it is in: a repetition after a crash is the same operation, one after the
/// next change is another.
fn token(operation: &str, stack: &StackDescription) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(format!("{} {} {:?}", stack.arn, stack.state.name(), stack.changed_at));
    let hex = crate::plan::hex(&digest);
    format!("{operation}-{}", hex.get(..32).unwrap_or(&hex))
}

fn failed(state: StackState, cause: Option<&StackEvent>, reason: Option<&str>) -> Verdict {
    let cause = match (cause, reason) {
        (Some(event), _) => describe_cause(event),
        (None, Some(reason)) => reason.to_owned(),
        (None, None) => "CloudFormation gives no reason".to_owned(),
    };
    Verdict::Failed { state, cause }
}

fn describe_cause(event: &StackEvent) -> String {
    let reason = event.reason.as_deref().unwrap_or("no reason given");
    format!("{} ({}) {}: {reason}", event.logical_id, event.resource_type, event.status)
}

/// The verdict on a stack that is only looked at.
pub(crate) fn look(stack: Option<&StackDescription>, input: Input) -> Verdict {
    match next_step(stack, input, Retry::Allowed) {
        StackStep::UpToDate => Verdict::Settled,
        StackStep::Create | StackStep::Update => Verdict::Untouched,
        StackStep::LeaveAlone(state) => Verdict::LeftAlone(state),
        StackStep::Wait => Verdict::StillRunning(stack.map_or(StackState::DeleteComplete, |s| s.state.clone())),
        StackStep::Stalled(state) => Verdict::Stalled(state),
        step => {
            let state = stack.map_or(StackState::DeleteComplete, |stack| stack.state.clone());
            let what_next = match step {
                StackStep::DeleteThenCreate => {
                    "its creation failed; the next apply deletes what is left and creates it"
                }
                StackStep::ContinueRollback => "its rollback stopped half way; the next apply continues it",
                _ => "its last operation failed; the next apply rolls it back",
            };
            let reason = stack.and_then(|stack| stack.reason.as_deref()).map(|text| format!(" ({text})"));
            Verdict::Failed { state, cause: format!("{what_next}{}", reason.unwrap_or_default()) }
        }
    }
}
