//! A system in sync is inspected and not changed.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::Value;

use crate::stage::{SOON, Stage, file};

/// Number of resyncs that are counted.
const RESYNCS: usize = 10;
/// AWS calls allowed per resync.
const CALLS_MAX: usize = 4;

/// Resource version of every object in a namespace.
fn versions(stage: &Stage, namespace: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let kinds = "dsys,deployments,configmaps,services,serviceaccounts,networkpolicies,secrets,events.v1.events.k8s.io";
    let all: Value = serde_json::from_str(&stage.api.kubectl(&["get", kinds, "-n", namespace, "-o", "json"])?)?;
    let version = |object: &Value| {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        (format!("{} {}", object["kind"], text("name")), text("resourceVersion"))
    };
    Ok(all["items"].as_array().context("a list")?.iter().map(version).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_resyncs_of_a_system_in_sync_write_nothing_and_make_four_calls_each() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    let operator = stage.operator(&["--resync-seconds=1"]).await?;
    stage.namespace("steady")?;
    stage.apply("steady", &std::fs::read_to_string(file("examples/seoul.yaml"))?)?;
    stage.until_ready(("steady", "seoul")).await?;
    stage.until_event(("steady", "seoul"), "Ready").await?;
    let inspections = |calls: &[dispatch_tests::recorder::Recorded]| {
        calls.iter().filter(|call| call.operation == "DescribeStacks").count()
    };
    // After two more inspections, the effects of the last change have settled.
    operator.aws.clear();
    operator.aws.until(SOON, |calls| inspections(calls) >= 2).await?;

    let before = versions(&stage, "steady")?;
    let written = operator.process.metric("dispatch_operator_kubernetes_writes_total").await?;
    let published = operator.process.metric("dispatch_operator_events_total").await?;
    operator.kubernetes.clear();
    operator.aws.clear();
    operator.aws.until(SOON, |calls| inspections(calls) > RESYNCS).await?;
    let aws = operator.aws.calls();
    let last = aws.iter().rposition(|call| call.operation == "DescribeStacks").context("no inspection")?;
    let aws = &aws[..last];
    let kubernetes = operator.kubernetes.calls();

    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in aws {
        *counts.entry(format!("{} {}", call.service, call.operation)).or_default() += 1;
    }
    println!("AWS calls of {RESYNCS} resyncs: {} in all, {counts:#?}", aws.len());
    println!("mutating AWS calls: {}", aws.iter().filter(|call| call.writes()).count());
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for call in &kubernetes {
        *asked.entry(format!("{} {}", call.operation, call.service)).or_default() += 1;
    }
    println!("Kubernetes calls meanwhile: {} in all, {asked:#?}", kubernetes.len());
    println!("Kubernetes writes: {}", kubernetes.iter().filter(|call| call.writes()).count());
    assert_eq!(inspections(aws), RESYNCS);
    assert!(aws.len() <= RESYNCS * CALLS_MAX, "{} calls", aws.len());
    assert!(aws.iter().chain(&kubernetes).all(|call| !call.writes()));
    assert_eq!(versions(&stage, "steady")?, before, "an object was written to");
    let close = |a: f64, b: f64| (a - b).abs() < 0.5;
    assert!(close(operator.process.metric("dispatch_operator_kubernetes_writes_total").await?, written));
    assert!(close(operator.process.metric("dispatch_operator_events_total").await?, published));
    operator.was_never_denied()?;
    Ok(())
}
