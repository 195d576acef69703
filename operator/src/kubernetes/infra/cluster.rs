//! All reads from and writes to the Kubernetes API server. Every write checks the fence first and is counted.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::dispatch_system::{DispatchSystem, DispatchSystemStatus, GROUP, VERSION};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client, Resource as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::timeout;

use crate::engine::plan::workers::{Child, ChildKind, FIELD_MANAGER, MANAGED_BY, SYSTEM_LABEL};
use crate::kubernetes::infra::fence::Fence;
use crate::kubernetes::infra::metrics::Metrics;

/// Limit of the Pods and `ReplicaSet`s that are read of one system. A Pod has some 8 KB.
const PODS_MAX: u32 = 200;
/// Field manager of replicas that the operator hands over to an autoscaler.
const HAND_OVER_MANAGER: &str = "dispatch-operator-hand-over";
/// Timeout of one call. Watches are not subject to it.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a call failed, as far as the reaction depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterErrorKind {
    /// This replica is not the leader.
    NotLeading,
    /// Another writer changed the object first: read it again.
    Conflict,
    /// The operator lacks a permission.
    Denied,
    /// The API server rejects the object.
    Invalid,
    /// The object, or its namespace, no longer exists.
    Gone,
    /// The API server did not answer, or answered with a server error.
    Unavailable,
}

/// A call that failed.
#[derive(Debug, Error)]
#[error("cannot {action}: {message}")]
pub struct ClusterError {
    /// What the call was for, as a verb phrase: `read a Secret`.
    pub action: &'static str,
    /// Why it failed.
    pub kind: ClusterErrorKind,
    /// Message of the API server.
    pub message: String,
    /// The client's error.
    #[source]
    pub source: Option<Box<kube::Error>>,
}

/// A resource version that no stored object has. An apply that names it creates an object, and fails with a conflict if
/// one exists; without it, an apply that is not forced would still add labels and owners to an object of another.
const OF_NO_OBJECT: &str = "1";

/// Who owns the object that an apply writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// No object of this name exists: the apply creates it or fails with a conflict.
    New,
    /// This system controls the object with this UID; a different object of the same name is not changed.
    Own(&'a str),
}

impl Claim<'_> {
    fn stamp(self, metadata: &mut ObjectMeta) {
        match self {
            Self::New => metadata.resource_version = Some(OF_NO_OBJECT.to_owned()),
            Self::Own(uid) => metadata.uid = Some(uid.to_owned()),
        }
    }

    fn params(self) -> PatchParams {
        PatchParams { force: self != Self::New, ..PatchParams::apply(FIELD_MANAGER) }
    }
}

/// An object as stored, even if its spec is invalid.
pub type SystemObject = DynamicObject;

/// Client of the Kubernetes API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    fence: Fence,
    metrics: Arc<Metrics>,
}

impl Cluster {
    /// Wraps a client.
    pub fn new(client: Client, fence: Fence, metrics: Arc<Metrics>) -> Self {
        Self { client, fence, metrics }
    }

    /// The underlying client, for watches.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Reads a `DispatchSystem`.
    pub async fn system(&self, namespace: &str, name: &str) -> Result<Option<SystemObject>, ClusterError> {
        self.read("read the DispatchSystem", self.systems(namespace).get_opt(name)).await
    }

    /// Whether the cluster serves the custom resource. Checked before the first watch.
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

    /// Sets the finalizers; fails with a conflict if the object changed since it was read.
    pub async fn set_finalizers(&self, stored: &SystemObject, finalizers: &[String]) -> Result<(), ClusterError> {
        let (namespace, name) = place(stored);
        let patch = json!({ "metadata": {
            "finalizers": finalizers,
            "resourceVersion": stored.metadata.resource_version,
            "uid": stored.metadata.uid,
        } });
        let systems = self.systems(namespace);
        let params = PatchParams::apply(FIELD_MANAGER);
        let call = async { systems.patch(name, &params, &Patch::Merge(&patch)).await };
        gone(self.write("set the finalizers", ("DispatchSystem", "finalizers"), call).await)
    }

    /// Writes the status.
    pub async fn set_status(&self, stored: &SystemObject, status: &DispatchSystemStatus) -> Result<(), ClusterError> {
        let (namespace, name) = place(stored);
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": DispatchSystem::kind(&()),
            // The UID keeps the status of a deleted object off a new object of the same name.
            "metadata": { "name": name, "namespace": namespace, "uid": stored.metadata.uid },
            "status": status,
        });
        let systems = self.systems(namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let call = async { systems.patch_status(name, &params, &Patch::Apply(&object)).await };
        self.write("write the status", ("DispatchSystem", "status"), call).await
    }

    /// Annotations of a namespace; `None` if the operator lacks the permission to read it.
    pub async fn namespace(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, ClusterError> {
        let namespaces = Api::<Namespace>::all(self.client());
        match self.read("read the namespace", namespaces.get_metadata_opt(name)).await {
            Ok(found) => Ok(Some(found.and_then(|found| found.metadata.annotations).unwrap_or_default())),
            Err(error) if error.kind == ClusterErrorKind::Denied => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// UID of a namespace; `None` if it does not exist.
    pub async fn namespace_uid(&self, name: &str) -> Result<Option<String>, ClusterError> {
        let namespaces = Api::<Namespace>::all(self.client());
        let found = self.read("read a namespace", namespaces.get_metadata_opt(name)).await?;
        Ok(found.and_then(|found| found.metadata.uid))
    }

    /// Reads one Secret by name.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ClusterError> {
        let secrets = Api::<Secret>::namespaced(self.client(), namespace);
        self.read("read a Secret", secrets.get_opt(name)).await
    }

    /// Creates or updates a Secret. Errors never contain any part of it.
    pub async fn apply_secret(&self, namespace: &str, wanted: &Secret, claim: Claim<'_>) -> Result<(), ClusterError> {
        let secrets = Api::<Secret>::namespaced(self.client(), namespace);
        let mut body = wanted.clone();
        claim.stamp(&mut body.metadata);
        let params = claim.params();
        let name = wanted.metadata.name.as_deref().unwrap_or_default();
        let call = async { secrets.patch(name, &params, &Patch::Apply(&body)).await };
        self.write("apply a Secret", ("Secret", "apply"), call).await.map_err(without_words)
    }

    /// Deletes this Secret, but not a different one of the same name.
    pub async fn remove_secret(&self, namespace: &str, found: &Secret) -> Result<(), ClusterError> {
        let secrets = Api::<Secret>::namespaced(self.client(), namespace);
        let name = found.metadata.name.as_deref().unwrap_or_default();
        let params = only(found.metadata.uid.clone());
        let call = async { secrets.delete(name, &params).await };
        gone(self.write("delete a Secret", ("Secret", "delete"), call).await).map_err(without_words)
    }

    /// The worker objects of one kind that the operator created for a system.
    pub async fn children(
        &self,
        kind: ChildKind,
        namespace: &str,
        system: &str,
    ) -> Result<Vec<DynamicObject>, ClusterError> {
        let api = self.child_api(kind, namespace);
        let list = self.read("list the worker objects", api.list(&of_system(system))).await?;
        Ok(list.items)
    }

    /// The Pods with the labels of a system's workers. A Pod of another owner may have the same.
    pub async fn pods(&self, namespace: &str, system: &str) -> Result<Vec<Pod>, ClusterError> {
        let pods = Api::<Pod>::namespaced(self.client(), namespace);
        Ok(self.read("list the Pods of the workers", pods.list(&of_system(system).limit(PODS_MAX))).await?.items)
    }

    /// The metadata of the `ReplicaSet`s with the labels of a system's workers.
    pub async fn replica_sets(&self, namespace: &str, system: &str) -> Result<Vec<ObjectMeta>, ClusterError> {
        let sets = Api::<ReplicaSet>::namespaced(self.client(), namespace);
        let params = of_system(system).limit(PODS_MAX);
        let found = self.read("list the ReplicaSets of the workers", sets.list_metadata(&params)).await?;
        Ok(found.items.into_iter().map(|set| set.metadata).collect())
    }

    /// Reads one worker object by name, through a list call: the operator needs only the verb `list`.
    pub async fn child(
        &self,
        kind: ChildKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, ClusterError> {
        let named = ListParams::default().fields(&format!("metadata.name={name}"));
        let api = self.child_api(kind, namespace);
        Ok(self.read("read a worker object", api.list(&named)).await?.items.pop())
    }

    /// Creates or updates a worker object, and returns it as it is now.
    pub async fn apply(&self, namespace: &str, child: &Child, claim: Claim<'_>) -> Result<DynamicObject, ClusterError> {
        let api = self.child_api(child.kind, namespace);
        let mut body = child.body.clone();
        match claim {
            Claim::New => body["metadata"]["resourceVersion"] = OF_NO_OBJECT.into(),
            Claim::Own(uid) => body["metadata"]["uid"] = uid.into(),
        }
        let params = claim.params();
        let call = async { api.patch(&child.name, &params, &Patch::Apply(&body)).await };
        self.written("apply a worker object", (child.kind.names().2, "apply"), call).await
    }

    /// Makes another field manager the owner of a Deployment's replicas, so that they stay as they are when the
    /// operator applies the Deployment without them.
    pub async fn hand_over(&self, namespace: &str, found: &DynamicObject, replicas: u32) -> Result<(), ClusterError> {
        let api = self.child_api(ChildKind::Deployment, namespace);
        let params = PatchParams::apply(HAND_OVER_MANAGER).force();
        let name = found.metadata.name.as_deref().unwrap_or_default();
        let body = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            // The API server refuses another object of this name.
            "metadata": { "name": name, "uid": found.metadata.uid },
            "spec": { "replicas": replicas },
        });
        let call = async { api.patch(name, &params, &Patch::Apply(&body)).await };
        self.write("hand the replicas over to the autoscaler", ("deployments", "hand over"), call).await
    }

    /// Replaces the owners of this worker object, unless it changed since it was read.
    pub async fn take_over(
        &self,
        kind: ChildKind,
        namespace: &str,
        found: &DynamicObject,
        owners: &[OwnerReference],
    ) -> Result<(), ClusterError> {
        let api = self.child_api(kind, namespace);
        let call = replace_owners(&api, &found.metadata, owners);
        self.write("take over a worker object", (kind.names().2, "take_over"), call).await
    }

    /// Replaces the owners of this Secret, unless it changed since it was read.
    pub async fn take_over_secret(
        &self,
        namespace: &str,
        found: &Secret,
        owners: &[OwnerReference],
    ) -> Result<(), ClusterError> {
        let secrets = Api::<Secret>::namespaced(self.client(), namespace);
        let call = replace_owners(&secrets, &found.metadata, owners);
        self.write("take over a Secret", ("Secret", "take_over"), call).await.map_err(without_words)
    }

    /// Scales a Deployment to zero.
    pub async fn stop(&self, namespace: &str, deployment: &str) -> Result<(), ClusterError> {
        let api = self.child_api(ChildKind::Deployment, namespace);
        let params = PatchParams::apply(FIELD_MANAGER);
        let patch = json!({ "spec": { "replicas": 0 } });
        let call = async { api.patch(deployment, &params, &Patch::Merge(&patch)).await };
        gone(self.write("stop a worker", ("Deployment", "stop"), call).await)
    }

    /// Deletes this worker object, but not a different one of the same name.
    pub async fn remove(&self, kind: ChildKind, namespace: &str, found: &DynamicObject) -> Result<(), ClusterError> {
        let api = self.child_api(kind, namespace);
        let params = only(found.metadata.uid.clone());
        let name = found.metadata.name.as_deref().unwrap_or_default();
        let call = async { api.delete(name, &params).await };
        gone(self.write("delete a worker object", (kind.names().2, "delete"), call).await)
    }

    fn systems(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client(), namespace, &system_resource())
    }

    fn child_api(&self, kind: ChildKind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client(), namespace, &kind.resource())
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
        self.written(action, what, call).await.map(drop)
    }

    /// As [`Self::write`], with the answer.
    async fn written<T>(
        &self,
        action: &'static str,
        what: (&'static str, &'static str),
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ClusterError> {
        if let Err(closed) = self.fence.check() {
            let (kind, message) = (ClusterErrorKind::NotLeading, closed.to_string());
            return Err(ClusterError { action, kind, message, source: None });
        }
        self.metrics.kubernetes_write(what.0, what.1);
        self.read(action, call).await
    }
}

/// Objects that the operator created for a system, and what their controllers made of them.
fn of_system(system: &str) -> ListParams {
    ListParams::default().labels(&format!("{SYSTEM_LABEL}={system},app.kubernetes.io/managed-by={MANAGED_BY}"))
}

fn system_resource() -> ApiResource {
    ApiResource::erase::<DispatchSystem>(&())
}

/// Namespace and name. Every stored object of a namespaced kind has both.
pub fn place(stored: &SystemObject) -> (&str, &str) {
    let meta = &stored.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// An object as JSON.
pub fn to_value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn explain(action: &'static str, error: kube::Error) -> ClusterError {
    let (kind, message) = match &error {
        kube::Error::Api(status) => {
            let kind = match status.code {
                403 if is_terminating(status) => ClusterErrorKind::Gone,
                409 => ClusterErrorKind::Conflict,
                401 | 403 => ClusterErrorKind::Denied,
                404 => ClusterErrorKind::Gone,
                400 | 422 => ClusterErrorKind::Invalid,
                _ => ClusterErrorKind::Unavailable,
            };
            (kind, status.message.clone())
        }
        other => (ClusterErrorKind::Unavailable, innermost(other)),
    };
    ClusterError { action, kind, message, source: Some(Box::new(error)) }
}

/// Replaces the owners of an object, unless it changed since it was read.
async fn replace_owners<K>(api: &Api<K>, found: &ObjectMeta, owners: &[OwnerReference]) -> kube::Result<K>
where
    K: Clone + Debug + DeserializeOwned,
{
    let patch = json!({ "metadata": {
        "uid": found.uid,
        "resourceVersion": found.resource_version,
        "ownerReferences": owners,
    } });
    let name = found.name.as_deref().unwrap_or_default();
    api.patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Merge(&patch)).await
}

/// Whether a namespace that is being deleted refuses new objects. They are not needed any more.
pub fn is_terminating(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.causes.iter().any(|of| of.reason == "NamespaceTerminating"))
}

/// Delete parameters that match only the object with this UID.
fn only(uid: Option<String>) -> DeleteParams {
    let preconditions = Preconditions { uid, resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() }
}

/// Treats an object that no longer exists as deleted.
fn gone(result: Result<(), ClusterError>) -> Result<(), ClusterError> {
    match result {
        Err(error) if error.kind == ClusterErrorKind::Gone => Ok(()),
        other => other,
    }
}

/// Drops the message of an error that may quote the Secret. A missing permission is still reported in full.
fn without_words(error: ClusterError) -> ClusterError {
    let safe = matches!(error.kind, ClusterErrorKind::Denied | ClusterErrorKind::NotLeading);
    let message = if safe { error.message } else { "the API server did not accept it".to_owned() };
    ClusterError { message, source: None, ..error }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
