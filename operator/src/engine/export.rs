//! Exports of the table to the city's bucket (the seed's section 7.7): started, followed, and found again.

use dispatch_api::dispatch_system::{ExportStatus, ExportType, ManagementPolicy};
use dispatch_api::validate::ValidatedSystem;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::cloud::ports::{Export, ExportExtent, ExportRequest, PortError, PortErrorKind, Ports};
use crate::engine::error::EngineError;
use crate::engine::observe;
use crate::engine::outputs::ArnBase;
use crate::engine::plan::exports::{COMPLETED, IN_PROGRESS, PERIOD_MAX, PERIOD_MIN, status_of};
use crate::engine::plan::hex;
use crate::engine::plan::template::outputs as key;
use crate::engine::progress::{Event, Progress};
use crate::engine::settings::WaitPolicy;

/// Exports looked through for the one that is wanted, newest first; each costs a call.
const LOOK_BACK: usize = 20;
/// How long a token is trusted. DynamoDB forgets it after eight hours, and a request that is repeated then is another export.
const TOKEN_TRUSTED: SignedDuration = SignedDuration::from_hours(7);
/// How far DynamoDB's clock may be behind this one; signatures allow no more.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

/// Why there is no export.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The manifest forbids it.
    #[error("the system is suspended or only observed: no export is started")]
    NotAllowed,
    /// There is nothing to export from or to.
    #[error("stack {0} is not complete; apply the manifest first")]
    StackNotReady(String),
    /// Exports read the continuous backups.
    #[error("spec.table.pointInTimeRecovery is false, and an export needs it")]
    RecoveryOff,
    /// The first export must be a full one.
    #[error("spec.export.type is Incremental, but no export has completed in the last 90 days; make a Full one first")]
    NothingToContinue,
    /// DynamoDB takes at least 15 minutes.
    #[error("the last export ended at {0}, less than the 15 minutes ago that an incremental export covers at least")]
    TooSoon(Timestamp),
    /// The account is another one.
    #[error(transparent)]
    Reconcile(#[from] EngineError),
    /// A call failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Where a system's exports come from and go to.
struct Place {
    table_arn: String,
    bucket: String,
    account: String,
}

/// Starts an export of the extent and format the manifest names.
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
    Ok(status_of(ports.tables.start_export(&request).await?, None))
}

/// One export of a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// ARN of the stack, which has the table's account.
    pub stack_arn: &'a str,
    /// Bucket it goes to.
    pub bucket: &'a str,
    /// Its time in the schedule.
    pub slot: Timestamp,
    /// What it covers.
    pub extent: ExportExtent,
    /// Now.
    pub now: Timestamp,
}

/// Starts the export of a slot, or finds the one that was started: whoever asks again, in this process or in the next, gets the same.
pub async fn start_slot(
    system: &ValidatedSystem,
    ports: &Ports,
    wanted: Slot<'_>,
) -> Result<ExportStatus, ExportError> {
    observe::guard_account(system, ports).await?;
    let Slot { stack_arn, bucket, slot, extent, now } = wanted;
    let base = ArnBase::of(stack_arn).ok_or_else(|| ExportError::StackNotReady(system.names.stack.clone()))?;
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
    let started = match ports.tables.start_export(&request).await {
        // The manifest has changed since: what was started for this slot counts.
        Err(error) if error.kind == PortErrorKind::AlreadyExists => {
            started_with(ports, &request, slot).await?.ok_or(error)?
        }
        other => other?,
    };
    Ok(status_of(started, Some(slot)))
}

/// The export that was started with the request's token.
async fn started_with(ports: &Ports, request: &ExportRequest, since: Timestamp) -> Result<Option<Export>, PortError> {
    let since = (since - CLOCKS_APART).as_millisecond();
    let recent = |arn: &str| started_ms(arn).is_none_or(|started| started >= since);
    let is_it = |export: &Export| export.token.as_ref() == Some(&request.token);
    first_where(ports, &request.table_arn, recent, is_it).await
}

/// Looks at one export; `None` when DynamoDB has no such export.
pub async fn look(ports: &Ports, arn: &str, slot: Option<Timestamp>) -> Result<Option<ExportStatus>, PortError> {
    match ports.tables.export(arn).await {
        Ok(export) => Ok(Some(status_of(export, slot))),
        Err(error) if error.kind == PortErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Follows an export until it has completed or failed, or wait_policy ends. An export of a small table takes about five minutes.
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
        let next = status_of(ports.tables.export(&status.export_arn).await?, None);
        if next.state != status.state {
            progress.report(Event::Step(format!("export {}", next.state)));
        }
        status = next;
    }
    Ok(status)
}

/// The last export of a system, whatever became of it; `None` when there is none or no stack.
pub async fn last(system: &ValidatedSystem, ports: &Ports) -> Result<Option<ExportStatus>, ExportError> {
    let place = match place(system, ports).await {
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
    let base = ArnBase::of(&stack.arn).ok_or_else(not_ready)?;
    Ok(Place { table_arn: base.table(&system.names.table), bucket, account: base.account.to_owned() })
}

async fn last_where(
    ports: &Ports,
    table_arn: &str,
    wanted: impl Fn(&Export) -> bool,
) -> Result<Option<Export>, PortError> {
    first_where(ports, table_arn, |_| true, wanted).await
}

/// The newest export that is wanted, among those whose ARN is worth a look. Export ARNs end in `export/<milliseconds>-<random>`, so
/// their order is that of their starts.
async fn first_where(
    ports: &Ports,
    table_arn: &str,
    worth: impl Fn(&str) -> bool,
    wanted: impl Fn(&Export) -> bool,
) -> Result<Option<Export>, PortError> {
    let mut arns = ports.tables.exports(table_arn).await?;
    arns.sort_unstable_by(|a, b| b.cmp(a));
    for arn in arns.iter().filter(|arn| worth(arn)).take(LOOK_BACK) {
        let export = ports.tables.export(arn).await?;
        if wanted(&export) {
            return Ok(Some(export));
        }
    }
    Ok(None)
}

/// The period that continues the last export. A gap of more than a day is closed one day at a time.
fn period(last: Option<Timestamp>, now: Timestamp) -> Result<ExportExtent, ExportError> {
    let from = last.ok_or(ExportError::NothingToContinue)?;
    let length = now.duration_since(from).min(PERIOD_MAX);
    if length < PERIOD_MIN {
        return Err(ExportError::TooSoon(from));
    }
    Ok(ExportExtent::Incremental { from, to: from + length })
}

/// Two requests of the same minute are one: a person who presses the key twice gets one export.
fn token(table_arn: &str, extent: &ExportExtent, now: Timestamp) -> String {
    let what = match extent {
        ExportExtent::Full => format!("full {}", now.as_second() / 60),
        ExportExtent::Incremental { from, to } => format!("{from} {to}"),
    };
    short_digest(&format!("{table_arn} {what}"))
}

/// The table and the slot decide; several periods of one slot are told apart by their beginning.
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
