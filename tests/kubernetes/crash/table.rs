//! The report of a campaign: outcomes by scenario, call and point of the fault.

use std::collections::BTreeMap;

use super::fault::Point;

/// Whether a call can change something.
pub(super) fn writes(call: &str) -> bool {
    const READS: [&str; 5] = ["k8s get ", "k8s list ", "aws Describe", "aws Get", "aws List"];
    !READS.iter().any(|read| call.starts_with(read))
}

/// Outcome of one run.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// The call at which the fault was injected.
    pub call: String,
    /// Index of the call in the undisturbed run.
    pub index: usize,
    /// Where the fault was.
    pub point: Point,
    /// Differences from the undisturbed run; empty if there are none.
    pub wrong: Vec<String>,
}

/// Successful runs and all runs, by point.
type Row = BTreeMap<Point, (usize, usize)>;

/// Prints, for every call of every scenario, the successful runs out of all runs at each point.
pub(super) fn print(outcomes: &[Outcome]) {
    let mut rows: BTreeMap<(&str, &str), Row> = BTreeMap::new();
    for outcome in outcomes {
        let row = rows.entry((outcome.scenario, &outcome.call)).or_default();
        let (good, all) = row.entry(outcome.point).or_default();
        *good += usize::from(outcome.wrong.is_empty());
        *all += 1;
    }
    let cell = |row: &Row, point| row.get(&point).map_or_else(|| "-".to_owned(), |(good, all)| format!("{good}/{all}"));
    let heads = Point::ALL.map(Point::words);
    println!("{:<26} {:<40} {:>24} {:>24} {:>22}", "scenario", "call", heads[0], heads[1], heads[2]);
    for ((scenario, call), row) in &rows {
        let [before, after, lost] = Point::ALL.map(|point| cell(row, point));
        println!("{scenario:<26} {call:<40} {before:>24} {after:>24} {lost:>22}");
    }
    let good = outcomes.iter().filter(|outcome| outcome.wrong.is_empty()).count();
    println!("{good} of {} runs reached the state of the undisturbed run", outcomes.len());
}
