//! Deletes a system's environment according to its deletion policy.
//!
//! Requires no secret and no worker. `deletionPolicy: Retain` retains table and bucket and reports them. `Delete` first
//! updates the stack, so that its resources are deleted and the table's deletion protection is off, and empties the
//! stack's bucket.

use dispatch_api::dispatch_system::{DeletionPolicy, ManagementPolicy};
use dispatch_api::validate::ValidatedSystem;
use thiserror::Error;

use crate::cloud::ports::{PortError, Ports, TableCorrection};
use crate::cloud::stack::{Next, StackDescription, StackState};
use crate::engine::apply::{self, Deletion, FinalState, Freshness, Run, StackWaiter};
use crate::engine::error::EngineError;
use crate::engine::observe;
use crate::engine::outcome::Verdict;
use crate::engine::outputs::ArnBase;
use crate::engine::plan::ownership::{Adoption, Owner, Ownership, SYSTEM_TAG};
use crate::engine::plan::skip_resources;
use crate::engine::plan::template::{BUCKET, TABLE};
use crate::engine::plan::{Approval, Credential, Retry};
use crate::engine::progress::{Event, Progress};
use crate::engine::settings::Settings;
use crate::engine::stack_input::StackInput;

/// Limit of pages of 1,000 object versions removed in one run: a million, about ten minutes. A larger bucket takes
/// several runs, or a lifecycle rule.
const EMPTYING_PAGES: usize = 1000;

/// Result of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestroyReport {
    /// Retained resources: type and physical id.
    pub kept: Vec<(String, String)>,
    /// Whether there was anything to delete.
    pub changed: bool,
}

/// Why a system was not deleted completely.
#[derive(Debug, Error)]
pub enum DestroyError {
    #[error("cannot delete the environment: spec.managementPolicy is Observe")]
    ObserveOnly,
    /// The stack belongs to another owner.
    #[error("{0}")]
    OwnedByAnother(String),
    /// The bucket contains more objects than one run removes.
    #[error("bucket {bucket} is not empty yet: {removed} object versions were removed; destroy again to continue")]
    BucketNotEmpty {
        bucket: String,
        /// Object versions removed in this run.
        removed: usize,
    },
    /// The update before the deletion failed.
    #[error("cannot prepare the stack for deletion: {0}")]
    Prepare(String),
    /// A resource to skip cannot be skipped.
    #[error("{0}")]
    SkipRefused(String),
    /// CloudFormation failed to delete a resource.
    #[error("cannot delete stack {stack}: {cause}")]
    Failed {
        stack: String,
        /// First resource that failed to delete, and why.
        cause: String,
    },
    /// The wait policy ended; AWS continues the deletion.
    #[error("stack {stack} is still in {state}")]
    StillRunning {
        stack: String,
        /// CloudFormation's `StackStatus`.
        state: String,
    },
    #[error(transparent)]
    Reconcile(#[from] EngineError),
    #[error(transparent)]
    Port(#[from] PortError),
}

impl DestroyError {
    /// Whether a retry may succeed without a change by a person.
    pub fn passes_with_time(&self) -> bool {
        match self {
            Self::Port(error) => error.kind.passes_with_time(),
            Self::Reconcile(error) => error.passes_with_time(),
            _ => false,
        }
    }
}

/// Deletes the stack and the resources managed outside CloudFormation. Idempotent.
pub async fn destroy(
    system: &ValidatedSystem,
    ports: &Ports,
    settings: &Settings,
    progress: &mut dyn Progress,
) -> Result<DestroyReport, DestroyError> {
    if system.spec.management_policy == ManagementPolicy::Observe {
        return Err(DestroyError::ObserveOnly);
    }
    observe::guard_account(system, ports).await?;
    let stack = &system.names.stack;
    let Some(found) = ports.stacks.describe(stack).await? else {
        return Ok(DestroyReport { kept: Vec::new(), changed: false });
    };
    let Some(found) = at_rest(found, ports, settings, progress).await? else {
        return Ok(DestroyReport { kept: Vec::new(), changed: true });
    };
    if let Some(message) = Owner::of(system).refusal(&found, Adoption::Refuse) {
        return Err(DestroyError::OwnedByAnother(message));
    }
    let found = prepare(system, ports, settings, found, progress).await?;
    if system.deletion_policy == DeletionPolicy::Delete {
        open_data(system, ports, &found, progress).await?;
    }
    // The application is deleted before the stack: its ARN is derived from that of the stack, so an interrupted run
    // still finds it.
    if let Some(base) = ArnBase::of(&found.arn) {
        let arn = base.platform_application(&system.names.platform_application);
        if ports.push.exists(&arn).await? {
            progress.report(Event::Step("deleting the SNS platform application for FCM".to_owned()));
            ports.push.delete(&arn).await?;
        }
    }
    let retain = skippable(system, ports, settings, &found).await?;
    if !retain.is_empty() {
        progress.report(Event::LeftBehind(format!("the deletion of stack {stack}"), retain.clone()));
    }
    let kept_before = retained(system, ports, &found).await?;
    mark(system, ports, &found, &kept_before).await?;
    progress.report(Event::Step(format!("deleting stack {stack}")));
    let deletion = Deletion { stack: &found, retain: &retain };
    let (rest, cause, kept) = apply::delete(ports, deletion, settings.wait_policy, progress).await?;
    match rest {
        FinalState::Gone => {}
        FinalState::At(left) => {
            let advice = apply::advice(ports, &left).await;
            let cause = cause.or(left.reason).unwrap_or_else(|| "CloudFormation reports no reason".to_owned());
            let cause = format!("{cause}{advice}");
            return Err(DestroyError::Failed { stack: stack.clone(), cause });
        }
        FinalState::StillRunning(left) => {
            let state = left.state.name().to_owned();
            return Err(DestroyError::StillRunning { stack: stack.clone(), state });
        }
    }
    let kept = if kept.is_empty() {
        kept_before
    } else {
        kept.into_iter().map(|event| (event.resource_type, event.physical_id.unwrap_or(event.logical_id))).collect()
    };
    Ok(DestroyReport { kept, changed: true })
}

/// Resources that the caller allows to be retained because their deletion failed.
async fn skippable(
    system: &ValidatedSystem,
    ports: &Ports,
    settings: &Settings,
    found: &StackDescription,
) -> Result<Vec<String>, DestroyError> {
    if settings.skip.is_empty() || found.state != StackState::DeleteFailed {
        return Ok(Vec::new());
    }
    let resources = ports.stacks.resources(&found.arn).await?;
    skip_resources::skippable(&settings.skip, &found.state, &resources, system.deletion_policy)
        .map_err(DestroyError::SkipRefused)
}

/// Waits for an operation in progress; `None` if that was the deletion.
async fn at_rest(
    found: StackDescription,
    ports: &Ports,
    settings: &Settings,
    progress: &mut dyn Progress,
) -> Result<Option<StackDescription>, DestroyError> {
    if found.state.next() != Next::Wait {
        return Ok(Some(found));
    }
    let name = found.state.name();
    progress.report(Event::Step(format!("waiting for the stack ({name})")));
    let mut follower = StackWaiter::new(&ports.stacks, &found.arn, settings.wait_policy).await?;
    match follower.until_rest(Freshness::Any, progress).await? {
        FinalState::At(stack) => Ok(Some(stack)),
        FinalState::Gone => Ok(None),
        FinalState::StillRunning(stack) => {
            Err(DestroyError::StillRunning { stack: stack.arn, state: stack.state.name().to_owned() })
        }
    }
}

/// With `deletionPolicy: Delete`, updates the stack to a template whose table can be deleted. A stack that cannot be
/// updated is deleted without.
async fn prepare(
    system: &ValidatedSystem,
    ports: &Ports,
    settings: &Settings,
    found: StackDescription,
    progress: &mut dyn Progress,
) -> Result<StackDescription, DestroyError> {
    if system.deletion_policy != DeletionPolicy::Delete || !found.state.serves() {
        return Ok(found);
    }
    progress.report(Event::Note("deletionPolicy is Delete: table and bucket are deleted with the stack".to_owned()));
    let mut open = system.clone();
    open.spec.table.deletion_protection = false;
    // The application is deleted anyway, so its key is not required.
    open.spec.notifications.fcm = None;
    let account = observe::account(ports, Some(&found)).await?;
    let desired = StackInput::without_secrets(&open, Some(&found), &account)?;
    // The request for the deletion approves every change that it requires.
    let approval = Approval::Replacements;
    open.spec.approval_policy = dispatch_api::dispatch_system::ApprovalPolicy::Auto;
    let (retry, wait_policy) = (Retry::Allowed, settings.wait_policy);
    let mut run = Run {
        system: &open,
        desired: &desired,
        ports,
        approval: &approval,
        retry,
        adoption: Adoption::Refuse,
        gate: None,
        credential: Credential::Same,
        wait_policy,
        skip: &[],
        progress,
    };
    let before = found.clone();
    let result = run.converge(Some(found)).await?;
    match result.verdict {
        Verdict::Settled => Ok(result.stack.unwrap_or(before)),
        Verdict::Failed { cause, .. } => Err(DestroyError::Prepare(cause)),
        Verdict::Refused { message, .. } => Err(DestroyError::Prepare(message)),
        Verdict::Comparing | Verdict::StillRunning(_) => {
            let state =
                result.stack.as_ref().map_or_else(|| before.state.name(), |stack| stack.state.name()).to_owned();
            Err(DestroyError::StillRunning { stack: system.names.stack.clone(), state })
        }
        other => Err(DestroyError::Prepare(format!("{other:?}"))),
    }
}

/// Removes what prevents CloudFormation from deleting the data: a deletion protection of the table that was enabled
/// outside the engine, and all object versions in the stack's bucket.
async fn open_data(
    system: &ValidatedSystem,
    ports: &Ports,
    found: &StackDescription,
    progress: &mut dyn Progress,
) -> Result<(), DestroyError> {
    let resources = ports.stacks.resources(&found.arn).await?;
    let own = |id: &str| {
        let mut own = resources.iter().filter(|r| r.logical_id == id && r.status != "DELETE_COMPLETE");
        own.next().and_then(|resource| resource.physical_id.clone())
    };
    if let Some(table) = own(TABLE)
        && table == system.names.table
        && ports.tables.table(&table).await?.is_some_and(|table| table.deletion_protection)
    {
        progress.report(Event::Step(format!("disabling the deletion protection of table {table}")));
        let open = TableCorrection { deletion_protection: Some(false), ..TableCorrection::default() };
        ports.tables.correct(&table, &open).await?;
    }
    let Some(bucket) = own(BUCKET) else { return Ok(()) };
    let account = observe::account(ports, Some(found)).await?;
    progress.report(Event::Step(format!("emptying bucket {bucket}")));
    let mut removed = 0;
    for _ in 0..EMPTYING_PAGES {
        let page = ports.buckets.remove_versions(&bucket, &account).await?;
        removed += page.versions;
        if !page.more {
            return Ok(());
        }
    }
    Err(DestroyError::BucketNotEmpty { bucket, removed })
}

/// Tags retained data with its owner, because the next stack imports only data with that tag. Usually CloudFormation
/// has already set the tag.
async fn mark(
    system: &ValidatedSystem,
    ports: &Ports,
    found: &StackDescription,
    kept: &[(String, String)],
) -> Result<(), PortError> {
    let (owner, Some(base)) = (Owner::of(system), ArnBase::of(&found.arn)) else { return Ok(()) };
    for (kind, id) in kept {
        match kind.as_str() {
            "AWS::DynamoDB::Table" => {
                let arn = base.table(id);
                if owner.of_data(&ports.tables.tags(&arn).await?) != Ownership::Ours {
                    ports.tables.tag(&arn, SYSTEM_TAG, owner.system()).await?;
                }
            }
            "AWS::S3::Bucket" => {
                let Some(mut tags) = ports.buckets.tags(id, base.account).await? else { continue };
                if owner.of_data(&tags) != Ownership::Ours {
                    tags.insert(SYSTEM_TAG.to_owned(), owner.system().to_owned());
                    ports.buckets.set_tags(id, base.account, &tags).await?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Resources that CloudFormation will retain according to the template, for the report.
async fn retained(
    system: &ValidatedSystem,
    ports: &Ports,
    found: &StackDescription,
) -> Result<Vec<(String, String)>, PortError> {
    if system.deletion_policy == DeletionPolicy::Delete || !found.state.serves() {
        return Ok(Vec::new());
    }
    let body = crate::engine::plan::template::render(system);
    let keeps = |logical_id: &str| {
        let policy = body.body()["Resources"][logical_id]["DeletionPolicy"].as_str();
        policy.is_some_and(|policy| policy.starts_with("Retain"))
    };
    let resources = ports.stacks.resources(&found.arn).await?;
    let kept = resources.into_iter().filter(|resource| keeps(&resource.logical_id));
    Ok(kept.map(|r| (r.resource_type, r.physical_id.unwrap_or(r.logical_id))).collect())
}
