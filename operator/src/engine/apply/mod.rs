//! Applies a plan. Every operation has a time limit, is idempotent by its token or name, and reports its progress.

mod change_set;
mod live;
mod repair;
mod rules;
mod stack_waiter;

use crate::engine::outcome::StackResult;
use crate::engine::outcome::Verdict;
use std::ops::ControlFlow;

use dispatch_api::conditions::Reason;
use dispatch_api::validate::ValidatedSystem;

use crate::cloud::ports::{PortError, PortErrorKind, Ports};
use crate::cloud::stack::{
    ChangeSetKind, ChangeSetRequest, ChangeSetState, OnExisting, Rollback, StackDescription, StackEvent, StackState,
};
use crate::engine::comparison::Comparison;
use crate::engine::plan::indexes::IndexSteps;
use crate::engine::plan::ownership::Adoption;
use crate::engine::plan::skip_resources;
use crate::engine::plan::table_names::TableNames;
use crate::engine::plan::template::DATA_RESOURCES;
use crate::engine::plan::{Approval, Credential, Input, LiveValues, Plan, Retry, StackStep, next_step};
use crate::engine::progress::{Event, Progress};
use crate::engine::settings::{OperationGate, WaitPolicy};
use crate::engine::stack_input::StackInput;

use change_set::{import, refusals, superseded};

pub(crate) use change_set::{change_set, compute, failed_change_set, with_values};
pub(crate) use live::with_live_values;
pub(crate) use rules::{Creation, Rules, replacement_refusal};
pub(crate) use stack_waiter::{FinalState, Since, StackWaiter};

/// Limit of steps in one run. The longest useful sequence is wait, roll back, wait, update; a stack that needs more
/// does not converge.
const STEPS_MAX: usize = 6;

/// Whether a run ends with a result or continues from it.
type Flow = ControlFlow<StackResult, StackResult>;

/// One run for one system.
pub(crate) struct Run<'a> {
    pub system: &'a ValidatedSystem,
    pub desired: &'a StackInput,
    pub ports: &'a Ports,
    pub approval: &'a Approval,
    pub retry: Retry,
    pub adoption: &'a Adoption,
    pub table_names: &'a TableNames,
    pub gate: Option<&'a dyn OperationGate>,
    pub credential: Credential,
    pub wait_policy: WaitPolicy,
    /// Logical ids of failed resources that may be skipped.
    pub skip: &'a [String],
    pub progress: &'a mut dyn Progress,
}

impl Run<'_> {
    fn step(&mut self, text: impl Into<String>) {
        self.progress.report(Event::Step(text.into()));
    }

    fn rollback(&mut self, text: String) {
        self.progress.report(Event::Rollback(text));
    }

    /// Converges the stack to the desired input from any state.
    pub(crate) async fn converge(&mut self, mut found: Option<StackDescription>) -> Result<StackResult, PortError> {
        let mut result = StackResult {
            verdict: Verdict::Untouched,
            stack: None,
            step: self.next(found.as_ref()),
            changes: Vec::new(),
            live: LiveValues::None,
            changed: false,
            attempted: false,
            skipped: Vec::new(),
        };
        // One run deletes a failed creation once and rolls back a failed update once; a second time would be a loop.
        let (mut deleted, mut gone_back) = (false, false);
        for _ in 0..STEPS_MAX {
            if let Some(message) = self.desired.refusal(found.as_ref(), self.adoption) {
                let verdict = Verdict::Refused { reason: Reason::OwnedByAnother, message };
                return Ok(StackResult { verdict, stack: found, ..result });
            }
            let step = self.next(found.as_ref());
            if step.begins_an_operation() && self.gate.is_some_and(|gate| !gate.try_acquire()) {
                return Ok(StackResult { verdict: Verdict::Waiting, stack: found, ..result });
            }
            let rest = match (step, &found) {
                (StackStep::UpToDate, _) => {
                    return Ok(StackResult { verdict: Verdict::Settled, stack: found, ..result });
                }
                (step @ (StackStep::Create | StackStep::Update), _) => {
                    let turn = if step == StackStep::Create {
                        self.make(found, result).await?
                    } else {
                        self.update(found, result).await?
                    };
                    match turn {
                        ControlFlow::Break(end) => return Ok(end),
                        ControlFlow::Continue(next) => result = next,
                    }
                    found = result.stack.take();
                    continue;
                }
                (StackStep::Wait, Some(stack)) => {
                    self.step(format!("waiting for stack {} ({})", self.desired.stack, stack.state.name()));
                    let mut follower = StackWaiter::new(&self.ports.stacks, &stack.arn, self.wait_policy).await?;
                    follower.until_rest(Since::Any, self.progress).await?
                }
                (StackStep::DeleteThenCreate, Some(stack)) if !deleted => {
                    deleted = true;
                    result.changed = true;
                    self.delete_failed_creation(stack).await?
                }
                (step @ (StackStep::ContinueRollback | StackStep::RollBack), Some(stack)) if !gone_back => {
                    gone_back = true;
                    match self.cancel_update(&step, stack, &mut result).await? {
                        Ok(rest) => rest,
                        Err(message) => {
                            let verdict = Verdict::Refused { reason: Reason::SkipRefused, message };
                            return Ok(StackResult { verdict, stack: found, ..result });
                        }
                    }
                }
                (StackStep::Skip(state), _) => {
                    return Ok(StackResult { verdict: Verdict::Skipped(state), stack: found, ..result });
                }
                (_, Some(stack)) => {
                    let verdict = stalled(self.ports, stack).await?;
                    return Ok(StackResult { verdict, stack: found, ..result });
                }
                // Unreachable: without a stack, `next_step` returns `Create`.
                (_, None) => return Ok(result),
            };
            found = match rest {
                FinalState::At(stack) => Some(stack),
                FinalState::Gone => None,
                FinalState::StillRunning(stack) => {
                    let verdict = Verdict::StillRunning(stack.state.clone());
                    return Ok(StackResult { verdict, stack: Some(stack), ..result });
                }
            };
        }
        let verdict = found.as_ref().map_or(Verdict::Untouched, |stack| Verdict::Stalled(stack.state.clone()));
        Ok(StackResult { verdict, stack: found, ..result })
    }

    /// Creates the stack. Continues if imported data still needs a policy or an index with which it could not be
    /// imported.
    async fn make(&mut self, found: Option<StackDescription>, result: StackResult) -> Result<Flow, PortError> {
        let result = self.create(found, result).await?;
        let more = result.verdict == Verdict::Settled && self.next(result.stack.as_ref()) == StackStep::Update;
        Ok(if more { ControlFlow::Continue(result) } else { ControlFlow::Break(result) })
    }

    /// Updates the stack, or adds the next missing index of its table.
    async fn update(&mut self, found: Option<StackDescription>, result: StackResult) -> Result<Flow, PortError> {
        if let Some(verdict) = self.rules().update_refusal(found.as_ref()) {
            return Ok(ControlFlow::Break(StackResult { verdict, stack: found, ..result }));
        }
        if let Some(steps) = self.compare(found.as_ref()).index_steps {
            self.step(steps.to_string());
            // DynamoDB creates one index at a time, and another client may have started one.
            if let Some(state) = self.builds_an_index(found.as_ref()).await? {
                let verdict = Verdict::StillRunning(state);
                return Ok(ControlFlow::Break(StackResult { verdict, stack: found, ..result }));
            }
        }
        let request = change_set(self.desired, ChangeSetKind::Update, found.as_ref());
        let result = self.change(request, found, result).await?;
        let more = result.verdict == Verdict::Settled && self.compare(result.stack.as_ref()).index_steps.is_some();
        Ok(if more { ControlFlow::Continue(result) } else { ControlFlow::Break(result) })
    }

    /// Deletes what a failed creation left. A table with deletion protection and a bucket with objects cannot be
    /// deleted with it: they stay, and the next creation imports them.
    async fn delete_failed_creation(&mut self, stack: &StackDescription) -> Result<FinalState, PortError> {
        self.step(format!("deleting stack {} after its failed creation", self.desired.stack));
        let deletion = Deletion { stack, retain: &[] };
        let rest = delete(self.ports, deletion, self.wait_policy, self.progress).await?.0;
        let FinalState::At(left) = &rest else { return Ok(rest) };
        let resources = self.ports.stacks.resources(&left.arn).await?;
        let failed = skip_resources::candidates(&left.state, &resources);
        if failed.is_empty() || !failed.iter().all(|id| DATA_RESOURCES.contains(&id.as_str())) {
            return Ok(rest);
        }
        let operation = format!("the deletion of stack {}", self.desired.stack);
        self.progress.report(Event::ResourcesSkipped(operation, failed.clone()));
        let deletion = Deletion { stack: left, retain: &failed };
        Ok(delete(self.ports, deletion, self.wait_policy, self.progress).await?.0)
    }

    /// Rolls a failed update back in the way that its state allows. The inner error says why a resource cannot be
    /// skipped.
    async fn cancel_update(
        &mut self,
        step: &StackStep,
        stack: &StackDescription,
        result: &mut StackResult,
    ) -> Result<Result<FinalState, String>, PortError> {
        if *step == StackStep::RollBack {
            result.changed = true;
            self.rollback(format!("rolling stack {} back", self.desired.stack));
            return self.roll_back(stack, Rollback::RollBack).await.map(Ok);
        }
        match self.skippable(stack).await? {
            Ok(skipped) => result.skipped = skipped,
            Err(message) => return Ok(Err(message)),
        }
        result.changed = true;
        self.rollback(format!("continuing the rollback of stack {}", self.desired.stack));
        self.roll_back(stack, Rollback::ContinueRollback { skip: &result.skipped }).await.map(Ok)
    }

    fn next(&self, found: Option<&StackDescription>) -> StackStep {
        self.compare(found).next_step(found, self.retry)
    }

    fn compare(&self, found: Option<&StackDescription>) -> Comparison {
        Comparison::new(self.desired, found)
    }

    /// Resources to skip in the rollback of a stack; the inner error says why one cannot be skipped.
    async fn skippable(&mut self, stack: &StackDescription) -> Result<Result<Vec<String>, String>, PortError> {
        if self.skip.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let resources = self.ports.stacks.resources(&stack.arn).await?;
        let judged = skip_resources::skippable(self.skip, &stack.state, &resources, self.system.deletion_policy);
        if let Ok(left) = &judged {
            let operation = format!("the rollback of stack {}", self.desired.stack);
            self.progress.report(Event::ResourcesSkipped(operation, left.clone()));
        }
        Ok(judged)
    }

    async fn roll_back(&mut self, stack: &StackDescription, way: Rollback<'_>) -> Result<FinalState, PortError> {
        let mut follower = StackWaiter::new(&self.ports.stacks, &stack.arn, self.wait_policy).await?;
        let skip = match way {
            Rollback::ContinueRollback { skip } => skip,
            Rollback::RollBack => &[],
        };
        self.ports.stacks.roll_back(&stack.arn, way, &token("back", stack, skip)).await?;
        follower.until_rest(Since::New, self.progress).await
    }

    /// The state of the stack, if its table has an index that is not active yet.
    async fn builds_an_index(&mut self, found: Option<&StackDescription>) -> Result<Option<StackState>, PortError> {
        let table = self.ports.tables.table(&self.system.names.table).await?;
        let builds = table.is_some_and(|table| !table.building.is_empty());
        Ok(found.filter(|_| builds).map(|stack| stack.state.clone()))
    }

    /// Creates the stack and imports the data that an earlier one retained.
    async fn create(&mut self, found: Option<StackDescription>, result: StackResult) -> Result<StackResult, PortError> {
        let Creation { existing, kept } = match self.rules().creation().await? {
            Ok(creation) => creation,
            Err(verdict) => return Ok(StackResult { verdict, stack: found, ..result }),
        };
        if existing == OnExisting::Refuse {
            let request = change_set(self.desired, ChangeSetKind::Create, found.as_ref());
            return self.change(request, found, result).await;
        }
        self.step(format!("importing retained data: {kept}"));
        let steps = kept.table.as_ref().and_then(|(table, _)| IndexSteps::for_table(table));
        self.change(import(self.desired, found.as_ref(), steps.as_ref()), found, result).await
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            system: self.system,
            ports: self.ports,
            account: &self.desired.account,
            adoption: self.adoption,
            table_names: self.table_names,
        }
    }

    /// Computes a change set and executes it if policy and approval allow it.
    async fn change(
        &mut self,
        request: ChangeSetRequest,
        found: Option<StackDescription>,
        mut result: StackResult,
    ) -> Result<StackResult, PortError> {
        let verb = if request.kind == ChangeSetKind::Create { "creating" } else { "comparing" };
        self.step(format!("{verb} stack {}", self.desired.stack));
        let set = compute(self.ports, &request, self.wait_policy).await?;
        let stacks = &self.ports.stacks;
        match set.state {
            ChangeSetState::Ready => {}
            ChangeSetState::Empty => {
                stacks.discard(&request.stack, &request.name).await?;
                return Ok(StackResult { verdict: Verdict::Settled, stack: found, ..result });
            }
            // It stays: its name is derived from its input, so the next run finds it.
            ChangeSetState::Pending => return Ok(StackResult { verdict: Verdict::Comparing, stack: found, ..result }),
            ChangeSetState::Failed(reason) => {
                let verdict = failed_change_set(self.ports, &request, found.as_ref(), &reason).await;
                stacks.discard(&request.stack, &request.name).await?;
                return Ok(StackResult { verdict, stack: found, ..result });
            }
        }
        result.changes = with_values(self.ports, &request, set.changes).await;
        if let Some(verdict) = rules::replacement_refusal(&result.changes) {
            stacks.discard(&request.stack, &request.name).await?;
            return Ok(StackResult { verdict, stack: found, ..result });
        }
        let policy = self.system.spec.approval_policy;
        let plan = Plan::new(&self.desired.hash(), result.step.clone(), result.changes.clone(), Vec::new());
        if !plan.may_run(policy, self.approval) {
            stacks.discard(&request.stack, &request.name).await?;
            (result.changes, result.live) =
                with_live_values(self.ports, &request, self.wait_policy, result.changes).await;
            return Ok(StackResult { verdict: Verdict::Blocked, stack: found, ..result });
        }
        if request.kind == ChangeSetKind::Update
            && let Some(verdict) = self.rotate(found.as_ref()).await?
        {
            stacks.discard(&request.stack, &request.name).await?;
            return Ok(StackResult { verdict, stack: found, ..result });
        }
        self.progress.report(Event::Changes(result.changes.clone()));
        // The change set of a new stack has created the stack in REVIEW_IN_PROGRESS.
        let Some(stack) = stacks.describe(&request.stack).await? else {
            let message = format!("stack {} does not exist", request.stack);
            return Err(PortError::new("execute the change set", PortErrorKind::NotFound, message));
        };
        let mut follower = StackWaiter::new(stacks, &stack.arn, self.wait_policy).await?;
        let executed = stacks.execute(&request.stack, &request.name, &request.name).await;
        executed.map_err(|error| superseded(error, &request.stack))?;
        (result.changed, result.attempted) = (true, true);
        let rest = follower.until_rest(Since::New, self.progress).await?;
        let (verdict, stack) = match rest {
            FinalState::StillRunning(stack) => (Verdict::StillRunning(stack.state.clone()), Some(stack)),
            FinalState::Gone => (failed(StackState::DeleteComplete, follower.cause(), None), None),
            FinalState::At(stack) if matches!(stack.state, StackState::CreateComplete | StackState::UpdateComplete) => {
                (Verdict::Settled, Some(stack))
            }
            FinalState::At(stack) => {
                // If no resource failed, pre-deployment validation rejected the change set; its reasons come from
                // `DescribeEvents`.
                let by_resource = follower.cause().filter(|event| event.physical_id.as_deref() != Some(&stack.arn));
                let refusals =
                    if by_resource.is_none() { refusals(self.ports, &stack.arn, None).await } else { Vec::new() };
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
}

/// A deletion of a stack.
pub(crate) struct Deletion<'a> {
    pub stack: &'a StackDescription,
    /// Logical ids of resources to retain regardless of their policy.
    pub retain: &'a [String],
}

/// Deletes a stack and waits for the end. Returns the final state, the cause of a failure, and the resources that
/// CloudFormation retained.
pub(crate) async fn delete(
    ports: &Ports,
    Deletion { stack, retain }: Deletion<'_>,
    wait_policy: WaitPolicy,
    progress: &mut dyn Progress,
) -> Result<(FinalState, Option<String>, Vec<StackEvent>), PortError> {
    let mut follower = StackWaiter::new(&ports.stacks, &stack.arn, wait_policy).await?;
    ports.stacks.delete(&stack.arn, retain, &token("delete", stack, retain)).await?;
    let rest = follower.until_rest(Since::New, progress).await?;
    Ok((rest, follower.cause().map(describe_cause), follower.kept()))
}

/// The idempotency token of an operation on a stack in its current state. A repetition after a crash has the same
/// token; an operation after another change, or one that skips other resources, does not.
fn token(operation: &str, stack: &StackDescription, left: &[String]) -> String {
    use sha2::{Digest as _, Sha256};
    let digest =
        Sha256::digest(format!("{} {} {:?} {}", stack.arn, stack.state.name(), stack.changed_at, left.join(",")));
    let hex = crate::engine::plan::hex(&digest);
    format!("{operation}-{}", hex.get(..32).unwrap_or(&hex))
}

/// Advice on which resources of a failed stack can be skipped. Empty if they cannot be read, so that the cause of the
/// failure is still reported.
pub(crate) async fn advice(ports: &Ports, stack: &StackDescription) -> String {
    match ports.stacks.resources(&stack.arn).await {
        Ok(resources) => skip_resources::advice(&stack.state, &resources),
        Err(error) => {
            tracing::warn!(%error, stack = stack.arn, "cannot read which resources can be skipped");
            String::new()
        }
    }
}

/// The verdict on a stack that is not changed again: the cause of its last failure, if its events name one.
pub(crate) async fn stalled(ports: &Ports, stack: &StackDescription) -> Result<Verdict, PortError> {
    let events = ports.stacks.events_since(&stack.arn, None).await?;
    let advice =
        if stack.state == StackState::UpdateRollbackFailed { advice(ports, stack).await } else { String::new() };
    Ok(match stack_waiter::last_cause(&events, &stack.arn) {
        Some(event) => {
            Verdict::Failed { state: stack.state.clone(), cause: format!("{}{advice}", describe_cause(event)) }
        }
        None if !advice.is_empty() => {
            let name = stack.state.name();
            Verdict::Failed { state: stack.state.clone(), cause: format!("the stack is in {name}{advice}") }
        }
        None => Verdict::Stalled(stack.state.clone()),
    })
}

fn failed(state: StackState, cause: Option<&StackEvent>, reason: Option<&str>) -> Verdict {
    let cause = match (cause, reason) {
        (Some(event), _) => describe_cause(event),
        (None, Some(reason)) => reason.to_owned(),
        (None, None) => "CloudFormation reports no reason".to_owned(),
    };
    Verdict::Failed { state, cause }
}

fn describe_cause(event: &StackEvent) -> String {
    let reason = event.reason.as_deref().unwrap_or("no reason given");
    format!("{} ({}) {}: {reason}", event.logical_id, event.resource_type, event.status)
}

/// The verdict on a stack that is only inspected.
pub(crate) fn inspect(stack: Option<&StackDescription>, input: Input) -> Verdict {
    match next_step(stack, input, Retry::Allowed) {
        StackStep::UpToDate => Verdict::Settled,
        StackStep::Create | StackStep::Update => Verdict::Untouched,
        StackStep::Skip(state) => Verdict::Skipped(state),
        StackStep::Wait => Verdict::StillRunning(stack.map_or(StackState::DeleteComplete, |s| s.state.clone())),
        StackStep::Stalled(state) => Verdict::Stalled(state),
        step => {
            let state = stack.map_or(StackState::DeleteComplete, |stack| stack.state.clone());
            let what_next = match step {
                StackStep::DeleteThenCreate => {
                    "the creation failed; the next apply deletes the stack and creates it again"
                }
                StackStep::ContinueRollback => "the rollback failed; the next apply continues it",
                _ => "the last operation failed; the next apply rolls it back",
            };
            let reason = stack.and_then(|stack| stack.reason.as_deref()).map(|text| format!(" ({text})"));
            Verdict::Failed { state, cause: format!("{what_next}{}", reason.unwrap_or_default()) }
        }
    }
}
