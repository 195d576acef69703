//! Many systems on one operator: memory and AWS calls, behaviour after a restart, and whether failing systems delay the
//! others.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dispatch_api::dispatch_system::DispatchSystem;
use dispatch_tests::apiserver::ApiServer;
use dispatch_tests::deployments::{Deployments, client};
use dispatch_tests::fake_aws::{Behaviour, FakeAws, Recorded};
use dispatch_tests::operator::{OperatorProcess, Setup};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tempfile::TempDir;

/// Default number of systems; `DISPATCH_SYSTEMS` sets another one. `make campaign-operator` takes 500.
const SYSTEMS: usize = 150;
/// Namespaces of the systems, like those of teams that run some cities each.
const NAMESPACES: usize = 25;
/// Configured rate of AWS calls, and what may exceed it within a second: the burst and one call of each of eight
/// reconciles.
const CALLS_PER_SECOND: usize = 250;
const ON_TOP: usize = 10 + 8;
/// Limit of concurrent stack operations; lower than the number of concurrent reconciles.
const OPERATIONS: usize = 6;
/// Resync interval, over which the first inspections after a start are spread as well.
const RESYNC: Duration = Duration::from_secs(30);
/// Limit of the operator's peak memory without the pages of its program, which the kernel can drop and of which a
/// development build has several times as many as a release: what the operator's Pod requests.
const MEMORY_MAX_KIB: usize = 64 * 1024;
/// Timeout of what takes two minutes on an idle machine with two cores, most of them spent in the API server.
const WITHIN: Duration = Duration::from_mins(5);
/// Systems of a small group.
const FEW: usize = 20;
/// Systems whose stacks fail.
const FAILING: usize = 50;
/// How much longer a small group may take next to failing systems.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// Number of systems of this run.
fn systems() -> anyhow::Result<usize> {
    std::env::var("DISPATCH_SYSTEMS").map_or(Ok(SYSTEMS), |count| count.parse().context("DISPATCH_SYSTEMS"))
}

struct Fleet {
    api: ApiServer,
    client: Client,
    aws: FakeAws,
    folder: TempDir,
    _deployments: Deployments,
}

impl Fleet {
    async fn start() -> anyhow::Result<Option<Self>> {
        let Some(api) = ApiServer::start().await? else { return Ok(None) };
        api.install_crd()?;
        let aws = FakeAws::start(Behaviour { operation: Duration::from_millis(200), failing: "failing" }).await?;
        let admin = api.kubeconfig();
        let (client, deployments) = (client(&admin).await?, Deployments::start(&admin).await?);
        let namespaces = Api::<Namespace>::all(client.clone());
        for at in 0..NAMESPACES {
            let made = serde_json::from_value(json!({ "metadata": { "name": namespace(at) } }))?;
            namespaces.create(&PostParams::default(), &made).await?;
        }
        Ok(Some(Self { api, client, aws, folder: TempDir::new()?, _deployments: deployments }))
    }

    async fn operator(&self, name: &str) -> anyhow::Result<OperatorProcess> {
        let resync = RESYNC.as_secs().to_string();
        let (calls, operations) = (CALLS_PER_SECOND.to_string(), OPERATIONS.to_string());
        let args =
            ["--resync-seconds", &resync, "--aws-calls-per-second", &calls, "--max-stack-operations", &operations];
        let kubeconfig = self.api.kubeconfig();
        let setup =
            Setup { name, kubeconfig: &kubeconfig, aws: self.aws.url(), folder: self.folder.path(), args: &args };
        OperatorProcess::start(&setup).await
    }

    /// Creates `count` systems.
    async fn create(&self, name: &str, count: usize) -> anyhow::Result<()> {
        let resource = ApiResource::erase::<DispatchSystem>(&());
        let make = |at: usize| {
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace(at), &resource);
            let object = json!({
                "apiVersion": "dispatch.coactus.io/v1alpha1", "kind": "DispatchSystem",
                "metadata": { "name": format!("{name}-{at}") },
                "spec": { "city": format!("{name}-{at}"), "region": "ap-northeast-2", "timezone": "Asia/Seoul" },
            });
            async move {
                api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
                anyhow::Ok(())
            }
        };
        stream::iter((0..count).map(make)).buffer_unordered(8).try_collect::<Vec<_>>().await?;
        Ok(())
    }
}

/// Namespace of a system.
fn namespace(at: usize) -> String {
    format!("team-{}", at % NAMESPACES)
}

/// Waits until `count` systems have a condition, and returns how long that took.
async fn until(operator: &OperatorProcess, condition: &str, count: usize) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let series = format!("dispatch_operator_systems{{condition=\"{condition}\"}}");
    loop {
        let now = operator.metric(&series).await?;
        if (now - count as f64).abs() < 0.5 {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < WITHIN, "{now} of {count} systems are {condition}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until every system was inspected, and returns the calls until then.
async fn until_all_are_inspected(fleet: &Fleet, systems: usize) -> anyhow::Result<Vec<Recorded>> {
    let begun = Instant::now();
    let mut calls = Vec::new();
    loop {
        calls.extend(fleet.aws.take_calls());
        let inspections = calls.iter().filter(|call: &&Recorded| call.operation == "DescribeStacks").count();
        if inspections >= systems {
            return Ok(calls);
        }
        ensure!(begun.elapsed() < WITHIN, "{inspections} inspections");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Number of calls in the busiest second.
fn busiest(calls: &[Recorded]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (at, call) in calls.iter().enumerate() {
        while call.at.duration_since(calls[first].at) >= Duration::from_secs(1) {
            first += 1;
        }
        most = most.max(at + 1 - first);
    }
    most
}

/// Time from the first call to the last.
fn span(calls: &[Recorded]) -> Duration {
    calls.first().zip(calls.last()).map(|(first, last)| last.at.duration_since(first.at)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_systems_stay_within_memory_and_call_rate_also_after_a_restart() -> anyhow::Result<()> {
    let Some(fleet) = Fleet::start().await? else { return Ok(()) };
    let systems = systems()?;
    fleet.create("city", systems).await?;

    let mut operator = fleet.operator("first").await?;
    let settled = until(&operator, "Ready", systems).await?;
    let calls = fleet.aws.take_calls();
    let (peak, now) = (peak_memory(&operator)?, operator.memory("RssAnon")?);
    let reconciles = operator.metric("dispatch_operator_reconciles_total").await?;
    let seconds = operator.metric("dispatch_operator_reconcile_duration_seconds_sum").await?;
    println!(
        "{systems} systems: ready after {:.1} s, {:.1} s of CPU time; {} AWS calls, {} in the busiest second \
         (limit {CALLS_PER_SECOND} plus a burst); at most {} concurrent operations (limit {OPERATIONS}); \
         {reconciles} reconciles of {:.0} ms; memory {} KiB, peak {} KiB",
        settled.as_secs_f64(),
        operator.processor_time()?.as_secs_f64(),
        calls.len(),
        busiest(&calls),
        fleet.aws.most_operations(),
        1000.0 * seconds / reconciles,
        now,
        peak,
    );
    assert!(busiest(&calls) <= CALLS_PER_SECOND + ON_TOP);
    assert!(fleet.aws.most_operations() <= OPERATIONS);
    let made = calls.iter().filter(|call| call.operation == "ExecuteChangeSet").count();
    assert_eq!(made, systems, "every stack is created once");

    operator.terminate()?;
    operator.ended(Duration::from_secs(20)).await?;
    fleet.aws.take_calls();
    let operator = fleet.operator("second").await?;
    until(&operator, "Ready", systems).await?;
    let calls = until_all_are_inspected(&fleet, systems).await?;
    let writes = operator.metric("dispatch_operator_kubernetes_writes_total").await?;
    let early = calls.iter().filter(|call| call.at.duration_since(calls[0].at) < RESYNC / 6).count();
    println!(
        "restart: {} AWS calls over {:.1} s, {early} calls in the first {:?}, {} in the busiest second; \
         {:.0} writes to Kubernetes; peak memory {} KiB",
        calls.len(),
        span(&calls).as_secs_f64(),
        RESYNC / 6,
        busiest(&calls),
        writes.abs(),
        peak_memory(&operator)?,
    );
    assert!(calls.iter().all(|call| !call.changes()));
    assert!(writes < 0.5);
    assert!(early * 3 < calls.len(), "a third of the calls falls into the first sixth of the time");
    assert!(busiest(&calls) <= CALLS_PER_SECOND + ON_TOP);

    let alone = few(&fleet, &operator, "early", systems + FEW).await?;
    fleet.create("failing", FAILING).await?;
    until(&operator, "Stalled", FAILING).await?;
    let beside = few(&fleet, &operator, "late", systems + 2 * FEW).await?;
    println!("{FEW} more systems are ready after {alone:.1?}, and next to {FAILING} failed ones after {beside:.1?}");
    assert!(beside < alone + DELAY_MAX);
    let later = peak_memory(&operator)?;
    assert!(later <= MEMORY_MAX_KIB && peak <= MEMORY_MAX_KIB, "{peak} and {later} KiB");
    Ok(())
}

/// Peak memory in KiB, without the pages of the program.
fn peak_memory(operator: &OperatorProcess) -> anyhow::Result<usize> {
    Ok(operator.memory("VmHWM")?.saturating_sub(operator.memory("RssFile")?))
}

async fn few(fleet: &Fleet, operator: &OperatorProcess, name: &str, ready: usize) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    fleet.create(name, FEW).await?;
    until(operator, "Ready", ready).await.with_context(|| name.to_owned())?;
    Ok(begun.elapsed())
}
