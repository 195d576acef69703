//! Rare branches that a campaign must have reached: a campaign that never reached a branch has not tested it.

use std::collections::BTreeMap;

/// Counters that must be above zero in the sum over all processes of a campaign, by the beginning of their lines.
const WANTED: [&str; 23] = [
    "dispatch_offers_total",
    "dispatch_completed_total",
    "dispatch_stream_records_total{outcome=\"advanced\"}",
    "dispatch_stream_records_total{outcome=\"skipped\"}",
    "dispatch_stream_lease_changes_total{change=\"created\"}",
    "dispatch_stream_lease_changes_total{change=\"taken\"}",
    "dispatch_stream_lease_changes_total{change=\"finished\"}",
    "dispatch_stream_lease_changes_total{change=\"handed_over\"}",
    "dispatch_stream_lease_changes_total{change=\"lost\"}",
    "dispatch_queue_messages_total{queue=\"offers\",outcome=\"handled\"}",
    "dispatch_queue_messages_total{queue=\"responses\",outcome=\"left\"}",
    "dispatch_port_errors_total",
    "dispatch_fleet_searches_total{source=\"index\"}",
    "dispatch_fleet_searches_total{source=\"redis\"}",
    "dispatch_fleet_index_rebuilds_total",
    "dispatch_http_request_duration_seconds_count{method=\"POST\",route=\"/v1/dispatches\",status=\"503\"}",
    "dispatch_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/users/{userId}\",status=\"429\"}",
    "dispatch_store_retries_total{because=\"conflict\"}",
    "dispatch_store_retries_total{because=\"throttled\"}",
    "dispatch_store_retries_total{because=\"in_doubt\"}",
    "dispatch_store_lost_answers_total",
    "dispatch_stream_gaps_total",
    "dispatch_stream_stale_writes_total",
];

/// Sums of the counters in the files that the processes wrote.
fn sums(folder: &str) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some(wanted) = WANTED.into_iter().find(|wanted| line.starts_with(wanted)) else { continue };
            let value = line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
            *sums.entry(wanted).or_default() += value.unwrap_or_default();
        }
    }
    sums
}

#[test]
fn every_rare_branch_of_a_campaign_was_reached() {
    // A metric appears only after its first event, so a misspelled name would look like a branch that was not reached.
    let names = include_str!("../../runtime/src/telemetry/metrics/names.rs");
    for wanted in WANTED {
        let name = wanted.split('{').next().unwrap_or(wanted);
        let name = name.trim_end_matches("_total").trim_end_matches("_seconds_count");
        assert!(names.contains(&format!("\"{name}\";")), "{name} is not a metric");
    }
    let Ok(folder) = std::env::var("DISPATCH_COUNTERS") else { return };
    let sums = sums(&folder);
    for wanted in WANTED {
        println!("{:>8}  {wanted}", sums.get(wanted).copied().unwrap_or_default());
    }
    let never: Vec<&str> = WANTED.into_iter().filter(|wanted| sums.get(wanted).is_none_or(|sum| *sum == 0)).collect();
    assert_eq!(never, [""; 0], "never reached");
}
