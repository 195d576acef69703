//! Dispatches end to end, on real processes: CPU time of the runtime, AWS calls, and the time until a driver receives
//! the offer.
//!
//! `dispatch-local run` starts the city, as in `make run`, with an emulated AWS behind a recorder that counts calls.
//! The drivers of the first part only answer offers; those of the second are the simulator's.

mod city;
mod load;
mod profile;

use std::collections::BTreeMap;

use dispatch_tests::recorder::Recorded;

use crate::Size;
use crate::report::{Goal, Section, Table};
use crate::stats::{number, percent, quantile};
use city::{City, Traffic};
use load::{Load, Outcome};

/// Goals for the CPU time of a dispatch and for the time from the request to the first push.
const CPU_MS: f64 = 2.0;
const PUSH_P50_MS: f64 = 50.0;
const PUSH_P99_MS: f64 = 150.0;
/// Goal for the AWS calls of a dispatch accepted by its first driver, with its share of shared calls.
const CALLS: f64 = 8.0;

/// The size of a run.
struct Amount {
    dispatches: usize,
    per_second: f64,
    traffic: Traffic,
}

fn amount(size: Size) -> Amount {
    match size {
        Size::Quick | Size::Trial => {
            Amount { dispatches: 20, per_second: 5.0, traffic: Traffic { drivers: 40, per_second: 1.0, seconds: 5 } }
        }
        Size::Full => Amount {
            dispatches: 600,
            per_second: 15.0,
            traffic: Traffic { drivers: 300, per_second: 3.0, seconds: 60 },
        },
    }
}

/// Measures both parts. A quick run only checks that both work.
pub(crate) async fn measure(size: Size) -> anyhow::Result<Section> {
    let Amount { dispatches, per_second, traffic } = amount(size);
    let mut section = Section { title: "A dispatch, end to end", ..Section::default() };
    section.text.push(format!(
        "`dispatch-local run` starts Seoul: one runtime process with all roles, `redis-server`, and an emulated AWS \
         behind a recorder that counts calls. All of it, and the load, share the machine. {dispatches} users request \
         rides at {per_second} a second, and each first driver accepts after 0.2 s. Before that, forty dispatches run \
         one after another to measure the time to the push. CPU time is the user and system time of the runtime, from \
         the first request until the last timer has expired."
    ));
    let city = City::start(None).await?;
    let outcome = load::run(&city, &Load { dispatches, per_second, profiled: size == Size::Full }).await?;
    city.stop().await?;
    anyhow::ensure!(outcome.accepted == dispatches, "{} of {dispatches} were accepted", outcome.accepted);
    dispatch_part(&mut section, outcome, size);
    let summary = City::start(Some(traffic)).await?.traffic().await?;
    traffic_part(&mut section, &summary)?;
    Ok(section)
}

/// Number of calls by name, without those of leases, which no dispatch causes.
fn calls_by_name(calls: &[Recorded]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls.iter().filter(|call| !call.resource.ends_with("-leases")) {
        *counts.entry(format!("{} {}", call.service, call.operation)).or_default() += 1;
    }
    counts
}

fn dispatch_part(section: &mut Section, mut outcome: Outcome, size: Size) {
    let dispatches = outcome.accepted as f64;
    let mut costs = Table::new("CPU time of the runtime", &["What", "ms"]);
    let own_ms = (outcome.cpu_ms - outcome.idle_ms_a_second * outcome.seconds) / dispatches;
    costs.row(["a dispatch, all included".to_owned(), number(outcome.cpu_ms / dispatches)]);
    costs.row(["a dispatch, without the idle load".to_owned(), number(own_ms)]);
    costs.row(["a second of idle load: pings, polls, leases".to_owned(), number(outcome.idle_ms_a_second)]);
    section.tables.push(costs);

    let (p50, p99) = (quantile(&mut outcome.push_ms, 0.5), quantile(&mut outcome.push_ms, 0.99));
    let mut times = Table::new("Time from the request to the push of its first offer, ms", &["What", "p50", "p99"]);
    times.row([
        "from sending the request to the call of SNS publish, one dispatch at a time".to_owned(),
        number(p50),
        number(p99),
    ]);
    section.tables.push(times);

    let counts = calls_by_name(&outcome.calls);
    let mut table = Table::new("AWS calls of an accepted dispatch", &["Call", "Per dispatch"]);
    let mut sum = 0.0;
    for (name, count) in &counts {
        let each = *count as f64 / dispatches;
        sum += each;
        table.row([name.clone(), number(each)]);
    }
    table.row(["total".to_owned(), number(sum)]);
    section.tables.push(table);
    let polls: usize =
        ["GetRecords", "DescribeStream", "ReceiveMessage", "Query"].iter().map(|poll| ending(&counts, poll)).sum();
    let caused = sum - polls as f64 / dispatches;
    section.text.push(format!(
        "Polls (of the stream and the queues, and the sweeper's query) are made with or without dispatches, so their \
         share falls with traffic. Without them a dispatch makes {} calls.",
        number(caused)
    ));
    if !outcome.profile.is_empty() {
        let mut shares = Table::new("CPU time of the runtime by part (perf, samples)", &["Part", "Share"]);
        for (part, share) in &outcome.profile {
            shares.row([part.clone(), percent(*share)]);
        }
        section.tables.push(shares);
    }
    if size == Size::Full {
        section.goals.push(Goal::at_most("CPU time of the runtime per accepted dispatch", CPU_MS, own_ms, "ms"));
        section.goals.push(Goal::at_most("Request to first push, p50", PUSH_P50_MS, p50, "ms"));
        section.goals.push(Goal::at_most("Request to first push, p99", PUSH_P99_MS, p99, "ms"));
        section.goals.push(Goal::at_most("AWS calls per accepted dispatch, without polls", CALLS, caused, ""));
    }
}

fn ending(counts: &BTreeMap<String, usize>, name: &str) -> usize {
    counts.iter().filter(|(call, _)| call.ends_with(name)).map(|(_, count)| count).sum()
}

/// Reports the simulator's summary of a minute of ordinary traffic.
fn traffic_part(section: &mut Section, summary: &serde_json::Value) -> anyhow::Result<()> {
    let simulation = &summary["simulation"];
    anyhow::ensure!(simulation["clean"] == true, "the simulator's auditor found {}", simulation["violations"]);
    let figure = |path: &str| simulation.pointer(path).and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN);
    let mut table = Table::new("A minute of ordinary traffic, as the apps see it", &["What", "p50", "p99"]);
    for (what, name) in [
        ("first offer on the driver's event stream, ms", "timeToFirstOfferMs"),
        ("match, ms (drivers think, reject or ignore offers)", "timeToMatchMs"),
        ("distance to the pickup, m", "pickupDistanceM"),
    ] {
        table.row([what.to_owned(), number(figure(&format!("/{name}/p50"))), number(figure(&format!("/{name}/p99")))]);
    }
    section.text.push(format!(
        "Then the simulator plays a city: {} drivers, {} requests, {} served, {} offers per match. Its auditor found \
         no violation.",
        number(figure("/drivers")),
        number(figure("/requests")),
        percent(figure("/servedShare")),
        number(figure("/offersPerMatch")),
    ));
    section.tables.push(table);
    Ok(())
}
