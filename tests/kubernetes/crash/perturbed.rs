//! An operator that is not killed but misled: it reads a stale object, it misses that an object was deleted and created
//! again, or another operator works on the same object at the same time.

use anyhow::Context as _;
use dispatch_api::conditions::Reason;
use dispatch_operator::kubernetes::controller::attend;
use dispatch_tests::apiserver::ApiServer;
use serde_json::json;

use super::bench::{Bench, Ended, Run};
use super::disturbance::Disturbance;
use super::fault::{Past, Wire};
use super::once;
use super::oracle::Left;
use super::scenario::Scenario;

/// Scenarios that begin with an existing system, so that there is a stale state to read.
const STALE: [Scenario; 5] =
    [Scenario::Update, Scenario::Rotate, Scenario::Drift, Scenario::DeleteRetain, Scenario::DeleteAll];
/// Pairs of concurrent operators per scenario. Their calls interleave differently each time.
const PAIRS: usize = 3;

#[tokio::test]
async fn a_misled_operator_reaches_the_state_of_an_undisturbed_one() -> anyhow::Result<()> {
    let Some(server) = ApiServer::start().await? else { return Ok(()) };
    server.install_crd()?;
    let bench = Bench::open(&server.kubeconfig(), "misled".to_owned()).await?;
    let mut wrong = Vec::new();
    for scenario in Scenario::ALL.into_iter().filter(|scenario| *scenario != Scenario::CutShort) {
        let (undisturbed, _) = once(&bench, scenario, None).await.context(scenario.name())?;
        let undisturbed = undisturbed.map_err(|wrong| anyhow::anyhow!("{}: {wrong:?}", scenario.name()))?;
        let mut runs = Vec::new();
        if STALE.contains(&scenario) {
            runs.push(("a stale read", Disturbance::Hindered, stale(&bench, scenario).await?));
        }
        for _ in 0..PAIRS {
            runs.push(("two operators", Disturbance::Crowded, Box::pin(pair(&bench, scenario)).await?));
        }
        for (how, by, left) in runs {
            let differs = left.differences(&undisturbed, scenario, by);
            println!("{:<20} {how:<22} {}", scenario.name(), if differs.is_empty() { "the same" } else { "DIFFERS" });
            wrong.extend(differs.into_iter().map(|text| format!("{}, {how}: {text}", scenario.name())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    a_recreated_object_does_not_take_over_the_stack_of_the_deleted_one(&bench).await
}

/// The first reads of the object and the Secret return the state before the change, as one of several API servers may.
async fn stale(bench: &Bench, scenario: Scenario) -> anyhow::Result<Left> {
    let (run, past) = begun(bench, scenario).await?;
    bench.operate_on(Wire::stale(past, run.tally.clone()), &run).await?;
    // The watch event arrives after the stale read.
    at_rest(bench, scenario, &run).await
}

/// Two operators that do not know of each other, as when both believe they hold the lease.
async fn pair(bench: &Bench, scenario: Scenario) -> anyhow::Result<Left> {
    let (run, _) = begun(bench, scenario).await?;
    let (one, other) = futures::join!(bench.operate(&run, None), bench.operate(&run, None));
    one?;
    other?;
    at_rest(bench, scenario, &run).await
}

/// Begins a run, and returns the API server's responses from before the change.
async fn begun(bench: &Bench, scenario: Scenario) -> anyhow::Result<(Run, Past)> {
    bench.clear().await?;
    let run = Run::default();
    scenario.prepare(bench, &run).await?;
    let past = bench.answers().await?;
    scenario.begin(bench, &run).await?;
    Ok((run, past))
}

async fn at_rest(bench: &Bench, scenario: Scenario, run: &Run) -> anyhow::Result<Left> {
    let (ended, _) = bench.operate(run, None).await?;
    anyhow::ensure!(ended == Ended::AtRest, "the operator was killed without a fault");
    if scenario == Scenario::Drift {
        bench.idle(run).await;
    }
    let left = Left::of(bench, run).await?;
    let writes = bench.idle(run).await;
    anyhow::ensure!(writes.is_empty(), "{}: at rest it still writes {writes:?}", scenario.name());
    Ok(left)
}

/// A deletion and a creation between two reconciles: the stack belongs to the old object until the new one is allowed
/// to adopt it.
async fn a_recreated_object_does_not_take_over_the_stack_of_the_deleted_one(bench: &Bench) -> anyhow::Result<()> {
    bench.clear().await?;
    let run = Run::default();
    Scenario::Update.prepare(bench, &run).await?;
    let wire = Wire::new(None, run.tally.clone());
    wire.carry(&run.world);
    let operator = bench.operator(&run, &wire);
    attend(&operator, &bench.key()).await;
    let spec = bench.system().await?.context("the system")?.data["spec"].clone();
    bench.lose_system().await?;
    bench.create_system(&spec, &json!({})).await?;
    run.world.take_calls();
    attend(&operator, &bench.key()).await;
    let changed = run.world.take_calls().1;
    anyhow::ensure!(changed.is_empty(), "it changed AWS: {changed:?}");
    let status = bench.system().await?.context("the system")?.data["status"].clone();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let stalled = conditions.iter().find(|condition| condition["type"] == "Stalled").context("Stalled")?;
    anyhow::ensure!(stalled["reason"] == Reason::OwnedByAnother.as_str() && stalled["status"] == "True", "{stalled}");
    Ok(())
}
