//! What happens to the system while its operator is disturbed.

use dispatch_api::annotations::ADOPT;
use dispatch_api::names::ResourceNames;
use dispatch_operator::engine::plan::workers::{MANAGED_BY, SYSTEM_LABEL};
use dispatch_operator::testing::fcm_key;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::bench::{Bench, Ended, NAME, Run};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// From nothing to ready.
    Create,
    /// A change of resources, tags, worker settings and replicas, a role that gets an autoscaler, and an obsolete
    /// worker object of an older release.
    Update,
    /// A new FCM key.
    Rotate,
    /// Manual changes of table, backups, queues, a Deployment and a Service.
    Drift,
    /// Adoption of the stack of an object that is gone.
    Adopt,
    /// A new stack that imports the retained table and bucket of an earlier one.
    Import,
    /// Deletion that retains the data.
    DeleteRetain,
    /// Deletion including the data.
    DeleteAll,
    /// Deletion in the middle of the creation, while the operator is dead.
    CutShort,
}

impl Scenario {
    /// All scenarios.
    pub(super) const ALL: [Self; 9] = [
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

    /// Name in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Rotate => "rotate the FCM key",
            Self::Drift => "correct drift",
            Self::Adopt => "adopt a stack",
            Self::Import => "import retained data",
            Self::DeleteRetain => "delete, retain",
            Self::DeleteAll => "delete with data",
            Self::CutShort => "create, deleted meanwhile",
        }
    }

    /// Events that must be published, because they report the outcome. Others report intermediate states and may be
    /// missed.
    pub(super) fn required_events(self) -> &'static [&'static str] {
        match self {
            Self::Create | Self::Import => &["StackCreated", "WorkersReady", "Ready"],
            Self::Update | Self::Rotate => &["StackUpdated", "Ready"],
            Self::Adopt => &["Ready"],
            Self::DeleteRetain | Self::DeleteAll => &["Deleted"],
            Self::Drift | Self::CutShort => &[],
        }
    }

    /// Brings the system and the account into the initial state of the scenario.
    pub(super) async fn prepare(self, bench: &Bench, run: &Run) -> anyhow::Result<()> {
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

    /// Makes the change that the disturbed operator has to handle.
    pub(super) async fn begin(self, bench: &Bench, run: &Run) -> anyhow::Result<()> {
        match self {
            Self::Create | Self::CutShort | Self::Import => bench.create_system(&spec(self), &json!({})).await,
            Self::Adopt => {
                let stack = ResourceNames::prefix(&bench.namespace, NAME);
                bench.create_system(&spec(self), &json!({ ADOPT: stack })).await
            }
            Self::Update => {
                create_obsolete_object(bench).await?;
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
                change_workers_by_hand(bench).await
            }
            Self::DeleteRetain | Self::DeleteAll => bench.delete_system().await,
        }
    }
}

/// Runs one operator until it has nothing left to do.
async fn until_rest(bench: &Bench, run: &Run) -> anyhow::Result<()> {
    let (ended, _) = bench.operate(run, None).await?;
    anyhow::ensure!(ended == Ended::AtRest, "the operator was killed without a fault");
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
        "workers": { "roles": {
            "dispatchAlgorithm": { "replicas": 3 },
            "statusUpdate": { "autoscaling": { "minReplicas": 1, "maxReplicas": 4 } },
        } },
    })
}

/// Creates a worker object that only an older release would have.
async fn create_obsolete_object(bench: &Bench) -> anyhow::Result<()> {
    let system = bench.system().await?.unwrap_or_else(|| unreachable!("the system was created"));
    let object: ConfigMap = serde_json::from_value(json!({ "metadata": {
        "name": format!("{NAME}-older"),
        "labels": { SYSTEM_LABEL: NAME, "app.kubernetes.io/managed-by": MANAGED_BY },
        "ownerReferences": [{
            "apiVersion": "dispatch.coactus.io/v1alpha1", "kind": "DispatchSystem", "name": NAME,
            "uid": system.metadata.uid, "controller": true,
        }],
    } }))?;
    bench.all::<ConfigMap>().create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Changes a Deployment and deletes a Service, as a user would.
async fn change_workers_by_hand(bench: &Bench) -> anyhow::Result<()> {
    let patch = json!({ "spec": { "replicas": 7 } });
    let params = PatchParams::default();
    bench.all::<Deployment>().patch(&format!("{NAME}-status-update"), &params, &Patch::Merge(&patch)).await?;
    bench.all::<Service>().delete(&format!("{NAME}-save-dispatch"), &DeleteParams::default()).await?;
    Ok(())
}
