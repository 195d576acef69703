//! Kills the operator at every call it makes, before the call takes effect and after it with the response lost, and
//! starts a new one. The new operator must reach the state of an undisturbed one, with the same number of creations and
//! deletions, and then write nothing more.

mod bench;
mod disturbance;
mod fault;
mod objects;
mod operations;
mod oracle;
mod perturbed;
mod scenario;
mod table;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use dispatch_tests::apiserver::ApiServer;
use kube::api::DynamicObject;

use bench::{Bench, Ended, Run};
use fault::Point;
use oracle::Left;
use scenario::Scenario;
use table::Outcome;

/// Namespaces used in parallel. The API server is the bottleneck; three keep two cores busy.
const LANES: usize = 3;
/// Every how many-th fault of a scenario is tried, unless the campaign is full. A writing call has three points, so
/// that a step of four reaches each of them.
const SAMPLE: usize = 4;
/// Operators started in one run. Only the first one gets a fault.
const OPERATORS_MAX: usize = 3;

#[tokio::test]
async fn an_operator_killed_at_any_call_reaches_the_state_of_an_undisturbed_one() -> anyhow::Result<()> {
    let Some(server) = ApiServer::start().await? else { return Ok(()) };
    server.install_crd()?;
    let begun = Instant::now();
    let outcomes = campaign(&server.kubeconfig(), &Scenario::ALL)?;
    table::print(&outcomes);
    println!("{} runs in {:?}", outcomes.len(), begun.elapsed());
    let wrong = outcomes.iter().filter(|outcome| !outcome.wrong.is_empty());
    let wrong: Vec<String> = wrong
        .map(|run| {
            format!("{}, call {} ({}), {}: {:#?}", run.scenario, run.index, run.call, run.point.words(), run.wrong)
        })
        .collect();
    assert!(wrong.is_empty(), "{} runs ended in a different state:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Every lane is a single thread, so nothing runs concurrently in it and the call at which an operator is killed is
/// deterministic.
fn campaign(kubeconfig: &Path, scenarios: &'static [Scenario]) -> anyhow::Result<Vec<Outcome>> {
    let lane = |index: usize| {
        let kubeconfig = PathBuf::from(kubeconfig);
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work(&kubeconfig, index, scenarios))
        }
    };
    let lanes: Vec<_> = (0..LANES).map(|index| std::thread::spawn(lane(index))).collect();
    let mut outcomes = Vec::new();
    for lane in lanes {
        let done: anyhow::Result<Vec<Outcome>> = lane.join().map_err(|_| anyhow::anyhow!("a lane panicked"))?;
        outcomes.extend(done?);
    }
    Ok(outcomes)
}

/// Runs a lane's share of all faults, each compared with an undisturbed run in the same namespace.
async fn work(kubeconfig: &Path, lane: usize, scenarios: &[Scenario]) -> anyhow::Result<Vec<Outcome>> {
    let bench = Bench::open(kubeconfig, format!("lane{lane}")).await?;
    let mut outcomes = Vec::new();
    for scenario in scenarios.iter().copied() {
        let begun = Instant::now();
        let (undisturbed, calls) = once(&bench, scenario, None).await.context(scenario.name())?;
        let undisturbed =
            undisturbed.map_err(|wrong| anyhow::anyhow!("{}, undisturbed: {wrong:#?}", scenario.name()))?;
        let faults =
            calls.iter().enumerate().flat_map(|(at, call)| points(scenario, call).into_iter().map(move |p| (at, p)));
        for (at, point) in faults.step_by(if full() { 1 } else { SAMPLE }).skip(lane).step_by(LANES) {
            let call = calls.get(at).cloned().unwrap_or_default();
            let wrong = match once(&bench, scenario, Some((at, point))).await {
                Err(error) => vec![format!("{error:#}")],
                Ok((Err(wrong), _)) => wrong,
                Ok((Ok(left), _)) if scenario == Scenario::CutShort => left.remains(),
                Ok((Ok(left), _)) => left.differences(&undisturbed, scenario, point.disturbance()),
            };
            outcomes.push(Outcome { scenario: scenario.name(), call, index: at, point, wrong });
        }
        let (name, took, calls) = (scenario.name(), begun.elapsed(), calls.len());
        println!("lane {lane}: {name}: {calls} calls, {} runs so far, {took:.1?}", outcomes.len());
    }
    Ok(outcomes)
}

/// Whether to strike every call at every point: `DISPATCH_CAMPAIGN=full`.
fn full() -> bool {
    std::env::var_os("DISPATCH_CAMPAIGN").is_some_and(|value| value == "full")
}

/// The points at which a call is struck. A read has no effect: the state after it is the state before the next call, at
/// which the operator is killed anyway. In a full campaign, reads are struck at every point as well.
fn points(scenario: Scenario, call: &str) -> Vec<Point> {
    let mut points = if full() || table::writes(call) { Point::ALL.to_vec() } else { vec![Point::KilledBefore] };
    if scenario == Scenario::CutShort {
        // In this scenario the object is deleted while the operator is dead.
        points.retain(|point| *point != Point::AnswerLost);
    }
    points
}

/// What one run left, or what was wrong at its end, and the calls of its first operator.
type Done = (Result<Left, Vec<String>>, Vec<String>);

/// One run, starting with an empty namespace and account.
async fn once(bench: &Bench, scenario: Scenario, strike: Option<(usize, Point)>) -> anyhow::Result<Done> {
    bench.clear().await?;
    let run = Run::default();
    scenario.prepare(bench, &run).await?;
    scenario.begin(bench, &run).await?;
    let (mut ended, calls) = bench.operate(&run, strike).await?;
    if strike.is_some_and(|(_, point)| point != Point::AnswerLost) && ended != Ended::Killed {
        return Ok((Err(vec!["it was not killed".to_owned()]), calls));
    }
    if scenario == Scenario::CutShort {
        bench.delete_system().await?;
        ended = Ended::Killed;
    }
    for _ in 1..OPERATORS_MAX {
        if ended == Ended::AtRest {
            break;
        }
        (ended, _) = bench.operate(&run, None).await?;
    }
    if scenario == Scenario::Drift {
        // A corrected drift stays in the status until the next drift detection.
        bench.idle(&run).await;
    }
    let left = Left::of(bench, &run).await?;
    let before = bench.system().await?;
    let writes = bench.idle(&run).await;
    if !writes.is_empty() {
        let status = |system: Option<DynamicObject>| system.map(|system| system.data["status"].to_string());
        let (before, after) = (status(before), status(bench.system().await?));
        return Ok((Err(vec![format!("at rest it still writes: {writes:?}: {before:?} -> {after:?}")]), calls));
    }
    Ok((Ok(left), calls))
}
