//! What a user of `kubectl` does and sees.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use dispatch_tests::kubelets::Pods;
use dispatch_tests::recorder::Fate;
use serde_json::json;

use crate::shown::{described, table};
use crate::stage::{SOON, Stage, condition, file, is_true};

const SEOUL: (&str, &str) = ("default", "seoul");
const BUSAN: (&str, &str) = ("default", "busan");
const INCHEON: (&str, &str) = ("mobility", "incheon");

/// `kubectl wait` for `Ready`, in the background.
struct Wait(Child);

impl Wait {
    fn start(stage: &Stage) -> anyhow::Result<Self> {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(stage.api.kubeconfig());
        command.args(["wait", "--for=condition=Ready", "--timeout=60s", "dsys/seoul"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(child.context("kubectl wait")?))
    }

    fn is_still_waiting(&mut self) -> anyhow::Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "kubectl wait returned early");
        Ok(())
    }

    fn succeeds(mut self) -> anyhow::Result<()> {
        ensure!(self.0.wait()?.success(), "kubectl wait failed");
        Ok(())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // Both fail only if the process has already exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a wait of two seconds times out.
fn wait_times_out(stage: &Stage) -> anyhow::Result<bool> {
    let waited = stage.api.try_kubectl(&["wait", "--for=condition=Ready", "--timeout=2s", "dsys/seoul"])?;
    Ok(!waited.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_wait_returns_when_the_spec_is_applied_and_columns_and_describe_show_the_status() -> anyhow::Result<()>
{
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    stage.kubelets.report(Pods::NotReady);
    let output = stage.api.kubectl(&["apply", "-f", &file("examples/seoul.yaml")])?;
    assert_eq!(output.trim(), "dispatchsystem.dispatch.coactus.io/seoul created");
    // No operator runs yet: neither kubectl nor a reader of kstatus may take the object for done.
    assert!(wait_times_out(&stage)?);
    let new = stage.system(SEOUL.0, SEOUL.1).await?.context("the object")?;
    assert_eq!(new["status"], json!({ "conditions": [], "observedGeneration": -1 }));

    let operator = stage.operator(&["--resync-seconds=2"]).await?;
    let mut wait = Wait::start(&stage)?;
    let rolling = |system: &serde_json::Value| condition(system, "Ready").is_some_and(|c| c["reason"] == "RollingOut");
    let waiting = stage.until(SEOUL, "waiting for its workers", rolling).await?;
    assert!(is_true(&waiting, "StackReady") && is_true(&waiting, "Reconciling") && !is_true(&waiting, "WorkersReady"));
    wait.is_still_waiting()?;
    stage.kubelets.report(Pods::Ready);
    wait.succeeds()?;
    stage.until_ready(SEOUL).await?;

    // Ready refers to the previous spec until the operator has observed the new one.
    operator.process.freeze()?;
    stage.patch("default", "seoul", &json!({ "spec": { "aws": { "tags": { "team": "another" } } } }))?;
    assert!(wait_times_out(&stage)?);
    let mut wait = Wait::start(&stage)?;
    wait.is_still_waiting()?;
    operator.process.thaw()?;
    wait.succeeds()?;
    let edited = stage.system(SEOUL.0, SEOUL.1).await?.context("the object")?;
    assert_eq!((&edited["metadata"]["generation"], &edited["status"]["observedGeneration"]), (&json!(2), &json!(2)));
    let conditions = edited["status"]["conditions"].as_array().context("conditions")?;
    assert!(conditions.iter().all(|condition| condition["observedGeneration"] == 2), "{conditions:#?}");

    stage.api.kubectl(&["apply", "-f", &file("examples/minimal.yaml")])?;
    stage.namespace("mobility")?;
    stage.api.kubectl(&[
        "create",
        "secret",
        "generic",
        "-n",
        "mobility",
        "incheon-redis",
        "--from-literal=token=t0ken",
    ])?;
    stage.api.kubectl(&["apply", "-f", &file("examples/external-cache.yaml")])?;
    stage.until_ready(BUSAN).await?;
    stage.until_ready(INCHEON).await?;
    stage.until_event(SEOUL, "Ready").await?;
    insta::assert_snapshot!("columns", table(&stage.api.kubectl(&["get", "coactus", "-A"])?));
    insta::assert_snapshot!("wide_columns", table(&stage.api.kubectl(&["get", "dsys", "-o", "wide"])?));
    insta::assert_snapshot!("ready", described(&stage.api.kubectl(&["describe", "dsys", "seoul"])?));
    operator.was_never_denied()?;
    assert!(operator.process.log()?.lines().all(|line| !line.contains("t0ken")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_killed_half_way_reaches_the_state_of_an_undisturbed_one() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    let mut operator = stage.operator(&["--resync-seconds=2"]).await?;
    let seoul = std::fs::read_to_string(file("examples/seoul.yaml"))?;
    stage.namespace("calm")?;
    stage.apply("calm", &seoul)?;
    let calm = stage.until_ready(("calm", "seoul")).await?;
    let calm_writes = operator.aws.writes().len();
    let points: [(&str, &str, Fate); 4] = [
        ("cloudformation", "CreateChangeSet", Fate::HoldAfter),
        ("cloudformation", "ExecuteChangeSet", Fate::HoldBefore),
        ("cloudformation", "ExecuteChangeSet", Fate::HoldAfter),
        ("dynamodb", "UpdateContinuousBackups", Fate::HoldAfter),
    ];
    for (number, (service, operation, fate)) in points.into_iter().enumerate() {
        let namespace = format!("storm{number}");
        stage.namespace(&namespace)?;
        operator.aws.clear();
        let point = fate.clone();
        operator.aws.interfere(move |call| {
            if (call.service.as_str(), call.operation.as_str()) == (service, operation) {
                point.clone()
            } else {
                Fate::Pass
            }
        });
        stage.apply(&namespace, &seoul)?;
        operator.aws.until_held(number + 1, SOON).await?;
        operator.process.kill()?;
        operator.aws.stop_interfering();
        operator.start_again().await?;
        let storm = stage.until_ready((&namespace, "seoul")).await?;
        let place = |system: &serde_json::Value, namespace: &str| {
            let mut status = system["status"].clone();
            // The history differs: the last attempt does not describe the present state.
            for history in ["conditions", "lastAttempt", "lastPlan"] {
                status[history] = json!(null);
            }
            described(&status.to_string().replace(namespace, "NAMESPACE"))
        };
        assert_eq!(place(&storm, &namespace), place(&calm, "calm"), "{operation} {fate:?}");
        let writes = operator.aws.writes().len();
        println!("killed at {operation}, {fate:?}: {writes} AWS writes; undisturbed {calm_writes}");
        // The repeated call, and the change set if it had not been executed.
        assert!(writes <= calm_writes + 2, "{:#?}", operator.aws.writes());
    }
    operator.was_never_denied()?;
    Ok(())
}
