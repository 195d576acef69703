//! What scheduled exports add to a status: a condition and their progress. A failed export does not affect whether the
//! system serves, so the phase does not change. Pure.

use dispatch_api::conditions::{ConditionStatus, ConditionType, Reason};
use dispatch_api::dispatch_system::{DispatchSystemStatus, ExportScheduleStatus, ExportStatus};

use crate::engine::plan::exports::{COMPLETED, IN_PROGRESS};
use crate::engine::status::Frame;
use crate::engine::status::cluster::put;

/// State of the export schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExportsState {
    /// The spec has no schedule.
    #[default]
    Off,
    Scheduled,
    /// The due export could not be started, for this reason.
    NotStarted(String),
    /// `spec.suspend` is true.
    Suspended,
    /// `spec.managementPolicy` is `Observe`.
    Unmanaged,
}

/// The exports as found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExportsFinding {
    pub state: ExportsState,
    /// The latest export.
    pub last: Option<ExportStatus>,
    /// Scheduled time of the latest export, in the city's time zone.
    pub slot: Option<String>,
    /// Progress of the schedule.
    pub progress: Option<ExportScheduleStatus>,
}

/// Adds the exports to a status.
pub fn with_exports(
    mut status: DispatchSystemStatus,
    found: ExportsFinding,
    frame: &Frame<'_>,
) -> DispatchSystemStatus {
    match condition(&found, frame) {
        Some((on, reason, message)) => {
            put(&mut status, frame.write((ConditionType::ExportsReady, on, reason, message)));
        }
        None => status.conditions.retain(|c| c.type_ != ConditionType::ExportsReady),
    }
    (status.last_export, status.export_schedule) = (found.last, found.progress);
    status
}

fn condition(found: &ExportsFinding, frame: &Frame<'_>) -> Option<(ConditionStatus, Reason, String)> {
    match &found.state {
        ExportsState::Off => return None,
        ExportsState::Suspended => {
            let message = "suspended: no export starts until spec.suspend is false; then the latest missed one starts";
            return Some((ConditionStatus::Unknown, Reason::Suspended, message.to_owned()));
        }
        ExportsState::Unmanaged => {
            let message = "no export starts because spec.managementPolicy is Observe";
            return Some((ConditionStatus::Unknown, Reason::ObserveOnly, message.to_owned()));
        }
        ExportsState::NotStarted(why) => return Some((ConditionStatus::False, Reason::ExportNotStarted, why.clone())),
        ExportsState::Scheduled => {}
    }
    let Some(last) = &found.last else {
        return Some((
            ConditionStatus::True,
            Reason::Scheduled,
            "the first export starts at the next time of the schedule".to_owned(),
        ));
    };
    let what = found.slot.as_ref().map_or_else(|| last.export_arn.clone(), |slot| format!("the export of {slot}"));
    Some(match last.state.as_str() {
        // After a failure the condition stays false until an export completes.
        IN_PROGRESS => {
            (ConditionStatus::from(!failed_before(frame)), Reason::Exporting, format!("{what} is in progress"))
        }
        COMPLETED => (ConditionStatus::True, Reason::ExportCompleted, format!("{what} is complete")),
        _ => {
            let failure = last.failure.as_deref().unwrap_or("no reason given");
            (
                ConditionStatus::False,
                Reason::ExportFailed,
                format!("{what} failed: {failure}; the next export also covers its period"),
            )
        }
    })
}

fn failed_before(frame: &Frame<'_>) -> bool {
    let before = frame.previous.and_then(|p| p.conditions.iter().find(|c| c.type_ == ConditionType::ExportsReady));
    before.is_some_and(|before| before.status == ConditionStatus::False)
}
