//! The summary of a run, for `--summary FILE`.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::metrics_scrape::TrafficCounts;
use crate::state_dir::write_atomically;

/// Result of a run. Times are seconds since the start of the command.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    /// `namespace/name`.
    pub(crate) system: String,
    /// Whether the system became ready and the simulation, if any, found no violation.
    pub(crate) success: bool,
    /// The error, if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    pub(crate) seconds: Milestones,
    /// The stack's status in CloudFormation.
    pub(crate) stack_status: Option<String>,
    /// Restarts of the runtime after a crash.
    pub(crate) runtime_restarts: u32,
    /// Counters of the workers, summed over restarts.
    pub(crate) traffic: TrafficCounts,
    /// The simulator's summary, unchanged.
    pub(crate) simulation: Option<Value>,
}

impl Summary {
    /// Writes the summary as JSON, into a new folder if need be.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        write_atomically(path, &json)
    }
}

/// Times of the run, in seconds since the start of the command; absent if the run did not get that far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Milestones {
    /// AWS endpoint and Redis answer; the first call for the stack comes next.
    pub(crate) provisioning: Option<f64>,
    /// The stack is complete.
    pub(crate) stack_complete: Option<f64>,
    /// The workers reported ready.
    pub(crate) workers_ready: Option<f64>,
    /// All processes have ended.
    pub(crate) ended: Option<f64>,
}

/// Seconds, rounded to milliseconds.
pub(crate) fn seconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The simulator's summary file, if it wrote one.
pub(crate) fn read_simulation(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_shows_what_happened_and_when() {
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
    fn a_missing_summary_is_absent() {
        assert_eq!(read_simulation(Path::new("/no/such/file")), None);
    }
}
