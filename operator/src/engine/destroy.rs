//! Deletes a system's environment according to its deletion policy.
//!
//! Requires no secret and no worker. `deletionPolicy: Retain` retains table and bucket and reports them. `Delete` first
//! updates the stack, so that its resources are deleted and the table's deletion protection is off, and empties the
//! stack's bucket.

use dispatch_api::annotations::{APPROVAL_OF_DELETION, APPROVALS};
use dispatch_api::dispatch_system::{DeletionPolicy, ManagementPolicy};
use dispatch_api::validate::ValidatedSystem;
use thiserror::Error;

use crate::cloud::ports::{PortError, PortErrorKind, Ports, TableCorrection};
use crate::cloud::stack::{Next, StackDescription, StackState};
use crate::engine::apply::{self, Deletion, FinalState, Run, Since, StackWaiter};
use crate::engine::arn::ArnBase;
use crate::engine::error::EngineError;
use crate::engine::former_names::find_names;
use crate::engine::observe;
use crate::engine::outcome::Verdict;
use crate::engine::plan::ownership::{Adoption, Owner, Ownership, SYSTEM_TAG, UID_TAG};
use crate::engine::plan::skip_resources;
use crate::engine::plan::table_names::TableNames;
use crate::engine::plan::template::{BUCKET, TABLE};
use crate::engine::plan::{Approval, Credential, Retry};
use crate::engine::progress::{Event, Progress};
use crate::engine::settings::{Approver, Settings};
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
    /// The stack belongs to another owner. Nothing of this system exists.
    #[error("{0}")]
    OwnedByAnother(String),
    /// An object of a cluster manages the stack, and the command line was not asked to take it.
    #[error(
        "stack {stack} is managed by the object {system} (uid {uid}) of a cluster, which would create it again; delete \
         that object or, if it no longer exists, destroy the stack with --adopt"
    )]
    ManagedByCluster {
        stack: String,
        /// Namespace and name of the object.
        system: String,
        /// UID of the object.
        uid: String,
    },
    /// The deletion would delete data, and a second person has not approved it.
    #[error(
        "deletionPolicy is Delete: the table and the bucket would be deleted with all data; action required: an \
         approver sets the annotation {APPROVALS}: {name}={APPROVAL_OF_DELETION} on namespace {namespace}, or \
         spec.deletionPolicy becomes Retain"
    )]
    ApprovalRequired { namespace: String, name: String },
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
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Port(error) => error.kind.is_transient(),
            Self::Reconcile(error) => error.is_transient(),
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
    let named = find_names(system, ports, settings.previous.as_ref()).await?;
    let system = named.as_deref().unwrap_or(system);
    let stack = &system.names.stack;
    let Some(found) = ports.stacks.describe(stack).await? else {
        return Ok(DestroyReport { kept: Vec::new(), changed: false });
    };
    let Some(found) = at_rest(found, ports, settings, progress).await? else {
        return Ok(DestroyReport { kept: Vec::new(), changed: true });
    };
    let owner = Owner::new(system);
    if let Ownership::Another(other) = owner.of_stack(&found) {
        let text = format!("stack {} belongs to {} and is neither changed nor deleted", found.arn, other.whose);
        return Err(DestroyError::OwnedByAnother(text));
    }
    if let (None, Some(uid), Adoption::Refuse) = (&system.uid, found.tags.get(UID_TAG), &settings.adoption) {
        let (stack, system) = (stack.clone(), owner.system().to_owned());
        return Err(DestroyError::ManagedByCluster { stack, system, uid: uid.clone() });
    }
    if deletes_data_without_approval(system, settings) {
        let (namespace, name) = (system.namespace.clone(), system.name.clone());
        return Err(DestroyError::ApprovalRequired { namespace, name });
    }
    // The future is too large for the stack.
    let found = Box::pin(prepare(system, ports, settings, found, progress)).await?;
    if system.deletion_policy == DeletionPolicy::Delete {
        open_data(system, ports, &found, progress).await?;
    }
    // The application is deleted before the stack: its ARN is derived from that of the stack, so an interrupted run
    // still finds it.
    if let Some(base) = ArnBase::parse(&found.arn) {
        let arn = base.platform_application(&system.names.platform_application);
        if ports.push.exists(&arn).await? {
            progress.report(Event::Step("deleting the SNS platform application for FCM".to_owned()));
            ports.push.delete(&arn).await?;
        }
    }
    let retain = skippable(system, ports, settings, &found).await?;
    if !retain.is_empty() {
        progress.report(Event::ResourcesSkipped(format!("the deletion of stack {stack}"), retain.clone()));
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

fn deletes_data_without_approval(system: &ValidatedSystem, settings: &Settings) -> bool {
    let is_approved = matches!(&settings.approval, Approval::Plan(what) if what == APPROVAL_OF_DELETION);
    settings.approver == Approver::Second && system.deletion_policy == DeletionPolicy::Delete && !is_approved
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
    match follower.until_rest(Since::Any, progress).await? {
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
        adoption: &Adoption::Refuse,
        table_names: &TableNames::Any,
        gate: None,
        credential: Credential::Same,
        wait_policy,
        skip: &[],
        progress,
    };
    let before = found.clone();
    let result = Box::pin(run.converge(Some(found))).await?;
    let is_table_gone = ports.tables.table(&system.names.table).await?.is_none();
    match result.verdict {
        Verdict::Settled => Ok(result.stack.unwrap_or(before)),
        // CloudFormation cannot update a table that was deleted by hand, and can delete the stack.
        Verdict::Failed { cause, .. } if is_table_gone => {
            let note = format!("the stack could not be prepared, and its table no longer exists: {cause}");
            progress.report(Event::Note(note));
            Ok(result.stack.unwrap_or(before))
        }
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
        already_gone(ports.tables.correct(&table, &open).await)?;
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
    let (owner, Some(base)) = (Owner::new(system), ArnBase::parse(&found.arn)) else { return Ok(()) };
    for (kind, id) in kept {
        match kind.as_str() {
            "AWS::DynamoDB::Table" => already_gone(mark_table(ports, &owner, id, &base.table(id)).await)?,
            "AWS::S3::Bucket" => already_gone(mark_bucket(ports, &owner, id, base.account).await)?,
            _ => {}
        }
    }
    Ok(())
}

async fn mark_table(ports: &Ports, owner: &Owner, name: &str, arn: &str) -> Result<(), PortError> {
    // DynamoDB may answer a question for the tags of a table that does not exist with a missing permission.
    if ports.tables.table(name).await?.is_none() || owner.of_data(&ports.tables.tags(arn).await?) == Ownership::Ours {
        return Ok(());
    }
    ports.tables.tag(arn, SYSTEM_TAG, owner.system()).await
}

async fn mark_bucket(ports: &Ports, owner: &Owner, name: &str, account: &str) -> Result<(), PortError> {
    let Some(mut tags) = ports.buckets.tags(name, account).await? else { return Ok(()) };
    if owner.of_data(&tags) == Ownership::Ours {
        return Ok(());
    }
    tags.insert(SYSTEM_TAG.to_owned(), owner.system().to_owned());
    ports.buckets.set_tags(name, account, &tags).await
}

/// What no longer exists needs nothing.
fn already_gone(result: Result<(), PortError>) -> Result<(), PortError> {
    match result {
        Err(error) if error.kind == PortErrorKind::NotFound => Ok(()),
        other => other,
    }
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
