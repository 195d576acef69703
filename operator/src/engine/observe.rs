//! Reads the current state from AWS.
//!
//! Without drift detection this takes four calls: the stack, the table, the platform application and, if the stack has
//! one, the cache. Drift detection adds one for the table's backups, one for its time to live and one for each queue.
//! The check whether all resources exist, at the same interval, adds about fifteen.

mod existence;

use dispatch_api::dispatch_system::DispatchSystemStatus;
use dispatch_api::validate::ValidatedSystem;

use crate::cloud::ports::{PortError, Ports};
use crate::cloud::stack::StackDescription;
use crate::engine::arn::ArnBase;
use crate::engine::error::EngineError;
use crate::engine::inspection::Inspection;
use crate::engine::plan::template::{self, bucket_name, outputs as key};
use crate::engine::plan::{DirectResources, QueueLook, RetainedData};
use crate::engine::settings::DriftDetection;

/// The stack and its account. Fails if the spec leads to another region or account than the recorded stack.
pub async fn stack(
    system: &ValidatedSystem,
    ports: &Ports,
    previous: Option<&DispatchSystemStatus>,
) -> Result<(Option<StackDescription>, String), EngineError> {
    let arn = previous.and_then(|previous| previous.stack_arn.as_deref());
    let place = arn.and_then(ArnBase::parse);
    let moved = |field, was: &str| Err(EngineError::Moved { field, was: was.to_owned() });
    if let Some(place) = place.as_ref().filter(|place| place.region != system.spec.region) {
        return moved("spec.region", place.region);
    }
    guard_account(system, ports).await?;
    let found = ports.stacks.describe(&system.names.stack).await?;
    let account = account(ports, found.as_ref()).await?;
    match place.filter(|place| place.account != account) {
        Some(place) => moved("spec.aws.roleArn", place.account),
        None => Ok((found, account)),
    }
}

/// Fails if the credentials belong to another account than the spec names.
pub async fn guard_account(system: &ValidatedSystem, ports: &Ports) -> Result<(), EngineError> {
    let Some(wanted) = &system.spec.aws.account_id else { return Ok(()) };
    let found = ports.identity.account().await?;
    if found == *wanted { Ok(()) } else { Err(EngineError::WrongAccount { wanted: wanted.clone(), found }) }
}

/// The account of the stack or, without a stack, of the credentials.
pub async fn account(ports: &Ports, found: Option<&StackDescription>) -> Result<String, PortError> {
    match found.and_then(|stack| ArnBase::parse(&stack.arn)) {
        Some(base) => Ok(base.account.to_owned()),
        None => ports.identity.account().await,
    }
}

/// The table and bucket that an earlier stack of this system retained.
pub async fn kept(system: &ValidatedSystem, ports: &Ports, account: &str) -> Result<RetainedData, PortError> {
    let table = match ports.tables.table(&system.names.table).await? {
        Some(table) => {
            let tags = ports.tables.tags(&table.arn).await?;
            Some((table, tags))
        }
        None => None,
    };
    let bucket = bucket_name(system, account);
    let tags = ports.buckets.tags(&bucket, account).await?;
    Ok(RetainedData { table, bucket: tags.map(|tags| (bucket, tags)) })
}

/// The resources managed outside CloudFormation, and whether those of the stack exist.
pub async fn direct_resources(
    system: &ValidatedSystem,
    ports: &Ports,
    stack: &StackDescription,
    inspection: Inspection,
) -> Result<DirectResources, PortError> {
    let mut seen = read_parts(system, ports, stack, inspection.drift).await?;
    if let Some(coverage) = inspection.existence {
        seen.existence = existence::Subject { system, ports, stack, parts: &seen }.check(coverage).await?;
    }
    Ok(seen)
}

async fn read_parts(
    system: &ValidatedSystem,
    ports: &Ports,
    stack: &StackDescription,
    drift: DriftDetection,
) -> Result<DirectResources, PortError> {
    let names = &system.names;
    let table = ports.tables.table(&names.table).await?;
    let push_arn = ArnBase::parse(&stack.arn).map(|base| base.platform_application(&names.platform_application));
    let push_arn = push_arn.unwrap_or_default();
    let push = ports.push.status(&push_arn).await?;
    let cache = match system.spec.cache.external {
        Some(_) => None,
        None => ports.caches.group(&names.replication_group).await?,
    };
    let mut queues = Vec::new();
    let (mut recovery, mut expiry) = (None, None);
    if drift == DriftDetection::Look {
        if table.is_some() {
            recovery = ports.tables.recovery(&names.table).await?;
            expiry = Some(ports.tables.expiry(&names.table).await?);
        }
        for (name, queue, (logical_id, output)) in [
            ("offers", &names.offers_queue, (template::OFFERS, key::OFFERS_QUEUE_URL)),
            ("responses", &names.responses_queue, (template::RESPONSES, key::RESPONSES_QUEUE_URL)),
            ("notifications", &names.notifications_queue, (template::NOTIFICATIONS, key::NOTIFICATIONS_QUEUE_URL)),
        ] {
            let (Some(url), Some(base)) = (stack.outputs.get(output), ArnBase::parse(&stack.arn)) else { continue };
            let settings = ports.queues.settings(url).await?;
            let dead_letter_arn = base.dead_letter_queue(queue);
            queues.push(QueueLook { name, logical_id, url: url.clone(), dead_letter_arn, settings });
        }
    }
    let drift_checked = drift == DriftDetection::Look;
    Ok(DirectResources { table, recovery, expiry, push_arn, push, cache, queues, drift_checked, ..Default::default() })
}
