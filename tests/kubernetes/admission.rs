//! What a spec may ask for where its author is not an administrator: the operator with the options of the cluster-wide
//! overlay, and the admission policy beside it. Users have the rights that RBAC gives them.

use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use dispatch_operator::kubernetes::policy::images;
use serde_json::{Value, json};

use crate::stage::{LOOK_EVERY, SOON, Stage, city, condition, file, is_ready, is_true, kustomize};
use crate::tenants::{OFTEN, allow, apply, by, cannot_write_namespace, considered, message, stalled_for, tenant};

const TENANT: &str = "mallory";
const AT: (&str, &str) = ("team", "seoul");
const EVIL: &str = "docker.io/evil/x:1";
const ROLE: &str = "arn:aws:iam::000000000000:role/coactus-city";
/// A role of another tenant, in another account.
const OTHER_ROLE: &str = "arn:aws:iam::999988887777:role/coactus-victim";

/// The options with which the cluster-wide overlay starts the operator, without those of every installation.
fn overlay_options() -> anyhow::Result<Vec<String>> {
    let objects = kustomize("manifests/overlays/cluster-wide")?;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").context("a Deployment")?;
    let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().context("arguments")?;
    let options: Vec<String> = args
        .iter()
        .filter_map(Value::as_str)
        .filter(|arg| *arg != "run" && !arg.starts_with("--leader-elect") && !arg.starts_with("--metrics-addr"))
        .map(str::to_owned)
        .collect();
    ensure!(options.len() > 4, "the overlay restricts nothing: {options:?}");
    Ok(options)
}

fn with<'a>(options: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    options.iter().map(String::as_str).chain([OFTEN]).chain(more.iter().copied()).collect()
}

/// A spec that asks for everything that its author could not have otherwise: a Pod with any image and priority, the AWS
/// role of another one, and the value of any Secret, sent to an address of its choice.
fn greedy() -> Value {
    json!({
        "aws": { "roleArn": OTHER_ROLE, "externalId": "victims-external-id" },
        "cache": {
            "external": { "url": "rediss://attacker.example:6379" },
            "authSecretRef": { "name": "prod-db", "key": "password" },
        },
        "workers": {
            "image": EVIL,
            "serviceAccountAnnotations": { "eks.amazonaws.com/role-arn": OTHER_ROLE },
            "scheduling": { "priorityClassName": "system-cluster-critical" },
        },
    })
}

/// Objects of the namespace that the operator made.
fn made(stage: &Stage, namespace: &str) -> anyhow::Result<String> {
    let kinds = "deployments,configmaps,services,serviceaccounts,networkpolicies";
    let label = "app.kubernetes.io/managed-by=dispatch-operator";
    stage.api.kubectl(&["get", kinds, "-n", namespace, "-l", label, "-o", "name"])
}

fn patch(stage: &Stage, at: (&str, &str), change: &Value) -> anyhow::Result<()> {
    let change = change.to_string();
    by(stage, TENANT, &["patch", "-n", at.0, "dsys", at.1, "--type=merge", "-p", &change]).map(drop)
}

fn secret(stage: &Stage, namespace: &str) -> anyhow::Result<()> {
    let value = "--from-literal=password=hunter2-hunter2-hunter2";
    stage.api.kubectl(&["create", "secret", "generic", "-n", namespace, "prod-db", value])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_gets_nothing_that_no_administrator_allowed() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    tenant(&stage, AT.0, TENANT)?;
    secret(&stage, AT.0)?;
    let options = overlay_options()?;
    let operator = stage.operator(&with(&options, &[])).await?;
    apply(&stage, TENANT, AT.0, &city(AT.1, &greedy()))?;
    let refused = stage.until(AT, "refused", stalled_for("RoleNotAllowed")).await?;
    let text = message(&refused, "Stalled");
    for part in
        [OTHER_ROLE, EVIL, "--allowed-images", "namespace team has no annotation dispatch.coactus.io/allowed-images"]
    {
        ensure!(text.contains(part), "{part}: {text}");
    }
    ensure!(condition(&refused, "SpecAllowed").is_some_and(|condition| condition["status"] == "False"), "{refused:#}");
    considered(&stage, TENANT, AT, "1").await?;
    assert_eq!(made(&stage, AT.0)?, "");
    ensure!(refused["metadata"]["finalizers"].is_null(), "nothing was made, so nothing is to be cleaned up");
    let calls: Vec<String> = operator.aws.calls().iter().map(ToString::to_string).collect();
    assert_eq!(calls, [""; 0]);
    let of_secrets = operator.kubernetes.calls().into_iter().filter(|call| call.service == "secrets");
    assert_eq!(of_secrets.map(|call| call.to_string()).collect::<Vec<_>>(), [""; 0], "no Secret was read");

    // The tenant cannot give what is missing.
    cannot_write_namespace(&stage, TENANT, AT.0)?;
    let label = ["label", "secret", "prod-db", "-n", AT.0, "dispatch.coactus.io/readable-by=seoul"];
    ensure!(by(&stage, TENANT, &label).is_err(), "the tenant may write Secrets");

    // The administrator of the cluster can, one by one.
    patch(&stage, AT, &json!({ "spec": { "aws": null } }))?;
    allow(&stage, AT.0, &format!("allowed-images={EVIL}"))?;
    allow(&stage, AT.0, &format!("allowed-service-account-annotations=eks.amazonaws.com/role-arn={OTHER_ROLE}"))?;
    let priority = |system: &Value| message(system, "Stalled").starts_with("spec.workers.scheduling.priorityClassName");
    stage.until(AT, "refused for its priority class alone", priority).await?;
    allow(&stage, AT.0, "allowed-priority-classes=business, system-cluster-critical")?;
    let last_refusal = stage
        .until(AT, "refused for its Secret alone", |system| {
            message(system, "Stalled").starts_with("spec.cache.authSecretRef: system seoul may not read Secret prod-db")
        })
        .await?;
    assert_eq!(made(&stage, AT.0)?, "", "{:#}", last_refusal["status"]);
    ensure!(!last_refusal.to_string().contains("hunter2"));
    stage.api.kubectl(&label)?;
    let ready = stage.until_ready(AT).await?;
    ensure!(condition(&ready, "SpecAllowed").is_none(), "{:#}", ready["status"]);
    keeps_what_it_has(&stage).await?;
    operator.was_never_denied()
}

/// A running system that is no longer allowed keeps running, says so, can be deleted, and comes back when it is allowed
/// again.
async fn keeps_what_it_has(stage: &Stage) -> anyhow::Result<()> {
    let deployment = || -> anyhow::Result<Value> {
        let text = stage.api.kubectl(&["get", "deployment", "seoul-status-update", "-n", AT.0, "-o", "json"])?;
        let object: Value = serde_json::from_str(&text)?;
        Ok(json!([object["metadata"]["generation"], object["spec"]["replicas"]]))
    };
    let (before, objects) = (deployment()?, made(stage, AT.0)?);
    stage.api.kubectl(&["annotate", "namespace", AT.0, "--overwrite", "dispatch.coactus.io/allowed-images=None"])?;
    let refused = stage.until(AT, "refused", stalled_for("NotAllowed")).await?;
    ensure!(message(&refused, "Stalled").contains(EVIL), "{:#}", refused["status"]);
    stage.until_event(AT, "Stalled").await?;
    patch(stage, AT, &json!({ "spec": { "workers": { "resources": { "cpuRequest": "200m" } } } }))?;
    considered(stage, TENANT, AT, "2").await?;
    assert_eq!(made(stage, AT.0)?, objects, "nothing is torn down");
    assert_eq!(deployment()?, before, "and nothing is changed");
    let aws = stage.aws().await;
    ensure!(aws.ports().stacks.describe("coactus-team-seoul").await?.is_some());

    stage.api.kubectl(&[
        "annotate",
        "namespace",
        AT.0,
        "--overwrite",
        "dispatch.coactus.io/allowed-images=docker.io",
    ])?;
    stage.until(AT, "ready again", is_ready).await?;
    stage.api.kubectl(&["annotate", "namespace", AT.0, "--overwrite", "dispatch.coactus.io/allowed-images="])?;
    stage.until(AT, "refused", stalled_for("NotAllowed")).await?;
    by(stage, TENANT, &["delete", "-n", AT.0, "dsys", AT.1, "--wait=false"])?;
    stage.until_gone(AT).await?;
    ensure!(aws.ports().stacks.describe("coactus-team-seoul").await?.is_none(), "the stack is left");
    Ok(())
}

/// What an installation goes through when it is updated to the restrictions: first warned, then enforced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_system_is_named_before_it_stops_and_keeps_its_role_for_its_deletion() -> anyhow::Result<()> {
    const OLD: (&str, &str) = ("team", "old");
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    tenant(&stage, OLD.0, TENANT)?;
    let before = stage.operator(&[OFTEN]).await?;
    let own = json!({ "aws": { "roleArn": ROLE, "externalId": "own" }, "deletionPolicy": "Delete" });
    apply(&stage, TENANT, OLD.0, &city(OLD.1, &own))?;
    let ready = stage.until_ready(OLD).await?;
    let access = json!({ "assumesRole": true, "roleArn": ROLE, "externalId": "own" });
    assert_eq!(ready["status"]["access"], access);
    drop(before);

    let options = overlay_options()?;
    let warning = stage.operator(&with(&options, &["--restrictions=Warn"])).await?;
    let warned = |system: &Value| condition(system, "SpecAllowed").is_some() && is_true(system, "Ready");
    let system = stage.until(OLD, "warned", warned).await?;
    ensure!(message(&system, "SpecAllowed").contains(ROLE), "{:#}", system["status"]);
    stage.until_event(OLD, "NotAllowed").await?;
    drop(warning);

    let enforcing = stage.operator(&with(&options, &[])).await?;
    let refused = stage.until(OLD, "refused", stalled_for("RoleNotAllowed")).await?;
    assert_eq!(refused["status"]["access"], ready["status"]["access"]);
    allow(&stage, OLD.0, &format!("allowed-role-arns={ROLE}"))?;
    let kept = stage.until(OLD, "ready", is_ready).await?;
    assert_eq!(kept["status"]["access"]["externalId"], "own", "an existing system keeps its external ID");

    new_systems_get_a_derived_external_id(&stage).await?;

    // Another role is not used, not even for the deletion: the operator deletes with the one it has used before.
    patch(&stage, OLD, &json!({ "spec": { "aws": { "roleArn": OTHER_ROLE } } }))?;
    stage.until(OLD, "refused", stalled_for("RoleNotAllowed")).await?;
    by(&stage, TENANT, &["delete", "-n", OLD.0, "dsys", OLD.1, "--wait=false"])?;
    stage.until_gone(OLD).await?;
    ensure!(stage.aws().await.ports().stacks.describe("coactus-team-old").await?.is_none(), "the stack is left");
    enforcing.was_never_denied()
}

async fn new_systems_get_a_derived_external_id(stage: &Stage) -> anyhow::Result<()> {
    const NEW: (&str, &str) = ("team", "new");
    let cluster = stage.api.kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"])?;
    let chosen = json!({ "aws": { "roleArn": ROLE, "externalId": "victims-external-id" } });
    apply(stage, TENANT, NEW.0, &city(NEW.1, &chosen))?;
    let refused = stage.until(NEW, "refused", stalled_for("RoleNotAllowed")).await?;
    let derived = format!("coactus:{cluster}:team");
    ensure!(message(&refused, "Stalled").contains(&derived), "{:#}", refused["status"]);
    patch(stage, NEW, &json!({ "spec": { "aws": { "externalId": null } } }))?;
    let ready = stage.until_ready(NEW).await?;
    let access = json!({ "assumesRole": true, "roleArn": ROLE, "externalId": derived });
    assert_eq!(ready["status"]["access"], access);
    ensure!(message(&ready, "CredentialsValid").contains(&derived), "{:#}", ready["status"]);
    Ok(())
}

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Images that the policy and the operator judge alike.
fn images_to_judge() -> Vec<String> {
    let mut all: Vec<String> = [
        "registry.example/team",
        "registry.example/team/x:1",
        "registry.example/team-evil/x",
        "registry.example/teamx",
        "registry.example:5000/team/x",
        "registry.example/team/../evil/x",
        "registry.example/team//x",
        "team/x",
        "nginx:1",
        "localhost:5000/x",
        "evil/registry.example/team/x",
        "registry.example/team/x:a:b",
    ]
    .map(str::to_owned)
    .to_vec();
    all.extend([
        DIGEST.to_owned(),
        format!("docker.io/any/x@{DIGEST}"),
        format!("any/x:1@{DIGEST}"),
        format!("any/x@{DIGEST}@{DIGEST}"),
    ]);
    all
}

/// Applies a system as the tenant in a dry run; whether the API server accepts it, and what it says.
fn judge(stage: &Stage, namespace: &str, spec: &Value) -> anyhow::Result<(bool, String)> {
    let path = stage.api.file("judged.json", &city("judged", spec))?;
    let user = format!("--as={TENANT}");
    let output = stage.api.try_kubectl(&["apply", "--dry-run=server", "-n", namespace, "-f", &path, &user])?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admission_policy_refuses_what_the_operator_refuses() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    tenant(&stage, AT.0, TENANT)?;
    let running = json!({ "workers": { "image": EVIL } });
    apply(&stage, TENANT, AT.0, &city(AT.1, &running))?;
    stage.api.kubectl(&["apply", "-f", &file("manifests/components/admission-policy/policy.yaml")])?;
    let deadline = Instant::now() + SOON;
    while judge(&stage, AT.0, &greedy())?.0 {
        ensure!(Instant::now() < deadline, "the policy is not in force");
        tokio::time::sleep(LOOK_EVERY).await;
    }

    // Each field is refused by its path, and accepted where the annotation of the namespace has the value.
    for (field, annotation, entry, spec) in [
        ("spec.aws.roleArn", "allowed-role-arns", ROLE, json!({ "aws": { "roleArn": ROLE } })),
        ("spec.workers.image", "allowed-images", "docker.io/evil", json!({ "workers": { "image": EVIL } })),
        (
            "spec.workers.serviceAccountAnnotations",
            "allowed-service-account-annotations",
            "a/b=*",
            json!({ "workers": { "serviceAccountAnnotations": { "a/b": "c" } } }),
        ),
        (
            "spec.workers.scheduling.priorityClassName",
            "allowed-priority-classes",
            "business",
            json!({ "workers": { "scheduling": { "priorityClassName": "business" } } }),
        ),
    ] {
        let (accepted, said) = judge(&stage, AT.0, &spec)?;
        ensure!(!accepted && said.contains(&format!("{field}: ")), "{field}: {said}");
        for (number, list) in [entry, "other, {}", "Any"].iter().enumerate() {
            let namespace = format!("{annotation}-{number}");
            tenant(&stage, &namespace, TENANT)?;
            allow(&stage, &namespace, &format!("{annotation}={}", list.replace("{}", entry)))?;
            accepted_soon(&stage, &namespace, &spec).await?;
        }
    }
    let (accepted, said) = judge(&stage, AT.0, &json!({}))?;
    ensure!(accepted, "a system that asks for nothing: {said}");
    tenant(&stage, "regions", TENANT)?;
    allow(&stage, "regions", "allowed-regions=eu-central-1")?;
    refused_soon(&stage, "regions", &json!({}), "spec.region: ap-northeast-2").await?;

    images_are_judged_alike(&stage).await?;
    what_exists_can_be_edited(&stage)
}

/// A change of a namespace reaches the policy within moments.
async fn accepted_soon(stage: &Stage, namespace: &str, spec: &Value) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        match judge(stage, namespace, spec)? {
            (true, _) => return Ok(()),
            (false, said) if Instant::now() >= deadline => bail!("{namespace}: {said}"),
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn refused_soon(stage: &Stage, namespace: &str, spec: &Value, words: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let (accepted, said) = judge(stage, namespace, spec)?;
        if !accepted && said.contains(words) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{namespace}: accepted: {accepted} {said}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn images_are_judged_alike(stage: &Stage) -> anyhow::Result<()> {
    let lists = ["registry.example/team", "registry.example/", "docker.io/library", DIGEST, "localhost:5000", "team"];
    for (number, list) in lists.into_iter().enumerate() {
        let namespace = format!("images-{number}");
        tenant(stage, &namespace, TENANT)?;
        allow(stage, &namespace, &format!("allowed-images={list}, registry.example/known"))?;
        accepted_soon(stage, &namespace, &json!({ "workers": { "image": "registry.example/known:1" } })).await?;
        for image in images_to_judge() {
            let (accepted, said) = judge(stage, &namespace, &json!({ "workers": { "image": image } }))?;
            assert_eq!(accepted, images::allows(list, &image), "{list} {image}: {said}");
        }
    }
    Ok(())
}

/// A system that has what is no longer allowed can be edited otherwise, and loses its finalizer.
fn what_exists_can_be_edited(stage: &Stage) -> anyhow::Result<()> {
    patch(stage, AT, &json!({ "metadata": { "finalizers": ["example.com/hold"] } }))?;
    patch(stage, AT, &json!({ "spec": { "suspend": true } }))?;
    let other = json!({ "spec": { "workers": { "image": "docker.io/evil/y:1" } } });
    let refused = patch(stage, AT, &other).err().map(|error| error.to_string()).context("another image")?;
    ensure!(refused.contains("spec.workers.image: docker.io/evil/y:1 is not allowed"), "{refused}");
    by(stage, TENANT, &["delete", "-n", AT.0, "dsys", AT.1, "--wait=false"])?;
    patch(stage, AT, &json!({ "metadata": { "finalizers": null } }))?;
    let gone = by(stage, TENANT, &["get", "-n", AT.0, "dsys", AT.1, "--ignore-not-found"])?;
    ensure!(gone.is_empty(), "{gone}");
    Ok(())
}
