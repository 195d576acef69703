//! What a tenant cannot do: take over or destroy what belongs to another one, approve its own plans where the cluster
//! asks for a second person, and use objects of the cluster that are not its own. Users have the rights that RBAC gives
//! them, and the operator those of the manifests.

use anyhow::{Context as _, ensure};
use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::cloud::aws::AwsClients;
use dispatch_operator::engine::progress::Silent;
use dispatch_operator::engine::reconcile::reconcile;
use dispatch_operator::engine::settings::Settings;
use serde_json::{Value, json};

use crate::stage::{Stage, city, condition};

const OWNER: &str = "victim";
const TENANT: &str = "mallory";
const APPROVER: &str = "bob";

/// Reconciles each system every two seconds, so that changes of a namespace take effect in time.
pub(crate) const OFTEN: &str = "--resync-seconds=2";

/// A namespace in which a user may do everything with systems, and nothing else.
pub(crate) fn tenant(stage: &Stage, namespace: &str, user: &str) -> anyhow::Result<()> {
    stage.namespace(namespace)?;
    let verbs = "--verb=get,list,watch,create,update,patch,delete";
    let resource = "--resource=dispatchsystems.dispatch.coactus.io";
    stage.api.kubectl(&["create", "role", "-n", namespace, "tenant", verbs, resource])?;
    bind(stage, namespace, "tenant", user)
}

fn bind(stage: &Stage, namespace: &str, role: &str, user: &str) -> anyhow::Result<()> {
    let (role_flag, user_flag) = (format!("--role={role}"), format!("--user={user}"));
    let name = format!("{role}-{user}");
    stage.api.kubectl(&["create", "rolebinding", "-n", namespace, &name, &role_flag, &user_flag])?;
    Ok(())
}

/// Runs `kubectl` as a user.
pub(crate) fn by(stage: &Stage, user: &str, args: &[&str]) -> anyhow::Result<String> {
    let user = format!("--as={user}");
    let args: Vec<&str> = args.iter().copied().chain([user.as_str()]).collect();
    stage.api.kubectl(&args)
}

pub(crate) fn apply(stage: &Stage, user: &str, namespace: &str, text: &str) -> anyhow::Result<()> {
    let file = stage.api.file(&format!("{user}-{namespace}.json"), text)?;
    by(stage, user, &["apply", "-n", namespace, "-f", &file]).map(drop)
}

/// Sets an annotation of a namespace as the administrator of the cluster.
pub(crate) fn allow(stage: &Stage, namespace: &str, annotation: &str) -> anyhow::Result<()> {
    stage.api.kubectl(&["annotate", "namespace", namespace, &format!("dispatch.coactus.io/{annotation}")])?;
    Ok(())
}

pub(crate) fn annotate(stage: &Stage, user: &str, at: (&str, &str), annotation: &str) -> anyhow::Result<()> {
    let annotation = format!("dispatch.coactus.io/{annotation}");
    by(stage, user, &["annotate", "--overwrite", "-n", at.0, "dsys", at.1, &annotation]).map(drop)
}

/// Fails unless RBAC keeps the user from writing the namespace.
pub(crate) fn cannot_write_namespace(stage: &Stage, user: &str, namespace: &str) -> anyhow::Result<()> {
    let refused = by(stage, user, &["annotate", "namespace", namespace, "dispatch.coactus.io/approvals=x=y"]);
    let text = refused.err().map(|error| error.to_string()).context("the user may write the namespace")?;
    ensure!(text.contains("orbidden"), "{text}");
    Ok(())
}

pub(crate) fn stalled_for(reason: &str) -> impl Fn(&Value) -> bool {
    move |system: &Value| {
        condition(system, "Stalled")
            .is_some_and(|condition| condition["status"] == "True" && condition["reason"] == reason)
    }
}

pub(crate) fn message(system: &Value, kind: &str) -> String {
    condition(system, kind).and_then(|condition| condition["message"].as_str()).unwrap_or_default().to_owned()
}

/// Reconciles once more on request, so that what a user just tried has been considered.
pub(crate) async fn considered(stage: &Stage, user: &str, at: (&str, &str), token: &str) -> anyhow::Result<Value> {
    annotate(stage, user, at, &format!("reconcile-requested-at={token}"))?;
    stage.until(at, "considered", |system| system["status"]["lastHandledReconcileAt"] == token).await
}

async fn owner_of_table(aws: &AwsClients, table: &str) -> anyhow::Result<String> {
    let ports = aws.ports();
    let table = ports.tables.table(table).await?.context("the table")?;
    Ok(ports.tables.tags(&table.arn).await?.get("coactus:system").cloned().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_takes_over_nothing_of_another_namespace() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    tenant(&stage, "team-a", OWNER)?;
    tenant(&stage, "team", TENANT)?;
    let aws = stage.aws().await;
    // The stack of the victim is of an earlier version, whose names two systems could have in common.
    apply(&stage, OWNER, "team-a", &city("seoul", &json!({})))?;
    let object = stage.system("team-a", "seoul").await?.context("the object")?;
    let made = read_manifests(&object.to_string())?;
    let victim = ValidatedSystem::try_from_raw(made.first().context("one system")?)?;
    reconcile(&victim.under_former_names(), &aws.ports(), &Settings::default(), &mut Silent).await?;
    let operator = stage.operator(&[OFTEN]).await?;
    let found = stage.until_ready(("team-a", "seoul")).await?;
    let arn = &found["status"]["stackArn"];
    ensure!(arn.as_str().is_some_and(|arn| arn.contains("stack/coactus-team-a-seoul/")), "{arn}");

    // The names meet no more, and neither annotations nor policies of the own object reach the other stack.
    let grab = json!({ "approvalPolicy": "Auto", "deletionPolicy": "Delete" });
    apply(&stage, TENANT, "team", &city("a-seoul", &grab))?;
    annotate(&stage, TENANT, ("team", "a-seoul"), "adopt=coactus-team-a-seoul")?;
    let taker = stage.until_ready(("team", "a-seoul")).await?;
    ensure!(taker["status"]["stackArn"] != *arn, "{arn} was taken");
    by(&stage, TENANT, &["delete", "-n", "team", "dsys", "a-seoul", "--wait=false"])?;
    stage.until_gone(("team", "a-seoul")).await?;
    let stack = aws.ports().stacks.describe("coactus-team-a-seoul").await?.context("the victim's stack")?;
    assert_eq!(stack.tags.get("coactus:system").map(String::as_str), Some("team-a/seoul"));
    assert_eq!(owner_of_table(&aws, "coactus-team-a-seoul").await?, "team-a/seoul");
    let ready = stage.system("team-a", "seoul").await?.context("the object")?;
    assert_eq!(ready["status"]["stackArn"], *arn);

    kept_data_of_another(&stage, &aws).await?;
    operator.was_never_denied()
}

/// A table that was kept, the default of a deletion, named in `spec.table.name` of another namespace's system.
async fn kept_data_of_another(stage: &Stage, aws: &AwsClients) -> anyhow::Result<()> {
    const KEPT: &str = "coactus-team-a-busan-6";
    apply(stage, OWNER, "team-a", &city("busan", &json!({})))?;
    stage.until_ready(("team-a", "busan")).await?;
    by(stage, OWNER, &["delete", "-n", "team-a", "dsys", "busan", "--wait=false"])?;
    stage.until_gone(("team-a", "busan")).await?;

    let at = ("team", "loot");
    let grab = json!({ "table": { "name": KEPT }, "approvalPolicy": "Auto", "deletionPolicy": "Delete" });
    apply(stage, TENANT, "team", &city("loot", &grab))?;
    annotate(stage, TENANT, at, "adopt=coactus-team-loot")?;
    let refused = stage.until(at, "refused", stalled_for("OwnedByAnother")).await?;
    let text = message(&refused, "Stalled");
    ensure!(text.contains("loot=team-a/busan on namespace team"), "{text}");
    cannot_write_namespace(stage, TENANT, "team")?;
    considered(stage, TENANT, at, "1").await?;
    by(stage, TENANT, &["delete", "-n", "team", "dsys", "loot", "--wait=false"])?;
    stage.until_gone(at).await?;
    stage.until_event(at, "Deleted").await?;
    assert_eq!(owner_of_table(aws, KEPT).await?, "team-a/busan");

    // A name that is free is refused as well, so that no system can wait for another one's data.
    let wait = json!({ "table": { "name": "coactus-team-a-daegu-6" } });
    apply(stage, TENANT, "team", &city("wait", &wait))?;
    stage.until(("team", "wait"), "refused", stalled_for("TableNameNotAllowed")).await?;
    ensure!(aws.ports().stacks.describe("coactus-team-wait").await?.is_none(), "a stack was made");

    // The administrator of the cluster names the taker.
    apply(stage, TENANT, "team", &city("loot", &json!({ "table": { "name": KEPT } })))?;
    annotate(stage, TENANT, at, "adopt=coactus-team-loot")?;
    allow(stage, "team", "adoptions=loot=team-a/busan")?;
    let taken = stage.until_ready(at).await?;
    assert_eq!(taken["status"]["outputs"]["tableName"], KEPT);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_second_person_approves_the_author_cannot() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    tenant(&stage, "second", TENANT)?;
    stage.api.kubectl(&["create", "role", "-n", "second", "approver", "--verb=get,patch", "--resource=namespaces"])?;
    bind(&stage, "second", "approver", APPROVER)?;
    let operator = stage.operator(&[OFTEN, "--require-second-approver"]).await?;
    let (aws, at) = (stage.aws().await, ("second", "seoul"));
    let approve = |what: &str| {
        let approvals = format!("dispatch.coactus.io/approvals=seoul={what}");
        by(&stage, APPROVER, &["annotate", "--overwrite", "namespace", "second", &approvals]).map(drop)
    };
    apply(
        &stage,
        TENANT,
        "second",
        &city("seoul", &json!({ "approvalPolicy": "Always", "deletionPolicy": "Delete" })),
    )?;
    let waits = stage.until(at, "waiting", stalled_for("ApprovalRequired")).await?;
    let plan = waits["status"]["lastPlan"]["id"].as_str().context("a plan")?.to_owned();
    let text = message(&waits, "Stalled");
    ensure!(text.contains(&format!("approvals: seoul={plan} on namespace second")), "{text}");

    annotate(&stage, TENANT, at, &format!("approve={plan}"))?;
    let still = considered(&stage, TENANT, at, "1").await?;
    ensure!(stalled_for("ApprovalRequired")(&still), "{:#}", still["status"]);
    ensure!(aws.ports().tables.table("coactus-second-seoul").await?.is_none());
    cannot_write_namespace(&stage, TENANT, "second")?;
    approve(&plan)?;
    stage.until_ready(at).await?;

    by(&stage, TENANT, &["delete", "-n", "second", "dsys", "seoul", "--wait=false"])?;
    let blocked = stage.until(at, "blocked", |system| {
        condition(system, "DeletionBlocked").is_some_and(|condition| condition["reason"] == "ApprovalRequired")
    });
    let text = message(&blocked.await?, "DeletionBlocked");
    ensure!(text.contains("approvals: seoul=delete on namespace second"), "{text}");
    ensure!(aws.ports().tables.table("coactus-second-seoul").await?.is_some());
    approve("delete")?;
    stage.until_gone(at).await?;
    ensure!(aws.ports().tables.table("coactus-second-seoul").await?.is_none());
    operator.was_never_denied()
}

/// An object of each kind that has the name of a worker object. Its labels may even be those of the operator.
fn foreign_objects() -> [(&'static str, &'static str, Value); 7] {
    let labels = json!({ "app": "other" });
    let rest = |selector: &Value| json!({ "selector": { "matchLabels": selector } });
    [
        (
            "serviceaccount",
            "city1-workers",
            json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "annotations": { "eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/payments" } },
            }),
        ),
        (
            "configmap",
            "city2-workers",
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": { "worker.json": "{\"mine\":1}" },
            }),
        ),
        (
            "networkpolicy",
            "city3-save-dispatch",
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "spec": { "podSelector": { "matchLabels": labels }, "policyTypes": ["Ingress"] },
            }),
        ),
        (
            "service",
            "city4-status-update",
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "labels": {
                    "dispatch.coactus.io/system": "city4", "app.kubernetes.io/managed-by": "dispatch-operator",
                } },
                "spec": { "selector": labels, "ports": [{ "port": 80 }] },
            }),
        ),
        (
            "deployment",
            "city5-save-dispatch",
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": {
                    "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "x", "image": "x" }] },
                } },
            }),
        ),
        ("poddisruptionbudget", "city6-driver-response", {
            let mut spec = rest(&labels);
            spec["minAvailable"] = json!(1);
            json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": spec })
        }),
        (
            "horizontalpodautoscaler",
            "city7-save-dispatch",
            json!({
                "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                "spec": { "maxReplicas": 3, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "o" } },
            }),
        ),
    ]
}

/// What a person wrote of an object: neither its status nor what the API server adds.
fn written(stage: &Stage, kind: &str, name: &str) -> anyhow::Result<Value> {
    let text = stage.api.kubectl(&["get", kind, name, "-n", "tenants", "-o", "json", "--show-managed-fields"])?;
    let mut object: Value = serde_json::from_str(&text)?;
    let managers = object["metadata"]["managedFields"].to_string();
    ensure!(!managers.contains("\"manager\":\"dispatch-operator\""), "{kind} {name}: {managers}");
    let metadata = object["metadata"].as_object_mut().context("metadata")?;
    metadata.retain(|field, _| ["labels", "ownerReferences", "uid"].contains(&field.as_str()));
    object.as_object_mut().context("an object")?.remove("status");
    Ok(object)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_another_owner_with_the_names_of_workers_are_never_touched() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    tenant(&stage, "tenants", TENANT)?;
    let operator = stage.operator(&[OFTEN]).await?;
    let scaled = json!({ "autoscaling": { "minReplicas": 1, "maxReplicas": 2, "targetCpuPercent": 70 } });
    let spec = json!({ "workers": { "roles": { "saveDispatch": scaled } } });
    let mut before = Vec::new();
    for (kind, name, mut object) in foreign_objects() {
        object["metadata"]["name"] = name.into();
        let file = stage.api.file("foreign.json", &object.to_string())?;
        stage.api.kubectl(&["create", "-n", "tenants", "-f", &file])?;
        before.push(written(&stage, kind, name)?);
        let city_name = name.split('-').next().unwrap_or_default();
        apply(&stage, TENANT, "tenants", &city(city_name, &spec))?;
    }
    for ((kind, name, object), before) in foreign_objects().into_iter().zip(before) {
        let city_name = name.split('-').next().unwrap_or_default();
        let at = ("tenants", city_name);
        let stalled = stage.until(at, "stalled", stalled_for("NameTaken")).await?;
        let text = message(&stalled, "Stalled");
        let shown = format!("{} {name}", object["kind"].as_str().unwrap_or_default());
        ensure!(text.contains(&shown) && text.contains("is not changed"), "{text}");
        considered(&stage, TENANT, at, "1").await?;
        assert_eq!(written(&stage, kind, name)?, before, "{kind} {name}");
        if kind == "serviceaccount" {
            let deployments = stage.api.kubectl(&["get", "deployments", "-n", "tenants", "-o", "name"])?;
            ensure!(!deployments.contains("city1-"), "workers run with the account of another: {deployments}");
        }
        // The advice of the message works.
        stage.api.kubectl(&["delete", kind, name, "-n", "tenants"])?;
        stage.until_ready(at).await?;
    }
    operator.was_never_denied()
}
