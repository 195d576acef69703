//! The worker pool as Kubernetes objects. Pure: the same system, outputs and cluster give the same objects.
//!
//! Each of the four functions of spec §3 is a Deployment, so that each is scaled and rolled out separately, or one
//! Deployment runs all four. The other objects are a service account for each Deployment (its annotations carry the AWS
//! identity), the worker configuration, Services of the HTTP roles, network policies, disruption budgets and, on
//! request, autoscalers, an `Ingress` and an `HTTPRoute`.

mod compare;
pub mod connection;
pub mod environment;
pub mod holder;
pub mod layout;
mod network;
mod pods;
pub mod routing;
mod scaling;

use std::collections::BTreeMap;

use dispatch_api::dispatch_system::{OutputsStatus, WorkersLayout};
use dispatch_api::names;
use dispatch_api::validate::ValidatedSystem;
use dispatch_api::worker_config::WorkerConfig;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::ApiResource;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::engine::plan::hex;
use crate::engine::worker_config::{WorkerOverrides, worker_config};

pub use compare::{APPLIED, differs};
pub use environment::WorkerEnvironment;
pub use layout::{Role, role_name, roles};
pub use network::WorkerClients;
pub use pods::ADMIN_PORT;
pub use scaling::{HandOver, hand_over};

/// Label with the name of the system that an object belongs to. The operator lists its objects by it.
pub const SYSTEM_LABEL: &str = "dispatch.coactus.io/system";
/// Value of the label `app.kubernetes.io/managed-by`.
pub const MANAGED_BY: &str = "dispatch-operator";
/// Field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "dispatch-operator";
/// Pod annotation with the digest of the configuration that a worker reads only at start. A changed digest starts a
/// rolling update.
pub const CONFIG_DIGEST: &str = "dispatch.coactus.io/config-digest";
/// File of the worker configuration in its `ConfigMap`.
pub const CONFIG_FILE: &str = "worker.json";

/// Input of the objects.
#[derive(Clone, Copy, Debug)]
pub struct Pool<'a> {
    pub system: &'a ValidatedSystem,
    pub outputs: &'a OutputsStatus,
    /// Image of the runtime if the manifest names none.
    pub image: &'a str,
    /// Endpoint that replaces the AWS endpoints.
    pub endpoint_url: Option<&'a str>,
    /// Version of the Secret with the Redis AUTH token, so that a changed token restarts the workers.
    pub cache_secret_version: Option<&'a str>,
    /// Who may connect to the workers.
    pub clients: &'a WorkerClients,
    /// What the sources of environment variables contain.
    pub environment: &'a WorkerEnvironment,
    /// The layout whose workers still serve while those of the spec's layout start, see [`layout::leaving`].
    pub leaving: Option<WorkersLayout>,
}

/// Why there are no objects.
#[derive(Debug, Error)]
pub enum PoolError {
    /// An object cannot be serialized.
    #[error("cannot serialize a worker object")]
    Write(#[from] serde_json::Error),
}

/// Kinds of objects that the operator creates, in the order in which they are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum ChildKind {
    ServiceAccount,
    ConfigMap,
    NetworkPolicy,
    Service,
    Deployment,
    PodDisruptionBudget,
    HorizontalPodAutoscaler,
    Ingress,
    HttpRoute,
}

impl ChildKind {
    /// Kinds of which every system has objects, or may have had.
    pub const ALL: [Self; 7] = [
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::NetworkPolicy,
        Self::Service,
        Self::Deployment,
        Self::PodDisruptionBudget,
        Self::HorizontalPodAutoscaler,
    ];
    /// Kinds of which a system has objects only on request. Not every cluster has the second one.
    pub const ROUTING: [Self; 2] = [Self::Ingress, Self::HttpRoute];

    /// Group, version, kind and plural.
    pub fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::HorizontalPodAutoscaler => {
                ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            }
            Self::Ingress => ("networking.k8s.io", "v1", "Ingress", "ingresses"),
            Self::HttpRoute => ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
        }
    }

    /// The resource, for calls to the API server.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }
}

/// Annotation of a service account with its IAM role ("IAM roles for service accounts").
const ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";

/// An object of the worker pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    pub kind: ChildKind,
    pub name: String,
    /// The complete object.
    pub body: Value,
}

/// All objects, in the order in which they are applied.
pub fn objects(pool: &Pool<'_>) -> Result<Vec<Child>, PoolError> {
    let system = pool.system;
    let overrides =
        WorkerOverrides { endpoint_url: pool.endpoint_url.map(str::to_owned), ..WorkerOverrides::default() };
    let config = worker_config(system, pool.outputs, &overrides);
    let digest = restart_digest(&config, pool.cache_secret_version, pool.environment)?;
    let mut children = vec![
        // In the layout `Split` no Pod uses it, but those of an earlier version or of the other layout may still run.
        child(ChildKind::ServiceAccount, service_account(pool, workers_name(system), None))?,
        child(ChildKind::ConfigMap, config_map(system, &config)?)?,
        child(ChildKind::ConfigMap, connection::config_map(pool)?)?,
    ];
    let layout = system.spec.workers.layout;
    for service in network::services(system, pool.leaving.unwrap_or(layout)) {
        children.push(child(ChildKind::Service, service)?);
    }
    let kept = pool.leaving.into_iter().flat_map(|former| layout::roles_of(system, former));
    for (role, scaling) in roles(system).into_iter().chain(kept) {
        if role_name(system, role) != workers_name(system) {
            let account = service_account(pool, role_name(system, role), Some(role.name));
            children.push(child(ChildKind::ServiceAccount, account)?);
        }
        children.push(child(ChildKind::NetworkPolicy, network::policy(pool, role))?);
        children.push(child(ChildKind::Deployment, pods::deployment(pool, role, scaling, &digest))?);
        children.push(child(ChildKind::PodDisruptionBudget, scaling::disruption_budget(system, role))?);
        if let Some(autoscaling) = scaling.autoscaling.as_ref().filter(|_| !system.spec.suspend) {
            children.push(child(ChildKind::HorizontalPodAutoscaler, scaling::autoscaler(system, role, autoscaling))?);
        }
    }
    if let Some(ingress) = &system.spec.api.ingress {
        children.push(child(ChildKind::Ingress, routing::ingress(system, ingress))?);
    }
    if let Some(route) = &system.spec.api.http_route {
        children.push(child(ChildKind::HttpRoute, routing::http_route(system, route))?);
    }
    children.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(children)
}

fn child<T: Serialize>(kind: ChildKind, object: T) -> Result<Child, PoolError> {
    let mut body = serde_json::to_value(object)?;
    let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let digest = hex(&Sha256::digest(body.to_string()));
    body["metadata"]["annotations"][APPLIED] = json!(digest);
    Ok(Child { kind, name, body })
}

/// Name, labels and owner of an object. The object is deleted with its owner.
fn metadata(system: &ValidatedSystem, name: String, component: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(system.namespace.clone()),
        labels: Some(labels(system, component)),
        owner_references: holder::owner_reference(system).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

fn labels(system: &ValidatedSystem, component: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = selector_labels(system, component);
    labels.insert("app.kubernetes.io/managed-by".to_owned(), MANAGED_BY.to_owned());
    labels.insert("app.kubernetes.io/part-of".to_owned(), "coactus-dispatch".to_owned());
    labels
}

/// Labels that select the Pods. The selector of a Deployment is immutable, so these labels must never change.
fn selector_labels(system: &ValidatedSystem, component: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "dispatch-runtime".to_owned()),
        (SYSTEM_LABEL.to_owned(), system.name.clone()),
    ]);
    if let Some(component) = component {
        labels.insert("app.kubernetes.io/component".to_owned(), component.to_owned());
    }
    labels
}

fn selector(system: &ValidatedSystem, component: Option<&str>) -> LabelSelector {
    LabelSelector { match_labels: Some(selector_labels(system, component)), ..LabelSelector::default() }
}

fn workers_name(system: &ValidatedSystem) -> String {
    names::workers_object(&system.name)
}

/// With an OIDC provider, the annotation names the role of the service account, unless the spec names another.
fn service_account(pool: &Pool<'_>, name: String, component: Option<&str>) -> ServiceAccount {
    let system = pool.system;
    let mut annotations = system.spec.workers.service_account_annotations.clone();
    let role = pool.outputs.worker_role_arns.get(&name).filter(|_| system.spec.aws.oidc_provider_arn.is_some());
    if let Some(role) = role {
        annotations.entry(ROLE_ANNOTATION.to_owned()).or_insert_with(|| role.clone());
    }
    let mut metadata = metadata(system, name, component);
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    // EKS projects AWS credentials into the Pod. A worker does not use the token of the API server.
    ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() }
}

fn config_map(system: &ValidatedSystem, config: &WorkerConfig) -> Result<ConfigMap, PoolError> {
    let text = serde_json::to_string_pretty(config)?;
    Ok(ConfigMap {
        metadata: metadata(system, workers_name(system), None),
        data: Some(BTreeMap::from([(CONFIG_FILE.to_owned(), text)])),
        ..ConfigMap::default()
    })
}

/// Digest of the configuration that a worker reads only at start.
fn restart_digest(
    config: &WorkerConfig,
    cache_secret_version: Option<&str>,
    environment: &WorkerEnvironment,
) -> Result<String, PoolError> {
    let value = serde_json::to_value(config.read_at_start())?;
    let versions = format!("{}{}", cache_secret_version.unwrap_or_default(), environment.version());
    Ok(hex(&Sha256::digest(format!("{value} {versions}"))))
}

#[cfg(test)]
mod tests;
