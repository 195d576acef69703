//! Why workers are not ready, as the status says it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use dispatch_tests::kubelets::Pods;
use serde_json::{Value, json};

use crate::stage::{LOOK_EVERY, Replica, SOON, Stage, city, condition, is_true};

const AT: (&str, &str) = ("causes", "seoul");
/// Address of a Pod. All addresses of the loopback network are this machine.
const ADDRESS: &str = "127.77.14.1";

/// Answers every request as the admin port of a worker that waits for the cache.
fn waiting_worker() -> anyhow::Result<()> {
    let listener = TcpListener::bind((ADDRESS, 9090)).context("the admin port")?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 1024]);
            let body = "not ready: the cache (refused: WRONGPASS invalid password)\n";
            let head = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length";
            let _ = write!(stream, "{head}: {}\r\n\r\n{body}", body.len());
        }
    });
    Ok(())
}

/// Status, reason and message of a condition.
fn said(system: &Value, kind: &str) -> (String, String, String) {
    let found = condition(system, kind).cloned().unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

/// Waits until the metric counts the system, which it does after the status is written.
async fn until_counted(operator: &Replica) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let unavailable = operator.process.metric("dispatch_operator_systems_unavailable").await?;
        if (unavailable - 1.0).abs() < 0.5 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{unavailable} systems are counted");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_out_that_fails_names_the_pod_and_the_cause_and_the_system_stays_available() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    waiting_worker()?;
    let operator = stage.operator(&["--resync-seconds=2"]).await?;
    stage.namespace(AT.0)?;
    stage.apply(AT.0, &city(AT.1, &json!({})))?;
    let ready = stage.until_ready(AT).await?;
    assert_eq!(said(&ready, "Available").1, "RolesAvailable");

    stage.kubelets.report(Pods::NoImage);
    let resources = json!({ "spec": { "workers": { "resources": { "memoryLimit": "300Mi" } } } });
    stage.patch(AT.0, AT.1, &resources)?;
    for (pods, reason, words) in [
        (Pods::NoImage, "ImageNotPulled", "cannot start: ErrImagePull: manifest for runtime:broken not found; "),
        (
            Pods::Crashing,
            "WorkersCrashing",
            "exited with code 1 (restarts: 2): cannot read the configuration: no such file; ",
        ),
        (Pods::Waiting(ADDRESS), "WaitingForDependency", "waits for the cache (refused: WRONGPASS invalid password); "),
    ] {
        stage.kubelets.report(pods);
        let failing = stage.until(AT, reason, |system| said(system, "Ready").1 == reason).await?;
        let (_, _, message) = said(&failing, "Ready");
        let (pod, rest) = message
            .split_once(' ')
            .and_then(|(_, rest)| rest.strip_prefix("Pod "))
            .and_then(|rest| rest.split_once(' '))
            .context(message.clone())?;
        assert!(pod.starts_with("seoul-") && rest.starts_with(words), "{message}");
        assert!(is_true(&failing, "Reconciling") && is_true(&failing, "Available"), "{failing:#}");
        assert_eq!(said(&failing, "WorkersReady").2, "see Ready", "it is said once");
    }

    // The Pods of the former revision fail as well.
    stage.kubelets.report(Pods::NotReady);
    let gone = stage.until(AT, "unavailable", |system| said(system, "Available").0 == "False").await?;
    assert_eq!(said(&gone, "Available").1, "RoleUnavailable");
    until_counted(&operator).await?;

    stage.kubelets.report(Pods::Ready);
    let healed = stage.until_ready(AT).await?;
    assert!(is_true(&healed, "Available") && is_true(&healed, "WorkersReady"), "{healed:#}");
    operator.was_never_denied()
}
