//! What happens to the system while its operator is in trouble.

use dispatch_api::annotations::ADOPT;
use dispatch_operator::engine::plan::workers::{MANAGED_BY, SYSTEM_LABEL};
use dispatch_operator::testing::fcm_key;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::bench::{Bench, Ended, NAME, Run};

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// From nothing to ready.
    Create,
    /// Other resources, tags, worker settings and replicas; a worker object of an older release is wanted no more.
    Update,
    /// Another key of FCM.
    Rotate,
    /// Table, backups, queues, a Deployment and a Service were changed by hand.
    Drift,
    /// A stack of an object that is gone, taken over on request.
    Adopt,
    /// A new stack with the table and bucket an earlier one has kept.
    Import,
    /// The object is deleted and its data stay.
    DeleteRetain,
    /// The object is deleted with its data.
    DeleteAll,
    /// The object is deleted while its operator is dead, in the middle of its creation.
    CutShort,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Create,
        Self::Update,
        Self::Rotate,
        Self::Drift,
        Self::Adopt,
        Self::Import,
        Self::DeleteRetain,
        Self::DeleteAll,
        Self::CutShort,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Rotate => "rotate the FCM key",
            Self::Drift => "correct drift",
            Self::Adopt => "adopt a stack",
            Self::Import => "import kept data",
            Self::DeleteRetain => "delete, retain",
            Self::DeleteAll => "delete with data",
            Self::CutShort => "create, deleted meanwhile",
        }
    }

    /// Events without which somebody would not know what became of the system. Others tell of what was seen on the way.
    pub fn must_tell(self) -> &'static [&'static str] {
        match self {
            Self::Create | Self::Import => &["StackCreated", "WorkersReady", "Ready"],
            Self::Update | Self::Rotate => &["StackUpdated", "Ready"],
            Self::Adopt => &["Ready"],
            Self::DeleteRetain | Self::DeleteAll => &["Deleted"],
            Self::Drift | Self::CutShort => &[],
        }
    }

    /// Brings system and account to where the scenario begins.
    pub async fn prepare(self, bench: &Bench, run: &Run) -> anyhow::Result<()> {
        run.world.stacks.compute_slowly();
        bench.put_key(fcm_key().expose_secret()).await?;
        if matches!(self, Self::Create | Self::CutShort) {
            return Ok(());
        }
        let quiet = Run { world: run.world.clone(), prepares: true, ..Run::default() };
        bench.create_system(&spec(self), &json!({})).await?;
        until_rest(bench, &quiet).await?;
        match self {
            Self::Adopt => bench.lose_system().await?,
            Self::Import => {
                bench.delete_system().await?;
                until_rest(bench, &quiet).await?;
                bench.lose_children().await?;
            }
            Self::DeleteAll => run.world.put_objects(1500),
            _ => {}
        }
        Ok(())
    }

    /// What a person, or the world, does; the operator that sees it is the one in trouble.
    pub async fn begin(self, bench: &Bench, run: &Run) -> anyhow::Result<()> {
        match self {
            Self::Create | Self::CutShort | Self::Import => bench.create_system(&spec(self), &json!({})).await,
            Self::Adopt => {
                let stack = format!("coactus-{}-{NAME}", bench.namespace);
                bench.create_system(&spec(self), &json!({ ADOPT: stack })).await
            }
            Self::Update => {
                leave_behind(bench).await?;
                bench.change_system(&json!({ "spec": changed() })).await
            }
            Self::Rotate => {
                let other = fcm_key().expose_secret().replace("not a key", "another key");
                bench.put_key(&other).await
            }
            Self::Drift => {
                run.world.disable_recovery();
                run.world.change_visibility(45);
                run.world.change_table(|table| table.deletion_protection = false);
                meddle(bench).await
            }
            Self::DeleteRetain | Self::DeleteAll => bench.delete_system().await,
        }
    }
}

/// Runs one operator to its rest.
async fn until_rest(bench: &Bench, run: &Run) -> anyhow::Result<()> {
    let (ended, _) = bench.operate(run, None).await?;
    anyhow::ensure!(ended == Ended::AtRest, "nobody killed it");
    Ok(())
}

fn spec(scenario: Scenario) -> Value {
    let policy = if scenario == Scenario::DeleteAll { "Delete" } else { "Retain" };
    json!({
        "city": "seoul", "region": "ap-northeast-2", "timezone": "Asia/Seoul", "deletionPolicy": policy,
        "notifications": { "fcm": { "serviceAccountSecretRef": { "name": "fcm", "key": "key.json" } } },
    })
}

fn changed() -> Value {
    json!({
        "cache": { "nodeType": "cache.r7g.large" },
        "aws": { "tags": { "team": "dispatch" } },
        "dispatch": { "maxAttempts": 7 },
        "workers": { "roles": { "dispatchAlgorithm": { "replicas": 3 } } },
    })
}

/// A worker object that an older release made.
async fn leave_behind(bench: &Bench) -> anyhow::Result<()> {
    let system = bench.system().await?.unwrap_or_else(|| unreachable!("it was made"));
    let object: ConfigMap = serde_json::from_value(json!({ "metadata": {
        "name": format!("{NAME}-older"),
        "labels": { SYSTEM_LABEL: NAME, "app.kubernetes.io/managed-by": MANAGED_BY },
        "ownerReferences": [{
            "apiVersion": "dispatch.coactus.io/v1alpha1", "kind": "DispatchSystem", "name": NAME,
            "uid": system.metadata.uid,
        }],
    } }))?;
    bench.all::<ConfigMap>().create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Somebody changes a Deployment and removes a Service.
async fn meddle(bench: &Bench) -> anyhow::Result<()> {
    let patch = json!({ "spec": { "replicas": 7 } });
    let params = PatchParams::default();
    bench.all::<Deployment>().patch(&format!("{NAME}-status-update"), &params, &Patch::Merge(&patch)).await?;
    bench.all::<Service>().delete(&format!("{NAME}-save-dispatch"), &DeleteParams::default()).await?;
    Ok(())
}
