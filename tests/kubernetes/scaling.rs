//! Roles that get an autoscaler and lose it again, with the controllers of Kubernetes: no step stops a worker that
//! should run.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use futures::TryStreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::stage::{LOOK_EVERY, SOON, Stage, city};

const AT: (&str, &str) = ("scale", "seoul");
const DEPLOYMENT: &str = "seoul-save-dispatch";

/// Every number of replicas that a Deployment has had since [`Replicas::take`], as a watch shows them.
struct Replicas {
    seen: Arc<Mutex<Vec<i32>>>,
    watching: JoinHandle<()>,
}

impl Replicas {
    fn watch(client: Client) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let api: Api<Deployment> = Api::namespaced(client, AT.0);
        let named = watcher::Config::default().fields(&format!("metadata.name={DEPLOYMENT}"));
        let note = Arc::clone(&seen);
        let watching = tokio::spawn(async move {
            let stream = watcher(api, named).default_backoff().applied_objects();
            let all = stream.try_for_each(|deployment| {
                note.lock().push(deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1));
                std::future::ready(Ok(()))
            });
            // A watch that ends is noticed by the test: it waits for a number.
            let _ = all.await;
        });
        Self { seen, watching }
    }

    /// Waits until the watch has shown this number, and returns all numbers until now.
    async fn until(&self, wanted: i32) -> anyhow::Result<Vec<i32>> {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let seen = self.seen.lock().clone();
            if seen.last() == Some(&wanted) {
                return Ok(seen);
            }
            ensure!(tokio::time::Instant::now() < deadline, "not {wanted} replicas within {SOON:?}: {seen:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Forgets all numbers but the last.
    fn forget(&self) {
        let mut seen = self.seen.lock();
        let last = seen.pop();
        seen.clear();
        seen.extend(last);
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn role(scaling: &Value) -> Value {
    json!({ "workers": { "roles": { "saveDispatch": scaling } } })
}

struct Scene<'a> {
    stage: &'a Stage,
    replicas: Replicas,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_takes_over_what_runs_and_no_step_goes_below_it() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    let operator = stage.operator(&["--resync-seconds=2"]).await?;
    stage.namespace(AT.0)?;
    let scene = Scene { stage: &stage, replicas: Replicas::watch(stage.client.clone()) };
    scene.a_fixed_number_becomes_autoscaled_without_a_dip().await?;
    scene.the_number_belongs_to_the_autoscaler_from_then_on().await?;
    scene.a_resumed_role_starts_with_its_lower_bound().await?;
    scene.a_fixed_number_is_taken_back().await?;
    scene.a_new_role_starts_with_its_lower_bound().await?;
    operator.was_never_denied()
}

impl Scene<'_> {
    /// Changes the role, and waits until the operator is done with it.
    async fn change(&self, spec: &Value) -> anyhow::Result<()> {
        self.replicas.forget();
        self.stage.patch(AT.0, AT.1, &json!({ "spec": spec }))?;
        self.stage.until_ready(AT).await.map(drop)
    }

    /// Field managers that applied or updated the replicas.
    fn managers(&self) -> anyhow::Result<Vec<String>> {
        let get = ["get", "deployment", "-n", AT.0, DEPLOYMENT, "--show-managed-fields", "--output=json"];
        let found: Value = serde_json::from_str(&self.stage.api.kubectl(&get)?)?;
        let entries = found["metadata"]["managedFields"].as_array().context("managed fields")?;
        let of_replicas = entries.iter().filter(|entry| entry["fieldsV1"]["f:spec"]["f:replicas"].is_object());
        Ok(of_replicas.filter_map(|entry| entry["manager"].as_str()).map(str::to_owned).collect())
    }

    async fn a_fixed_number_becomes_autoscaled_without_a_dip(&self) -> anyhow::Result<()> {
        self.stage.apply(AT.0, &city(AT.1, &role(&json!({ "replicas": 8 }))))?;
        self.stage.until_ready(AT).await?;
        assert_eq!(self.replicas.until(8).await?.first(), Some(&8));
        let scaled = json!({ "replicas": null, "autoscaling": { "minReplicas": 2, "maxReplicas": 10 } });
        self.change(&role(&scaled)).await?;
        assert_eq!(self.managers()?, ["dispatch-operator-hand-over"]);
        self.stage.api.kubectl(&["get", "hpa", "-n", AT.0, DEPLOYMENT])?;
        // The autoscaler has no metrics here, so it only enforces its bounds.
        self.change(&role(&json!({ "autoscaling": { "minReplicas": 9 } }))).await?;
        let seen = self.replicas.until(9).await?;
        assert!(seen.iter().all(|replicas| *replicas >= 8), "{seen:?}");
        Ok(())
    }

    async fn the_number_belongs_to_the_autoscaler_from_then_on(&self) -> anyhow::Result<()> {
        assert_eq!(self.managers()?, ["kube-controller-manager"]);
        // A change of the Deployment itself.
        self.change(&json!({ "workers": { "image": "registry.example.com/runtime:2" } })).await?;
        let seen = self.replicas.until(9).await?;
        assert!(seen.iter().all(|replicas| *replicas == 9), "{seen:?}");
        assert_eq!(self.managers()?, ["kube-controller-manager"]);
        Ok(())
    }

    async fn a_resumed_role_starts_with_its_lower_bound(&self) -> anyhow::Result<()> {
        self.replicas.forget();
        self.stage.patch(AT.0, AT.1, &json!({ "spec": { "suspend": true } }))?;
        self.replicas.until(0).await?;
        self.change(&json!({ "suspend": false })).await?;
        assert_eq!(self.replicas.until(9).await?.iter().find(|replicas| **replicas > 0), Some(&9));
        Ok(())
    }

    async fn a_fixed_number_is_taken_back(&self) -> anyhow::Result<()> {
        self.change(&role(&json!({ "replicas": 3, "autoscaling": null }))).await?;
        self.replicas.until(3).await?;
        assert_eq!(self.managers()?, ["dispatch-operator"]);
        // An upper bound below what runs is the only reason to stop workers.
        let scaled = json!({ "replicas": null, "autoscaling": { "minReplicas": 1, "maxReplicas": 2 } });
        self.change(&role(&scaled)).await?;
        let seen = self.replicas.until(2).await?;
        assert!(seen.iter().all(|replicas| *replicas >= 2), "{seen:?}");
        Ok(())
    }

    async fn a_new_role_starts_with_its_lower_bound(&self) -> anyhow::Result<()> {
        self.stage.delete(AT.0, AT.1)?;
        self.stage.until_gone(AT).await?;
        self.replicas.forget();
        let scaled = json!({ "autoscaling": { "minReplicas": 4, "maxReplicas": 6 } });
        self.stage.apply(AT.0, &city(AT.1, &role(&scaled)))?;
        self.stage.until_ready(AT).await?;
        let seen = self.replicas.until(4).await?;
        // The first entries are of the deleted system, whose workers are stopped.
        let new = seen.iter().rev().take_while(|replicas| **replicas == 4).count();
        assert!(seen[..seen.len() - new].iter().all(|replicas| [0, 2].contains(replicas)), "{seen:?}");
        Ok(())
    }
}
