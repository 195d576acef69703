//! Everything the controller reads from and writes to the API server. Every write asks the fence first and is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use dispatch_api::dispatch_system::{DispatchSystem, DispatchSystemStatus, GROUP, VERSION};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource as _};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::timeout;

use crate::engine::plan::workers::{Child, ChildKind, MANAGED_BY, SYSTEM_LABEL, Served};
use crate::kubernetes::infra::fence::Fence;
use crate::kubernetes::infra::metrics::Metrics;
use std::sync::Arc;

/// Who owns the fields the operator writes.
pub const FIELD_MANAGER: &str = "dispatch-operator";
/// Longest time one call may take; a watch is none of them.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How a failed call is to be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterErrorKind {
    /// This replica does not lead.
    NotLeading,
    /// Somebody else changed the object meanwhile: look again.
    Conflict,
    /// The operator's role does not allow it.
    Denied,
    /// The API server refuses the object.
    Invalid,
    /// No answer.
    Unavailable,
}

/// A failed call.
#[derive(Debug, Error)]
#[error("could not {action}: {message}")]
pub struct ClusterError {
    /// What was tried.
    pub action: &'static str,
    /// How to meet it.
    pub kind: ClusterErrorKind,
    /// The API server's words.
    pub message: String,
    /// The client's error.
    #[source]
    pub source: Option<Box<kube::Error>>,
}

/// Whose an object is that is to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// There was none of this name. Fields that somebody has set meanwhile are not taken away.
    New,
    /// It is this system's own, with this UID; no other object of its name is touched.
    Own(Option<&'a str>),
}

/// An object as stored, whatever its spec looks like.
pub type Stored = DynamicObject;

/// The API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    fence: Fence,
    metrics: Arc<Metrics>,
}

impl Cluster {
    /// On a client.
    pub fn new(client: Client, fence: Fence, metrics: Arc<Metrics>) -> Self {
        Self { client, fence, metrics }
    }

    /// The client, for watches.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Reads an object.
    pub async fn system(&self, namespace: &str, name: &str) -> Result<Option<Stored>, ClusterError> {
        self.read("read the object", self.systems(namespace).get_opt(name)).await
    }

    /// Whether the cluster serves the resource, asked before anything is watched.
    pub async fn serves_systems(&self, namespace: Option<&str>) -> Result<bool, ClusterError> {
        let all = match namespace {
            Some(namespace) => self.systems(namespace),
            None => Api::<DynamicObject>::all_with(self.client(), &system_resource()),
        };
        match self.read("list DispatchSystems", all.list(&ListParams::default().limit(1))).await {
            Ok(_) => Ok(true),
            Err(ClusterError { source: Some(error), .. }) if matches!(&*error, kube::Error::Api(s) if s.code == 404) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Sets the finalizers of the version read.
    pub async fn set_finalizers(&self, stored: &Stored, finalizers: &[String]) -> Result<(), ClusterError> {
        let (namespace, name) = place(stored);
        let patch = json!({ "metadata": {
            "finalizers": finalizers,
            "resourceVersion": stored.metadata.resource_version,
            "uid": stored.metadata.uid,
        } });
        let systems = self.systems(namespace);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let call = async { systems.patch(name, &params, &Patch::Merge(&patch)).await };
        self.write("set the finalizers", ("DispatchSystem", "finalizers"), call).await
    }

    /// Writes the status.
    ///
    /// Where a whole group of fields is told no more it is removed by a patch of its own first: older API servers leave a null behind
    /// when an apply takes the last field of a group away, and refuse their own result.
    pub async fn set_status(&self, stored: &Stored, status: &DispatchSystemStatus) -> Result<(), ClusterError> {
        let (namespace, name) = place(stored);
        if let Some(gone) = stored.data.get("status").and_then(|before| groups_gone(before, &to_value(status))) {
            let patch = json!({ "metadata": { "uid": stored.metadata.uid }, "status": gone });
            let systems = self.systems(namespace);
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            let call = async { systems.patch_status(name, &params, &Patch::Merge(&patch)).await };
            self.write("write the status", ("DispatchSystem", "status"), call).await?;
        }
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": DispatchSystem::kind(&()),
            // With the uid, so that a status never lands on a new object of an old name.
            "metadata": { "name": name, "namespace": namespace, "uid": stored.metadata.uid },
            "status": status,
        });
        let systems = self.systems(namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let call = async { systems.patch_status(name, &params, &Patch::Apply(&object)).await };
        self.write("write the status", ("DispatchSystem", "status"), call).await
    }

    /// Annotations of a namespace; `None` where the operator's role does not let it read them.
    pub async fn namespace(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, ClusterError> {
        let namespaces = Api::<Namespace>::all(self.client());
        match self.read("read the namespace", namespaces.get_metadata_opt(name)).await {
            Ok(found) => Ok(Some(found.and_then(|found| found.metadata.annotations).unwrap_or_default())),
            Err(error) if error.kind == ClusterErrorKind::Denied => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One Secret, by name.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ClusterError> {
        let secrets = Api::<Secret>::namespaced(self.client(), namespace);
        self.read("read a secret", secrets.get_opt(name)).await
    }

    /// One `ConfigMap` by name, which needs no other right than to list them.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, ClusterError> {
        let all = Api::<ConfigMap>::namespaced(self.client(), namespace);
        let named = ListParams::default().fields(&format!("metadata.name={name}"));
        Ok(self.read("read a ConfigMap", all.list(&named)).await?.items.pop())
    }

    /// Makes a Secret, or gives it the wanted fields. No error repeats any of it.
    pub async fn apply_secret(&self, namespace: &str, wanted: &Secret, claim: Claim<'_>) -> Result<(), ClusterError> {
        let secrets = Api::<Secret>::namespaced(self.client(), namespace);
        let mut body = wanted.clone();
        let mut params = PatchParams::apply(FIELD_MANAGER);
        if let Claim::Own(uid) = claim {
            (params.force, body.metadata.uid) = (true, uid.map(str::to_owned));
        }
        let name = wanted.metadata.name.as_deref().unwrap_or_default();
        let call = async { secrets.patch(name, &params, &Patch::Apply(&body)).await };
        self.write("apply a Secret", ("Secret", "apply"), call).await.map_err(without_words)
    }

    /// Removes a Secret, and no other of its name.
    pub async fn remove_secret(&self, namespace: &str, found: &Secret) -> Result<(), ClusterError> {
        let secrets = Api::<Secret>::namespaced(self.client(), namespace);
        let name = found.metadata.name.as_deref().unwrap_or_default();
        let params = only(found.metadata.uid.clone());
        let call = async { secrets.delete(name, &params).await };
        gone(self.write("remove a Secret", ("Secret", "delete"), call).await).map_err(without_words)
    }

    /// The objects of a kind the operator made for a system.
    pub async fn children(
        &self,
        kind: ChildKind,
        namespace: &str,
        system: &str,
    ) -> Result<Vec<DynamicObject>, ClusterError> {
        let labels = format!("{SYSTEM_LABEL}={system},app.kubernetes.io/managed-by={MANAGED_BY}");
        let api = self.child_api(kind, namespace);
        let list = self.read("list the worker objects", api.list(&ListParams::default().labels(&labels))).await?;
        Ok(list.items)
    }

    /// Makes an object, or gives it the wanted fields.
    pub async fn apply(&self, namespace: &str, child: &Child, claim: Claim<'_>) -> Result<(), ClusterError> {
        let api = self.child_api(child.kind, namespace);
        let params = PatchParams { force: claim != Claim::New, ..PatchParams::apply(FIELD_MANAGER) };
        let call = async { api.patch(&child.name, &params, &Patch::Apply(&child.body)).await };
        self.write("apply a worker object", (child.kind.names().2, "apply"), call).await
    }

    /// Stops the Pods of a Deployment.
    pub async fn stop(&self, namespace: &str, deployment: &str) -> Result<(), ClusterError> {
        let api = self.child_api(ChildKind::Deployment, namespace);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = json!({ "spec": { "replicas": 0 } });
        let call = async { api.patch(deployment, &params, &Patch::Merge(&patch)).await };
        self.write("stop a worker", ("Deployment", "stop"), call).await
    }

    /// Removes an object that is wanted no more, and no other of its name.
    pub async fn remove(&self, kind: ChildKind, namespace: &str, found: &DynamicObject) -> Result<(), ClusterError> {
        let api = self.child_api(kind, namespace);
        let params = only(found.metadata.uid.clone());
        let name = found.metadata.name.as_deref().unwrap_or_default();
        let call = async { api.delete(name, &params).await };
        gone(self.write("remove a worker object", (kind.names().2, "delete"), call).await)
    }

    /// What the cluster serves beyond what every cluster does.
    pub async fn served(&self) -> Result<Served, ClusterError> {
        let group = |version: &'static str| async move {
            match self.read("ask what the cluster serves", self.client.list_api_group_resources(version)).await {
                Ok(_) => Ok(true),
                Err(ClusterError { source: Some(error), .. }) if matches!(&*error, kube::Error::Api(s) if s.code == 404) => {
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        };
        Ok(Served { disruption_budgets: group("policy/v1").await?, autoscalers: group("autoscaling/v2").await? })
    }

    fn systems(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client(), namespace, &system_resource())
    }

    fn child_api(&self, kind: ChildKind, namespace: &str) -> Api<DynamicObject> {
        let (group, version, kind, plural) = kind.names();
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        Api::namespaced_with(self.client(), namespace, &resource)
    }

    async fn read<T>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ClusterError> {
        match timeout(CALL_TIMEOUT, call).await {
            Ok(result) => result.map_err(|error| explain(action, error)),
            Err(elapsed) => Err(ClusterError {
                action,
                kind: ClusterErrorKind::Unavailable,
                message: elapsed.to_string(),
                source: None,
            }),
        }
    }

    async fn write<T>(
        &self,
        action: &'static str,
        what: (&'static str, &'static str),
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<(), ClusterError> {
        if let Err(closed) = self.fence.check() {
            let (kind, message) = (ClusterErrorKind::NotLeading, closed.to_string());
            return Err(ClusterError { action, kind, message, source: None });
        }
        self.metrics.kubernetes_write(what.0, what.1);
        self.read(action, call).await.map(drop)
    }
}

fn system_resource() -> ApiResource {
    ApiResource::erase::<DispatchSystem>(&())
}

/// Namespace and name. Every stored object of a namespaced kind has both.
pub fn place(stored: &Stored) -> (&str, &str) {
    let meta = &stored.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// A stored object as JSON.
pub fn to_value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// A merge patch that removes every object of `before` that `after` does not have; `None` where there is none.
fn groups_gone(before: &Value, after: &Value) -> Option<Value> {
    let mut gone = serde_json::Map::new();
    for (name, before) in before.as_object()?.iter().filter(|(_, before)| before.is_object()) {
        match after.get(name) {
            None | Some(Value::Null) => drop(gone.insert(name.clone(), Value::Null)),
            Some(after) => gone.extend(groups_gone(before, after).map(|within| (name.clone(), within))),
        }
    }
    (!gone.is_empty()).then_some(Value::Object(gone))
}

fn explain(action: &'static str, error: kube::Error) -> ClusterError {
    let (kind, message) = match &error {
        kube::Error::Api(status) => {
            let kind = match status.code {
                409 => ClusterErrorKind::Conflict,
                401 | 403 => ClusterErrorKind::Denied,
                400 | 404 | 422 => ClusterErrorKind::Invalid,
                _ => ClusterErrorKind::Unavailable,
            };
            (kind, status.message.clone())
        }
        other => (ClusterErrorKind::Unavailable, innermost(other)),
    };
    ClusterError { action, kind, message, source: Some(Box::new(error)) }
}

/// Deletes the object of this UID alone.
fn only(uid: Option<String>) -> DeleteParams {
    let preconditions = Preconditions { uid, resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() }
}

/// What is gone already is removed.
fn gone(result: Result<(), ClusterError>) -> Result<(), ClusterError> {
    match result {
        Err(ClusterError { source: Some(error), .. }) if matches!(&*error, kube::Error::Api(s) if s.is_not_found()) => {
            Ok(())
        }
        other => other,
    }
}

/// The API server may quote what it refuses; who is denied what is told.
fn without_words(error: ClusterError) -> ClusterError {
    let told = matches!(error.kind, ClusterErrorKind::Denied | ClusterErrorKind::NotLeading);
    let message = if told { error.message } else { "the API server does not take it".to_owned() };
    ClusterError { message, source: None, ..error }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_that_are_told_no_more_are_removed_beforehand() {
        let before = json!({ "a": { "b": { "c": 1 }, "d": 2 }, "e": { "f": 3 }, "g": 4, "list": [{ "h": 5 }] });
        assert_eq!(groups_gone(&before, &before), None);
        assert_eq!(groups_gone(&before, &json!({ "a": { "b": {} }, "e": {} })), None, "single fields and lists");
        let patch = groups_gone(&before, &json!({ "a": { "d": 3 } }));
        assert_eq!(patch, Some(json!({ "a": { "b": null }, "e": null })));
    }
}
