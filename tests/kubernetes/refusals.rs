//! What the operator does when the API server refuses something, when another tool removes what it needs, and when its
//! watch fails.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::stage::{Replica, SOON, Stage, city, condition};

/// An admission policy that rejects Services of one city as invalid.
const POLICY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: { name: no-services }
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - { apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [services] }
  validations:
    - expression: "!object.metadata.name.startsWith('invalid-')"
      message: Services of this city are not allowed
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: { name: no-services }
spec: { policyName: no-services, validationActions: [Deny] }
"#;

fn stalled_for(reason: &str) -> impl Fn(&Value) -> bool {
    move |system: &Value| {
        condition(system, "Stalled")
            .is_some_and(|condition| condition["status"] == "True" && condition["reason"] == reason)
    }
}

fn message(system: &Value) -> String {
    condition(system, "Stalled").and_then(|found| found["message"].as_str()).unwrap_or_default().to_owned()
}

/// Index of the rule about a resource in the operator's role.
fn rule_of(stage: &Stage, resource: &str) -> anyhow::Result<usize> {
    let role = stage.api.kubectl(&["get", "clusterrole", "dispatch-operator", "-o", "json"])?;
    let role: Value = serde_json::from_str(&role)?;
    let rules = role["rules"].as_array().context("rules")?;
    let names = |rule: &Value| rule["resources"].as_array().is_some_and(|all| all.contains(&json!(resource)));
    rules.iter().position(names).context("a rule")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_object_stalls_the_system_and_a_permission_granted_ends_it() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    stage.namespace("refused")?;
    let file = stage.api.file("policy.yaml", POLICY)?;
    stage.api.kubectl(&["apply", "-f", &file])?;
    // The policy takes effect a moment later.
    let deadline = Instant::now() + SOON;
    let probe = ["create", "service", "clusterip", "invalid-probe", "--tcp=80", "--dry-run=server", "-n", "refused"];
    while stage.api.try_kubectl(&probe)?.status.success() {
        ensure!(Instant::now() < deadline, "the policy has no effect");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let operator = stage.operator(&["--resync-seconds=2"]).await?;
    stage.apply("refused", &city("invalid", &json!({})))?;
    let refused = stage.until(("refused", "invalid"), "refused", stalled_for("KubernetesRefused")).await?;
    let text = message(&refused);
    ensure!(text.contains("Services of this city are not allowed") && text.contains("action required"), "{text}");
    stage.api.kubectl(&["delete", "-f", &file])?;
    stage.until_ready(("refused", "invalid")).await?;

    let index = rule_of(&stage, "networkpolicies")?;
    let verbs = |verbs: &[&str]| {
        let patch = json!([{ "op": "replace", "path": format!("/rules/{index}/verbs"), "value": verbs }]).to_string();
        stage.api.kubectl(&["patch", "clusterrole", "dispatch-operator", "--type=json", "-p", &patch])
    };
    verbs(&["list"])?;
    stage.apply("refused", &city("denied", &json!({})))?;
    let denied = stage.until(("refused", "denied"), "denied", stalled_for("KubernetesForbidden")).await?;
    let text = message(&denied);
    ensure!(text.contains("networkpolicies") && text.contains("action required: grant the permission"), "{text}");
    verbs(&["list", "create", "patch", "delete"])?;
    stage.until_ready(("refused", "denied")).await?;
    drop(operator);
    Ok(())
}

/// With the default resync of five minutes only a trigger puts it back in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finalizer_lost_by_a_replace_is_put_back_at_once() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    stage.namespace("replaced")?;
    let operator = stage.operator(&[]).await?;
    let (at, text) = (("replaced", "seoul"), city("seoul", &json!({})));
    stage.apply("replaced", &text)?;
    stage.until_ready(at).await?;
    let file = stage.api.file("replace.json", &text)?;
    stage.api.kubectl(&["replace", "-n", "replaced", "-f", &file])?;
    stage
        .until(at, "held", |system| system["metadata"]["finalizers"] == json!(["dispatch.coactus.io/finalizer"]))
        .await?;
    stage.delete("replaced", "seoul")?;
    stage.until_gone(at).await?;
    ensure!(stage.aws().await.ports().stacks.describe("coactus-replaced-seoul").await?.is_none(), "the stack leaked");
    operator.was_never_denied()
}

fn lines(operator: &Replica, text: &str) -> anyhow::Result<usize> {
    Ok(operator.process.log()?.lines().filter(|line| line.contains(text)).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_fails_is_logged_once_and_counted_and_recovers() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    let operator = stage.operator(&[]).await?;
    stage.api.kubectl(&["delete", "crd", "dispatchsystems.dispatch.coactus.io", "--timeout=60s"])?;
    let errors = "dispatch_operator_watch_errors_total{kind=\"DispatchSystem\"}";
    let deadline = Instant::now() + SOON;
    while operator.process.metric(errors).await? < 3.0 {
        ensure!(Instant::now() < deadline, "the failures of the watch are not counted: {}", operator.process.log()?);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(lines(&operator, "the watch fails")?, 1, "{}", operator.process.log()?);
    stage.api.install_crd()?;
    stage.namespace("after")?;
    stage.apply("after", &city("seoul", &json!({})))?;
    stage.until_ready(("after", "seoul")).await?;
    assert_eq!(lines(&operator, "the watch works again")?, 1, "{}", operator.process.log()?);
    Ok(())
}
