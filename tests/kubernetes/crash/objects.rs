//! Actions of the user and of the other controllers in a namespace.

use dispatch_api::annotations::FINALIZER;
use dispatch_api::dispatch_system::DispatchSystem;
use dispatch_operator::engine::plan::workers::{ChildKind, FIELD_MANAGER};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::bench::{Bench, NAME, Run};
use super::fault::Past;

impl Bench {
    /// Creates the system.
    pub(super) async fn create_system(&self, spec: &Value, annotations: &Value) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "dispatch.coactus.io/v1alpha1", "kind": "DispatchSystem",
            "metadata": { "name": NAME, "annotations": annotations }, "spec": spec,
        });
        self.systems().create(&kube::api::PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    }

    /// Patches the system.
    pub(super) async fn change_system(&self, patch: &Value) -> anyhow::Result<()> {
        self.systems().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Requests the deletion of the system.
    pub(super) async fn delete_system(&self) -> anyhow::Result<()> {
        self.systems().delete(NAME, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Reads the system.
    pub(super) async fn system(&self) -> anyhow::Result<Option<DynamicObject>> {
        Ok(self.systems().get_opt(NAME).await?)
    }

    /// The current responses of the API server to reads of the system and its Secret, if they exist.
    pub(super) async fn answers(&self) -> anyhow::Result<Past> {
        let namespace = &self.namespace;
        let paths = [
            format!("/apis/dispatch.coactus.io/v1alpha1/namespaces/{namespace}/dispatchsystems/{NAME}"),
            format!("/api/v1/namespaces/{namespace}/secrets/fcm"),
        ];
        let mut past = Past::new();
        for path in paths {
            match self.client.request_text(http::Request::get(&path).body(Vec::new())?).await {
                Ok(text) => drop(past.insert(path, text.into_bytes())),
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(past)
    }

    /// Writes the Secret with the FCM key.
    pub(super) async fn put_key(&self, key: &str) -> anyhow::Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "fcm" }, "stringData": { "key.json": key },
        });
        let params = PatchParams::apply("person").force();
        self.all::<Secret>().patch("fcm", &params, &Patch::Apply(&secret)).await?;
        Ok(())
    }

    /// Plays the Deployment controller: reports all Pods as available at once. Returns whether anything changed.
    pub(super) async fn play(&self, run: &Run) -> anyhow::Result<bool> {
        if !run.tally.take_deployed() {
            return Ok(false);
        }
        let deployments = self.all::<Deployment>();
        let mut moved = false;
        for deployment in deployments.list(&ListParams::default()).await? {
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let generation = deployment.metadata.generation;
            let status = deployment.status.as_ref();
            let there = status.and_then(|status| status.available_replicas).unwrap_or(0) == replicas;
            if there && status.and_then(|status| status.observed_generation) == generation {
                continue;
            }
            moved = true;
            let patch = json!({ "status": {
                "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                "readyReplicas": replicas, "availableReplicas": replicas,
            } });
            deployments.patch_status(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        Ok(moved)
    }

    /// The worker objects, by kind and name.
    pub(super) async fn children(&self) -> anyhow::Result<Vec<(String, Value)>> {
        let mut children = Vec::new();
        for kind in ChildKind::ALL {
            for object in self.all_of(kind).list(&ListParams::default()).await? {
                children.push((format!("{} {}", kind.names().2, object.name_any()), serde_json::to_value(&object)?));
            }
        }
        Ok(children)
    }

    /// Reasons of the operator's events, repeated as often as each was published. The API server publishes events, too,
    /// for example about the addresses of Services.
    pub(super) async fn reasons(&self) -> anyhow::Result<Vec<String>> {
        let mut reasons = Vec::new();
        let ours = |event: &Event| event.reporting_controller.as_deref() == Some(FIELD_MANAGER);
        for event in self.all::<Event>().list(&ListParams::default()).await?.into_iter().filter(ours) {
            let times = event.series.as_ref().map_or(1, |series| usize::try_from(series.count).unwrap_or(1));
            reasons.extend(std::iter::repeat_n(event.reason.unwrap_or_default(), times));
        }
        Ok(reasons)
    }

    /// Deletes the system without its operator, as when a cluster is lost.
    pub(super) async fn lose_system(&self) -> anyhow::Result<()> {
        if let Some(system) = self.system().await? {
            if system.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
                self.change_system(&json!({ "metadata": { "finalizers": [] } })).await?;
            }
            // A system that is being deleted is gone without its finalizer.
            if self.system().await?.is_some() {
                self.delete_system().await?;
            }
        }
        self.lose_children().await
    }

    /// Empties the namespace.
    pub(super) async fn clear(&self) -> anyhow::Result<()> {
        self.lose_system().await?;
        self.lose_all::<Secret>().await?;
        self.lose_all::<Event>().await
    }

    /// Plays the garbage collector after the system is gone.
    pub(super) async fn lose_children(&self) -> anyhow::Result<()> {
        for kind in ChildKind::ALL {
            self.all_of(kind).delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
        }
        Ok(())
    }

    async fn lose_all<K>(&self) -> anyhow::Result<()>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        self.all::<K>().delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
        Ok(())
    }

    /// All worker objects of a kind.
    fn all_of(&self, kind: ChildKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// All objects of a kind.
    pub(super) fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn systems(&self) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<DispatchSystem>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }
}
