//! One object and its account, reconciled step by step.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use dispatch_api::annotations::APPROVE;
use dispatch_api::conditions::ConditionType;
use dispatch_api::dispatch_system::{DispatchSystem, DispatchSystemStatus};
use dispatch_operator::engine::plan::workers::{self, ChildKind, WorkerClients};
use dispatch_operator::engine::status::is_true;
use dispatch_operator::kubernetes::context::{Context, Objects, Options};
use dispatch_operator::kubernetes::infra::cluster::Cluster;
use dispatch_operator::kubernetes::infra::event_recorder::EventRecorder;
use dispatch_operator::kubernetes::infra::fence::Fence;
use dispatch_operator::kubernetes::infra::metrics::Metrics;
use dispatch_operator::kubernetes::policy::access::ExternalIds;
use dispatch_operator::kubernetes::policy::requeue::RequeuePolicy;
use dispatch_operator::kubernetes::policy::restrictions::Restrictions;
use dispatch_operator::kubernetes::policy::tenancy;
use dispatch_operator::kubernetes::reconcile::reconcile;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::account::{Account, Accounts};

const NAMESPACE: &str = "default";
const IMAGE: &str = "registry.example.com/dispatch-runtime:1";
/// Reconciles until a change has settled: the stack, the rollout of the workers, their inspection, and one operation in
/// progress.
const RECONCILES_MAX: usize = 8;

/// Prefix of the keys of autoscalers among the worker objects.
const AUTOSCALER: &str = "HorizontalPodAutoscaler ";

/// What all cities of the test share.
#[derive(Clone)]
pub(super) struct Bench {
    /// Client of the API server.
    pub client: Client,
    /// The AWS accounts.
    pub accounts: Arc<Accounts>,
}

/// One object with its account and its operator.
pub(super) struct City {
    bench: Bench,
    name: String,
    account: Account,
    context: Context,
}

impl City {
    /// Creates the object.
    pub(super) async fn start(bench: &Bench, name: &str, spec: &Value) -> anyhow::Result<Self> {
        let account = Account::of(name);
        bench.accounts.give(name, account.clone());
        let city = Self { bench: bench.clone(), name: name.to_owned(), account, context: context(bench) };
        let object = json!({
            "apiVersion": "dispatch.coactus.io/v1alpha1", "kind": "DispatchSystem",
            "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec,
        });
        city.api().create(&PostParams::default(), &serde_json::from_value(object)?).await.context(name.to_owned())?;
        Ok(city)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// AWS calls that changed something since the last call of this function.
    pub(super) fn take_mutations(&self) -> Vec<&'static str> {
        self.account.world.take_calls().1
    }

    fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.bench.client.clone(), NAMESPACE, &ApiResource::erase::<DispatchSystem>(&()))
    }

    /// The object as stored.
    pub(super) async fn stored(&self) -> anyhow::Result<DynamicObject> {
        Ok(self.api().get(&self.name).await?)
    }

    /// Replaces the spec, as `kubectl replace` does. The inner error is a rejection by the API server.
    pub(super) async fn put(&self, spec: &Value) -> anyhow::Result<Result<DynamicObject, String>> {
        let mut object = self.stored().await?;
        object.data["spec"] = spec.clone();
        match self.api().replace(&self.name, &PostParams::default(), &object).await {
            Ok(stored) => Ok(Ok(stored)),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => Ok(Err(status.message)),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the spec with one that the API server must accept.
    pub(super) async fn change(&self, spec: &Value) -> anyhow::Result<()> {
        self.put(spec).await?.map(drop).map_err(|message| anyhow!("the API server rejects it: {message}"))
    }

    /// Reconciles once.
    pub(super) async fn reconcile(&self) -> anyhow::Result<DispatchSystemStatus> {
        reconcile(&self.context, &(NAMESPACE.to_owned(), self.name.clone())).await?;
        self.status().await
    }

    /// Reads the status.
    pub(super) async fn status(&self) -> anyhow::Result<DispatchSystemStatus> {
        let status = self.stored().await?.data["status"].clone();
        Ok(serde_json::from_value(status)?)
    }

    /// Reconciles until the system is ready or suspended.
    pub(super) async fn settle(&mut self) -> anyhow::Result<DispatchSystemStatus> {
        let mut last = String::new();
        for _ in 0..RECONCILES_MAX {
            let generation = self.stored().await?.metadata.generation;
            let status = Box::pin(self.reconcile()).await?;
            let rolled_out = self.roll_out().await?;
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
            let (reason, message) = ready.map(|c| (c.reason.as_str(), c.message.as_str())).unwrap_or_default();
            let rests = is_true(&status, ConditionType::Ready) || reason == "Suspended";
            let publishing = status.conditions.iter().any(|condition| condition.reason == "Publishing");
            if rests && !publishing && !rolled_out && Some(status.observed_generation) == generation {
                return Ok(status);
            }
            if let (true, Some(plan)) = (reason == "ApprovalRequired", &status.last_plan) {
                let approval = json!({ "metadata": { "annotations": { APPROVE: plan.id } } });
                self.api().patch(&self.name, &PatchParams::default(), &Patch::Merge(&approval)).await?;
                last = format!("{reason}: {message}");
                continue;
            }
            if is_true(&status, ConditionType::Stalled) {
                bail!("stalled: {reason}: {message}");
            }
            if reason == "StackBusy" {
                // The next poll would be some seconds away; a new process polls at once.
                self.context = context(&self.bench);
            }
            last = format!("{reason}: {message}");
        }
        bail!("not settled after {RECONCILES_MAX} reconciles: {last}")
    }

    /// Reason and message of a stalled object.
    pub(super) fn stalled(status: &DispatchSystemStatus) -> Option<String> {
        let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled" && c.status == "True");
        stalled.filter(|_| !is_true(status, ConditionType::Ready)).map(|c| format!("{}: {}", c.reason, c.message))
    }

    /// Plays the Deployment controller. Returns whether anything changed.
    async fn roll_out(&self) -> anyhow::Result<bool> {
        let api = Api::<Deployment>::namespaced(self.bench.client.clone(), NAMESPACE);
        let mut rolled_out = false;
        for deployment in api.list(&self.own()).await? {
            let generation = deployment.metadata.generation;
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = deployment.status.unwrap_or_default();
            if status.observed_generation == generation && status.available_replicas.unwrap_or(0) == wanted {
                continue;
            }
            rolled_out = true;
            let status = json!({ "status": {
                "observedGeneration": generation, "replicas": wanted, "updatedReplicas": wanted,
                "readyReplicas": wanted, "availableReplicas": wanted,
            } });
            let name = deployment.metadata.name.unwrap_or_default();
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        }
        Ok(rolled_out)
    }

    fn own(&self) -> ListParams {
        ListParams::default().labels(&format!("{}={}", workers::SYSTEM_LABEL, self.name))
    }

    fn children_of(&self, kind: ChildKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.bench.client.clone(), NAMESPACE, &kind.resource())
    }

    /// The worker objects, without the fields that every write changes.
    async fn children(&self) -> anyhow::Result<Value> {
        let mut all = serde_json::Map::new();
        for kind in ChildKind::ALL.into_iter().chain(ChildKind::ROUTING) {
            for child in self.children_of(kind).list(&self.own()).await? {
                let mut value = serde_json::to_value(&child)?;
                let meta = &mut value["metadata"];
                // A digest of fields that are compared anyway, and of the object's UID.
                meta["annotations"][workers::APPLIED].take();
                let meta = json!({
                    "labels": meta["labels"], "annotations": meta["annotations"], "owners": meta["ownerReferences"],
                });
                value["metadata"] = meta;
                if let Some(members) = value.as_object_mut() {
                    members.remove("status");
                }
                // Addresses are chosen by the API server.
                value["spec"]["clusterIP"].take();
                value["spec"]["clusterIPs"].take();
                all.insert(format!("{} {}", kind.names().2, child.metadata.name.unwrap_or_default()), value);
            }
        }
        // The number of replicas of an autoscaled role belongs to its autoscaler.
        let scaled = all.keys().filter_map(|key| key.strip_prefix(AUTOSCALER));
        for role in scaled.map(str::to_owned).collect::<Vec<_>>() {
            all.get_mut(&format!("Deployment {role}")).context("an autoscaled Deployment")?["spec"]["replicas"].take();
        }
        Ok(Value::Object(all))
    }

    /// The complete state to compare: account, workers and status, without times, generations and the UID of the
    /// object.
    pub(super) async fn state(&self) -> anyhow::Result<Value> {
        let stored = self.stored().await?;
        let status: DispatchSystemStatus = serde_json::from_value(stored.data["status"].clone())?;
        // A list map: a new condition is appended, whatever its type.
        let mut conditions: Vec<_> = status.conditions.iter().collect();
        conditions.sort_by_key(|condition| &condition.type_);
        let children = self.children().await?;
        let scaled = children.as_object().is_some_and(|all| all.keys().any(|key| key.starts_with(AUTOSCALER)));
        let shown = |condition: &Condition| {
            // The number of replicas of an autoscaled role is not the operator's.
            let message = if scaled && condition.type_ == "WorkersReady" { "" } else { &condition.message };
            json!([condition.type_, condition.status, condition.reason, message])
        };
        let conditions: Vec<_> = conditions.into_iter().map(shown).collect();
        let (region, role, external_id) = self.bench.accounts.asked(&self.name);
        let state = json!({
            "account": self.account.state(),
            "asked": { "region": region, "role": role, "externalId": external_id },
            "children": children,
            "status": { "conditions": conditions, "outputs": status.outputs, "stack": status.stack_status,
                "hash": status.applied_hash, "policy": status.deletion_policy, "connection": status.connection_secret_name },
        });
        let uid = stored.metadata.uid.unwrap_or_default();
        let text = state.to_string().replace(&uid, "uid");
        // Whether the last operation was a creation or an update does not matter.
        let text =
            text.replace(r#""UPDATE_COMPLETE""#, r#""COMPLETE""#).replace(r#""CREATE_COMPLETE""#, r#""COMPLETE""#);
        Ok(serde_json::from_str(&text)?)
    }

    /// Deletes the object and reconciles until it is gone.
    pub(super) async fn remove(self) -> anyhow::Result<()> {
        self.api().delete(&self.name, &DeleteParams::default()).await?;
        for _ in 0..RECONCILES_MAX {
            // The next poll would be some seconds away; a new process polls at once.
            reconcile(&context(&self.bench), &(NAMESPACE.to_owned(), self.name.clone())).await?;
            self.roll_out().await?;
            if self.api().get_opt(&self.name).await?.is_none() {
                return Ok(());
            }
        }
        bail!("{} still exists", self.name)
    }

    /// Replaces the object with a new one of the same name and a new account. The environment of the old object does
    /// not matter here, so its finalizer is removed by hand.
    pub(super) async fn replace(self, spec: &Value) -> anyhow::Result<Self> {
        let free = json!({ "metadata": { "finalizers": null } });
        self.api().patch(&self.name, &PatchParams::default(), &Patch::Merge(&free)).await?;
        self.api().delete(&self.name, &DeleteParams::default()).await?;
        for kind in ChildKind::ALL.into_iter().chain(ChildKind::ROUTING) {
            let api = self.children_of(kind);
            for child in api.list(&self.own()).await? {
                api.delete(&child.metadata.name.unwrap_or_default(), &DeleteParams::background()).await?;
            }
        }
        let secrets = Api::<Secret>::namespaced(self.bench.client.clone(), NAMESPACE);
        secrets.delete_collection(&DeleteParams::background(), &self.own()).await?;
        Self::start(&self.bench, &self.name, spec).await
    }
}

fn context(bench: &Bench) -> Context {
    let metrics = Arc::new(Metrics::new());
    let fence = Fence::open();
    Context {
        cluster: Cluster::new(bench.client.clone(), fence.clone(), Arc::clone(&metrics)),
        aws: bench.accounts.clone(),
        recorder: EventRecorder::new(bench.client.clone(), "test", fence, Arc::clone(&metrics)),
        metrics,
        options: Options {
            image: IMAGE.to_owned(),
            endpoint_url: None,
            resync: Duration::from_mins(10),
            spread: Duration::ZERO,
            requeue: RequeuePolicy::default(),
            defaults: tenancy::Defaults::default(),
            restrictions: Restrictions::default(),
            external_ids: ExternalIds::Spec,
            clients: WorkerClients::default(),
        },
        clock: || Timestamp::from_second(1_714_618_800).unwrap_or(Timestamp::UNIX_EPOCH),
        objects: Objects::new(1),
    }
}
