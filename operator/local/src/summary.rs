//! The summary of a run, for `--summary FILE`.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::traffic::Counts;

/// What a run was like. Times are seconds from the start of the command.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// `namespace/name`.
    pub system: String,
    /// Whether the run did what it was asked for: ready, and the simulation, if any, without fault.
    pub success: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When things were there.
    pub seconds: Milestones,
    /// CloudFormation's word for the stack's state.
    pub stack_status: Option<String>,
    /// Times the runtime was started again after it had died.
    pub runtime_restarts: u32,
    /// The workers' own counters, summed over restarts.
    pub traffic: Counts,
    /// The simulator's summary, as it wrote it.
    pub simulation: Option<Value>,
}

/// When things were there, s from the start of the command; absent where the run did not come so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Milestones {
    /// AWS endpoint and Redis answer, and the first call for the stack is about to be made.
    pub provisioning: Option<f64>,
    /// The stack is complete.
    pub stack_complete: Option<f64>,
    /// The workers answered that they are ready.
    pub workers_ready: Option<f64>,
    /// The end.
    pub ended: Option<f64>,
}

/// Seconds with milliseconds.
pub fn seconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The simulator's summary file, where it wrote one.
pub fn read_simulation(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_happened_and_when() {
        let summary = Summary {
            system: "default/seoul".to_owned(),
            success: true,
            seconds: Milestones {
                provisioning: Some(seconds(Duration::from_micros(812_345))),
                stack_complete: Some(3.5),
                workers_ready: Some(4.0),
                ended: None,
            },
            stack_status: Some("CREATE_COMPLETE".to_owned()),
            simulation: Some(serde_json::json!({ "verdict": "clean" })),
            ..Summary::default()
        };
        insta::assert_json_snapshot!(summary);
    }

    #[test]
    fn a_summary_that_was_never_written_is_absent() {
        assert_eq!(read_simulation(Path::new("/no/such/file")), None);
    }
}
