//! The worker pool in the cluster: applies its objects and reports how the Deployments are doing.

use dispatch_api::conditions::{ConditionStatus, Reason};
use dispatch_api::dispatch_system::{ManagementPolicy, OutputsStatus, WorkersLayout};
use dispatch_api::validate::ValidatedSystem;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::cloud::PropertyValue;
use crate::engine::plan::property_values::between;
use crate::engine::plan::workers::{
    self, CONFIG_FILE, Child, ChildKind, Pool, PoolError, WorkerClients, WorkerEnvironment, connection, layout, routing,
};
use crate::engine::settings::Mode;
use crate::engine::status::autoscaling;
use crate::engine::status::pods::{Cause, PodsFinding};
use crate::engine::status::routes::{self, FoundRoute};
use crate::engine::status::{Finding, RoutesFinding, WorkersFinding, WorkersState, condition};
use crate::kubernetes::infra::cluster::{Cluster, ClusterError, ClusterErrorKind, to_value};
use crate::kubernetes::reconcile::children::{Children, Standing};
use crate::kubernetes::reconcile::pods;

/// Limit of the values of the worker configuration in a message, which has room for some more.
const VALUES_MAX: usize = 10;

/// Inputs of the worker pool other than the system.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Runtime image for systems whose spec names none.
    pub image: &'a str,
    /// Replaces the AWS endpoints.
    pub endpoint_url: Option<&'a str>,
    /// Resource version of the Secret with the cache's AUTH token.
    pub cache_secret_version: Option<&'a str>,
    /// Whether changes are carried out or only counted.
    pub mode: Mode,
    /// Whether objects of an earlier system of this name may be taken over.
    pub takes_over: bool,
    /// Whether to look before an object is created, because another owner had a name before.
    pub looks_first: bool,
    /// Whether objects that lead to the API may exist although the spec asks for none.
    pub routed: bool,
    /// Who may connect to the workers.
    pub clients: &'a WorkerClients,
    /// What the sources of the workers' environment contain.
    pub environment: &'a WorkerEnvironment,
    /// Sources of the workers' environment that do not exist: the field and the object.
    pub absent: &'a [(&'static str, String)],
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

/// Objects by kind.
type LiveObjects = Vec<(ChildKind, Vec<DynamicObject>)>;

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
        return Ok(WorkersFinding::without_pods(WorkersState::Unmanaged, message).into());
    }
    let Some(outputs) = outputs else {
        let message = "the workers start once the stack is complete".to_owned();
        return Ok(WorkersFinding::without_pods(WorkersState::NotStarted, message).into());
    };
    let Setting {
        image,
        endpoint_url,
        cache_secret_version,
        clients,
        mode,
        takes_over,
        looks_first,
        routed,
        environment,
        absent,
    } = setting;
    let found = read(cluster, system, routed).await?;
    let deployments = found.iter().filter(|(kind, _)| *kind == ChildKind::Deployment).flat_map(|(_, live)| live);
    let mut deployments: Vec<Value> =
        deployments.filter(|live| connection::is_ours(system, *live)).map(to_value).collect();
    if !absent.is_empty() {
        return Ok(without_sources(system, &deployments, absent).into());
    }
    let leaving = layout::leaving(system, &deployments);
    let mut wanted = workers::objects(&Pool {
        system,
        outputs,
        image,
        endpoint_url,
        cache_secret_version,
        clients,
        environment,
        leaving,
    })?;
    wanted.retain(|child| found.iter().any(|(kind, _)| *kind == child.kind));
    let children = Children { cluster, system, mode, takes_over, looks_first };
    let (mut taken, mut planned, mut values) = (None, 0_usize, Vec::new());
    // An autoscaler goes before its Deployment gets a fixed number of replicas, which it would change. Other objects go
    // after their successors are there.
    let is_scaler = |kind: ChildKind| kind == ChildKind::HorizontalPodAutoscaler;
    for (kind, live) in found.iter().filter(|(kind, _)| is_scaler(*kind)) {
        planned += remove(&children, &wanted, *kind, live).await?;
    }
    for (kind, live) in &found {
        let applied = apply(&children, &wanted, *kind, live).await?;
        planned += applied.planned;
        values.extend(applied.values);
        if *kind == ChildKind::Deployment {
            replace(&mut deployments, &applied.changed);
        }
        taken = taken.or(applied.connection_taken);
        if let Some(message) = applied.taken {
            let available = availability(system, &deployments);
            let stopped = WorkersFinding::without_pods(WorkersState::NameTaken, message);
            return Ok(Rollout { workers: WorkersFinding { available, ..stopped }, taken });
        }
        if !is_scaler(*kind) {
            planned += remove(&children, &wanted, *kind, live).await?;
        }
    }
    let pods = pods::read(cluster, system, &deployments).await;
    let mut workers = finding(system, &deployments, &pods);
    workers.routes = routes_finding(system, &found);
    workers.autoscaling = autoscaling_finding(system, &found);
    if planned > 0 {
        workers.message = format!("{}; {}", workers.message, in_dry_run(planned, &values));
    }
    Ok(Rollout { workers, taken })
}

/// The objects of the system, by kind, without kinds that the cluster does not serve.
async fn read(cluster: &Cluster, system: &ValidatedSystem, routed: bool) -> Result<LiveObjects, ClusterError> {
    let wanted = routing::wanted(system);
    let routing = ChildKind::ROUTING.into_iter().filter(|kind| routed || wanted.contains(kind));
    let mut found = Vec::new();
    for kind in ChildKind::ALL.into_iter().chain(routing) {
        match cluster.children(kind, &system.namespace, &system.name).await {
            Ok(live) => found.push((kind, live)),
            Err(error) if error.kind == ClusterErrorKind::Gone && kind == ChildKind::HttpRoute => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// What the proxies of the cluster say of the objects that lead to the API.
fn routes_finding(system: &ValidatedSystem, found: &LiveObjects) -> RoutesFinding {
    let route = |kind| {
        let listed = found.iter().find(|(listed, _)| *listed == kind).map(|(_, live)| live);
        let own = listed.and_then(|live| live.iter().find(|live| connection::is_ours(system, *live)));
        FoundRoute { kind, is_served: listed.is_some(), live: own.map(to_value) }
    };
    let all: Vec<FoundRoute> = routing::wanted(system).into_iter().map(route).collect();
    routes::finding(system, &all).map_or(RoutesFinding::Absent, RoutesFinding::Found)
}

/// What the autoscalers of the system say.
fn autoscaling_finding(system: &ValidatedSystem, found: &LiveObjects) -> Option<Finding> {
    let all = found.iter().filter(|(kind, _)| *kind == ChildKind::HorizontalPodAutoscaler).flat_map(|(_, live)| live);
    let own: Vec<Value> = all.filter(|live| connection::is_ours(system, *live)).map(to_value).collect();
    autoscaling::finding(&own)
}

/// Outcome of applying the objects of one kind.
#[derive(Default)]
struct ApplyOutcome {
    /// Changes that a dry run left out.
    planned: usize,
    /// Values of the worker configuration that a dry run left unchanged.
    values: Vec<PropertyValue>,
    /// Objects that were created or changed, as they are now.
    changed: Vec<Value>,
    /// Name of the connection's `ConfigMap`, if it belongs to another owner. The workers do not depend on it; its
    /// condition reports the conflict.
    connection_taken: Option<String>,
    /// Another owner has an object that the workers need: what to report. A worker must not start with the service
    /// account or the configuration of another owner.
    taken: Option<String>,
}

/// Applies the objects of a kind that differ, until one belongs to another owner.
async fn apply(
    children: &Children<'_>,
    wanted: &[Child],
    kind: ChildKind,
    live: &[DynamicObject],
) -> Result<ApplyOutcome, ClusterError> {
    let mut applied = ApplyOutcome::default();
    for child in wanted.iter().filter(|child| child.kind == kind) {
        let found = live.iter().find(|live| live.metadata.name.as_deref() == Some(child.name.as_str()));
        let is_connection = is_connection(children.system, child);
        // The name of the connection's `ConfigMap` is a person's choice, so it is likely to be taken.
        let looks_first = children.looks_first || is_connection;
        match (Children { looks_first, ..*children }).settle(child, found).await? {
            Standing::InLine => {}
            Standing::Changed(now) => applied.changed.push(to_value(now.as_ref())),
            Standing::Planned => {
                applied.planned += 1;
                applied.values.extend(found.map(|found| config_values(child, &to_value(found))).unwrap_or_default());
            }
            Standing::Taken(_) if is_connection => applied.connection_taken = Some(child.name.clone()),
            Standing::Taken(message) => {
                applied.taken = Some(message);
                return Ok(applied);
            }
        }
    }
    Ok(applied)
}

/// Replaces the objects that were changed since they were read: their status is of an earlier generation, so a roll-out
/// that has just begun does not pass for a complete one.
fn replace(objects: &mut [Value], changed: &[Value]) {
    for object in objects {
        let same = changed.iter().find(|changed| changed["metadata"]["uid"] == object["metadata"]["uid"]);
        if let Some(now) = same {
            *object = now.clone();
        }
    }
}

/// Deletes the objects of a kind that are no longer wanted, and returns how many a dry run left out.
async fn remove(
    children: &Children<'_>,
    wanted: &[Child],
    kind: ChildKind,
    live: &[DynamicObject],
) -> Result<usize, ClusterError> {
    let Children { cluster, system, mode, .. } = *children;
    let mut planned = 0;
    for stale in live.iter().filter(|live| connection::is_ours(system, *live)) {
        let name = stale.metadata.name.as_deref().unwrap_or_default();
        if !wanted.iter().any(|child| child.kind == kind && child.name == name) {
            match mode {
                Mode::CarryOut => cluster.remove(kind, &system.namespace, stale).await?,
                Mode::DryRun => planned += 1,
            }
        }
    }
    Ok(planned)
}

/// What a dry run left unchanged.
fn in_dry_run(planned: usize, values: &[PropertyValue]) -> String {
    let shown: Vec<String> = values.iter().take(VALUES_MAX).map(ToString::to_string).collect();
    let shown = if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) };
    let more = match values.len().saturating_sub(VALUES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more values"),
    };
    format!("dry run: {planned} worker objects would change{shown}{more}")
}

/// The values that differ between two versions of the worker configuration.
fn config_values(child: &Child, live: &Value) -> Vec<PropertyValue> {
    let config = |object: &Value| {
        let text = object["data"][CONFIG_FILE].as_str()?;
        serde_json::from_str::<Value>(text).ok()
    };
    match (config(live), config(&child.body)) {
        (Some(old), Some(new)) => between(&old, &new),
        _ => Vec::new(),
    }
}

fn is_connection(system: &ValidatedSystem, child: &Child) -> bool {
    child.kind == ChildKind::ConfigMap && child.name == connection::config_map_name(system)
}

/// The state of the workers, derived from their Deployments by the rules of `kubectl rollout status`, with the cause
/// that their Pods show.
pub fn finding(system: &ValidatedSystem, deployments: &[Value], pods: &PodsFinding) -> WorkersFinding {
    let mut serving = true;
    let mut failing = Vec::new();
    let (mut parts, mut refused) = (Vec::new(), None);
    for (role, _) in workers::roles(system) {
        let Some(found) = layout::find(system, deployments, role) else {
            serving = false;
            parts.push(format!("{} is being created", role.name));
            continue;
        };
        let status = &found["status"];
        let wanted = found["spec"]["replicas"].as_i64().unwrap_or(1);
        let available = status["availableReplicas"].as_i64().unwrap_or(0);
        serving &= layout::is_complete(found);
        parts.push(format!("{} {available}/{wanted}", role.name));
        failing.extend(progress_failure(status).map(|message| format!("{}: {message}", role.name)));
        // Kubernetes creates all Pods of a system alike, so the first refusal stands for the others.
        if refused.is_none() {
            refused = creation_failure(status).map(|message| format!("{}: {message}", role.name));
        }
    }
    let found = if failing.is_empty() { parts.join(", ") } else { failing.join("; ") };
    let refused = refused
        .map(|refused| Cause { reason: Reason::PodsRefused, message: format!("no Pod can be created: {refused}") });
    let cause = refused.or_else(|| pods.cause.clone()).filter(|_| !serving);
    // The cause comes first.
    let mut message = cause.as_ref().map_or_else(|| found.clone(), |cause| format!("{}; {found}", cause.message));
    if !serving && crate::engine::worker_config::auth(&system.spec.api).is_none() {
        message.push_str("; no token issuer is set (spec.api.auth), so the roles that serve the API do not start");
    }
    if let Some(former) = layout::leaving(system, deployments) {
        message = format!("{message}; the workers of the layout {former:?} serve until these are complete");
    }
    let state = match (system.spec.suspend, failing.is_empty(), serving) {
        (true, _, _) => WorkersState::Suspended,
        (_, false, _) => WorkersState::Failing,
        (_, _, true) => WorkersState::Serving,
        _ => WorkersState::RollingOut,
    };
    let (cause, spread) = (cause.map(|cause| cause.reason), pods.spread.clone());
    let (available, routes) = (availability(system, deployments), RoutesFinding::Unseen);
    WorkersFinding { state, message, cause, available, spread, routes, autoscaling: None }
}

/// Workers of which a source of the environment does not exist. They stay as they are.
fn without_sources(
    system: &ValidatedSystem,
    deployments: &[Value],
    absent: &[(&'static str, String)],
) -> WorkersFinding {
    let named: Vec<String> = absent.iter().map(|(field, object)| format!("{field} names {object}")).collect();
    let message = format!("{}, which does not exist; the workers are not changed until it does", named.join(", "));
    let (cause, available) = (Some(Reason::SecretMissing), availability(system, deployments));
    WorkersFinding { cause, available, ..WorkersFinding::without_pods(WorkersState::RollingOut, message) }
}

/// Whether every role has a ready Pod, of any revision and either layout.
fn availability(system: &ValidatedSystem, deployments: &[Value]) -> Finding {
    if system.spec.suspend {
        return (ConditionStatus::False, Reason::Suspended, "spec.suspend is true".to_owned());
    }
    let without = |layout: WorkersLayout| -> Vec<&'static str> {
        let is_without = |role: &workers::Role| {
            layout::find(system, deployments, *role).is_none_or(|deployment| layout::ready(deployment) == 0)
        };
        let roles = layout::roles_of(system, layout).into_iter().map(|(role, _)| role);
        roles.filter(is_without).map(|role| role.name).collect()
    };
    let missing = without(system.spec.workers.layout);
    if missing.is_empty() || without(layout::other(system.spec.workers.layout)).is_empty() {
        return (ConditionStatus::True, Reason::RolesAvailable, "every role has a ready Pod".to_owned());
    }
    (ConditionStatus::False, Reason::RoleUnavailable, format!("no ready Pod of {}", missing.join(", ")))
}

fn progress_failure(status: &Value) -> Option<String> {
    let progressing = condition(status, "Progressing")?;
    let failed = progressing["status"] == "False" && progressing["reason"] == "ProgressDeadlineExceeded";
    failed.then(|| progressing["message"].as_str().unwrap_or("the rollout makes no progress").to_owned())
}

/// Why the API server refuses Pods: a quota, a limit range, the Pod security standard, or another admission.
fn creation_failure(status: &Value) -> Option<&str> {
    let failure = condition(status, "ReplicaFailure")?;
    (failure["status"] == "True").then(|| failure["message"].as_str().unwrap_or("the API server refuses it"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::system;

    fn deployments(wanted: i64, available: i64) -> Vec<Value> {
        let system = system();
        let one = |name: String| {
            json!({
                "metadata": { "name": name, "generation": 3 },
                "spec": { "replicas": wanted },
                "status": { "observedGeneration": 3, "replicas": wanted, "updatedReplicas": wanted,
                    "availableReplicas": available, "readyReplicas": available },
            })
        };
        workers::roles(&system).into_iter().map(|(role, _)| one(workers::role_name(&system, role))).collect()
    }

    #[test]
    fn a_dry_run_shows_the_values_of_the_worker_configuration_that_would_change() {
        let object = |config: &Value| json!({ "data": { (CONFIG_FILE): config.to_string() } });
        let config = |seconds: u32| json!({ "city": "seoul", "dispatch": { "offerTimeoutSeconds": seconds } });
        let body = object(&config(20));
        let child = Child { kind: ChildKind::ConfigMap, name: "seoul-workers".to_owned(), body };
        let values = config_values(&child, &object(&config(15)));
        let words = "dry run: 1 worker objects would change: dispatch.offerTimeoutSeconds: 15 -> 20";
        assert_eq!(in_dry_run(1, &values), words);
        assert_eq!(in_dry_run(2, &config_values(&child, &child.body)), "dry run: 2 worker objects would change");
        assert_eq!(config_values(&child, &json!({ "data": {} })), []);
        let many = vec![values[0].clone(); 13];
        assert!(in_dry_run(1, &many).ends_with(" and 3 more values"));
    }

    #[test]
    fn workers_serve_when_every_role_has_its_replicas() {
        let found = finding(&system(), &deployments(2, 2), &PodsFinding::default());
        assert_eq!(found.state, WorkersState::Serving);
        assert!(found.message.starts_with("save-dispatch 2/2, dispatch-algorithm 2/2"), "{}", found.message);
        assert_eq!(finding(&system(), &deployments(2, 1), &PodsFinding::default()).state, WorkersState::RollingOut);
        assert_eq!(finding(&system(), &[], &PodsFinding::default()).state, WorkersState::RollingOut);
        let mut stale = deployments(2, 2);
        stale[0]["metadata"]["generation"] = json!(4);
        assert_eq!(finding(&system(), &stale, &PodsFinding::default()).state, WorkersState::RollingOut);
    }

    /// A `kubectl wait` for `Ready` would return before the first new Pod exists.
    #[test]
    fn a_change_that_was_just_applied_is_not_complete() {
        let mut live = deployments(2, 2);
        live.iter_mut().enumerate().for_each(|(at, one)| one["metadata"]["uid"] = json!(at));
        let mut changed = live[1].clone();
        changed["metadata"]["generation"] = json!(4);
        replace(&mut live, &[changed]);
        assert_eq!(finding(&system(), &live, &PodsFinding::default()).state, WorkersState::RollingOut);
    }

    #[test]
    fn a_rollout_without_progress_reports_the_cause() {
        let mut stuck = deployments(2, 0);
        stuck[1]["status"]["conditions"] = json!([{ "type": "Progressing", "status": "False",
            "reason": "ProgressDeadlineExceeded", "message": "ReplicaSet \"x\" has timed out progressing." }]);
        let found = finding(&system(), &stuck, &PodsFinding::default());
        assert_eq!(found.state, WorkersState::Failing);
        let why = "dispatch-algorithm: ReplicaSet \"x\" has timed out progressing.; \
                   no token issuer is set (spec.api.auth), so the roles that serve the API do not start";
        assert_eq!(found.message, why);
    }

    #[test]
    fn pods_that_the_api_server_refuses_are_reported_with_its_words_first() {
        let mut refused = deployments(2, 0);
        let why = "pods \"seoul-save-dispatch-1\" is forbidden: exceeded quota: small, requested: pods=1";
        for deployment in &mut refused {
            deployment["status"]["conditions"] =
                json!([{ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": why }]);
        }
        let found = finding(&system(), &refused, &PodsFinding::default());
        assert_eq!(found.state, WorkersState::RollingOut);
        let expected = format!("no Pod can be created: save-dispatch: {why}; save-dispatch 0/2, ");
        assert!(found.message.starts_with(&expected), "{}", found.message);
        refused[0]["status"]["conditions"][0]["status"] = json!("False");
        assert!(
            finding(&system(), &refused, &PodsFinding::default())
                .message
                .starts_with("no Pod can be created: dispatch-algorithm: ")
        );
    }

    #[test]
    fn the_cause_comes_first_and_a_pool_that_serves_has_none() {
        let cause = Cause { reason: Reason::ImageNotPulled, message: "save-dispatch: Pod x cannot start".to_owned() };
        let pods = PodsFinding { cause: Some(cause), spread: None };
        let found = finding(&system(), &deployments(2, 1), &pods);
        assert!(
            found.message.starts_with("save-dispatch: Pod x cannot start; save-dispatch 1/2, "),
            "{}",
            found.message
        );
        assert_eq!(found.cause, Some(Reason::ImageNotPulled));
        assert_eq!(found.available.0, ConditionStatus::True, "the Pods of the former revision serve");
        let found = finding(&system(), &deployments(2, 2), &pods);
        assert_eq!((found.state, found.cause), (WorkersState::Serving, None));
    }

    #[test]
    fn a_system_is_available_while_every_role_has_a_ready_pod() {
        let mut one_is_gone = deployments(2, 2);
        one_is_gone[2]["status"]["readyReplicas"] = json!(0);
        let found = finding(&system(), &one_is_gone, &PodsFinding::default());
        let gone = one_is_gone[2]["metadata"]["name"].as_str().unwrap().trim_start_matches("seoul-");
        let expected = (ConditionStatus::False, Reason::RoleUnavailable, format!("no ready Pod of {gone}"));
        assert_eq!(found.available, expected);
        assert_eq!(finding(&system(), &[], &PodsFinding::default()).available.0, ConditionStatus::False);
    }

    #[test]
    fn a_suspended_pool_is_not_serving_and_not_failing() {
        let mut system = system();
        system.spec.suspend = true;
        assert_eq!(finding(&system, &deployments(0, 0), &PodsFinding::default()).state, WorkersState::Suspended);
    }
}
