//! Decides what a run inspects besides what every run needs. Pure.

use dispatch_api::conditions::{ConditionType, Reason};
use dispatch_api::dispatch_system::DispatchSystemStatus;
use dispatch_api::validate::ValidatedSystem;
use jiff::Timestamp;

use crate::engine::plan::Input;
use crate::engine::plan::existence::Coverage;
use crate::engine::settings::{DriftDetection, ExistenceCheck, Settings};
use crate::engine::status;

/// What is inspected besides the settings that every run needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Whether settings are compared with the spec.
    pub drift: DriftDetection,
    /// Which resources are checked for their existence; `None` for no check.
    pub existence: Option<Coverage>,
}

impl Inspection {
    /// For a run at this time. Once drift or a missing resource was found, every run checks everything until that is
    /// resolved.
    pub fn new(system: &ValidatedSystem, settings: &Settings, now: Timestamp) -> Self {
        let wrong = |status: &DispatchSystemStatus| {
            status::is_true(status, ConditionType::Drifted) || status::stalled_for(status, Reason::ResourceGone)
        };
        if settings.previous.as_ref().is_some_and(wrong) {
            return Self { drift: DriftDetection::Look, existence: Some(Coverage::All) };
        }
        let coverage = match settings.existence {
            ExistenceCheck::All => Coverage::All,
            ExistenceCheck::Rotation => Coverage::Rotation { now, interval_s: system.spec.drift_interval_seconds },
        };
        // The first run that finds the stack usable does not wait for the interval.
        let waited = |status: &DispatchSystemStatus| {
            let mut drifted = status.conditions.iter().filter(|condition| condition.type_ == ConditionType::Drifted);
            drifted.any(|condition| {
                [Reason::StackNotReady, Reason::NotChecked].iter().any(|reason| condition.reason == *reason)
            })
        };
        let is_first = system.spec.drift_interval_seconds > 0 && settings.previous.as_ref().is_some_and(waited);
        let drift = if is_first { DriftDetection::Look } else { settings.drift };
        Self { drift, existence: (drift == DriftDetection::Look).then_some(coverage) }
    }

    /// For a stack that may not have the input. Differences that are only not applied yet are not drift.
    #[must_use]
    pub fn before(self, input: Input) -> Self {
        match input {
            Input::Applied => self,
            Input::Different => Self { drift: DriftDetection::Skip, ..self },
        }
    }
}
