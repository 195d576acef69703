//! Scheduled exports of one system: starts them, polls them without waiting, and reports them. `plan::exports` decides
//! which one is due.
//!
//! Nothing here fails a reconcile: a failure is reported in the condition `ExportsReady`, which does not affect
//! `Ready`. Each reconcile takes one step, so that every step reaches the status and the events.

use std::time::Duration;

use dispatch_api::conditions::ConditionType;
use dispatch_api::dispatch_system::{DispatchSystemStatus, ExportScheduleStatus, ExportStatus, ManagementPolicy};
use dispatch_api::schedule::Schedule;
use dispatch_api::validate::ValidatedSystem;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

use crate::cloud::ports::{ExportExtent, PortErrorKind, Ports};
use crate::engine::export::{self, ExportError, Slot};
use crate::engine::plan::exports::{self, COMPLETED, Due, Facts, IN_PROGRESS};
use crate::engine::status::{self, ExportsFinding, ExportsState};
use crate::kubernetes::infra::metric_labels::ExportResult;
use crate::kubernetes::infra::metrics::Metrics;
use crate::kubernetes::infra::reconcile_cache::ExportCache;
use crate::kubernetes::policy::requeue;

/// Consecutive rejections of an incremental export after which a full export is started instead: point-in-time recovery
/// may have been disabled during its period. The first rejections may only mean that the latest changes are not
/// available for export yet.
const REFUSALS_FORGIVEN: u32 = 3;

/// Inputs of one step.
pub struct Exports<'a> {
    /// The system to export.
    pub system: &'a ValidatedSystem,
    /// Clients of AWS.
    pub ports: &'a Ports,
    /// Counts the outcomes.
    pub metrics: &'a Metrics,
    /// The status of this reconcile, without the exports.
    pub status: &'a DispatchSystemStatus,
    /// The status as stored.
    pub previous: Option<&'a DispatchSystemStatus>,
    /// The current time.
    pub now: Timestamp,
}

/// Result of a step.
pub struct Stepped {
    /// What the status reports.
    pub finding: ExportsFinding,
    /// Time until the next step.
    pub next: Option<Duration>,
    /// Progress for the metrics; `None` where no export is expected.
    pub mark: Option<Mark>,
}

/// Progress of one system's exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Time up to which completed exports cover the table.
    pub covered: Option<Timestamp>,
    /// Time from which the exports are late.
    pub deadline: Option<Timestamp>,
}

/// The part of the status that a step changes.
struct Course {
    last: Option<ExportStatus>,
    progress: ExportScheduleStatus,
}

/// Source and target of an export.
#[derive(Clone, Copy)]
struct Place<'a> {
    stack_arn: &'a str,
    bucket: &'a str,
}

/// Whether an export may be started.
enum Leave<'a> {
    Granted(Place<'a>),
    /// The stack is not ready.
    NotReady,
    /// The manifest forbids it: `Observe` or `suspend`.
    Held(ExportsState),
}

impl Exports<'_> {
    /// Takes one step, if one is due.
    pub async fn step(&self, memory: &mut ExportCache) -> Stepped {
        let mut last = self.previous.and_then(|status| status.last_export.clone());
        let mut next = None;
        let running = last.take_if(|last| last.state == IN_PROGRESS);
        let was_running = running.is_some();
        if let Some(running) = running {
            let (seen, pause) = self.follow(running, memory).await;
            (last, next) = (Some(seen), Some(pause));
        }
        let Some((text, schedule)) = self.schedule() else {
            return Stepped { finding: ExportsFinding { last, ..ExportsFinding::default() }, next, mark: None };
        };
        let before = self.previous.and_then(|status| status.export_schedule.as_ref());
        let mut course = Course { last, progress: exports::seen(text, before, self.now) };
        if let Some(ended) = course.last.as_ref().filter(|last| was_running && last.state == COMPLETED) {
            exports::cover(&mut course.progress, ended);
        }
        let leave = self.leave();
        if let Leave::Granted(place) = leave
            && !was_running
        {
            next = self.begin(&schedule, &mut course, memory, place).await;
        }
        let (state, held) = match (leave, &memory.not_started) {
            (Leave::Held(state), _) => (state, true),
            (_, Some(why)) => (ExportsState::NotStarted(why.clone()), false),
            (_, None) => (ExportsState::Scheduled, false),
        };
        let Course { last, mut progress } = course;
        progress.next_export_at = exports::next_slot(&schedule, &progress).filter(|_| !held);
        let mark = (!held).then(|| Mark {
            covered: progress.covered_until.as_ref().map(|covered| covered.0),
            deadline: exports::deadline(&schedule, &progress),
        });
        let slot = last.as_ref().and_then(|last| last.slot.as_ref()).map(|slot| schedule.shown(slot.0));
        Stepped { finding: ExportsFinding { state, last, progress: Some(progress), slot }, next, mark }
    }

    fn schedule(&self) -> Option<(&str, Schedule)> {
        let text = self.system.spec.export.schedule.as_deref()?;
        let zone = TimeZone::get(&self.system.spec.timezone).ok()?;
        Some((text, Schedule::parse(text, zone)?))
    }

    fn leave(&self) -> Leave<'_> {
        if self.system.spec.management_policy == ManagementPolicy::Observe {
            return Leave::Held(ExportsState::Unmanaged);
        }
        if self.system.spec.suspend {
            return Leave::Held(ExportsState::Suspended);
        }
        match (&self.status.stack_arn, &self.status.outputs) {
            (Some(stack_arn), Some(outputs)) if status::is_true(self.status, ConditionType::StackReady) => {
                Leave::Granted(Place { stack_arn, bucket: &outputs.export_bucket })
            }
            _ => Leave::NotReady,
        }
    }

    /// Polls a running export, unless it was polled a moment ago.
    async fn follow(&self, running: ExportStatus, memory: &mut ExportCache) -> (ExportStatus, Duration) {
        if let Some(wait) = memory.wait() {
            return (running, wait);
        }
        let pause = requeue::export(self.elapsed(&running));
        memory.not_before = Some(Instant::now() + pause);
        let slot = running.slot.as_ref().map(|slot| slot.0);
        let ended = match export::describe(self.ports, &running.export_arn, slot).await {
            Ok(Some(seen)) if seen.state != IN_PROGRESS => Some(seen),
            Ok(found) => exports::given_up(&running, self.now, found.is_some()),
            Err(error) => {
                tracing::debug!(%error, "could not poll the export; it will be polled again");
                None
            }
        };
        let Some(ended) = ended else { return (running, pause) };
        self.metrics.export(if ended.state == COMPLETED { ExportResult::Completed } else { ExportResult::Failed });
        memory.not_before = None;
        (ended, requeue::STEP)
    }

    fn elapsed(&self, running: &ExportStatus) -> Duration {
        let began = running.started_at.as_ref().or(running.slot.as_ref());
        let elapsed = began.map(|began| self.now.duration_since(began.0));
        elapsed.and_then(|elapsed| Duration::try_from(elapsed).ok()).unwrap_or_default()
    }

    /// Starts the export that is due, if any.
    async fn begin(
        &self,
        schedule: &Schedule,
        course: &mut Course,
        memory: &mut ExportCache,
        place: Place<'_>,
    ) -> Option<Duration> {
        let spec = &self.system.spec.export;
        let facts = Facts {
            schedule,
            wanted: spec.export_type,
            retention_days: spec.retention_days,
            progress: &course.progress,
            last: course.last.as_ref(),
            now: self.now,
        };
        let (slot, extent) = match exports::decide(&facts)? {
            Due::Now { slot, extent } => (slot, extent),
            Due::At(moment) => {
                let time = Duration::try_from(moment.duration_since(self.now)).unwrap_or_default();
                return Some(requeue::slot(time, rand::random()));
            }
        };
        if let Some(wait) = memory.wait() {
            return Some(wait);
        }
        let extent = if memory.refusals < REFUSALS_FORGIVEN { extent } else { ExportExtent::Full };
        let Place { stack_arn, bucket } = place;
        let wanted = Slot { stack_arn, bucket, slot, extent, now: self.now };
        let pause = match export::start_slot(self.system, self.ports, wanted).await {
            Ok(started) => {
                self.metrics.export(ExportResult::Started);
                course.progress.handled_until = Some(Time(slot));
                course.last = Some(started);
                *memory = ExportCache::default();
                requeue::export(Duration::ZERO)
            }
            Err(error) => {
                self.metrics.export(ExportResult::Refused);
                let refused = matches!(&error, ExportError::Port(error) if error.kind == PortErrorKind::Invalid);
                memory.failures = memory.failures.saturating_add(1);
                memory.refusals = memory.refusals.saturating_add(u32::from(refused));
                memory.not_started = Some(format!("the export of {} was not started: {error}", schedule.shown(slot)));
                requeue::export_back_off(memory.failures)
            }
        };
        memory.not_before = Some(Instant::now() + pause);
        Some(pause)
    }
}

#[cfg(test)]
mod tests;
