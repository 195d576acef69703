//! The final state of a run, and its comparison with that of an undisturbed run.

use std::collections::BTreeMap;

use dispatch_api::names::ResourceNames;
use dispatch_operator::engine::plan::workers::APPLIED;
use regex::Regex;
use serde_json::{Value, json};

use super::bench::{Bench, NAME, Run};
use super::disturbance::Disturbance;
use super::scenario::Scenario;

/// Events about a state that passes: one of two operators may read the Deployments while those of the other one are
/// rolled out. A single operator reads them before it applies and after they are ready.
const SEEN_IN_BETWEEN: [&str; 2] = ["WorkersNotReady", "WorkersReady"];

/// Idempotent writes. A write whose response was lost may be repeated once without any effect.
const REPEATABLE: [&str; 6] =
    ["application updated", "backups enabled", "bucket tagged", "queue corrected", "table corrected", "table tagged"];
/// Metadata that differs between two equal objects.
const VOLATILE: [&str; 6] =
    ["uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "managedFields", "selfLink"];
/// How often two concurrent operators and a third one after them may publish the same event.
const VOICES: usize = 3;
/// Differences reported for one run.
const REPORTED_MAX: usize = 5;

/// The final state of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Left {
    state: BTreeMap<String, Value>,
    counts: BTreeMap<String, usize>,
    events: BTreeMap<String, usize>,
}

impl Left {
    /// Reads the cluster, the account, the counts and the events.
    pub(super) async fn of(bench: &Bench, run: &Run) -> anyhow::Result<Self> {
        let system = bench.system().await?;
        let mut state: BTreeMap<String, Value> = bench.children().await?.into_iter().collect();
        state.insert("DispatchSystem".to_owned(), serde_json::to_value(&system)?);
        let stack = ResourceNames::prefix(&bench.namespace, NAME);
        let stacks = &run.world.stacks;
        state.insert(
            "stack".to_owned(),
            json!({
                "state": stacks.state(&stack).map(|state| state.name().to_owned()),
                "template": stacks.template(&stack),
                "tags": stacks.tags(&stack),
                "open change sets": stacks.open_change_sets(),
                "imported": stacks.imported(),
            }),
        );
        state.insert(
            "account".to_owned(),
            json!({
                "data": run.world.data(),
                "application": run.world.push_credential(),
            }),
        );
        let clean = Clean::new()?;
        for value in state.values_mut() {
            clean.clean(value);
        }
        let mut counts = run.tally.objects();
        counts.retain(|kind, _| !kind.starts_with("events "));
        counts.extend(run.world.ledger().into_iter().map(|(what, times)| (what.to_owned(), times)));
        let mut events = BTreeMap::new();
        for reason in bench.reasons().await? {
            *events.entry(reason).or_default() += 1;
        }
        Ok(Self { state, counts, events })
    }

    /// Differences from an undisturbed run, beyond those that a fault may cause.
    ///
    /// An event is published before the status that reflects it. So an event that matters is published at least once,
    /// and at most once more than in an undisturbed run. An event about a state that no operator observed, because it
    /// was dead meanwhile, is not published.
    pub(super) fn differences(&self, undisturbed: &Self, scenario: Scenario, by: Disturbance) -> Vec<String> {
        let mut wrong = Vec::new();
        for (key, count) in merged(&undisturbed.counts, &self.counts) {
            let (should, is) = count;
            // Two concurrent operators may both make an idempotent write.
            let times = if by == Disturbance::Crowded { should } else { 1 };
            let more = if REPEATABLE.contains(&key) { times } else { 0 };
            if is < should || is > should + more {
                wrong.push(format!("{key}: {is} times instead of {should}"));
            }
        }
        for (reason, (should, is)) in merged(&undisturbed.events, &self.events) {
            let least = usize::from(scenario.required_events().contains(&reason));
            // An operator that survives reports the failed call.
            let most = match (reason, by) {
                (_, Disturbance::Crowded) => VOICES * should.max(1),
                ("ReconcileFailed", Disturbance::Killed) => should,
                _ => should + 1,
            };
            let between = by == Disturbance::Crowded && SEEN_IN_BETWEEN.contains(&reason);
            let known = should > 0 || reason == "ReconcileFailed" || between;
            if is < least || is > most || (!known && is > 0) {
                wrong.push(format!("event {reason}: {is} times, {should} undisturbed"));
            }
        }
        let mut keys: Vec<&String> = undisturbed.state.keys().chain(self.state.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let of = |left: &Self| left.state.get(key).cloned().unwrap_or_default();
            differ(key, &of(undisturbed), &of(self), &mut wrong);
        }
        let more = wrong.len().saturating_sub(REPORTED_MAX);
        wrong.truncate(REPORTED_MAX);
        if more > 0 {
            wrong.push(format!("and {more} more differences"));
        }
        wrong
    }

    /// Remains of a system that was deleted before it was complete. There must be none.
    pub(super) fn remains(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let count = |what: &str| self.counts.get(what).copied().unwrap_or(0);
        for what in ["stack", "application"] {
            let (made, removed) = (count(&format!("{what} created")), count(&format!("{what} deleted")));
            if made != removed || made > 1 {
                wrong.push(format!("{what}: {made} created, {removed} deleted"));
            }
        }
        let value_at = |key: &str, at: &str| {
            let value = self.state.get(key);
            value.and_then(|value| value.pointer(at)).cloned().unwrap_or_default()
        };
        if self.state.get("DispatchSystem").is_some_and(|system| !system.is_null()) {
            wrong.push("the object still exists".to_owned());
        }
        if !value_at("stack", "/state").is_null() && value_at("stack", "/state") != "DELETE_COMPLETE" {
            wrong.push(format!("the stack is in {}", value_at("stack", "/state")));
        }
        if value_at("stack", "/open change sets") != 0 {
            wrong.push("a change set is open".to_owned());
        }
        if !value_at("account", "/application").is_null() {
            wrong.push("the push application still exists".to_owned());
        }
        let running = self.state.iter().filter(|(key, value)| {
            key.starts_with("Deployment ") && value.pointer("/spec/replicas").is_some_and(|replicas| *replicas != 0)
        });
        wrong.extend(running.map(|(key, _)| format!("{key} still runs")));
        wrong
    }
}

fn merged<'a>(
    undisturbed: &'a BTreeMap<String, usize>,
    is: &'a BTreeMap<String, usize>,
) -> BTreeMap<&'a str, (usize, usize)> {
    let mut merged: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (key, count) in undisturbed {
        merged.entry(key).or_default().0 = *count;
    }
    for (key, count) in is {
        merged.entry(key).or_default().1 = *count;
    }
    merged
}

fn differ(at: &str, should: &Value, is: &Value, wrong: &mut Vec<String>) {
    match (should, is) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differ(&format!("{at}.{key}"), &of(a), &of(b), wrong);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differ(&format!("{at}[{index}]"), a, b, wrong);
            }
        }
        _ if should == is => {}
        _ => wrong.push(format!("{at}: {is} instead of {should}")),
    }
}

/// Makes values of two runs comparable.
struct Clean {
    time: Regex,
    uid: Regex,
    stack: Regex,
}

impl Clean {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            time: Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")?,
            uid: Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")?,
            stack: Regex::new(r"(:stack/[a-z0-9-]+)/\d+")?,
        })
    }

    fn clean(&self, value: &mut Value) {
        if let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            for name in VOLATILE {
                metadata.remove(name);
            }
            // The digest includes the owner's UID. It is correct, because the idle reconcile writes nothing.
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove(APPLIED);
            }
        }
        if let Some(spec) = value.pointer_mut("/spec").and_then(Value::as_object_mut) {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        self.texts(value);
    }

    fn texts(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                let cleaned = self.time.replace_all(text, "TIME");
                let cleaned = self.uid.replace_all(&cleaned, "UID");
                let cleaned = self.stack.replace_all(&cleaned, "$1/N").into_owned();
                *text = cleaned;
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.texts(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.texts(member)),
            _ => {}
        }
    }
}
