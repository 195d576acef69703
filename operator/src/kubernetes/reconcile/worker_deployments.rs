//! The worker pool in the cluster: applies its objects and reports how the Deployments are doing.

use dispatch_api::dispatch_system::{ManagementPolicy, OutputsStatus};
use dispatch_api::validate::ValidatedSystem;
use serde_json::Value;

use crate::engine::plan::workers::{self, Child, ChildKind, Pool, PoolError, Served, connection};
use crate::engine::settings::Mode;
use crate::engine::status::{WorkersFinding, WorkersState};
use crate::kubernetes::infra::cluster::{Claim, Cluster, ClusterError, to_value};

/// Inputs of the worker pool other than the system.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Runtime image for systems whose spec names none.
    pub image: &'a str,
    /// Replaces the AWS endpoints.
    pub endpoint_url: Option<&'a str>,
    /// Resource version of the Secret with the cache's AUTH token.
    pub cache_secret_version: Option<&'a str>,
    /// Optional API groups that the cluster serves.
    pub served: Served,
    /// Whether changes are carried out or only counted.
    pub mode: Mode,
}

/// Why the worker objects could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// A call to the Kubernetes API server failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The objects cannot be rendered.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// Result of [`ensure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// How the workers are doing.
    pub workers: WorkersFinding,
    /// Name of the connection's `ConfigMap`, if an object of that name belongs to another owner.
    pub taken: Option<String>,
}

impl From<WorkersFinding> for Rollout {
    fn from(workers: WorkersFinding) -> Self {
        Self { workers, taken: None }
    }
}

/// Applies objects that differ, deletes obsolete ones, and reports how the workers are doing. Writes nothing if
/// everything is in sync.
pub async fn ensure(
    cluster: &Cluster,
    system: &ValidatedSystem,
    outputs: Option<&OutputsStatus>,
    setting: Setting<'_>,
) -> Result<Rollout, EnsureError> {
    if system.spec.management_policy == ManagementPolicy::Observe {
        let message = "the workers are not changed because spec.managementPolicy is Observe".to_owned();
        return Ok(WorkersFinding { state: WorkersState::Unmanaged, message }.into());
    }
    let Some(outputs) = outputs else {
        let message = "the workers start once the stack is complete".to_owned();
        return Ok(WorkersFinding { state: WorkersState::NotStarted, message }.into());
    };
    let Setting { image, endpoint_url, cache_secret_version, served, mode } = setting;
    let wanted = workers::objects(&Pool { system, outputs, image, endpoint_url, cache_secret_version, served })?;
    let mut deployments = Vec::new();
    let (mut taken, mut planned) = (None, 0_usize);
    for kind in ChildKind::ALL.into_iter().filter(|kind| kind.is_served(served)) {
        let live = cluster.children(kind, &system.namespace, &system.name).await?;
        for child in wanted.iter().filter(|child| child.kind == kind) {
            let found = live.iter().find(|live| live.metadata.name.as_deref() == Some(child.name.as_str()));
            if found.is_some_and(|found| !workers::differs(&child.body, &with_kind(kind, found))) {
                continue;
            }
            if mode == Mode::DryRun {
                planned += 1;
                continue;
            }
            match claim(cluster, system, child).await? {
                Some(claim) => cluster.apply(&system.namespace, child, claim).await?,
                None => taken = Some(child.name.clone()),
            }
        }
        for stale in live.iter().filter(|live| connection::is_ours(system, *live)) {
            let name = stale.metadata.name.as_deref().unwrap_or_default();
            if !wanted.iter().any(|child| child.kind == kind && child.name == name) {
                match mode {
                    Mode::CarryOut => cluster.remove(kind, &system.namespace, stale).await?,
                    Mode::DryRun => planned += 1,
                }
            }
        }
        if kind == ChildKind::Deployment {
            deployments = live.iter().map(to_value).collect();
        }
    }
    let mut workers = finding(system, &deployments, served);
    if planned > 0 {
        workers.message = format!("{}; dry run: {planned} worker objects would change", workers.message);
    }
    Ok(Rollout { workers, taken })
}

/// Who owns an object; `None` if it belongs to another owner. Only the name of the connection's `ConfigMap` is chosen
/// by the user and can collide with an existing object.
async fn claim(
    cluster: &Cluster,
    system: &ValidatedSystem,
    child: &Child,
) -> Result<Option<Claim<'static>>, ClusterError> {
    if child.kind != ChildKind::ConfigMap || child.name != connection::config_map_name(system) {
        return Ok(Some(Claim::Own(None)));
    }
    Ok(match cluster.config_map(&system.namespace, &child.name).await? {
        None => Some(Claim::New),
        Some(found) => connection::is_ours(system, &found).then_some(Claim::Own(None)),
    })
}

/// Adds kind and API version, which the items of a list lack.
fn with_kind(kind: ChildKind, found: &kube::api::DynamicObject) -> Value {
    let (group, version, kind, _) = kind.names();
    let mut value = to_value(found);
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    value
}

/// The state of the workers, derived from their Deployments by the rules of `kubectl rollout status`.
pub fn finding(system: &ValidatedSystem, deployments: &[Value], served: Served) -> WorkersFinding {
    let mut serving = true;
    let mut failing = Vec::new();
    let mut parts = Vec::new();
    for (role, _) in workers::roles(system) {
        let name = workers::role_name(system, role);
        let found = deployments.iter().find(|deployment| deployment["metadata"]["name"] == name.as_str());
        let Some(found) = found else {
            serving = false;
            parts.push(format!("{} is being created", role.name));
            continue;
        };
        let status = &found["status"];
        let count = |field: &str| status[field].as_i64().unwrap_or(0);
        let wanted = found["spec"]["replicas"].as_i64().unwrap_or(1);
        let current = count("observedGeneration") >= found["metadata"]["generation"].as_i64().unwrap_or(0);
        let (updated, available) = (count("updatedReplicas"), count("availableReplicas"));
        serving &= current && updated >= wanted && count("replicas") == updated && available >= wanted;
        parts.push(format!("{} {available}/{wanted}", role.name));
        failing.extend(progress_failure(status).map(|message| format!("{}: {message}", role.name)));
    }
    let mut message = if failing.is_empty() { parts.join(", ") } else { failing.join("; ") };
    if !serving && crate::engine::worker_config::auth(&system.spec.api).is_none() {
        message.push_str("; no token issuer is set (spec.api.auth), so the roles that serve the API do not start");
    }
    let left_out = workers::left_out(system, served);
    if !left_out.is_empty() {
        message = format!("{message}; skipped: {}", left_out.join(", "));
    }
    let state = match (system.spec.suspend, failing.is_empty(), serving) {
        (true, _, _) => WorkersState::Suspended,
        (_, false, _) => WorkersState::Failing,
        (_, _, true) => WorkersState::Serving,
        _ => WorkersState::RollingOut,
    };
    WorkersFinding { state, message }
}

fn progress_failure(status: &Value) -> Option<String> {
    let conditions = status["conditions"].as_array()?;
    let progressing = conditions.iter().find(|condition| condition["type"] == "Progressing")?;
    let failed = progressing["status"] == "False" && progressing["reason"] == "ProgressDeadlineExceeded";
    failed.then(|| progressing["message"].as_str().unwrap_or("the rollout makes no progress").to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::system;

    const ALL: Served = Served { disruption_budgets: true, autoscalers: true };

    fn deployments(wanted: i64, available: i64) -> Vec<Value> {
        let system = system();
        let one = |name: String| {
            json!({
                "metadata": { "name": name, "generation": 3 },
                "spec": { "replicas": wanted },
                "status": { "observedGeneration": 3, "replicas": wanted, "updatedReplicas": wanted,
                    "availableReplicas": available },
            })
        };
        workers::roles(&system).map(|(role, _)| one(workers::role_name(&system, role))).to_vec()
    }

    #[test]
    fn workers_serve_when_every_role_has_its_replicas() {
        let found = finding(&system(), &deployments(2, 2), ALL);
        assert_eq!(found.state, WorkersState::Serving);
        assert!(found.message.starts_with("save-dispatch 2/2, dispatch-algorithm 2/2"), "{}", found.message);
        assert_eq!(finding(&system(), &deployments(2, 1), ALL).state, WorkersState::RollingOut);
        assert_eq!(finding(&system(), &[], ALL).state, WorkersState::RollingOut);
        let mut stale = deployments(2, 2);
        stale[0]["metadata"]["generation"] = json!(4);
        assert_eq!(finding(&system(), &stale, ALL).state, WorkersState::RollingOut);
    }

    #[test]
    fn a_rollout_without_progress_reports_the_cause() {
        let mut stuck = deployments(2, 0);
        stuck[1]["status"]["conditions"] = json!([{ "type": "Progressing", "status": "False",
            "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet \"x\" has timed out progressing." }]);
        let found = finding(&system(), &stuck, ALL);
        assert_eq!(found.state, WorkersState::Failing);
        let why = "dispatch-algorithm: ReplicaSet \"x\" has timed out progressing.; \
                   no token issuer is set (spec.api.auth), so the roles that serve the API do not start";
        assert_eq!(found.message, why);
    }

    #[test]
    fn objects_that_an_old_cluster_does_not_serve_are_reported_as_skipped() {
        let found = finding(&system(), &deployments(2, 2), Served::default());
        assert!(found.message.ends_with("skipped: disruption budgets (the cluster does not serve policy/v1)"));
    }

    #[test]
    fn a_suspended_pool_is_not_serving_and_not_failing() {
        let mut system = system();
        system.spec.suspend = true;
        assert_eq!(finding(&system, &deployments(0, 0), ALL).state, WorkersState::Suspended);
    }
}
