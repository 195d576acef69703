//! What scheduled exports add to a status: a condition of their own, and how far they are. They say nothing of whether a system serves,
//! so the phase is not touched. Pure.

use dispatch_api::conditions::{ConditionStatus, ConditionType, Reason};
use dispatch_api::dispatch_system::{DispatchSystemStatus, ExportScheduleStatus, ExportStatus};

use crate::engine::plan::exports::{COMPLETED, IN_PROGRESS};
use crate::engine::status::Frame;
use crate::engine::status::cluster::put;

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
            put(&mut status, frame.write((ConditionType::ExportsReady, on, reason, message)));
        }
        None => status.conditions.retain(|c| c.type_ != ConditionType::ExportsReady),
    }
    (status.last_export, status.export_schedule) = (found.last, found.progress);
    status
}

fn told(found: &ExportsFinding, frame: &Frame<'_>) -> Option<(ConditionStatus, Reason, String)> {
    match &found.state {
        ExportsState::Off => return None,
        ExportsState::Suspended => {
            let message = "spec.suspend is true: no export is started; the last one missed is made up for afterwards";
            return Some((ConditionStatus::Unknown, Reason::Suspended, message.to_owned()));
        }
        ExportsState::Unmanaged => {
            let message = "spec.managementPolicy is Observe: no export is started";
            return Some((ConditionStatus::Unknown, Reason::ObserveOnly, message.to_owned()));
        }
        ExportsState::NotStarted(why) => return Some((ConditionStatus::False, Reason::ExportNotStarted, why.clone())),
        ExportsState::Scheduled => {}
    }
    let Some(last) = &found.last else {
        return Some((
            ConditionStatus::True,
            Reason::Scheduled,
            "the first export comes with the next time of the schedule".to_owned(),
        ));
    };
    let what = found.slot.as_ref().map_or_else(|| last.export_arn.clone(), |slot| format!("the export of {slot}"));
    Some(match last.state.as_str() {
        // What failed before has not succeeded yet.
        IN_PROGRESS => {
            (ConditionStatus::from(!failed_before(frame)), Reason::Exporting, format!("{what} is under way"))
        }
        COMPLETED => (ConditionStatus::True, Reason::ExportCompleted, format!("{what} is complete")),
        _ => {
            let failure = last.failure.as_deref().unwrap_or("no reason is given");
            (
                ConditionStatus::False,
                Reason::ExportFailed,
                format!("{what} failed: {failure}; the next one covers what it would have covered"),
            )
        }
    })
}

fn failed_before(frame: &Frame<'_>) -> bool {
    let before = frame.previous.and_then(|p| p.conditions.iter().find(|c| c.type_ == ConditionType::ExportsReady));
    before.is_some_and(|before| before.status == ConditionStatus::False)
}
