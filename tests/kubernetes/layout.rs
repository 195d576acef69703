//! A change of the layout of the workers.

use anyhow::{Context as _, ensure};
use dispatch_tests::kubelets::Pods;
use serde_json::{Value, json};

use crate::stage::{Stage, city, condition, is_true};

const AT: (&str, &str) = ("layouts", "seoul");
const SERVICES: [&str; 3] = ["seoul-driver-response", "seoul-save-dispatch", "seoul-status-update"];
const ROLES: [&str; 4] =
    ["seoul-dispatch-algorithm", "seoul-driver-response", "seoul-save-dispatch", "seoul-status-update"];

/// Names of the objects of a kind, without those of Kubernetes itself.
fn names(stage: &Stage, kind: &str) -> anyhow::Result<Vec<String>> {
    let text = stage.api.kubectl(&["get", kind, "-n", AT.0, "-o", "name"])?;
    let names = text.lines().filter_map(|line| Some(line.split_once('/')?.1.to_owned()));
    Ok(names.filter(|name| name.starts_with("seoul-")).collect())
}

/// What the Services select: the label `component` of each.
fn selected(stage: &Stage) -> anyhow::Result<Vec<(String, String)>> {
    let text = stage.api.kubectl(&["get", "services", "-n", AT.0, "-o", "json"])?;
    let list: Value = serde_json::from_str(&text)?;
    let items = list["items"].as_array().context("a list")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(items
        .iter()
        .map(|service| {
            let component = &service["spec"]["selector"]["app.kubernetes.io/component"];
            (text(&service["metadata"]["name"]), text(component))
        })
        .collect())
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, component)| ((*name).to_owned(), (*component).to_owned())).collect()
}

fn split() -> Vec<(String, String)> {
    SERVICES.map(|name| (name.to_owned(), name.trim_start_matches("seoul-").to_owned())).to_vec()
}

async fn change(stage: &Stage, layout: &str) -> anyhow::Result<()> {
    // The new Pods cannot start, those of the former layout serve.
    stage.kubelets.report(Pods::NoImage);
    stage.patch(AT.0, AT.1, &json!({ "spec": { "workers": { "layout": layout } } }))?;
    let waits = |system: &Value| {
        let ready = condition(system, "Ready").cloned().unwrap_or_default();
        ready["reason"] == "ImageNotPulled"
            && system["metadata"]["generation"] == system["status"]["observedGeneration"]
    };
    let waiting = stage.until(AT, "waiting for the new workers", waits).await?;
    ensure!(is_true(&waiting, "Available"), "{waiting:#}");
    let message = condition(&waiting, "Ready").context("Ready")?["message"].to_string();
    ensure!(message.contains("serve until these are complete"), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_select_the_former_workers_until_those_of_the_new_layout_are_complete() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    let operator = stage.operator(&["--resync-seconds=2"]).await?;
    stage.namespace(AT.0)?;
    stage.apply(AT.0, &city(AT.1, &json!({})))?;
    stage.until_ready(AT).await?;
    assert_eq!(selected(&stage)?, split());
    assert_eq!(names(&stage, "deployments")?, ROLES);

    change(&stage, "Combined").await?;
    let mut during = split();
    during.insert(0, ("seoul-api".to_owned(), "workers".to_owned()));
    assert_eq!(selected(&stage)?, during);
    assert_eq!(names(&stage, "deployments")?.len(), 5);
    stage.kubelets.report(Pods::Ready);
    stage.until_ready(AT).await?;
    let combined = pairs(&[
        ("seoul-api", "workers"),
        ("seoul-driver-response", "workers"),
        ("seoul-save-dispatch", "workers"),
        ("seoul-status-update", "workers"),
    ]);
    assert_eq!(selected(&stage)?, combined);
    for kind in ["deployments", "serviceaccounts", "networkpolicies", "poddisruptionbudgets"] {
        assert_eq!(names(&stage, kind)?, ["seoul-workers"], "{kind}");
    }

    change(&stage, "Split").await?;
    assert_eq!(selected(&stage)?, combined);
    stage.kubelets.report(Pods::Ready);
    stage.until_ready(AT).await?;
    assert_eq!(selected(&stage)?, split());
    assert_eq!(names(&stage, "deployments")?, ROLES);

    // A deletion of combined workers drains while nothing arrives.
    change(&stage, "Combined").await?;
    stage.kubelets.report(Pods::Ready);
    stage.until_ready(AT).await?;
    stage.delete(AT.0, AT.1)?;
    stage.until_gone(AT).await?;
    operator.was_never_denied()
}
