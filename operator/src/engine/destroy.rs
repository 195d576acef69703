//! Takes a system's environment down, as far as its deletion policy says.
//!
//! Needs no secret and no worker. `deletionPolicy: Retain` leaves table and bucket and names them. `Delete` first updates the
//! stack, so that its resources are really deleted and the table's deletion protection is off, and empties the stack's bucket.

use dispatch_api::dispatch_system::{DeletionPolicy, ManagementPolicy};
use dispatch_api::validate::ValidatedSystem;
use thiserror::Error;

use crate::cloud::ports::{PortError, Ports, TableCorrection};
use crate::cloud::stack::{Next, StackDescription, StackState};
use crate::engine::apply::{self, Deletion, FinalState, Freshness, Run, StackWaiter};
use crate::engine::desired::Desired;
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

/// Pages of 1,000 object versions one run removes: a million, some ten minutes. A bucket that holds more than that is emptied by
/// several runs, or by a lifecycle rule.
const EMPTYING_PAGES: usize = 1000;

/// What is left of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestroyReport {
    /// Resources that were kept on purpose: type and physical id.
    pub kept: Vec<(String, String)>,
    /// Whether there was anything to destroy.
    pub changed: bool,
}

/// Why a system still stands, wholly or in part.
#[derive(Debug, Error)]
pub enum DestroyError {
    /// The manifest forbids it.
    #[error("spec.managementPolicy is Observe: nothing is deleted")]
    ObserveOnly,
    /// The stack is somebody else's.
    #[error("{0}")]
    OwnedByAnother(String),
    /// The bucket still holds objects after as many as one run removes.
    #[error("{removed} object versions of bucket {bucket} were removed and more are left; destroy again to go on")]
    BucketNotEmpty {
        /// Bucket.
        bucket: String,
        /// Removed in this run.
        removed: usize,
    },
    /// The table could not be prepared for its deletion.
    #[error("could not prepare the stack for its deletion: {0}")]
    Prepare(String),
    /// What a person wants left behind is not.
    #[error("{0}")]
    SkipRefused(String),
    /// CloudFormation could not delete a resource.
    #[error("stack {stack} could not be deleted: {cause}")]
    Failed {
        /// Stack.
        stack: String,
        /// First resource that could not be deleted, and why.
        cause: String,
    },
    /// WaitPolicy has ended; the deletion goes on at AWS.
    #[error("stack {stack} is still in {state}")]
    StillRunning {
        /// Stack.
        stack: String,
        /// CloudFormation's word for its state.
        state: String,
    },
    /// The account is another one, or the template cannot be made.
    #[error(transparent)]
    Reconcile(#[from] EngineError),
    /// A call failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl DestroyError {
    /// Whether trying again later may help without anybody changing anything.
    pub fn passes_with_time(&self) -> bool {
        match self {
            Self::Port(error) => error.kind.passes_with_time(),
            Self::Reconcile(error) => error.passes_with_time(),
            _ => false,
        }
    }
}

/// Deletes the stack and the parts beside it. Idempotent: what is gone already is no error.
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
    // The application goes before the stack, whose ARN says where it is: a run that stops in between finds it again.
    if let Some(base) = ArnBase::of(&found.arn) {
        let arn = base.platform_application(&system.names.platform_application);
        if ports.push.exists(&arn).await? {
            progress.report(Event::Step("removing the SNS platform application for FCM".to_owned()));
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
            let cause = cause.or(left.reason).unwrap_or_else(|| "CloudFormation gives no reason".to_owned());
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

/// What a person allows to stay of a stack whose deletion has failed.
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

/// Waits for an operation that runs; `None` when that was the deletion.
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

/// With `deletionPolicy: Delete`, brings the stack to a template whose table may be deleted. A stack that does not serve is
/// deleted as it is: it cannot be updated.
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
    progress.report(Event::Note("deletionPolicy is Delete: table and bucket go with the stack".to_owned()));
    let mut open = system.clone();
    open.spec.table.deletion_protection = false;
    // The application goes anyway, so nobody has to bring its key once more.
    open.spec.notifications.fcm = None;
    let account = observe::account(ports, Some(&found)).await?;
    let desired = Desired::without_secrets(&open, Some(&found), &account)?;
    // The person who asks for the deletion has approved whatever leads to it.
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
        // The application goes with the system.
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

/// Takes away what keeps CloudFormation from deleting data it is to delete: a protection of the table that was switched on outside,
/// and the objects in the stack's own bucket, with all their versions.
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
        progress.report(Event::Step(format!("lifting the deletion protection of table {table}")));
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

/// Sees to it that data which stays tells whose it is: the next stack takes in nothing that does not. As a rule CloudFormation has
/// tagged it, and nothing is written.
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

/// What CloudFormation will keep, by the template's policies, for the report.
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
