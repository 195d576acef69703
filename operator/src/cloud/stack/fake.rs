//! CloudFormation in memory: stacks with states, change sets compared property by property, events and injected
//! failures.

mod template;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::cloud::LiveDrift;
use crate::cloud::ports::StackProvider;
use crate::cloud::ports::{PortError, PortErrorKind};
use crate::cloud::stack::{
    ChangeSet, ChangeSetKind, ChangeSetRequest, ChangeSetState, ChangeSetSummary, DeploymentMode, OnExisting,
    ResourceState, Rollback, StackDescription, StackEvent, StackResource, StackState,
};
use crate::engine::plan::template::DATA_RESOURCES;
use crate::testing::{Judge, Ledger, carry_out};
use template::{compare, indexes, outputs, physical_id};

/// Descriptions that show an operation in progress before it is complete.
const LOOKS_UNTIL_DONE: u8 = 2;
/// Time at which change sets are created, that of the ports' clock.
const NOW: i64 = 1_714_618_800;

struct Fake {
    arn: String,
    state: StackState,
    template: Value,
    tags: BTreeMap<String, String>,
    changed_at: i64,
    events: Vec<StackEvent>,
    /// Logical ids of the resources that failed.
    failed: BTreeSet<String>,
    /// Remaining descriptions in progress, final state, and the stack's template after the operation.
    running: Option<(u8, StackState, Value)>,
}

struct Set {
    template: Value,
    tags: BTreeMap<String, String>,
    existing: OnExisting,
    kind: ChangeSetKind,
    described: ChangeSet,
    /// Remaining descriptions that show it pending.
    looks: u8,
    created: Timestamp,
}

#[derive(Default)]
struct Inner {
    stacks: BTreeMap<String, Fake>,
    sets: BTreeMap<(String, String), Set>,
    doomed: Option<(String, String)>,
    imported: bool,
    /// Tags of the table and bucket that a deleted stack retained.
    left: Option<BTreeMap<String, String>>,
    /// Names of that table and bucket.
    left_names: BTreeSet<String>,
    computes_slowly: bool,
    /// What was changed outside CloudFormation, as drift-aware change sets show it.
    live: Vec<LiveDrift>,
    /// Whether the service does not know drift-aware change sets.
    is_older: bool,
    /// Why change sets fail.
    refuses: Option<String>,
    /// Logical ids of resources that were deleted outside CloudFormation.
    gone: BTreeSet<String>,
    done: Ledger,
    judge: Option<Judge>,
    calls: Vec<&'static str>,
    broken: BTreeMap<&'static str, PortErrorKind>,
    time: i64,
}

/// Fake CloudFormation. Clones share their state.
#[derive(Clone, Default)]
pub struct FakeStacks(Arc<Mutex<Inner>>);

impl FakeStacks {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }

    /// From now on, the first description of a change set shows it pending.
    pub fn compute_slowly(&self) {
        self.lock().computes_slowly = true;
    }

    /// Adds a resource that was changed outside CloudFormation.
    pub fn drift(&self, resource: LiveDrift) {
        self.lock().live.push(resource);
    }

    /// From now on, the service does not know drift-aware change sets and ignores their mode.
    pub fn forget_drift(&self) {
        self.lock().is_older = true;
    }

    /// From now on, change sets fail with this reason.
    pub fn refuse_change_sets(&self, reason: &str) {
        self.lock().refuses = Some(reason.to_owned());
    }

    /// Deletes a resource outside CloudFormation, as far as its drift detection shows.
    pub fn delete_resource(&self, logical_id: &str) {
        self.lock().gone.insert(logical_id.to_owned());
    }

    pub(crate) fn judge(&self, judge: Judge) {
        self.lock().judge = Some(judge);
    }

    /// Effects since the creation of the fake.
    pub fn ledger(&self) -> Ledger {
        self.lock().done.clone()
    }

    /// Tags of a retained table and bucket that no stack has imported.
    pub fn left(&self) -> Option<BTreeMap<String, String>> {
        self.lock().left.clone()
    }

    /// Whether a retained table or bucket that no stack has imported has this name.
    pub fn has_left(&self, name: &str) -> bool {
        let inner = self.lock();
        inner.left.is_some() && inner.left_names.contains(name)
    }

    /// Tags that CloudFormation propagated to table and bucket.
    pub fn data_tags(&self) -> Option<BTreeMap<String, String>> {
        let inner = self.lock();
        let mut living = inner.stacks.values().filter(|found| found.holds_data());
        living.next().map(|found| found.tags.clone()).or_else(|| inner.left.clone())
    }

    /// The next operation fails at this resource with this reason.
    pub fn doom(&self, logical_id: &str, reason: &str) {
        self.lock().doomed = Some((logical_id.to_owned(), reason.to_owned()));
    }

    /// Puts a stack into a state, as an operation outside the engine does.
    pub fn force(&self, stack: &str, state: &str) {
        if let Some(found) = self.lock().stacks.get_mut(stack) {
            found.state = StackState::parse(state);
            found.running = None;
        }
    }

    /// Puts a stack into a state in which these resources failed.
    pub fn fail(&self, stack: &str, state: &str, logical_ids: &[&str]) {
        self.force(stack, state);
        if let Some(found) = self.lock().stacks.get_mut(stack) {
            found.failed = logical_ids.iter().map(|id| (*id).to_owned()).collect();
        }
    }

    /// Adds a change set of another client, or of an operator that was killed, so long ago.
    pub fn leave_change_set(&self, stack: &str, name: &str, age: jiff::SignedDuration) {
        let described = ChangeSet { state: ChangeSetState::Ready, changes: Vec::new(), drift: None };
        let (template, tags, kind) = (Value::Null, BTreeMap::new(), ChangeSetKind::Update);
        let created = now() - age;
        let set = Set { template, tags, existing: OnExisting::Refuse, kind, described, looks: 0, created };
        self.lock().sets.insert((stack.to_owned(), name.to_owned()), set);
    }

    /// From now on, every call of this name fails with this kind; `None` ends that.
    pub fn break_call(&self, call: &'static str, kind: Option<PortErrorKind>) {
        let mut inner = self.lock();
        match kind {
            Some(kind) => drop(inner.broken.insert(call, kind)),
            None => drop(inner.broken.remove(call)),
        }
    }

    /// Calls since the last use of this method.
    pub fn take_calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.lock().calls)
    }

    /// State of a stack.
    pub fn state(&self, stack: &str) -> Option<StackState> {
        self.lock().stacks.get(stack).map(|found| found.state.clone())
    }

    /// Replaces the tags of a stack.
    pub fn retag(&self, stack: &str, tags: &[(&str, &str)]) {
        if let Some(found) = self.lock().stacks.get_mut(stack) {
            found.tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        }
    }

    /// Tags of a stack.
    pub fn tags(&self, stack: &str) -> BTreeMap<String, String> {
        self.lock().stacks.get(stack).map(|found| found.tags.clone()).unwrap_or_default()
    }

    /// Whether the last execution imported existing resources.
    pub fn imported(&self) -> bool {
        self.lock().imported
    }

    /// Current template of a stack.
    pub fn template(&self, stack: &str) -> Value {
        self.lock().stacks.get(stack).map(|found| found.template.clone()).unwrap_or_default()
    }

    /// Whether any stack has resources.
    pub fn any(&self) -> bool {
        self.lock().stacks.values().any(Fake::holds_data)
    }

    /// Name of the first stack that has resources.
    pub fn first_with_resources(&self) -> Option<String> {
        self.lock().stacks.iter().find(|(_, found)| found.holds_data()).map(|(name, _)| name.clone())
    }

    /// Names of change sets that are neither executed nor deleted.
    pub fn change_set_names(&self) -> Vec<String> {
        self.lock().sets.keys().map(|(_, name)| name.clone()).collect()
    }

    /// Number of change sets that are neither executed nor deleted.
    pub fn open_change_sets(&self) -> usize {
        self.lock().sets.len()
    }

    async fn answer<T>(
        &self,
        call: &'static str,
        work: impl FnOnce(&mut Inner) -> Result<T, PortError> + Send,
    ) -> Result<T, PortError> {
        let judge = self.lock().judge.clone();
        carry_out(judge, call, || {
            let mut inner = self.lock();
            inner.calls.push(call);
            inner.time += 1;
            match inner.broken.get(call) {
                Some(kind) => Err(PortError::new(call, *kind, "broken on demand")),
                None => work(&mut inner),
            }
        })
        .await
    }
}

impl Inner {
    fn did(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    /// Finds a stack by name or ARN; a deleted stack only by its ARN.
    fn find(&mut self, stack: &str) -> Option<(&String, &mut Fake)> {
        let by_name = |name: &str, fake: &Fake| name == stack && fake.state != StackState::DeleteComplete;
        self.stacks.iter_mut().find(|(name, fake)| by_name(name, fake) || fake.arn == stack)
    }

    fn known(&mut self, stack: &str) -> Result<(String, &mut Fake), PortError> {
        let missing = || PortError::new("find the stack", PortErrorKind::NotFound, format!("no stack {stack}"));
        self.find(stack).map(|(name, fake)| (name.clone(), fake)).ok_or_else(missing)
    }

    fn begin(&mut self, name: &str, verb: &str, target: Value) {
        let (time, doomed) = (self.time, self.doomed.take());
        let Some(fake) = self.stacks.get_mut(name) else { return };
        fake.changed_at = time;
        fake.state = StackState::parse(&format!("{verb}_IN_PROGRESS"));
        record(fake, name, "AWS::CloudFormation::Stack", &format!("{verb}_IN_PROGRESS"), None);
        let Some((logical_id, reason)) = doomed else {
            fake.running = Some((LOOKS_UNTIL_DONE, StackState::parse(&format!("{verb}_COMPLETE")), target));
            return;
        };
        // CloudFormation may report a cancelled resource before the one that caused the failure.
        let failed = format!("{verb}_FAILED");
        let stopped = if verb == "CREATE" { "Resource creation cancelled" } else { "Resource update cancelled" };
        record(fake, "Bystander", "AWS::SQS::Queue", &failed, Some(stopped));
        record(fake, &logical_id, "AWS::DynamoDB::Table", &failed, Some(&reason));
        let end = match verb {
            "CREATE" => StackState::RollbackComplete,
            "UPDATE" => StackState::UpdateRollbackComplete,
            _ => StackState::DeleteFailed,
        };
        let template = fake.template.clone();
        fake.running = Some((LOOKS_UNTIL_DONE, end, template));
    }
}

impl Fake {
    fn holds_data(&self) -> bool {
        self.state.next() != crate::cloud::stack::Next::Create
    }

    fn step(&mut self, name: &str) {
        let Some((left, end, template)) = self.running.take() else { return };
        if left > 0 {
            self.running = Some((left - 1, end, template));
            return;
        }
        let status = end.name().to_owned();
        self.state = end;
        self.template = template;
        record(self, name, "AWS::CloudFormation::Stack", &status, None);
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn record(fake: &mut Fake, logical_id: &str, resource_type: &str, status: &str, reason: Option<&str>) {
    let own = resource_type == "AWS::CloudFormation::Stack";
    fake.events.push(StackEvent {
        id: format!("{}-{}", fake.arn, fake.events.len()),
        at: Timestamp::UNIX_EPOCH,
        logical_id: logical_id.to_owned(),
        physical_id: own.then(|| fake.arn.clone()),
        resource_type: resource_type.to_owned(),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
    });
}

#[async_trait]
impl StackProvider for FakeStacks {
    async fn describe(&self, stack: &str) -> Result<Option<StackDescription>, PortError> {
        self.answer("describe", |inner| {
            Ok(inner.find(stack).map(|(name, fake)| {
                fake.step(&name.clone());
                StackDescription {
                    arn: fake.arn.clone(),
                    state: fake.state.clone(),
                    reason: None,
                    outputs: outputs(&fake.template),
                    changed_at: Timestamp::from_second(fake.changed_at).ok(),
                    tags: fake.tags.clone(),
                }
            }))
        })
        .await
    }

    async fn create_change_set(&self, request: &ChangeSetRequest) -> Result<(), PortError> {
        self.answer("create_change_set", |inner| {
            let refuse = |kind, text: &str| Err(PortError::new("create a change set", kind, text));
            let key = (request.stack.clone(), request.name.clone());
            if inner.sets.contains_key(&key) {
                return refuse(PortErrorKind::AlreadyExists, "the change set exists");
            }
            let template: Value = serde_json::from_str(&request.template).unwrap_or_default();
            let time = inner.time;
            let state = inner.find(&request.stack).map(|(_, fake)| fake.state.clone());
            match (request.kind, state.as_ref().map(StackState::next)) {
                (ChangeSetKind::Create, _) if state == Some(StackState::ReviewInProgress) => {}
                (ChangeSetKind::Create, None | Some(crate::cloud::stack::Next::Create)) => {
                    let arn =
                        format!("arn:aws:cloudformation:ap-northeast-2:000000000000:stack/{}/{time}", request.stack);
                    let fake = Fake {
                        arn,
                        state: StackState::ReviewInProgress,
                        template: Value::Null,
                        tags: BTreeMap::new(),
                        changed_at: time,
                        events: Vec::new(),
                        failed: BTreeSet::new(),
                        running: None,
                    };
                    inner.stacks.insert(request.stack.clone(), fake);
                    inner.did("stack created");
                }
                (ChangeSetKind::Update, Some(crate::cloud::stack::Next::Update)) => {}
                _ => return refuse(PortErrorKind::Invalid, "the stack's state does not allow it"),
            }
            let stack = inner.known(&request.stack)?.1;
            let changes = compare(&stack.template, &template);
            // A change of outputs alone is no change.
            let same = changes.is_empty() && stack.tags == request.tags;
            let state = if same { ChangeSetState::Empty } else { ChangeSetState::Ready };
            let state = inner.refuses.clone().map_or(state, ChangeSetState::Failed);
            let (tags, existing) = (request.tags.clone(), request.existing);
            let looks = u8::from(inner.computes_slowly);
            let drift = (request.mode == DeploymentMode::RevertDrift).then(|| inner.live.clone());
            let drift = drift.filter(|_| !inner.is_older);
            let described = ChangeSet { state, changes, drift };
            let set = Set { template, tags, existing, kind: request.kind, described, looks, created: now() };
            inner.sets.insert(key, set);
            inner.did("change set created");
            Ok(())
        })
        .await
    }

    async fn change_set(&self, stack: &str, name: &str) -> Result<ChangeSet, PortError> {
        self.answer("change_set", |inner| {
            let found = inner.sets.get_mut(&(stack.to_owned(), name.to_owned()));
            let missing = || PortError::new("describe the change set", PortErrorKind::NotFound, "no such change set");
            let set = found.ok_or_else(missing)?;
            if set.looks > 0 {
                set.looks -= 1;
                return Ok(ChangeSet { state: ChangeSetState::Pending, changes: Vec::new(), drift: None });
            }
            Ok(set.described.clone())
        })
        .await
    }

    async fn template(&self, stack: &str) -> Result<Value, PortError> {
        self.answer("template", |inner| Ok(inner.known(stack)?.1.template.clone())).await
    }

    async fn execute(&self, stack: &str, name: &str, _token: &str) -> Result<(), PortError> {
        self.answer("execute", |inner| {
            let missing = || PortError::new("execute the change set", PortErrorKind::NotFound, "no such change set");
            let set = inner.sets.remove(&(stack.to_owned(), name.to_owned())).ok_or_else(missing)?;
            // An execution deletes the stack's other change sets, which are no longer valid.
            inner.sets.retain(|(of, _), _| of != stack);
            let verb = if set.kind == ChangeSetKind::Create { "CREATE" } else { "UPDATE" };
            let (name, fake) = inner.known(stack)?;
            fake.tags = set.tags;
            let more = indexes(&set.template).saturating_sub(indexes(&fake.template));
            if verb == "UPDATE" && more > 1 {
                let reason = "Cannot perform more than one GSI creation or deletion in a single update";
                inner.doomed = Some(("Table".to_owned(), reason.to_owned()));
            }
            inner.imported = set.existing == OnExisting::Import;
            if inner.imported {
                inner.left = None;
            }
            inner.did("change set executed");
            inner.begin(&name, verb, set.template);
            Ok(())
        })
        .await
    }

    async fn change_sets(&self, stack: &str) -> Result<Vec<ChangeSetSummary>, PortError> {
        self.answer("change_sets", |inner| {
            let of_stack = inner.sets.iter().filter(|((of, _), _)| of == stack);
            let summary = |((_, name), set): (&(String, String), &Set)| ChangeSetSummary {
                name: name.clone(),
                created: Some(set.created),
            };
            Ok(of_stack.map(summary).collect())
        })
        .await
    }

    async fn discard(&self, stack: &str, name: &str) -> Result<(), PortError> {
        self.answer("discard", |inner| {
            if inner.sets.remove(&(stack.to_owned(), name.to_owned())).is_some() {
                inner.did("change set discarded");
            }
            Ok(())
        })
        .await
    }

    async fn roll_back(&self, stack: &str, way: Rollback<'_>, _token: &str) -> Result<(), PortError> {
        let (call, skip) = match way {
            Rollback::ContinueRollback { skip } => ("continue_rollback", skip),
            Rollback::RollBack => ("roll_back", &[][..]),
        };
        self.answer(call, |inner| {
            let (name, fake) = inner.known(stack)?;
            fake.failed.retain(|id| !skip.contains(id));
            let (template, fails) = (fake.template.clone(), !fake.failed.is_empty());
            inner.begin(&name, "UPDATE_ROLLBACK", template.clone());
            if fails {
                inner.known(stack)?.1.running = Some((LOOKS_UNTIL_DONE, StackState::UpdateRollbackFailed, template));
            }
            Ok(())
        })
        .await
    }

    async fn delete(&self, stack: &str, retain: &[String], _token: &str) -> Result<(), PortError> {
        self.answer("delete", |inner| {
            let (name, fake) = inner.known(stack)?;
            if matches!(fake.state, StackState::DeleteInProgress | StackState::DeleteComplete) {
                return Ok(());
            }
            let policy = fake.template["Resources"]["Table"]["DeletionPolicy"].as_str();
            let keeps = fake.holds_data() && policy.is_some_and(|policy| policy.starts_with("Retain"));
            let is_data = |id: &String| DATA_RESOURCES.contains(&id.as_str());
            // What a policy retains is not deleted, whatever prevents its deletion.
            fake.failed.retain(|id| !(retain.contains(id) || keeps && is_data(id)));
            let (template, fails) = (fake.template.clone(), !fake.failed.is_empty());
            let left = (keeps || retain.iter().any(is_data)).then(|| fake.tags.clone());
            let physical = |id: &str| physical_id(id, &fake.template["Resources"][id]["Properties"]);
            let names = DATA_RESOURCES.into_iter().map(physical).collect();
            (inner.left, inner.left_names) = (left, names);
            // Deleting a stack deletes its change sets.
            inner.sets.retain(|(of, _), _| *of != name);
            inner.did("stack deleted");
            inner.begin(&name, "DELETE", Value::Null);
            let fake = inner.known(stack)?.1;
            for id in retain {
                let kind = template["Resources"][id]["Type"].as_str().unwrap_or_default();
                record(fake, id, kind, "DELETE_SKIPPED", None);
            }
            if fails {
                fake.running = Some((LOOKS_UNTIL_DONE, StackState::DeleteFailed, template));
            }
            Ok(())
        })
        .await
    }

    async fn events_since(&self, stack: &str, after: Option<&str>) -> Result<Vec<StackEvent>, PortError> {
        self.answer("events_since", |inner| {
            let (_, fake) = inner.known(stack)?;
            let first = match after {
                Some(id) => fake.events.iter().position(|event| event.id == id).map(|index| index + 1),
                None => fake.events.iter().rposition(|event| event.begins_operation(&fake.arn)),
            };
            Ok(fake.events.iter().skip(first.unwrap_or(0)).cloned().collect())
        })
        .await
    }

    async fn refusals(&self, _stack: &str, _change_set: Option<&str>) -> Result<Vec<String>, PortError> {
        self.answer("refusals", |_| Ok(Vec::new())).await
    }

    async fn resources(&self, stack: &str) -> Result<Vec<StackResource>, PortError> {
        self.answer("resources", |inner| {
            let (_, fake) = inner.known(stack)?;
            let Some(all) = fake.template["Resources"].as_object() else { return Ok(Vec::new()) };
            let failed = if fake.state == StackState::DeleteFailed { "DELETE_FAILED" } else { "UPDATE_FAILED" };
            let status = |id: &String| if fake.failed.contains(id) { failed } else { "CREATE_COMPLETE" };
            Ok(all
                .iter()
                .map(|(logical_id, resource)| StackResource {
                    logical_id: logical_id.clone(),
                    physical_id: Some(physical_id(logical_id, &resource["Properties"])),
                    resource_type: resource["Type"].as_str().unwrap_or_default().to_owned(),
                    status: status(logical_id).to_owned(),
                    reason: None,
                })
                .collect())
        })
        .await
    }

    async fn resource_state(&self, stack: &str, logical_id: &str) -> Result<ResourceState, PortError> {
        self.answer("resource_state", |inner| {
            inner.known(stack)?;
            Ok(if inner.gone.contains(logical_id) { ResourceState::Deleted } else { ResourceState::Exists })
        })
        .await
    }
}
