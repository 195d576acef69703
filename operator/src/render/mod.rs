//! Renders plans, progress and statuses as text for people. Pure.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use dispatch_api::dispatch_system::{DispatchSystemStatus, ExportStatus, OutputsStatus, PlannedCost};
use dispatch_api::validate::ValidatedSystem;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use crate::cloud::stack::{StackEvent, StackResource};
use crate::cloud::{ChangeCounts, ChangeKind, PropertyValue, ResourceChange};
use crate::engine::destroy::DestroyReport;
use crate::engine::plan::monthly_cost::FixedCost;
use crate::engine::plan::{Blockage, LiveValues, Plan, StackStep};
use crate::engine::progress::Event;
use crate::engine::reconcile::ReconcileReport;
use crate::sanitize::{printable, shown, terminal};

/// A plan as a YAML or JSON document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDocument<'a> {
    system: String,
    id: &'a str,
    /// `inSync`, `changes` or `blocked`.
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<BlockageDocument<'a>>,
    changes_pending: bool,
    needs_approval: bool,
    stack: String,
    resources: Vec<ChangeDocument<'a>>,
    /// What the plan adds to the charges of a month that do not depend on use.
    #[serde(skip_serializing_if = "Option::is_none")]
    fixed_cost: Option<PlannedCost>,
    steps: Vec<String>,
    /// What was checked of the stack's resources.
    checked: String,
    /// What else was changed outside CloudFormation, or why live values were not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    live: Vec<String>,
}

#[derive(Serialize)]
struct BlockageDocument<'a> {
    reason: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeDocument<'a> {
    action: &'static str,
    logical_id: &'a str,
    #[serde(rename = "type")]
    resource_type: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    properties: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    forced_by: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<ValueDocument<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    endangers_data: bool,
}

#[derive(Serialize)]
struct ValueDocument<'a> {
    path: &'a str,
    /// `null` if there was no value.
    before: &'a Option<String>,
    /// `null` if there is no value.
    after: &'a Option<String>,
    /// The value of the resource, if it was changed outside CloudFormation.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: &'a Option<String>,
}

impl<'a> PlanDocument<'a> {
    pub fn new(system: &ValidatedSystem, plan: &'a Plan) -> Self {
        let resources = plan.changes.iter().map(|change| ChangeDocument {
            action: if change.may_replace() { "mayReplace" } else { change.kind.name() },
            logical_id: &change.logical_id,
            resource_type: &change.resource_type,
            properties: &change.properties,
            forced_by: &change.forcing,
            values: change
                .values
                .iter()
                .map(|PropertyValue { path, before, after, live }| ValueDocument { path, before, after, live })
                .collect(),
            endangers_data: change.endangers_data(),
        });
        Self {
            system: full_name(system),
            id: &plan.id,
            verdict: match &plan.blockage {
                Some(_) => "blocked",
                None if plan.is_empty() => "inSync",
                None => "changes",
            },
            blocked: plan
                .blockage
                .as_ref()
                .map(|blockage| BlockageDocument { reason: blockage.reason.as_str(), message: &blockage.message }),
            changes_pending: !plan.is_empty(),
            needs_approval: plan.needs_approval(system.spec.approval_policy),
            stack: stack_step(&plan.stack),
            resources: resources.collect(),
            fixed_cost: plan.planned_cost(),
            steps: plan.parts.iter().map(ToString::to_string).collect(),
            checked: plan.existence.to_string(),
            live: live(plan),
        }
    }
}

pub fn plan(system: &ValidatedSystem, plan: &Plan) -> String {
    let name = full_name(system);
    let blocked = plan.blockage.as_ref().map(|Blockage { reason, message }| {
        format!("{name}: blocked ({reason}), an apply does not reach the manifest: {}\n", shown(message))
    });
    if plan.is_empty() {
        let unchanged = || format!("{name}: no changes: the stack has the manifest's template; {}\n", plan.existence);
        return blocked.unwrap_or_else(unchanged);
    }
    let mut text = blocked.unwrap_or_default();
    let _ = write!(text, "{name}: plan {}, {}\n\n", plan.id, stack_step(&plan.stack));
    text.push_str(&changes(&plan.changes));
    for step in &plan.parts {
        let _ = writeln!(text, "  !   {step}");
    }
    for line in live(plan) {
        let _ = writeln!(text, "  i   {line}");
    }
    if !(plan.changes.is_empty() && plan.parts.is_empty()) {
        text.push('\n');
    }
    let _ = write!(text, "{}", ChangeCounts::from_changes(&plan.changes));
    match plan.parts.len() {
        0 => text.push('\n'),
        1 => text.push_str(", 1 other step\n"),
        more => {
            let _ = writeln!(text, ", {more} other steps");
        }
    }
    if !plan.changes.is_empty() {
        text.push_str(&fixed_cost(system, plan));
    }
    if plan.needs_approval(system.spec.approval_policy) {
        text.push_str(&approval_hint(plan));
    }
    text
}

/// What the plan adds to the charges of a month, and what that does not include.
fn fixed_cost(system: &ValidatedSystem, plan: &Plan) -> String {
    let cost = plan.fixed_cost();
    let basis = FixedCost::basis(&system.spec.region);
    if cost.is_unchanged() {
        return "Fixed cost: no change. Requests, storage and transfer are charged by use.\n".to_owned();
    }
    format!("Fixed cost: {cost}, at {basis}. Requests, storage and transfer are charged by use.\n")
}

/// What was changed outside CloudFormation and stays as it is, or why live values were not compared.
fn live(plan: &Plan) -> Vec<String> {
    match &plan.live {
        LiveValues::None => Vec::new(),
        LiveValues::NotCompared(why) => vec![format!("live values were not compared: {}", shown(why))],
        LiveValues::Compared(others) => {
            others.iter().map(|drift| format!("not changed by this plan: {}", shown(&drift.to_string()))).collect()
        }
    }
}

/// Changed resources in aligned columns: sign, type, logical id, differing properties; below each, the values that
/// change. What endangers data comes first, and alarms that change in the same way share a line.
pub fn changes(changes: &[ResourceChange]) -> String {
    let mut sorted: Vec<&ResourceChange> = changes.iter().collect();
    sorted.sort_by_key(|change| (!change.endangers_data(), &change.resource_type, sign(change), &change.logical_id));
    let mut rows: Vec<(&ResourceChange, usize)> = Vec::new();
    for change in sorted {
        match rows.last_mut() {
            Some((first, count)) if is_alike(first, change) => *count += 1,
            _ => rows.push((change, 1)),
        }
    }
    let name = |(change, count): &(&ResourceChange, usize)| match count {
        1 => change.logical_id.clone(),
        count => format!("{count} alarms"),
    };
    let type_width = rows.iter().map(|(change, _)| change.resource_type.len()).max().unwrap_or(0);
    let id_width = rows.iter().map(|row| name(row).len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut text, row| {
        let (change, id) = (row.0, name(row));
        let (sign, resource_type) = (sign(change), &change.resource_type);
        let line = format!("  {sign:<3} {resource_type:<type_width$}  {id:<id_width$}  {}", what_differs(change));
        let _ = writeln!(text, "{}", line.trim_end());
        for value in &change.values {
            let _ = writeln!(text, "        {value}");
        }
        text
    })
}

fn sign(change: &ResourceChange) -> &'static str {
    match change.kind {
        ChangeKind::Add => "+",
        ChangeKind::Change => "~",
        ChangeKind::Replace if change.may_replace() => "~/+",
        ChangeKind::Replace => "-/+",
        ChangeKind::Remove => "-",
    }
}

/// Whether two alarms change in the same way.
fn is_alike(one: &ResourceChange, other: &ResourceChange) -> bool {
    let of = |change: &ResourceChange| {
        let ResourceChange { kind, replacement, properties, forcing, values, .. } = change.clone();
        (kind, replacement, properties, forcing, values)
    };
    one.resource_type == "AWS::CloudWatch::Alarm" && other.resource_type == one.resource_type && of(one) == of(other)
}

fn what_differs(change: &ResourceChange) -> String {
    let forced =
        if change.forcing.is_empty() { "something it depends on".to_owned() } else { change.forcing.join(", ") };
    let mut text = match change.kind {
        ChangeKind::Replace if change.may_replace() => format!("may be replaced because of {forced}"),
        ChangeKind::Replace => format!("replaced because of {forced}"),
        _ => change.properties.join(", "),
    };
    if change.endangers_data() {
        text.push_str(" (holds data)");
    }
    text.trim_start().to_owned()
}

fn stack_step(step: &StackStep) -> String {
    match step {
        StackStep::UpToDate => "the stack is up to date".to_owned(),
        StackStep::Create => "the stack is created".to_owned(),
        StackStep::Update => "the stack is updated".to_owned(),
        StackStep::Wait => "the stack has an operation in progress, which has to finish first".to_owned(),
        StackStep::DeleteThenCreate => "the stack, whose creation failed, is deleted and created again".to_owned(),
        StackStep::ContinueRollback => "the stack's unfinished rollback is continued first".to_owned(),
        StackStep::RollBack => "the stack is rolled back first".to_owned(),
        StackStep::Stalled(state) => format!("the stack is in {}; action required", state.name()),
        StackStep::Skip(state) => {
            format!("the stack is in {}, an unknown state, and is not changed", state.name())
        }
    }
}

fn approval_hint(plan: &Plan) -> String {
    format!("This plan requires approval: apply with --approve {}\n", plan.id)
}

/// One progress event as a line.
pub fn event(event: &Event, colour: bool) -> String {
    // Colours are added afterwards: texts of AWS and of users steer no terminal.
    match event {
        Event::Step(text) | Event::Rollback(text) => terminal(&format!("==> {text}")),
        Event::ResourcesSkipped(operation, ids) => terminal(&format!("    skipped in {operation}: {}", ids.join(", "))),
        Event::Note(text) => terminal(&format!("    {text}")),
        Event::Changes(list) => terminal(changes(list).trim_end()),
        Event::Stack(stack) => stack_event(stack, colour),
    }
}

/// Width of the longest common status; `UPDATE_COMPLETE_CLEANUP_IN_PROGRESS` exceeds it.
const STATUS_WIDTH: usize = 18;
/// Width of most resource types.
const TYPE_WIDTH: usize = 34;

fn stack_event(event: &StackEvent, colour: bool) -> String {
    let padded = format!("{:<STATUS_WIDTH$}", printable(&event.status));
    let status = if colour { painted(&event.status, &padded) } else { padded };
    let at = event.at.strftime("%H:%M:%S");
    let reason = event.reason.as_deref().map(|reason| format!("  {reason}")).unwrap_or_default();
    let rest = printable(&format!("  {:<TYPE_WIDTH$}  {}{reason}", event.resource_type, event.logical_id));
    format!("    {at}  {status}{rest}").trim_end().to_owned()
}

fn painted(status: &str, text: &str) -> String {
    let code = match status {
        s if s.ends_with("_FAILED") || s.contains("ROLLBACK") => 31,
        s if s.ends_with("_COMPLETE") => 32,
        _ => 33,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// The result of an apply.
pub fn applied(system: &ValidatedSystem, done: &ReconcileReport) -> String {
    let mut text = headline(system, &done.status);
    if done.is_ready() {
        text.push_str(if done.changed { "changes applied\n" } else { "no changes\n" });
    } else if done.plan.needs_approval(system.spec.approval_policy) {
        text.push('\n');
        text.push_str(&changes(&done.plan.changes));
        text.push_str(&approval_hint(&done.plan));
    }
    if let Some(outputs) = &done.outputs {
        text.push('\n');
        text.push_str(&output_lines(outputs));
    }
    text
}

pub fn status(system: &ValidatedSystem, status: &DispatchSystemStatus, resources: &[StackResource]) -> String {
    let mut text = headline(system, status);
    text.push_str("\nConditions\n");
    for condition in &status.conditions {
        let (kind, value) = (&condition.type_, &condition.status);
        let line = format!("  {kind:<16}  {value:<7}  {:<18}  {}", condition.reason, condition.message);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Some(outputs) = &status.outputs {
        text.push_str("\nOutputs\n");
        text.push_str(&output_lines(outputs));
    }
    if !resources.is_empty() {
        text.push_str("\nResources\n");
        let type_width = resources.iter().map(|resource| resource.resource_type.len()).max().unwrap_or(0);
        let id_width = resources.iter().map(|resource| resource.logical_id.len()).max().unwrap_or(0);
        for resource in resources {
            let (kind, id, state) = (&resource.resource_type, &resource.logical_id, &resource.status);
            let reason = resource.reason.as_deref().unwrap_or_default();
            let line = format!("  {kind:<type_width$}  {id:<id_width$}  {state}  {reason}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    if let Some(last) = &status.last_export {
        text.push_str("\nLast export\n");
        text.push_str(&export(last));
    }
    text
}

fn headline(system: &ValidatedSystem, status: &DispatchSystemStatus) -> String {
    let summary = ["Ready", "Reconciling", "Stalled"];
    let condition = status.conditions.iter().find(|c| c.status == "True" && summary.contains(&c.type_.as_str()));
    let stack = status.stack_status.as_deref().unwrap_or("no stack");
    match condition {
        Some(c) => format!("{}: {} ({}, {stack}): {}\n", full_name(system), c.type_, c.reason, c.message),
        None => format!("{}: {stack}\n", full_name(system)),
    }
}

fn output_lines(outputs: &OutputsStatus) -> String {
    let rows = [
        ("table", Some(&outputs.table_name)),
        ("stream", Some(&outputs.stream_arn)),
        ("leases", Some(&outputs.lease_table_name)),
        ("queue offers", Some(&outputs.offers_queue_url)),
        ("queue responses", Some(&outputs.responses_queue_url)),
        ("queue notifications", Some(&outputs.notifications_queue_url)),
        ("topic", Some(&outputs.topic_arn)),
        ("push", outputs.platform_application_arn.as_ref()),
        ("cache", Some(&outputs.cache_url)),
        ("export bucket", Some(&outputs.export_bucket)),
        ("api", outputs.api_endpoint.as_ref()),
    ];
    rows.into_iter().filter_map(|(name, value)| Some((name, value?))).fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "  {name:<19}  {value}");
        text
    })
}

pub fn export(export: &ExportStatus) -> String {
    let number = |number: Option<i64>| number.map(|number| number.to_string());
    let moment = |time: Option<&Time>| time.map(|time| time.0.to_string());
    let rows = [
        ("export", Some(export.export_arn.clone())),
        ("state", Some(export.state.clone())),
        ("started", moment(export.started_at.as_ref())),
        ("ended", moment(export.ended_at.as_ref())),
        ("from", export.export_from.clone()),
        ("time", export.export_time.clone()),
        ("items", number(export.item_count)),
        ("bytes billed", number(export.billed_bytes)),
        ("manifest", export.manifest.clone()),
        ("failure", export.failure.clone()),
    ];
    rows.into_iter().filter_map(|(name, value)| Some((name, value?))).fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "  {name:<12}  {value}");
        text
    })
}

/// The result of a deletion, with the retained resources.
pub fn destroyed(system: &ValidatedSystem, destroyed: &DestroyReport) -> String {
    let name = full_name(system);
    if !destroyed.changed {
        return format!("{name}: there is nothing to destroy\n");
    }
    let mut text = format!("{name}: destroyed\n");
    if !destroyed.kept.is_empty() {
        text.push_str("\nRetained with their data\n");
        let width = destroyed.kept.iter().map(|(kind, _)| kind.len()).max().unwrap_or(0);
        for (kind, id) in &destroyed.kept {
            let _ = writeln!(text, "  {kind:<width$}  {id}");
        }
    }
    text
}

fn full_name(system: &ValidatedSystem) -> String {
    format!("{}/{}", system.namespace, system.name)
}
