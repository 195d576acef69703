//! CloudFormation stacks.
//!
//! Relies on documented behaviour (API reference): creating a change set with an existing name fails with
//! `AlreadyExistsException`; a change set without changes ends in `FAILED`; events are listed newest first; a deleted
//! stack can be described only by its ARN; describing an unknown name fails with `ValidationError`.

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::primitives::DateTime;
use aws_sdk_cloudformation::types::{
    Capability, Change, ChangeAction, ChangeSetStatus, ChangeSetType, DeploymentMode as SdkDeploymentMode, EventFilter,
    ExecutionStatus, OnStackFailure, OperationEvent, Parameter, Replacement as SdkReplacement, RequiresRecreation,
    ResourceAttribute, ResourceChange as SdkChange, StackEvent as SdkEvent, StackResourceDriftStatus, Tag,
    TemplateStage,
};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::cloud::aws::error::port_error;
use crate::cloud::ports::StackProvider;
use crate::cloud::ports::{PortError, PortErrorKind};
use crate::cloud::stack::{
    ChangeSet, ChangeSetKind, ChangeSetRequest, ChangeSetState, ChangeSetSummary, DeploymentMode, OnExisting,
    ResourceState, Rollback, StackDescription, StackEvent, StackResource, StackState,
};
use crate::cloud::{ChangeKind, LiveDrift, LiveValue, MonthlyCost, Replacement, ResourceChange};
use crate::sanitize::shown;

const READ_TEMPLATE: &str = "read the stack's template";
/// Limit of pages read from one listing, with 100 events or resources each. A template has at most 500 resources.
const PAGES: usize = 50;
/// CloudFormation reports a change set without changes only through these texts, without a code (user guide,
/// "Troubleshooting"). They have no other use, and an unknown text is reported as a failure.
const NO_CHANGES: [&str; 2] = ["The submitted information didn't contain changes", "No updates are to be performed"];

pub(super) struct CloudFormation {
    client: Client,
}

impl CloudFormation {
    pub(super) fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }
}

#[async_trait]
impl StackProvider for CloudFormation {
    async fn describe(&self, stack: &str) -> Result<Option<StackDescription>, PortError> {
        let answer = match self.client.describe_stacks().stack_name(stack).send().await {
            Ok(answer) => answer,
            // `DescribeStacks` has no specific error code for an unknown name.
            Err(error) if error.code() == Some("ValidationError") && says_absent(error.message()) => {
                return Ok(None);
            }
            Err(error) => return Err(port_error("describe the stack", error)),
        };
        let Some(found) = answer.stacks().first() else { return Ok(None) };
        let outputs = found.outputs().iter().filter_map(|output| {
            Some((output.output_key()?.to_owned(), output.output_value().unwrap_or_default().to_owned()))
        });
        Ok(Some(StackDescription {
            arn: found.stack_id().unwrap_or(stack).to_owned(),
            state: StackState::parse(found.stack_status().map_or("", |status| status.as_str())),
            reason: found.stack_status_reason().filter(|reason| !reason.is_empty()).map(shown),
            outputs: outputs.collect(),
            tags: found
                .tags()
                .iter()
                .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned())))
                .collect(),
            changed_at: found.last_updated_time().or_else(|| found.creation_time()).and_then(timestamp),
        }))
    }

    async fn create_change_set(&self, request: &ChangeSetRequest) -> Result<(), PortError> {
        let parameters = request
            .parameters
            .iter()
            .map(|(key, value)| Parameter::builder().parameter_key(key).parameter_value(value.expose_secret()).build());
        let unchanged = request.unchanged.iter();
        let unchanged = unchanged.map(|key| Parameter::builder().parameter_key(*key).use_previous_value(true).build());
        let tags = request.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        let mut call = self
            .client
            .create_change_set()
            .stack_name(&request.stack)
            .change_set_name(&request.name)
            .template_body(&request.template)
            .set_parameters(Some(parameters.chain(unchanged).collect()))
            .set_tags(Some(tags.collect()))
            .set_capabilities(Some(request.capabilities.iter().map(|name| Capability::from(*name)).collect()));
        call = match request.kind {
            ChangeSetKind::Create => call.change_set_type(ChangeSetType::Create),
            ChangeSetKind::Update => call.change_set_type(ChangeSetType::Update),
        };
        if request.existing == OnExisting::Import {
            // Pre-deployment validation rejects names that exist, which an import requires (user guide, "Validate stack
            // deployments").
            call = call.import_existing_resources(true).disable_validation(true);
        }
        if request.mode == DeploymentMode::RevertDrift {
            call = call.deployment_mode(SdkDeploymentMode::RevertDrift);
        }
        call = call.on_stack_failure(OnStackFailure::Rollback);
        call.send().await.map_err(|error| port_error("create a change set", error))?;
        Ok(())
    }

    async fn change_set(&self, stack: &str, name: &str) -> Result<ChangeSet, PortError> {
        let mut token = None;
        let mut changes = Vec::new();
        let mut state = ChangeSetState::Pending;
        let mut drift = None;
        for _ in 0..PAGES {
            // Property values are those of drift; others are compared in the templates.
            let call = self.client.describe_change_set().stack_name(stack).change_set_name(name);
            let call = call.include_property_values(true);
            let page = call.set_next_token(token).send().await;
            let page = page.map_err(|error| port_error("describe the change set", error))?;
            let of_page = || page.changes().iter().filter_map(Change::resource_change);
            // A resource that only takes over its live state in CloudFormation's records does not change.
            let changing = of_page().filter(|change| change.action() != Some(&ChangeAction::SyncWithActual));
            changes.extend(changing.map(read_change));
            if page.deployment_mode() == Some(&SdkDeploymentMode::RevertDrift) {
                drift.get_or_insert_with(Vec::new).extend(of_page().filter_map(read_drift));
            }
            state = read_state(page.status(), page.execution_status(), page.status_reason());
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(ChangeSet { state, changes, drift })
    }

    async fn template(&self, stack: &str) -> Result<Value, PortError> {
        let call = self.client.get_template().stack_name(stack).template_stage(TemplateStage::Original);
        let answer = call.send().await.map_err(|error| port_error(READ_TEMPLATE, error))?;
        serde_json::from_str(answer.template_body().unwrap_or_default())
            .map_err(|error| PortError::new(READ_TEMPLATE, PortErrorKind::Invalid, format!("it is not JSON: {error}")))
    }

    async fn execute(&self, stack: &str, name: &str, token: &str) -> Result<(), PortError> {
        let call = self.client.execute_change_set().stack_name(stack).change_set_name(name);
        call.client_request_token(token).send().await.map_err(|e| port_error("execute the change set", e))?;
        Ok(())
    }

    async fn change_sets(&self, stack: &str) -> Result<Vec<ChangeSetSummary>, PortError> {
        let mut token = None;
        let mut sets = Vec::new();
        for _ in 0..PAGES {
            let call = self.client.list_change_sets().stack_name(stack).set_next_token(token);
            let page = call.send().await.map_err(|error| port_error("list the stack's change sets", error))?;
            sets.extend(page.summaries().iter().filter_map(|set| {
                let name = set.change_set_name()?.to_owned();
                Some(ChangeSetSummary { name, created: set.creation_time().and_then(timestamp) })
            }));
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(sets)
    }

    async fn discard(&self, stack: &str, name: &str) -> Result<(), PortError> {
        let call = self.client.delete_change_set().stack_name(stack).change_set_name(name);
        match call.send().await.map_err(|error| port_error("delete the change set", error)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == PortErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn roll_back(&self, stack: &str, way: Rollback<'_>, token: &str) -> Result<(), PortError> {
        match way {
            Rollback::ContinueRollback { skip } => {
                let call = self.client.continue_update_rollback().stack_name(stack).client_request_token(token);
                let call = call.set_resources_to_skip((!skip.is_empty()).then(|| skip.to_vec()));
                call.send().await.map_err(|error| port_error("continue the stack's rollback", error))?;
            }
            Rollback::RollBack => {
                let call = self.client.rollback_stack().stack_name(stack).client_request_token(token);
                call.send().await.map_err(|error| port_error("roll the stack back", error))?;
            }
        }
        Ok(())
    }

    async fn delete(&self, stack: &str, retain: &[String], token: &str) -> Result<(), PortError> {
        let call = self.client.delete_stack().stack_name(stack).client_request_token(token);
        let call = call.set_retain_resources((!retain.is_empty()).then(|| retain.to_vec()));
        call.send().await.map_err(|error| port_error("delete the stack", error))?;
        Ok(())
    }

    async fn events_since(&self, stack: &str, after: Option<&str>) -> Result<Vec<StackEvent>, PortError> {
        let mut token = None;
        let mut events: Vec<StackEvent> = Vec::new();
        'pages: for _ in 0..PAGES {
            let call = self.client.describe_stack_events().stack_name(stack).set_next_token(token);
            let page = call.send().await.map_err(|error| port_error("read the stack's events", error))?;
            for event in page.stack_events() {
                if after.is_some() && event.event_id() == after {
                    break 'pages;
                }
                let read = read_event(event);
                // A stack keeps years of events. CloudFormation returns the newest first.
                let is_beginning = after.is_none()
                    && event.stack_id().zip(read.as_ref()).is_some_and(|(arn, event)| event.begins_operation(arn));
                events.extend(read);
                if is_beginning {
                    break 'pages;
                }
            }
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        events.reverse();
        Ok(events)
    }

    async fn refusals(&self, stack: &str, change_set: Option<&str>) -> Result<Vec<String>, PortError> {
        let failed = EventFilter::builder().failed_events(true).build();
        // `DescribeEvents` takes the change set's name, or the stack's for its last operation (API reference).
        let call = self.client.describe_events().stack_name(stack).set_change_set_name(change_set.map(str::to_owned));
        let answer = call.filters(failed).send().await;
        let answer = answer.map_err(|error| port_error("read the validation errors", error))?;
        Ok(answer.operation_events().iter().filter_map(read_refusal).collect())
    }

    async fn resources(&self, stack: &str) -> Result<Vec<StackResource>, PortError> {
        let mut token = None;
        let mut resources = Vec::new();
        for _ in 0..PAGES {
            let call = self.client.list_stack_resources().stack_name(stack).set_next_token(token);
            let page = call.send().await.map_err(|error| port_error("list the stack's resources", error))?;
            resources.extend(page.stack_resource_summaries().iter().map(|found| StackResource {
                logical_id: found.logical_resource_id().unwrap_or_default().to_owned(),
                physical_id: found.physical_resource_id().map(str::to_owned),
                resource_type: found.resource_type().unwrap_or_default().to_owned(),
                status: found.resource_status().map_or("", |status| status.as_str()).to_owned(),
                reason: found.resource_status_reason().map(shown),
            }));
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(resources)
    }

    async fn resource_state(&self, stack: &str, logical_id: &str) -> Result<ResourceState, PortError> {
        let call = self.client.detect_stack_resource_drift().stack_name(stack).logical_resource_id(logical_id);
        let answer = call.send().await.map_err(|error| port_error("look for a resource of the stack", error))?;
        let drift = answer.stack_resource_drift();
        Ok(match drift.and_then(|drift| drift.stack_resource_drift_status()) {
            Some(StackResourceDriftStatus::Deleted) => ResourceState::Deleted,
            Some(StackResourceDriftStatus::InSync | StackResourceDriftStatus::Modified) => ResourceState::Exists,
            _ => ResourceState::Unknown,
        })
    }
}

fn read_refusal(event: &OperationEvent) -> Option<String> {
    let reason = event.validation_status_reason().filter(|reason| !reason.is_empty())?;
    let (id, kind) = (event.logical_resource_id().unwrap_or("the template"), event.resource_type().unwrap_or("-"));
    Some(shown(&format!("{id} ({kind}): {reason}")))
}

fn says_absent(message: Option<&str>) -> bool {
    message.is_some_and(|text| text.contains("does not exist"))
}

fn timestamp(at: &DateTime) -> Option<Timestamp> {
    Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).ok()?).ok()
}

fn read_state(
    status: Option<&ChangeSetStatus>,
    execution: Option<&ExecutionStatus>,
    reason: Option<&str>,
) -> ChangeSetState {
    let reason = reason.unwrap_or_default();
    match status {
        Some(ChangeSetStatus::CreateComplete) if execution == Some(&ExecutionStatus::Available) => {
            ChangeSetState::Ready
        }
        Some(ChangeSetStatus::CreatePending | ChangeSetStatus::CreateInProgress) => ChangeSetState::Pending,
        Some(ChangeSetStatus::Failed) if NO_CHANGES.iter().any(|text| reason.contains(text)) => ChangeSetState::Empty,
        other => {
            let status = other.map_or("no status", ChangeSetStatus::as_str);
            let execution = execution.map_or("no execution status", ExecutionStatus::as_str);
            ChangeSetState::Failed(shown(&format!("{status}, {execution}: {reason}")))
        }
    }
}

fn read_change(change: &SdkChange) -> ResourceChange {
    let replacement = match change.replacement() {
        Some(SdkReplacement::True) => Replacement::Certain,
        Some(SdkReplacement::Conditional) => Replacement::Possible,
        _ => Replacement::None,
    };
    let kind = match (change.action(), replacement) {
        (Some(ChangeAction::Add | ChangeAction::Import), _) => ChangeKind::Add,
        (Some(ChangeAction::Remove), _) => ChangeKind::Remove,
        (_, Replacement::None) => ChangeKind::Change,
        _ => ChangeKind::Replace,
    };
    let mut properties = Vec::new();
    if change.action() == Some(&ChangeAction::Import) {
        properties.push("imported".to_owned());
    }
    let mut forcing = Vec::new();
    for target in change.details().iter().filter_map(|detail| detail.target()) {
        let name = match (target.name(), target.attribute()) {
            (Some(name), _) => name.to_owned(),
            (None, Some(attribute)) => attribute.as_str().to_owned(),
            (None, None) => continue,
        };
        if matches!(target.requires_recreation(), Some(RequiresRecreation::Always | RequiresRecreation::Conditionally))
        {
            forcing.push(name.clone());
        }
        properties.push(name);
    }
    if properties.is_empty() {
        properties.extend(change.scope().iter().map(ResourceAttribute::as_str).map(str::to_owned));
    }
    properties.sort_unstable();
    properties.dedup();
    forcing.sort_unstable();
    forcing.dedup();
    ResourceChange {
        kind,
        logical_id: change.logical_resource_id().unwrap_or_default().to_owned(),
        physical_id: change.physical_resource_id().map(str::to_owned),
        resource_type: change.resource_type().unwrap_or_default().to_owned(),
        replacement,
        properties,
        forcing,
        values: Vec::new(),
        cost: MonthlyCost::Unchanged,
    }
    .settled()
}

/// Longest value shown, in characters.
const VALUE_MAX: usize = 80;

/// What differs between a live resource and the last template; `None` if nothing does.
fn read_drift(change: &SdkChange) -> Option<LiveDrift> {
    let deleted = change.resource_drift_status() == Some(&StackResourceDriftStatus::Deleted);
    let short = |value: &str| shown(&value.chars().take(VALUE_MAX).collect::<String>());
    let values: Vec<LiveValue> = change
        .details()
        .iter()
        .filter_map(|detail| detail.target())
        .filter_map(|target| {
            let drift = target.drift()?;
            let path = target.path().or_else(|| target.name())?;
            let path = path.trim_start_matches('/').trim_start_matches("Properties/").replace('/', ".");
            let (applied, live) = (drift.previous_value().map(short), drift.actual_value().map(short));
            Some(LiveValue { path: shown(&path), applied, live })
        })
        .collect();
    let logical_id = change.logical_resource_id().unwrap_or_default().to_owned();
    let resource_type = change.resource_type().unwrap_or_default().to_owned();
    (deleted || !values.is_empty()).then_some(LiveDrift { logical_id, resource_type, deleted, values })
}

fn read_event(event: &SdkEvent) -> Option<StackEvent> {
    Some(StackEvent {
        id: event.event_id()?.to_owned(),
        at: timestamp(event.timestamp()?)?,
        logical_id: event.logical_resource_id()?.to_owned(),
        physical_id: event.physical_resource_id().filter(|id| !id.is_empty()).map(str::to_owned),
        resource_type: event.resource_type()?.to_owned(),
        status: event.resource_status()?.as_str().to_owned(),
        reason: event.resource_status_reason().filter(|reason| !reason.is_empty()).map(shown),
    })
}
