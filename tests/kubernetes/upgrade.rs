//! What release 0.1.0 left in a cluster and in AWS is taken over: its definition, its objects with their field
//! managers, its stacks, and its worker configurations. `tests/fixtures/release-0.1.0/README.md` says how they were
//! recorded.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use aws_sdk_cloudformation::types::{Capability, StackStatus, Tag};
use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_api::worker_config::WorkerConfig;
use dispatch_tests::support::until;
use serde_json::{Value, json};

use crate::stage::{Stage, condition, file, is_ready, is_true, root};

const NAMESPACE: &str = "mobility";
const SYSTEMS: [&str; 2] = ["new-york", "seoul"];
const FIXTURES: &str = "tests/fixtures/release-0.1.0";
/// What the operator makes in a namespace.
const KINDS: &str = "deployments,services,configmaps,serviceaccounts,poddisruptionbudgets,\
    horizontalpodautoscalers,networkpolicies";

/// Objects by kind and name.
type Objects = BTreeMap<(String, String), Value>;

fn recorded(name: &str) -> anyhow::Result<Value> {
    let path = root().join(FIXTURES).join(name);
    serde_json::from_str(&std::fs::read_to_string(&path)?).with_context(|| path.display().to_string())
}

fn text<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer} in {value}"))
}

/// Creates the systems with their status, and returns the UIDs they had and have.
fn restore_systems(stage: &Stage, objects: &[Value]) -> anyhow::Result<Vec<(String, String)>> {
    let mut uids = Vec::new();
    for system in objects.iter().filter(|object| object["kind"] == "DispatchSystem") {
        let name = text(system, "/metadata/name")?;
        let path = stage.api.file("system.json", &system.to_string())?;
        stage.api.kubectl(&["create", "-n", NAMESPACE, "-f", &path])?;
        let status = json!({ "status": system["status"] }).to_string();
        let of_system = ["-n", NAMESPACE, "dsys", name];
        stage
            .api
            .kubectl(&[&["patch", "--subresource=status", "--type=merge", "-p", &status][..], &of_system].concat())?;
        let uid = stage.api.kubectl(&[&["get", "-o", "jsonpath={.metadata.uid}"][..], &of_system].concat())?;
        uids.push((text(system, "/metadata/uid")?.to_owned(), uid));
    }
    Ok(uids)
}

/// Creates the workers' objects, controlled by the restored systems.
fn restore_children(stage: &Stage, objects: &[Value], uids: &[(String, String)]) -> anyhow::Result<()> {
    let children: Vec<&Value> = objects.iter().filter(|object| object["kind"] != "DispatchSystem").collect();
    ensure!(children.len() > 20, "{} objects", children.len());
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": children }).to_string();
    let list = uids.iter().fold(list, |list, (former, now)| list.replace(former, now));
    stage.api.kubectl(&["create", "-n", NAMESPACE, "-f", &stage.api.file("children.json", &list)?])?;
    Ok(())
}

async fn restore_stacks(stage: &Stage, uids: &[(String, String)]) -> anyhow::Result<()> {
    let cloudformation = aws_sdk_cloudformation::Client::new(stage.aws().await.config());
    for system in SYSTEMS {
        let stack = recorded(&format!("stack-{system}.json"))?;
        let name = text(&stack, "/stackName")?;
        let mut create = cloudformation
            .create_stack()
            .stack_name(name)
            .template_body(stack["template"].to_string())
            .capabilities(Capability::CapabilityNamedIam);
        for tag in stack["tags"].as_array().into_iter().flatten() {
            let value = text(tag, "/Value")?;
            let value = uids.iter().find(|(former, _)| former == value).map_or(value, |(_, now)| now);
            create = create.tags(Tag::builder().key(text(tag, "/Key")?).value(value).build());
        }
        create.send().await?;
        until(&format!("{name} to be complete"), async || {
            let found = cloudformation.describe_stacks().stack_name(name).send().await.ok()?;
            (found.stacks().first()?.stack_status() == Some(&StackStatus::CreateComplete)).then_some(())
        })
        .await;
    }
    Ok(())
}

/// Puts what 0.1.0 left into the cluster and into AWS, and returns the UIDs that the systems had and have.
async fn restore(stage: &Stage) -> anyhow::Result<Vec<(String, String)>> {
    stage.namespace(NAMESPACE)?;
    let key = json!({
        "type": "service_account", "project_id": "a", "private_key": "b", "client_email": "c",
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    let key = format!("--from-literal=key.json={key}");
    stage.api.kubectl(&["create", "secret", "generic", "push", "-n", NAMESPACE, &key])?;
    let objects = recorded("objects.json")?;
    let objects = objects["items"].as_array().context("a list")?;
    let uids = restore_systems(stage, objects)?;
    restore_children(stage, objects, &uids)?;
    restore_stacks(stage, &uids).await?;
    Ok(uids)
}

/// The objects of the workers, by kind and name.
fn workers(stage: &Stage) -> anyhow::Result<Objects> {
    let list = stage.api.kubectl(&["get", KINDS, "-n", NAMESPACE, "-o", "json"])?;
    let list: Value = serde_json::from_str(&list)?;
    let mut found = BTreeMap::new();
    for object in list["items"].as_array().context("a list")? {
        let name = text(object, "/metadata/name")?;
        if SYSTEMS.iter().any(|system| name.starts_with(system)) {
            found.insert((text(object, "/kind")?.to_owned(), name.to_owned()), object.clone());
        }
    }
    Ok(found)
}

/// Where a passenger's profile is, in a table of 0.1.0.
fn profile() -> [(&'static str, AttributeValue); 2] {
    [("PK", AttributeValue::S("user#00001".to_owned())), ("SK", AttributeValue::S("PROFILE".to_owned()))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_systems_of_0_1_0_are_taken_over_in_place() -> anyhow::Result<()> {
    let definition = file(&format!("{FIXTURES}/crd.yaml"));
    let Some(stage) = Stage::set_with("cluster-wide", |api| api.apply_crd(&definition)).await? else { return Ok(()) };
    let uids = restore(&stage).await?;
    let before = workers(&stage)?;
    let dynamodb = aws_sdk_dynamodb::Client::new(stage.aws().await.config());
    let table = text(&recorded("stack-new-york.json")?, "/template/Resources/Table/Properties/TableName")?.to_owned();
    let put =
        profile().into_iter().fold(dynamodb.put_item().table_name(&table), |put, (name, key)| put.item(name, key));
    put.send().await?;

    // As docs/operating.md says: the definition first, then the operator.
    stage.api.kubectl(&["apply", "--server-side", "-f", &file("manifests/crd.yaml")])?;
    let operator = stage.operator(&["--resync-seconds=2"]).await?;
    for system in SYSTEMS {
        // 0.1.0 left it ready, but without this condition.
        let ready = |system: &Value| is_ready(system) && is_true(system, "Available");
        stage.until((NAMESPACE, system), "ready and available", ready).await?;
    }

    // Nothing was deleted in AWS, and the data is where it was.
    let calls = operator.aws.writes();
    let deletions: Vec<String> =
        calls.iter().map(ToString::to_string).filter(|call| call.contains("DeleteStack")).collect();
    ensure!(deletions.is_empty(), "{deletions:?}");
    let get = profile().into_iter().fold(dynamodb.get_item().table_name(&table), |get, (name, key)| get.key(name, key));
    ensure!(get.send().await?.item.is_some(), "the table was replaced");
    for system in SYSTEMS {
        let stack = recorded(&format!("stack-{system}.json"))?;
        let now = stage.system(NAMESPACE, system).await?.context("the system")?;
        let arn = text(&now, "/status/stackArn")?;
        ensure!(arn.contains(&format!(":stack/{}/", text(&stack, "/stackName")?)), "{arn}");
        ensure!(condition(&now, "Stalled").is_none_or(|stalled| stalled["status"] != "True"), "{now:#}");
    }

    objects_are_kept(&stage, &before, &uids).await
}

/// Deployments, Services and the like are the objects they were, and everything is controlled by the restored systems.
async fn objects_are_kept(stage: &Stage, before: &Objects, uids: &[(String, String)]) -> anyhow::Result<()> {
    // Deployments and Services were changed in place: selectors cannot be changed, and another object would lose calls.
    let after = workers(stage)?;
    let mut kept = BTreeSet::new();
    for (id, object) in before {
        let Some(now) = after.get(id) else { continue };
        kept.insert(id.0.as_str());
        assert_eq!(now["metadata"]["uid"], object["metadata"]["uid"], "{id:?} was created again");
        assert_eq!(now["spec"]["selector"], object["spec"]["selector"], "{id:?}");
    }
    for kind in ["Deployment", "Service", "ConfigMap", "PodDisruptionBudget", "HorizontalPodAutoscaler"] {
        ensure!(kept.contains(kind), "no {kind} was kept");
    }
    // Policies add up: the former one, of all roles, would still allow what those of the single roles do not.
    let former = ("NetworkPolicy".to_owned(), "seoul-workers".to_owned());
    ensure!(before.contains_key(&former), "{former:?}");
    let is_gone = async || workers(stage).is_ok_and(|now| !now.contains_key(&former)).then_some(());
    until("the former network policy to go", is_gone).await;
    let controllers: BTreeSet<&str> = uids.iter().map(|(_, now)| now.as_str()).collect();
    for (id, object) in &after {
        let controller = object["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap_or_default();
        ensure!(controllers.contains(controller), "{id:?} is controlled by {controller:?}");
    }
    Ok(())
}

/// During the roll-out, workers of this release may read what the operator of 0.1.0 wrote.
#[test]
fn the_worker_configurations_of_0_1_0_are_read() -> anyhow::Result<()> {
    let objects = recorded("objects.json")?;
    let mut read = 0;
    for object in objects["items"].as_array().context("a list")? {
        for (name, text) in object["data"].as_object().into_iter().flatten() {
            if object["kind"] == "ConfigMap" && name == "worker.json" {
                let text = text.as_str().context("a text")?;
                WorkerConfig::read(text).with_context(|| format!("{}: {name}", object["metadata"]["name"]))?;
                read += 1;
            }
        }
    }
    assert_eq!(read, SYSTEMS.len());
    Ok(())
}
