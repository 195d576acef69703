//! A city with every kind of secret, whose AWS fails for a while: no log line, metric, event or object exposes any of
//! them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use dispatch_tests::recorder::{Fate, Recorded};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::stage::{Replica, Stage, city, condition, is_ready, is_true};

const AT: (&str, &str) = ("city", "seoul");
/// Redis tokens, before and after the rotation.
const TOKENS: [&str; 2] = ["canary-0123456789-token-before", "canary-9876543210-token-after"];
/// Project ids of the push keys, which appear only in the keys.
const PROJECTS: [&str; 2] = ["canary-project-before", "canary-project-after"];
/// The common prefix of all secrets here, the same in base64, and a marker of private keys.
const SECRETS: [&str; 3] = ["canary-", "Y2FuYXJ5L", "PRIVATE KEY"];
/// Timeout until a changed Secret takes effect.
const SEEN_WITHIN: Duration = Duration::from_mins(1);
/// All kinds except Secrets that the operator writes in a namespace.
const KINDS: &str = "dsys,deployments,configmaps,services,serviceaccounts,networkpolicies,events.v1.events.k8s.io";

/// Creates or updates the Secrets with this project's key and this token.
fn put_secrets(stage: &Stage, project: &str, token: &str) -> anyhow::Result<()> {
    let key = dispatch_operator::testing::fcm_key();
    let key = key.expose_secret().replace("coactus-test", project).replace("not a key", "canary-key");
    ensure!(key.contains(project) && key.contains("canary-key"), "the test key no longer contains the replaced text");
    let items = [("fcm", "key.json", key.as_str()), ("redis", "token", token)].map(|(name, field, value)| {
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { field: value } })
    });
    stage.apply(AT.0, &json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string())?;
    Ok(())
}

/// Everything a user can read about the city, by its source.
async fn visible_texts(stage: &Stage, operator: &Replica) -> anyhow::Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("the log", operator.process.log()?),
        ("the metrics", operator.process.metrics().await?),
        ("the objects", stage.api.kubectl(&["get", KINDS, "-n", AT.0, "-o", "json"])?),
        ("the description", stage.api.kubectl(&["describe", "dsys", "-n", AT.0, AT.1])?),
    ])
}

async fn no_secret_is_exposed(stage: &Stage, operator: &Replica) -> anyhow::Result<()> {
    for (place, text) in visible_texts(stage, operator).await? {
        ensure!(text.len() > 100, "{place}: {text}");
        for secret in SECRETS {
            ensure!(!text.contains(secret), "{place} contains {secret}");
        }
        println!("searched {place}: {} bytes", text.len());
    }
    Ok(())
}

/// Makes AWS reject the calls that carry secrets, and drop the responses of others.
fn refuse(operator: &Replica) {
    operator.aws.interfere(|call: &Recorded| {
        let refusal = |kind: &str| {
            let body = format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{kind}</Code><Message>for a test</Message></Error></ErrorResponse>"
            );
            Fate::Answer { status: 400, kind: "text/xml", body }
        };
        match call.operation.as_str() {
            "CreatePlatformApplication" | "SetPlatformApplicationAttributes" => refusal("InvalidParameter"),
            "CreateChangeSet" if call.number.is_multiple_of(2) => Fate::CutAfter,
            "CreateChangeSet" => refusal("Throttling"),
            _ => Fate::Pass,
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_output_of_the_operator_exposes_a_secret_whatever_fails() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    let operator = stage.operator(&["--resync-seconds=2"]).await?;
    stage.namespace(AT.0)?;
    put_secrets(&stage, PROJECTS[0], TOKENS[0])?;
    refuse(&operator);
    let spec = json!({
        "notifications": { "fcm": { "serviceAccountSecretRef": { "name": "fcm", "key": "key.json" } } },
        "cache": { "authSecretRef": { "name": "redis", "key": "token" } },
        "connection": { "secretName": "city" },
    });
    stage.apply(AT.0, &city(AT.1, &spec))?;
    let fails = |system: &Value| condition(system, "Ready").is_some_and(|ready| ready["status"] == "False");
    stage.until(AT, "failing", fails).await?;
    let refused = |calls: &[Recorded]| calls.iter().filter(|call| call.status == Some(400)).count() >= 2;
    operator.aws.until(SEEN_WITHIN, refused).await?;
    no_secret_is_exposed(&stage, &operator).await?;

    // Without the permission to write Secrets the operator reports it, and the city is ready nevertheless.
    operator.aws.stop_interfering();
    stage.until_ready(AT).await?;
    no_secret_is_exposed(&stage, &operator).await?;
    put_secrets(&stage, PROJECTS[1], TOKENS[0])?;
    let rotated = |calls: &[Recorded]| {
        calls.iter().any(|call| call.operation == "SetPlatformApplicationAttributes" && call.status == Some(200))
    };
    operator.aws.until(SEEN_WITHIN, rotated).await?;
    stage.until(AT, "ready with its new key", is_ready).await?;
    no_secret_is_exposed(&stage, &operator).await?;
    // A new token replaces the cache, so the plan waits for an approval.
    put_secrets(&stage, PROJECTS[1], TOKENS[1])?;
    let waiting = stage.until(AT, "waiting", |system| is_true(system, "Stalled")).await?;
    no_secret_is_exposed(&stage, &operator).await?;
    let message = condition(&waiting, "Stalled").and_then(|stalled| stalled["message"].as_str());
    let plan = message.and_then(|text| text.split_whitespace().nth(1)).context("plan … waits")?;
    stage.patch(AT.0, AT.1, &json!({ "metadata": { "annotations": { "dispatch.coactus.io/approve": plan } } }))?;
    stage.until(AT, "ready with its new token", is_ready).await?;
    no_secret_is_exposed(&stage, &operator).await?;
    stage.delete(AT.0, AT.1)?;
    stage.until_gone(AT).await?;
    let log = operator.process.log()?;
    for secret in SECRETS {
        ensure!(!log.contains(secret), "the log contains {secret}");
    }
    Ok(())
}
