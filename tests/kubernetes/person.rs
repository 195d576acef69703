//! What a person with `kubectl` does and sees.

use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use serde_json::json;

use crate::stage::{Stage, file, is_ready};

const SEOUL: (&str, &str) = ("default", "seoul");

/// `kubectl wait` for `Ready`, in the background.
fn waiting(stage: &Stage) -> anyhow::Result<Child> {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(stage.api.kubeconfig());
    command.args(["wait", "--for=condition=Ready", "--timeout=60s", "dsys/seoul"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("kubectl wait")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_wait_returns_when_the_spec_is_done_and_not_before() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    let told = stage.api.kubectl(&["apply", "-f", &file("examples/seoul.yaml")])?;
    assert_eq!(told.trim(), "dispatchsystem.dispatch.coactus.io/seoul created");
    let operator = stage.operator(&["--resync-seconds=2"]).await?;
    let ready = stage.until_ready(SEOUL).await?;
    println!("{ready:#?}");
    println!("{}", stage.api.kubectl(&["get", "dsys"])?);
    println!("{}", stage.api.kubectl(&["get", "dsys", "-o", "wide"])?);
    println!("{}", stage.api.kubectl(&["describe", "dsys", "seoul"])?);
    let mut wait = waiting(&stage)?;
    assert!(wait.wait()?.success());
    stage.patch("default", "seoul", &json!({ "spec": { "aws": { "tags": { "team": "other" } } } }))?;
    assert!(is_ready(&stage.until_ready(SEOUL).await?));
    operator.was_never_denied()?;
    for call in operator.kubernetes.calls() {
        println!("{call}");
    }
    for call in operator.aws.calls() {
        println!("{call}");
    }
    Ok(())
}
