//! What scheduled exports add to a status: a condition of their own, and how far they are. They say nothing of whether a system serves,
//! so the trio is not touched. Pure.

use dispatch_api::conditions as condition;
use dispatch_api::dispatch_system::{DispatchSystemStatus, ExportScheduleStatus, ExportStatus};

use super::Frame;
use super::cluster::put;
use crate::plan::exports::{COMPLETED, IN_PROGRESS};

/// Reason of an export that is due and could not be started.
pub const EXPORT_NOT_STARTED: &str = "ExportNotStarted";

/// Whether exports are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExportsState {
    /// No schedule.
    #[default]
    Off,
    /// By their schedule.
    Scheduled,
    /// The one that is due could not be started, and why.
    NotStarted(String),
    /// `spec.suspend` holds them back.
    Suspended,
    /// The manifest is only observed.
    Unmanaged,
}

/// Exports as found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExportsFinding {
    /// Whether they are made.
    pub state: ExportsState,
    /// The last one.
    pub last: Option<ExportStatus>,
    /// Its slot, as the city's clock shows it.
    pub slot: Option<String>,
    /// How far the schedule is.
    pub progress: Option<ExportScheduleStatus>,
}

/// Adds the exports to a status.
pub fn with_exports(
    mut status: DispatchSystemStatus,
    found: ExportsFinding,
    frame: &Frame<'_>,
) -> DispatchSystemStatus {
    match told(&found, frame) {
        Some((on, reason, message)) => {
            put(&mut status, frame.write((condition::EXPORTS_READY, on, reason, message)));
        }
        None => status.conditions.retain(|c| c.type_ != condition::EXPORTS_READY),
    }
    (status.last_export, status.export_schedule) = (found.last, found.progress);
    status
}

fn told(found: &ExportsFinding, frame: &Frame<'_>) -> Option<(&'static str, &'static str, String)> {
    match &found.state {
        ExportsState::Off => return None,
        ExportsState::Suspended => {
            let message = "spec.suspend is true: no export is started; the last one missed is made up for afterwards";
            return Some(("Unknown", "Suspended", message.to_owned()));
        }
        ExportsState::Unmanaged => {
            let message = "spec.managementPolicy is Observe: no export is started";
            return Some(("Unknown", "ObserveOnly", message.to_owned()));
        }
        ExportsState::NotStarted(why) => return Some(("False", EXPORT_NOT_STARTED, why.clone())),
        ExportsState::Scheduled => {}
    }
    let Some(last) = &found.last else {
        return Some(("True", "Scheduled", "the first export comes with the next time of the schedule".to_owned()));
    };
    let what = found.slot.as_ref().map_or_else(|| last.export_arn.clone(), |slot| format!("the export of {slot}"));
    Some(match last.state.as_str() {
        // What failed before has not succeeded yet.
        IN_PROGRESS => {
            (if failed_before(frame) { "False" } else { "True" }, "Exporting", format!("{what} is under way"))
        }
        COMPLETED => ("True", "ExportCompleted", format!("{what} is complete")),
        _ => {
            let failure = last.failure.as_deref().unwrap_or("no reason is given");
            (
                "False",
                "ExportFailed",
                format!("{what} failed: {failure}; the next one covers what it would have covered"),
            )
        }
    })
}

fn failed_before(frame: &Frame<'_>) -> bool {
    let before = frame.previous.and_then(|p| p.conditions.iter().find(|c| c.type_ == condition::EXPORTS_READY));
    before.is_some_and(|before| before.status == "False")
}
