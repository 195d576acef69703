//! Changes every field of the spec, gives it invalid values, and reverts it.
//!
//! A valid value takes effect and makes a difference. An invalid one is rejected with the field's name, by the API
//! server or by the operator, and has no effect. After the revert everything is as before. A sequence of changes ends
//! in the same state as a new object with the last spec. Fields, types and limits come from the schema, so a new field
//! is covered automatically.

mod account;
mod city;
mod schema;
mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use dispatch_api::validate::ValidatedSystem;
use dispatch_tests::apiserver::ApiServer;
use futures::future::join_all;
use kube::core::ObjectMeta;
use serde_json::{Value, json};

use account::Accounts;
use city::{Bench, City};
use schema::{Node, nodes};

/// Counts of one group of fields.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    fields: usize,
    changes: usize,
    reached: usize,
    silent: usize,
    wrong: usize,
    by_server: usize,
    pruned: usize,
    by_operator: usize,
    reverted: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.fields += other.fields;
        self.changes += other.changes;
        self.reached += other.reached;
        self.silent += other.silent;
        self.wrong += other.wrong;
        self.by_server += other.by_server;
        self.pruned += other.pruned;
        self.by_operator += other.by_operator;
        self.reverted += other.reverted;
    }
}

/// One object and the fields that are tested on it, one after another.
struct Lane {
    city: City,
    base: Value,
    first: Value,
    tally: Tally,
    wrong: Vec<String>,
}

impl Lane {
    async fn open(bench: &Bench, stage: &str) -> anyhow::Result<Self> {
        Box::pin(Self::open_with(bench, stage, values::stage(stage))).await
    }

    async fn open_with(bench: &Bench, stage: &str, base: Value) -> anyhow::Result<Self> {
        let mut city = City::start(bench, stage, &base).await?;
        city.settle().await.with_context(|| format!("{stage} at the beginning"))?;
        let first = city.state().await?;
        Ok(Self { city, base, first, tally: Tally::default(), wrong: Vec::new() })
    }

    fn complain(&mut self, text: &str) {
        self.wrong.push(format!("{}: {text}", self.city.name()));
    }

    /// Tests one node with all its values.
    async fn node(&mut self, node: &Node) -> anyhow::Result<()> {
        self.tally.fields += 1;
        let name = node.name();
        // The stored object contains the defaults.
        let now = node.get(&self.city.stored().await?.data["spec"]);
        let changes = node.is_leaf() && !values::FIXED.contains(&name.as_str());
        let right = if changes { values::right(node, &now) } else { vec![now.clone()] };
        if right.is_empty() {
            self.complain(&format!("{name} has no valid value other than the current one; add one to values.rs"));
            return Ok(());
        }
        let wrong = node.wrong(&now, &right[0]).into_iter();
        for (kind, value) in wrong.chain(values::wrong(&name).into_iter().map(|value| ("meaning", value))) {
            Box::pin(self.wrong_value(node, kind, &value))
                .await
                .with_context(|| format!("{name}: {kind}: {value:.60}"))?;
        }
        if !changes {
            return Ok(());
        }
        let mut before = self.first.clone();
        for value in right {
            before = Box::pin(self.right_value(node, &value, before))
                .await
                .with_context(|| format!("{name}: {value:.60}"))?;
        }
        self.city.change(&self.base.clone()).await?;
        self.city.settle().await.with_context(|| format!("{name} after the revert"))?;
        self.is_as_first(&format!("{name} after the revert")).await?;
        self.tally.reverted += 1;
        Ok(())
    }

    async fn is_as_first(&mut self, when: &str) -> anyhow::Result<()> {
        let state = self.city.state().await?;
        let differences = differences(&self.first, &state);
        if !differences.is_empty() {
            self.complain(&format!("{when}: {}", differences.join("; ")));
        }
        Ok(())
    }

    /// A rejected change has no effect, and the last good state is kept.
    async fn is_untouched(&mut self, what: &str) -> anyhow::Result<()> {
        let state = self.city.state().await?;
        for part in ["account", "children"] {
            for difference in differences(&self.first[part], &state[part]) {
                self.complain(&format!("{what}: it was rejected but took effect: {difference}"));
            }
        }
        if state["status"]["outputs"] != self.first["status"]["outputs"] {
            self.complain(&format!("{what}: the last good outputs are gone"));
        }
        Ok(())
    }

    async fn right_value(&mut self, node: &Node, value: &Value, before: Value) -> anyhow::Result<Value> {
        let name = node.name();
        self.tally.changes += 1;
        self.city.change(&changed(node, &self.base, value)).await?;
        self.city.settle().await?;
        let after = self.city.state().await?;
        match (before == after, values::silent(&name)) {
            (false, None) => self.tally.reached += 1,
            (true, Some(_)) => self.tally.silent += 1,
            (true, None) => self.complain(&format!("{name}: {value} makes no difference")),
            (false, Some(_)) => self.complain(&format!("{name} is listed as silent but makes a difference")),
        }
        Ok(after)
    }

    async fn wrong_value(&mut self, node: &Node, kind: &str, value: &Value) -> anyhow::Result<()> {
        let name = node.name();
        self.tally.wrong += 1;
        let last = node.path.iter().rev().find(|name| *name != "[]").cloned().unwrap_or_default();
        let before = self.city.stored().await?.data["spec"].clone();
        let shown = format!("{name}: {kind}: {value:.60}");
        let stored = match self.city.put(&node.set(&before, value)).await? {
            Err(message) => {
                self.tally.by_server += 1;
                if !message.contains(&last) {
                    self.complain(&format!("{shown}: the API server does not name it: {message:.200}"));
                }
                return Ok(());
            }
            Ok(stored) => stored,
        };
        if stored.data["spec"] == before {
            // An unknown field was pruned, or a missing field got its default.
            self.tally.pruned += 1;
            return Ok(());
        }
        let _ = self.city.take_mutations();
        let status = self.city.reconcile().await?;
        match City::stalled(&status).filter(|stalled| stalled.starts_with("InvalidSpec: ")) {
            Some(message) if message.contains(&format!("spec.{}", node.path[0])) && message.contains(&last) => {
                self.tally.by_operator += 1;
            }
            Some(message) => self.complain(&format!("{shown}: the operator does not name it: {message:.200}")),
            None => self.complain(&format!("{shown}: it is not rejected")),
        }
        let mutations = self.city.take_mutations();
        if !mutations.is_empty() {
            self.complain(&format!("{shown}: it was rejected, but AWS was changed by {mutations:?}"));
        }
        self.is_untouched(&shown).await?;
        self.city.change(&self.base.clone()).await?;
        self.city.settle().await?;
        self.is_as_first(&format!("{shown} after the revert")).await
    }

    /// Applies all changes one after another, and compares the result with a new object that has the last spec.
    async fn sequence(mut self, nodes: &[&Node]) -> anyhow::Result<(Tally, Vec<String>)> {
        let mut spec = self.base.clone();
        for node in nodes.iter().filter(|node| node.is_leaf() && !values::FIXED.contains(&node.name().as_str())) {
            let now = node.get(&self.city.stored().await?.data["spec"]);
            let Some(value) = values::right(node, &now).pop() else { continue };
            let next = changed(node, &spec, &value);
            // With these values the rest of the sequence would have no effect.
            let waits =
                next["suspend"] == true || next["managementPolicy"] == "Observe" || next["approvalPolicy"] == "Always";
            if waits || !is_right(&next) {
                continue;
            }
            spec = next;
            self.city.change(&spec).await?;
            self.city.settle().await.with_context(|| format!("{} in the sequence", node.name()))?;
        }
        let reached = self.city.state().await?;
        let name = self.city.name().to_owned();
        let mut fresh = self.city.replace(&spec).await?;
        fresh.settle().await.context("a new object with the last spec")?;
        for difference in differences(&reached, &fresh.state().await?) {
            self.wrong.push(format!("{name}: a new object ends in a different state: {difference}"));
        }
        Ok((self.tally, self.wrong))
    }
}

/// `spec` with another value in a field, and without the fields that are incompatible with it.
fn changed(node: &Node, spec: &Value, value: &Value) -> Value {
    let mut changed = node.set(spec, value);
    for neighbour in values::removes(&node.name()) {
        let mut path = node.path.clone();
        path.pop();
        path.push((*neighbour).to_owned());
        changed = Node { path, ..node.clone() }.set(&changed, &Value::Null);
    }
    changed
}

fn is_right(spec: &Value) -> bool {
    let metadata = ObjectMeta { name: Some("a".to_owned()), namespace: Some("b".to_owned()), ..ObjectMeta::default() };
    ValidatedSystem::of_object(&metadata, spec).is_ok()
}

/// Descriptions of the differences between two values.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    fn compare(at: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
        match (before, after) {
            (Value::Object(a), Value::Object(b)) => {
                for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                    compare(&format!("{at}/{key}"), &before[key], &after[key], found);
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                a.iter().zip(b).enumerate().for_each(|(i, (a, b))| compare(&format!("{at}/{i}"), a, b, found));
            }
            _ if before != after => found.push(format!("{at}: {before:.300} became {after:.300}")),
            _ => {}
        }
    }
    let mut found = Vec::new();
    compare("", before, after, &mut found);
    found
}

fn schema() -> anyhow::Result<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crd.yaml");
    let crd: Value = serde_yaml::from_str(&std::fs::read_to_string(path)?)?;
    Ok(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
}

/// The definitions of all kinds that a system may need.
fn definitions(server: &ApiServer) -> anyhow::Result<()> {
    server.install_crd()?;
    let gateway_api = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/gateway-api/httproutes.yaml");
    server.kubectl(&["apply", "-f", &gateway_api.display().to_string()]).map(drop)
}

fn secrets(server: &ApiServer) -> anyhow::Result<()> {
    let mut all = String::new();
    for (name, _) in values::SECRETS {
        let mut data = BTreeMap::new();
        for (_, key) in values::SECRETS {
            let push = json!({
                "type": "service_account", "project_id": format!("{name}-{key}"), "private_key": "none",
                "client_email": "push@example.com", "token_uri": "https://oauth2.googleapis.com/token",
            });
            let token = format!("a-token-of-{name}-and-{key}");
            data.insert(key, if name.starts_with("push") { push.to_string() } else { token });
        }
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data,
        });
        write!(all, "---\n{secret}\n")?;
    }
    for (name, _) in values::CONFIG_MAPS {
        let data: BTreeMap<&str, &str> = values::CONFIG_MAPS.iter().map(|(_, key)| (*key, "a certificate")).collect();
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data });
        write!(all, "---\n{map}\n")?;
    }
    let file = server.file("secrets.yaml", &all)?;
    server.kubectl(&["create", "-f", &file]).map(drop)
}

async fn lane(bench: Bench, stage: String, nodes: Vec<&Node>) -> anyhow::Result<(String, Tally, Vec<String>)> {
    let mut lane = Box::pin(Lane::open(&bench, &stage)).await?;
    for node in &nodes {
        Box::pin(lane.node(node)).await.with_context(|| stage.clone())?;
    }
    let (tally, wrong) = Box::pin(lane.sequence(&nodes)).await.with_context(|| stage.clone())?;
    Ok((stage, tally, wrong))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_takes_effect_or_is_rejected_and_can_be_reverted() -> anyhow::Result<()> {
    let Some(server) = ApiServer::start().await? else { return Ok(()) };
    definitions(&server)?;
    secrets(&server)?;
    let bench = Bench { client: client(&server).await?, accounts: Arc::new(Accounts::default()) };
    let all = nodes(&schema()?["properties"]["spec"]);
    let mut stages: BTreeMap<String, Vec<&Node>> = BTreeMap::new();
    for node in &all {
        stages.entry(values::stage_of(node)).or_default().push(node);
    }
    let lanes = stages.into_iter().map(|(stage, nodes)| lane(bench.clone(), stage, nodes));
    let (mut whole, mut wrong) = (Tally::default(), Vec::new());
    println!("{:<18}{}", "fields of", HEAD.map(|head| format!("{head:>10}")).concat());
    for result in join_all(lanes).await {
        match result {
            Ok((stage, tally, complaints)) => {
                println!("{stage:<18}{}", row(&tally));
                whole.add(tally);
                wrong.extend(complaints);
            }
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    println!("{:<18}{}", "all", row(&whole));
    assert!(wrong.is_empty(), "{} faults\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(whole.fields, all.len());
    Ok(())
}

/// The validation rules reject these changes. The operator rejects them in any case, as after an upgrade of the
/// definition that did not have the rules.
#[tokio::test(flavor = "multi_thread")]
async fn immutable_fields_are_rejected_with_and_without_validation_rules() -> anyhow::Result<()> {
    let Some(server) = ApiServer::start().await? else { return Ok(()) };
    definitions(&server)?;
    let bench = Bench { client: client(&server).await?, accounts: Arc::new(Accounts::default()) };
    let mut base = values::stage("fixed");
    base["aws"] = json!({ "accountId": "000000000000" });
    let mut lane = Box::pin(Lane::open_with(&bench, "fixed", base.clone())).await?;
    let all = nodes(&schema()?["properties"]["spec"]);
    let changes = values::FIXED.map(|name| (name, all.iter().find(|node| node.name() == name)));
    for (name, node) in changes {
        let node = node.with_context(|| format!("{name} is not a field"))?;
        let answer = lane.city.put(&node.set(&base, &values::other(name))).await?.map(|_| "it is accepted");
        let message = answer.err().unwrap_or_default();
        assert!(message.contains(&format!("spec.{name}: ")) && message.contains("immutable"), "{name}: {message}");
    }
    server.install_lax_crd().await?;
    for (name, node) in changes {
        let node = node.with_context(|| format!("{name} is not a field"))?;
        let _ = lane.city.take_mutations();
        lane.city.change(&node.set(&base, &values::other(name))).await?;
        let status = lane.city.reconcile().await?;
        let stalled = City::stalled(&status).unwrap_or_default();
        assert!(stalled.contains(name), "{name}: {stalled}");
        assert!(lane.city.take_mutations().is_empty(), "{name}");
        lane.is_untouched(name).await?;
        lane.city.change(&base).await?;
        lane.city.settle().await?;
        lane.is_as_first(&format!("{name} after the revert")).await?;
    }
    assert_eq!(lane.wrong, [""; 0]);
    // A deletion uses the region of the stack, even if the spec has changed since.
    let moved = json!("us-east-1");
    let mut elsewhere = base.clone();
    elsewhere["region"] = moved;
    lane.city.change(&elsewhere).await?;
    server.restore_crd().await?;
    Box::pin(lane.city.remove()).await?;
    assert_eq!(bench.accounts.asked("fixed").0, "ap-northeast-2");
    Ok(())
}

const HEAD: [&str; 9] = ["fields", "changes", "reached", "silent", "wrong", "by schema", "pruned", "by us", "reverted"];

fn row(tally: &Tally) -> String {
    let Tally { fields, changes, reached, silent, wrong, by_server, pruned, by_operator, reverted } = *tally;
    [fields, changes, reached, silent, wrong, by_server, pruned, by_operator, reverted]
        .map(|count| format!("{count:>10}"))
        .concat()
}

async fn client(server: &ApiServer) -> anyhow::Result<kube::Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(server.kubeconfig())?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
    kube::Client::try_from(config).map_err(|error| anyhow!(error))
}
