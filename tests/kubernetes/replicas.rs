//! Two replicas: only one writes, whatever happens to the other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dispatch_api::dispatch_system::DispatchSystem;
use dispatch_tests::recorder::Recorded;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::stage::{HOME, Replica, SOON, Stage, city};

const ARGS: [&str; 3] = ["--leader-elect", "--leader-elect-namespace=coactus-system", "--resync-seconds=2"];
/// Time limit of a hand-over from a replica that is asked to stop.
const ORDERLY: Duration = Duration::from_secs(5);
/// Time limit of a hand-over from a replica that is killed: the lease duration plus one poll of the waiting replica,
/// with jitter and call.
const SUDDEN: Duration = Duration::from_secs(15 + 3);
/// Time between two edits; each makes the leader write to Kubernetes and to AWS.
const EDIT_EVERY: Duration = Duration::from_millis(400);

/// Keeps editing a system, so that there is always something to write.
fn keep_editing(stage: &Stage, namespace: &'static str) -> JoinHandle<()> {
    let resource = ApiResource::erase::<DispatchSystem>(&());
    let systems: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), namespace, &resource);
    tokio::spawn(async move {
        for edit in 0.. {
            let patch = json!({ "spec": { "aws": { "tags": { "edit": format!("{edit}") } } } });
            // A failed edit is followed by the next one.
            let _ = systems.patch("seoul", &PatchParams::default(), &Patch::Merge(&patch)).await;
            tokio::time::sleep(EDIT_EVERY).await;
        }
    })
}

/// Waits until a replica holds the lease, and returns how long that took.
async fn until_leads(stage: &Stage, name: &str) -> anyhow::Result<Duration> {
    let leases: Api<Lease> = Api::namespaced(stage.client.clone(), HOME);
    let begun = Instant::now();
    loop {
        let lease = leases.get_opt("dispatch-operator").await?;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default();
        if holder.starts_with(&format!("{name}-")) {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < SOON, "{name} did not lead within {SOON:?}; {holder} holds the lease");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All writes of a replica except those to the lease, which both replicas may write.
fn writes(replica: &Replica) -> Vec<Recorded> {
    let mut all = replica.kubernetes.writes();
    all.retain(|call| call.service != "leases");
    all.extend(replica.aws.writes());
    all
}

/// Waits until a replica has written something after `after`.
async fn until_writes(replica: &Replica, after: Instant) -> anyhow::Result<()> {
    replica.aws.until(SOON, |calls| calls.iter().any(|call| call.writes() && call.begun > after)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_writes_and_the_other_takes_over_in_time() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    let mut a = stage.replica("replica-a", &ARGS).await?;
    until_leads(&stage, "replica-a").await?;
    let mut b = stage.replica("replica-b", &ARGS).await?;
    stage.namespace("relay")?;
    stage.apply("relay", &city("seoul", &json!({})))?;
    stage.until_ready(("relay", "seoul")).await?;
    let editing = keep_editing(&stage, "relay");
    until_writes(&a, Instant::now()).await?;

    a.process.terminate()?;
    let orderly = until_leads(&stage, "replica-b").await?;
    ensure!(a.process.ended(SOON).await?.success(), "a replica that is asked to stop must exit successfully");
    until_writes(&b, Instant::now()).await?;
    a.start_again().await?;

    b.process.kill()?;
    let sudden = until_leads(&stage, "replica-a").await?;
    until_writes(&a, Instant::now()).await?;
    b.start_again().await?;

    a.process.freeze()?;
    let frozen = until_leads(&stage, "replica-b").await?;
    until_writes(&b, Instant::now()).await?;
    a.process.thaw()?;
    // It notices that it is no longer the leader.
    ensure!(!a.process.ended(SOON).await?.success(), "a replica that lost its lease must exit with an error");
    until_writes(&b, Instant::now()).await?;
    editing.abort();

    println!("hand-over after SIGTERM: {:.2} s (at most {} s)", orderly.as_secs_f64(), ORDERLY.as_secs());
    println!("hand-over after kill -9: {:.2} s (at most {} s)", sudden.as_secs_f64(), SUDDEN.as_secs());
    println!("hand-over from a frozen leader: {:.2} s (at most {} s)", frozen.as_secs_f64(), SUDDEN.as_secs());
    ensure!(orderly <= ORDERLY && sudden <= SUDDEN && frozen <= SUDDEN, "{orderly:?} {sudden:?} {frozen:?}");
    never_two_writers(&writes(&a), &writes(&b))?;
    a.was_never_denied()?;
    b.was_never_denied()
}

/// The two replicas write in four alternating periods, and no write begins while one of the other replica is in
/// progress.
fn never_two_writers(a: &[Recorded], b: &[Recorded]) -> anyhow::Result<()> {
    for one in a {
        for other in b {
            let until = |call: &Recorded| call.ended.unwrap_or(call.begun);
            ensure!(one.begun > until(other) || other.begun > until(one), "two writers: {one} and {other}");
        }
    }
    let mut turns: Vec<(Instant, char)> = a.iter().map(|call| (call.begun, 'a')).collect();
    turns.extend(b.iter().map(|call| (call.begun, 'b')));
    turns.sort_unstable();
    let mut turns: Vec<char> = turns.into_iter().map(|(_, who)| who).collect();
    turns.dedup();
    println!("{} writes of replica-a, {} of replica-b, turns: {turns:?}", a.len(), b.len());
    turns.first().context("no replica wrote")?;
    ensure!(turns == ['a', 'b', 'a', 'b'], "a replica wrote without leading: {turns:?}");
    Ok(())
}
