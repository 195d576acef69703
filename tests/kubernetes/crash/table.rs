//! The table of a campaign: scenario and call, by the point of the fault, with the outcome.

use std::collections::BTreeMap;

use super::fault::Point;

/// AWS's name of a call on the account in memory.
pub fn operation(call: &str) -> &str {
    match call {
        "describe" => "DescribeStacks",
        "create_change_set" => "CreateChangeSet",
        "change_set" => "DescribeChangeSet",
        "change_sets" => "ListChangeSets",
        "execute" => "ExecuteChangeSet",
        "discard" => "DeleteChangeSet",
        "delete" => "DeleteStack",
        "events_since" => "DescribeStackEvents",
        "resources" => "ListStackResources",
        "table" => "DescribeTable",
        "table_tags" => "ListTagsOfResource",
        "tag_table" => "TagResource",
        "expiry" => "DescribeTimeToLive",
        "correct_table" => "UpdateTable",
        "recovery" => "DescribeContinuousBackups",
        "enable_recovery" => "UpdateContinuousBackups",
        "push_exists" => "GetPlatformApplicationAttributes",
        "create_push" => "CreatePlatformApplication",
        "update_push" => "SetPlatformApplicationAttributes",
        "delete_push" => "DeletePlatformApplication",
        "cache" => "DescribeReplicationGroups",
        "queue" | "queue_depth" => "GetQueueAttributes",
        "correct_queue" => "SetQueueAttributes",
        "bucket_tags" => "GetBucketTagging",
        "tag_bucket" => "PutBucketTagging",
        "remove_versions" => "DeleteObjects",
        "account" => "GetCallerIdentity",
        other => other,
    }
}

/// Whether a call can change something.
pub fn writes(call: &str) -> bool {
    const READS: [&str; 5] = ["k8s get ", "k8s list ", "aws Describe", "aws Get", "aws List"];
    !READS.iter().any(|read| call.starts_with(read))
}

/// One run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Scenario.
    pub scenario: &'static str,
    /// The call.
    pub call: String,
    /// Place of the call in the undisturbed run.
    pub index: usize,
    /// Where the fault was.
    pub point: Point,
    /// What was wrong; empty when the run ended as the undisturbed one.
    pub wrong: Vec<String>,
}

/// Runs that ended as the undisturbed one, and all runs, at each point.
type Row = BTreeMap<Point, (usize, usize)>;

/// Prints every kind of call of every scenario, with runs that ended as the undisturbed one out of all runs at each point.
pub fn print(outcomes: &[Outcome]) {
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
    println!("{good} of {} runs ended as the undisturbed run did", outcomes.len());
}
