//! Which scheduled export is due, and what it covers. Pure.
//!
//! Of the slots that passed while no export was possible, only the last is caught up. A slot whose export failed is not
//! repeated; the export of the next slot covers its period. Incremental exports are contiguous: each starts where the
//! last completed one ended. A gap longer than a day, the longest period that DynamoDB accepts, is closed by several
//! exports in sequence.

use dispatch_api::dispatch_system::{ExportScheduleStatus, ExportStatus, ExportType};
use dispatch_api::schedule::{Schedule, Slots};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::cloud::ports::{Export, ExportExtent};

/// Export states of DynamoDB.
pub const IN_PROGRESS: &str = "IN_PROGRESS";
pub const COMPLETED: &str = "COMPLETED";
pub const FAILED: &str = "FAILED";

/// Shortest period of an incremental export (DynamoDB developer guide, "Requesting a table export").
pub const PERIOD_MIN: SignedDuration = SignedDuration::from_mins(15);
/// Longest period of an incremental export (same source).
pub const PERIOD_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Delay until changes can be exported (DynamoDB API reference, `LatestRestorableDateTime`: typically five minutes).
const SETTLE: SignedDuration = SignedDuration::from_mins(5);
/// Age beyond which changes cannot be exported (DynamoDB developer guide, "Point-in-time recovery": 35 days).
const RECOVERY_MAX: SignedDuration = SignedDuration::from_hours(35 * 24);
/// Time after which an unfinished export counts as failed. Exports take minutes; those of many terabytes take hours.
const END_WITHIN: SignedDuration = SignedDuration::from_hours(48);

/// Input of the decision.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub schedule: &'a Schedule,
    /// Type in the manifest.
    pub wanted: ExportType,
    pub retention_days: u32,
    /// Progress of the schedule.
    pub progress: &'a ExportScheduleStatus,
    /// The last export, which has ended.
    pub last: Option<&'a ExportStatus>,
    pub now: Timestamp,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this time.
    At(Timestamp),
    /// An export for this slot.
    Now { slot: Timestamp, extent: ExportExtent },
}

/// Decides; `None` only at the limits of the calendar.
pub fn decide(facts: &Facts<'_>) -> Option<Due> {
    let Slots { last: latest, next } = facts.schedule.around(facts.now)?;
    let new = latest > handled(facts.progress);
    let full = || if new { Due::Now { slot: latest, extent: ExportExtent::Full } } else { Due::At(next) };
    if facts.wanted == ExportType::Full {
        return Some(full());
    }
    let (Some(Time(covered)), Some(Time(base))) = (&facts.progress.covered_until, &facts.progress.last_full_at) else {
        return Some(full());
    };
    let renew = SignedDuration::from_hours(24) * i32::try_from(facts.retention_days).unwrap_or(i32::MAX) / 2;
    let too_old = |age: SignedDuration| age >= renew || latest.duration_since(*covered) > RECOVERY_MAX;
    if new && too_old(latest.duration_since(*base)) {
        return Some(full());
    }
    let slot = if new { Some(latest) } else { unfinished(facts.last) };
    let Some(slot) = slot.filter(|slot| slot.duration_since(*covered) >= PERIOD_MIN) else {
        return Some(Due::At(next));
    };
    let to = *covered + slot.duration_since(*covered).min(PERIOD_MAX);
    let readable = to + SETTLE;
    if facts.now < readable {
        return Some(Due::At(readable));
    }
    Some(Due::Now { slot, extent: ExportExtent::Incremental { from: *covered, to } })
}

/// The slot of a completed export, whose period may need another export.
fn unfinished(last: Option<&ExportStatus>) -> Option<Timestamp> {
    let last = last.filter(|last| last.state == COMPLETED)?;
    last.slot.as_ref().map(|slot| slot.0)
}

fn handled(progress: &ExportScheduleStatus) -> Timestamp {
    progress.handled_until.as_ref().map_or(progress.since.0, |handled| handled.0.max(progress.since.0))
}

/// The progress of a schedule: the recorded one, or a new one for a changed schedule. What exports of another schedule
/// cover remains valid.
pub fn seen(schedule: &str, before: Option<&ExportScheduleStatus>, now: Timestamp) -> ExportScheduleStatus {
    if let Some(same) = before.filter(|before| before.schedule == schedule) {
        return same.clone();
    }
    ExportScheduleStatus {
        schedule: schedule.to_owned(),
        // The API server stores whole seconds.
        since: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
        handled_until: None,
        next_export_at: None,
        covered_until: before.and_then(|before| before.covered_until.clone()),
        last_full_at: before.and_then(|before| before.last_full_at.clone()),
    }
}

/// The slot after the last handled one. It advances only when an export is started.
pub fn next_slot(schedule: &Schedule, progress: &ExportScheduleStatus) -> Option<Time> {
    schedule.around(handled(progress)).map(|slots| Time(slots.next))
}

/// The time at which two slots have passed since the covered time without a completed export.
pub fn deadline(schedule: &Schedule, progress: &ExportScheduleStatus) -> Option<Timestamp> {
    let covered = progress.covered_until.as_ref().map_or(progress.since.0, |covered| covered.0.max(progress.since.0));
    let first = schedule.around(covered)?.next;
    schedule.around(first).map(|slots| slots.next)
}

/// Updates the progress with a completed export.
pub fn cover(progress: &mut ExportScheduleStatus, export: &ExportStatus) {
    // Without an export time, the earlier slot is used: data is exported twice rather than not at all.
    let reported = export.export_time.as_deref().and_then(|time| time.parse().ok());
    let Some(until) = reported.or_else(|| export.slot.as_ref().map(|slot| slot.0)) else { return };
    progress.covered_until = Some(Time(until));
    if export.export_type == Some(ExportType::Full) {
        progress.last_full_at = Some(Time(until));
    }
}

/// An export as shown in the status.
pub fn status_of(export: Export, slot: Option<Timestamp>) -> ExportStatus {
    ExportStatus {
        export_arn: export.arn,
        state: export.state,
        export_type: Some(if export.from.is_some() { ExportType::Incremental } else { ExportType::Full }),
        slot: slot.map(Time),
        started_at: export.started.map(Time),
        ended_at: export.ended.map(Time),
        export_from: export.from.map(|time| time.to_string()),
        export_time: export.time.map(|time| time.to_string()),
        billed_bytes: export.billed_bytes,
        item_count: export.item_count,
        manifest: export.manifest,
        failure: export.failure,
    }
}

/// The failed status of an export that is no longer listed or does not end; `None` while it may still end.
pub fn given_up(running: &ExportStatus, now: Timestamp, found: bool) -> Option<ExportStatus> {
    let began = running.started_at.as_ref().or(running.slot.as_ref());
    let overdue = began.is_some_and(|began| now.duration_since(began.0) > END_WITHIN);
    let failure = match (found, overdue) {
        (false, _) => "DynamoDB no longer lists this export".to_owned(),
        (true, true) => format!("it did not end within {} hours and is no longer tracked", END_WITHIN.as_hours()),
        (true, false) => return None,
    };
    Some(ExportStatus { state: FAILED.to_owned(), failure: Some(failure), ..running.clone() })
}

#[cfg(test)]
mod tests;
