//! Exports of the table to the city's S3 bucket (spec §7.7).

use dispatch_api::dispatch_system::{ExportStatus, ExportType, ManagementPolicy};
use dispatch_api::validate::ValidatedSystem;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::cloud::ports::{Export, ExportExtent, ExportRequest, PortError, PortErrorKind, Ports};
use crate::engine::arn::ArnBase;
use crate::engine::error::EngineError;
use crate::engine::former_names::find_names;
use crate::engine::observe;
use crate::engine::plan::exports::{COMPLETED, IN_PROGRESS, PERIOD_MAX, PERIOD_MIN, status_of};
use crate::engine::plan::hex;
use crate::engine::plan::template::outputs as key;
use crate::engine::progress::{Event, Progress};
use crate::engine::settings::WaitPolicy;

/// Limit of exports to examine in a search, newest first. Each costs a call.
const LOOK_BACK: usize = 20;
/// How long the request of a slot may rely on its token. DynamoDB forgets a token after eight hours; a repeated request
/// then starts another export.
const TOKEN_TRUSTED: SignedDuration = SignedDuration::from_hours(7);
/// Limit of the clock skew against DynamoDB; request signatures allow no more.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

/// Why an export was not started.
#[derive(Debug, Error)]
pub enum ExportError {
    #[error("cannot start an export: spec.suspend is true or spec.managementPolicy is Observe")]
    NotAllowed,
    #[error("cannot start an export: stack {0} is not complete; apply the manifest first")]
    StackNotReady(String),
    /// Exports read the continuous backups.
    #[error("spec.table.pointInTimeRecovery: false is not allowed: exports require point-in-time recovery")]
    RecoveryOff,
    /// An incremental export continues an earlier one.
    #[error(
        "spec.export.type: Incremental is not allowed: no export has completed in the last 90 days; start a Full \
         export first"
    )]
    NothingToContinue,
    /// DynamoDB exports periods of at least 15 minutes.
    #[error("cannot start an export: the last one ended at {0}, and an incremental export covers at least 15 minutes")]
    TooSoon(Timestamp),
    #[error(transparent)]
    Reconcile(#[from] EngineError),
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Source and destination of a system's exports.
struct Place {
    table_arn: String,
    bucket: String,
    account: String,
}

/// Starts an export with the spec's extent and format.
pub async fn start(
    system: &ValidatedSystem,
    ports: &Ports,
    progress: &mut dyn Progress,
) -> Result<ExportStatus, ExportError> {
    if system.spec.suspend || system.spec.management_policy == ManagementPolicy::Observe {
        return Err(ExportError::NotAllowed);
    }
    if !system.spec.table.point_in_time_recovery {
        return Err(ExportError::RecoveryOff);
    }
    observe::guard_account(system, ports).await?;
    let named = find_names(system, ports, None).await?;
    let system = named.as_deref().unwrap_or(system);
    let place = place(system, ports).await?;
    let now = (ports.clock)();
    let extent = match system.spec.export.export_type {
        ExportType::Full => ExportExtent::Full,
        ExportType::Incremental => {
            let last = last_where(ports, &place.table_arn, |export| export.state == COMPLETED).await?;
            period(last.and_then(|export| export.time), now)?
        }
    };
    progress.report(Event::Step(format!("exporting {} to s3://{}", system.names.table, place.bucket)));
    let request = ExportRequest {
        token: token(&place.table_arn, &extent, now),
        table_arn: place.table_arn,
        bucket: place.bucket,
        bucket_owner: place.account,
        prefix: system.spec.export.prefix.clone(),
        format: system.spec.export.format,
        extent,
    };
    Ok(status_of(ports.exports.start(&request).await?, None))
}

/// A scheduled export.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// ARN of the stack; contains the table's region and account.
    pub stack_arn: &'a str,
    pub bucket: &'a str,
    /// Scheduled time.
    pub slot: Timestamp,
    pub extent: ExportExtent,
    pub now: Timestamp,
}

/// Starts the export of a slot, or returns the one that was already started. Idempotent, also across processes.
pub async fn start_slot(
    system: &ValidatedSystem,
    ports: &Ports,
    wanted: Slot<'_>,
) -> Result<ExportStatus, ExportError> {
    observe::guard_account(system, ports).await?;
    let Slot { stack_arn, bucket, slot, extent, now } = wanted;
    let base = ArnBase::parse(stack_arn).ok_or_else(|| ExportError::StackNotReady(system.names.stack.clone()))?;
    let table_arn = base.table(&system.names.table);
    let request = ExportRequest {
        token: slot_token(&table_arn, slot, &extent),
        table_arn,
        bucket: bucket.to_owned(),
        bucket_owner: base.account.to_owned(),
        prefix: system.spec.export.prefix.clone(),
        format: system.spec.export.format,
        extent,
    };
    if now.duration_since(slot) > TOKEN_TRUSTED
        && let Some(found) = started_with(ports, &request, slot).await?
    {
        return Ok(status_of(found, Some(slot)));
    }
    let started = match ports.exports.start(&request).await {
        // The spec has changed since the export was started; that export counts for the slot.
        Err(error) if error.kind == PortErrorKind::AlreadyExists => {
            started_with(ports, &request, slot).await?.ok_or(error)?
        }
        other => other?,
    };
    Ok(status_of(started, Some(slot)))
}

/// Finds the export that was started with the request's token.
async fn started_with(ports: &Ports, request: &ExportRequest, since: Timestamp) -> Result<Option<Export>, PortError> {
    let since = (since - CLOCKS_APART).as_millisecond();
    let recent = |arn: &str| started_ms(arn).is_none_or(|started| started >= since);
    let is_it = |export: &Export| export.token.as_ref() == Some(&request.token);
    first_where(ports, &request.table_arn, recent, is_it).await
}

/// Reads an export; `None` if it does not exist.
pub async fn describe(ports: &Ports, arn: &str, slot: Option<Timestamp>) -> Result<Option<ExportStatus>, PortError> {
    match ports.exports.describe(arn).await {
        Ok(export) => Ok(Some(status_of(export, slot))),
        Err(error) if error.kind == PortErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until an export has completed or failed, or until the wait policy ends. The export of a small table takes
/// about five minutes.
pub async fn follow(
    started: ExportStatus,
    ports: &Ports,
    wait_policy: WaitPolicy,
    progress: &mut dyn Progress,
) -> Result<ExportStatus, PortError> {
    let deadline = Instant::now() + wait_policy.total;
    let mut pause = wait_policy.first;
    let mut status = started;
    while status.state == IN_PROGRESS && Instant::now() < deadline {
        sleep(pause).await;
        pause = (pause * 2).min(wait_policy.longest);
        let next = status_of(ports.exports.describe(&status.export_arn).await?, None);
        if next.state != status.state {
            progress.report(Event::Step(format!("export {}", next.state)));
        }
        status = next;
    }
    Ok(status)
}

/// The latest export of a system in any state; `None` if there is none, or no stack.
pub async fn last(system: &ValidatedSystem, ports: &Ports) -> Result<Option<ExportStatus>, ExportError> {
    let named = find_names(system, ports, None).await?;
    let place = match place(named.as_deref().unwrap_or(system), ports).await {
        Ok(place) => place,
        Err(ExportError::StackNotReady(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let last = last_where(ports, &place.table_arn, |_| true).await?;
    Ok(last.map(|export| status_of(export, None)))
}

async fn place(system: &ValidatedSystem, ports: &Ports) -> Result<Place, ExportError> {
    let not_ready = || ExportError::StackNotReady(system.names.stack.clone());
    let stack = ports.stacks.describe(&system.names.stack).await?.ok_or_else(not_ready)?;
    if !stack.state.serves() {
        return Err(not_ready());
    }
    let bucket = stack.outputs.get(key::EXPORT_BUCKET).cloned().ok_or_else(not_ready)?;
    let base = ArnBase::parse(&stack.arn).ok_or_else(not_ready)?;
    Ok(Place { table_arn: base.table(&system.names.table), bucket, account: base.account.to_owned() })
}

async fn last_where(
    ports: &Ports,
    table_arn: &str,
    wanted: impl Fn(&Export) -> bool,
) -> Result<Option<Export>, PortError> {
    first_where(ports, table_arn, |_| true, wanted).await
}

/// The newest export that satisfies `wanted`, among those whose ARN satisfies `worth`. Export ARNs end in
/// `export/<milliseconds>-<random>`, so sorting them sorts by start time.
async fn first_where(
    ports: &Ports,
    table_arn: &str,
    worth: impl Fn(&str) -> bool,
    wanted: impl Fn(&Export) -> bool,
) -> Result<Option<Export>, PortError> {
    let mut arns = ports.exports.list(table_arn).await?;
    arns.sort_unstable_by(|a, b| b.cmp(a));
    for arn in arns.iter().filter(|arn| worth(arn)).take(LOOK_BACK) {
        let export = ports.exports.describe(arn).await?;
        if wanted(&export) {
            return Ok(Some(export));
        }
    }
    Ok(None)
}

/// The period after the last export, at most a day: several exports close a longer gap.
fn period(last: Option<Timestamp>, now: Timestamp) -> Result<ExportExtent, ExportError> {
    let from = last.ok_or(ExportError::NothingToContinue)?;
    let length = now.duration_since(from).min(PERIOD_MAX);
    if length < PERIOD_MIN {
        return Err(ExportError::TooSoon(from));
    }
    Ok(ExportExtent::Incremental { from, to: from + length })
}

/// Requests within the same minute share a token, so that a repeated command starts one export.
fn token(table_arn: &str, extent: &ExportExtent, now: Timestamp) -> String {
    let what = match extent {
        ExportExtent::Full => format!("full {}", now.as_second() / 60),
        ExportExtent::Incremental { from, to } => format!("{from} {to}"),
    };
    short_digest(&format!("{table_arn} {what}"))
}

/// Derived from table and slot, and from the start of the period where a slot has several.
fn slot_token(table_arn: &str, slot: Timestamp, extent: &ExportExtent) -> String {
    let what = match extent {
        ExportExtent::Full => "full".to_owned(),
        ExportExtent::Incremental { from, .. } => from.to_string(),
    };
    short_digest(&format!("{table_arn} slot {slot} {what}"))
}

fn short_digest(text: &str) -> String {
    let digest = hex(&Sha256::digest(text));
    digest.get(..32).unwrap_or(&digest).to_owned()
}

fn started_ms(arn: &str) -> Option<i64> {
    let (_, id) = arn.rsplit_once("/export/")?;
    id.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    #[test]
    fn an_incremental_export_continues_the_last_one_within_dynamodbs_bounds() {
        let now = at("2024-05-02T12:00:00Z");
        assert!(matches!(period(None, now), Err(ExportError::NothingToContinue)));
        assert!(matches!(period(Some(at("2024-05-02T11:46:00Z")), now), Err(ExportError::TooSoon(_))));
        let from = at("2024-05-02T11:00:00Z");
        assert_eq!(period(Some(from), now).expect("an hour"), ExportExtent::Incremental { from, to: now });
        let from = at("2024-04-29T12:00:00Z");
        let to = at("2024-04-30T12:00:00Z");
        assert_eq!(period(Some(from), now).expect("three days"), ExportExtent::Incremental { from, to });
    }

    #[test]
    fn full_exports_of_one_minute_share_a_token() {
        let token = |second: &str| token("arn:t", &ExportExtent::Full, at(second));
        assert_eq!(token("2024-05-02T12:00:01Z"), token("2024-05-02T12:00:59Z"));
        assert_ne!(token("2024-05-02T12:00:01Z"), token("2024-05-02T12:01:00Z"));
    }
}
