//! The exact calls of one reconcile, recorded by an in-memory API server that serves all APIs. AWS is in memory too.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::{Method, Request, Response, StatusCode};
use dispatch_api::conditions::EventReason;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::allow_list::AllowList;
use dispatch_operator::cloud::ports::Ports;
use dispatch_operator::engine::plan::workers::WorkerClients;
use dispatch_operator::engine::progress::Silent;
use dispatch_operator::engine::reconcile as engine;
use dispatch_operator::engine::settings::Settings;
use dispatch_operator::kubernetes::context::{Context, Objects, Options, Outcome};
use dispatch_operator::kubernetes::controller::attend;
use dispatch_operator::kubernetes::events::ObjectEvent;
use dispatch_operator::kubernetes::infra::client_pool::ClientPool;
use dispatch_operator::kubernetes::infra::cluster::{Cluster, SystemObject};
use dispatch_operator::kubernetes::infra::event_recorder::EventRecorder;
use dispatch_operator::kubernetes::infra::fence::Fence;
use dispatch_operator::kubernetes::infra::metrics::Metrics;
use dispatch_operator::kubernetes::policy::access::ExternalIds;
use dispatch_operator::kubernetes::policy::requeue::RequeuePolicy;
use dispatch_operator::kubernetes::policy::restrictions::Restrictions;
use dispatch_operator::kubernetes::policy::tenancy::Defaults;
use dispatch_operator::kubernetes::reconcile::reconcile;
use dispatch_operator::testing::World;
use futures::future::BoxFuture;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;

const SYSTEM: &str = "/apis/dispatch.coactus.io/v1alpha1/namespaces/default/dispatchsystems/seoul";
/// Another object, whose AWS account may fail.
const BUSAN: &str = "busan";
/// Limit of reconciles for a deletion.
const RECONCILES_MAX: usize = 10;

/// An in-memory API server, as far as the operator uses one. Its Deployments are ready at once.
#[derive(Default)]
struct Memory {
    objects: Mutex<BTreeMap<String, Value>>,
    calls: Mutex<Vec<String>>,
}

impl Memory {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.objects.lock()
    }

    /// Calls since the last use of this method, one per line.
    fn take_calls(&self) -> String {
        std::mem::take(&mut *self.calls.lock()).join("\n")
    }

    fn client(self: &Arc<Self>) -> Client {
        let memory = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let memory = Arc::clone(&memory);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap_or_default();
                let sent = serde_json::from_slice(&body).unwrap_or_default();
                let (status, answer) = memory.answer(&parts.method, parts.uri.path(), sent);
                let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &Method, path: &str, sent: Value) -> (StatusCode, Value) {
        self.calls.lock().push(format!("{method} {path}"));
        let mut objects = self.objects();
        let missing =
            json!({ "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "no" });
        let found = |value: Option<Value>| match value {
            Some(value) => (StatusCode::OK, value),
            None => (StatusCode::NOT_FOUND, missing.clone()),
        };
        match *method {
            Method::GET if is_collection(path) => {
                let of = format!("{path}/");
                let items: Vec<&Value> = objects.iter().filter(|(at, _)| at.starts_with(&of)).map(|(_, v)| v).collect();
                (StatusCode::OK, json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": items }))
            }
            Method::GET => found(objects.get(path).cloned()),
            Method::DELETE => found(objects.remove(path)),
            Method::PATCH => {
                let at = path.trim_end_matches("/status");
                let mut object = objects.get(at).cloned().unwrap_or_else(|| json!({ "metadata": { "uid": path } }));
                merge(&mut object, &sent);
                if path.contains("/deployments/") {
                    // If an autoscaler sets the replicas, an API server defaults them to one.
                    let count = object["spec"]["replicas"].as_i64().unwrap_or(1);
                    object["spec"]["replicas"] = json!(count);
                    object["status"] = json!({
                        "replicas": count, "updatedReplicas": count, "readyReplicas": count, "availableReplicas": count,
                    });
                }
                let let_go = object["metadata"]["finalizers"] == json!([]);
                if let_go && object["metadata"]["deletionTimestamp"].is_string() {
                    objects.remove(at);
                } else {
                    objects.insert(at.to_owned(), object.clone());
                }
                (StatusCode::OK, object)
            }
            _ => (StatusCode::CREATED, sent),
        }
    }
}

/// `/api/v1/namespaces/N/KIND` or `/apis/GROUP/VERSION/namespaces/N/KIND`.
fn is_collection(path: &str) -> bool {
    path.split("/namespaces/").nth(1).is_some_and(|rest| rest.matches('/').count() == 1)
}

/// A merge patch (RFC 7386), which is sufficient for the operator's patches.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in members {
        match value {
            Value::Null => drop(target.as_object_mut().and_then(|object| object.remove(name))),
            value => merge(&mut target[name.as_str()], value),
        }
    }
}

/// What happens on access to the account of [`BUSAN`].
#[derive(Clone, Copy)]
enum Trouble {
    None,
    Panics,
    Hangs,
}

struct Account(Ports, Trouble);

impl ClientPool for Account {
    fn ports<'a>(&'a self, system: &'a ValidatedSystem) -> BoxFuture<'a, Ports> {
        Box::pin(async {
            match self.1 {
                Trouble::Panics if system.name == BUSAN => std::panic::resume_unwind(Box::new("an unexpected panic")),
                Trouble::Hangs if system.name == BUSAN => std::future::pending().await,
                _ => self.0.clone(),
            }
        })
    }
}

/// A cluster with one object and an operator.
fn cluster() -> (Arc<Memory>, World, Context) {
    troubled(Trouble::None)
}

fn troubled(trouble: Trouble) -> (Arc<Memory>, World, Context) {
    let memory = Arc::new(Memory::default());
    let autoscaling = json!({ "autoscaling": { "minReplicas": 2, "maxReplicas": 4, "targetCpuPercent": 70 } });
    let object = json!({
        "apiVersion": "dispatch.coactus.io/v1alpha1", "kind": "DispatchSystem",
        "metadata": { "name": "seoul", "namespace": "default", "uid": "u", "generation": 1, "resourceVersion": "1" },
        "spec": {
            "city": "seoul", "region": "ap-northeast-2", "timezone": "Asia/Seoul",
            "workers": { "roles": { "statusUpdate": autoscaling } },
        },
        "status": { "observedGeneration": -1 },
    });
    memory.objects().insert(SYSTEM.to_owned(), object);
    let (world, metrics, client) = (World::default(), Arc::new(Metrics::new()), memory.client());
    let cluster = Cluster::new(client.clone(), Fence::open(), Arc::clone(&metrics));
    let context = Context {
        aws: Arc::new(Account(world.ports(), trouble)),
        recorder: EventRecorder::new(client, "one", Fence::open(), Arc::clone(&metrics)),
        cluster,
        metrics,
        options: Options {
            image: "runtime:1".to_owned(),
            endpoint_url: None,
            resync: Duration::from_mins(5),
            spread: Duration::ZERO,
            requeue: RequeuePolicy::default(),
            defaults: Defaults::default(),
            restrictions: Restrictions::default(),
            external_ids: ExternalIds::Spec,
            clients: WorkerClients::default(),
        },
        clock: world.ports().clock,
        objects: Objects::new(20),
    };
    (memory, world, context)
}

async fn one_reconcile(context: &Context) -> anyhow::Result<Outcome> {
    Ok(reconcile(context, &("default".to_owned(), "seoul".to_owned())).await?)
}

#[tokio::test]
async fn one_reconcile_creates_everything_the_next_writes_nothing_and_a_deletion_removes_it() -> anyhow::Result<()> {
    let (memory, world, context) = cluster();
    assert_eq!(one_reconcile(&context).await?.result.as_str(), "waiting", "its Deployments are new");
    insta::assert_snapshot!("create", memory.take_calls());
    assert_eq!(one_reconcile(&context).await?.result.as_str(), "ready");
    memory.take_calls();

    world.take_calls();
    assert_eq!(one_reconcile(&context).await?.result.as_str(), "ready");
    let quiet = memory.take_calls();
    assert!(quiet.lines().all(|call| call.starts_with("GET ")), "{quiet}");
    insta::assert_snapshot!("in_sync", quiet);
    assert_eq!(world.take_calls().1, [""; 0]);

    let budget = "/apis/policy/v1/namespaces/default/poddisruptionbudgets/seoul-status-update";
    let autoscaler = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/seoul-status-update";
    for made in [budget, autoscaler] {
        assert!(memory.objects().contains_key(made), "{made}");
    }

    if let Some(object) = memory.objects().get_mut(SYSTEM) {
        object["metadata"]["deletionTimestamp"] = json!("2024-05-02T03:00:00Z");
    }
    for _ in 0..RECONCILES_MAX {
        if !memory.objects().contains_key(SYSTEM) {
            break;
        }
        one_reconcile(&context).await?;
    }
    insta::assert_snapshot!("delete", memory.take_calls());
    assert!(!memory.objects().contains_key(SYSTEM));
    assert!(world.take_calls().1.contains(&"delete"));
    Ok(())
}

/// The status may be lost: a backup restores objects without it.
#[tokio::test]
async fn a_stack_under_its_former_name_is_found_again_when_the_status_is_lost() -> anyhow::Result<()> {
    let (memory, world, context) = cluster();
    let mut object = memory.objects().remove(SYSTEM).context("the object")?;
    object["metadata"]["namespace"] = json!("team-a");
    let metadata = serde_json::from_value(object["metadata"].clone())?;
    let system = ValidatedSystem::of_object(&metadata, &object["spec"])?;
    let of_an_earlier_version = system.under_former_names();
    let made = engine::reconcile(&of_an_earlier_version, &world.ports(), &Settings::default(), &mut Silent).await?;
    assert!(made.is_ready());
    let place = SYSTEM.replace("/default/", "/team-a/");
    memory.objects().insert(place.clone(), object);
    world.take_calls();

    let key = ("team-a".to_owned(), "seoul".to_owned());
    for _ in 0..2 {
        reconcile(&context, &key).await?;
    }
    let status = |of: &str| memory.objects().get(&place).map(|object| object["status"][of].clone()).unwrap_or_default();
    let arn = status("stackArn");
    assert!(arn.as_str().is_some_and(|arn| arn.contains("stack/coactus-team-a-seoul/")), "{arn}");
    assert_eq!(status("identity")["tableName"], "coactus-team-a-seoul");
    assert!(world.take_calls().1.is_empty());

    // A new process, and no status.
    if let Some(object) = memory.objects().get_mut(&place) {
        object["status"] = json!({ "observedGeneration": -1 });
    }
    context.forget(&key);
    assert_eq!(reconcile(&context, &key).await?.result.as_str(), "ready");
    assert_eq!(status("stackArn"), arn);
    assert!(world.take_calls().1.is_empty());
    assert_eq!(world.stacks.state("coactus-team-a-seoul-6"), None);
    Ok(())
}

#[tokio::test]
async fn an_object_whose_stack_is_anothers_is_let_go_at_once_with_an_event() -> anyhow::Result<()> {
    for tags in
        [&[("coactus:system", "team-a/seoul")][..], &[("coactus:system", "default/seoul"), ("coactus:uid", "v")]]
    {
        let (memory, world, context) = cluster();
        one_reconcile(&context).await?;
        one_reconcile(&context).await?;
        let stack = "coactus-default-seoul";
        world.stacks.retag(stack, tags);
        if let Some(object) = memory.objects().get_mut(SYSTEM) {
            // It never had the stack: another one did before it.
            object["status"] = json!({ "observedGeneration": -1 });
            object["metadata"]["deletionTimestamp"] = json!("2024-05-02T03:00:00Z");
        }
        memory.objects().retain(|place, _| !place.contains("/deployments/"));
        world.take_calls();
        memory.take_calls();
        assert_eq!(one_reconcile(&context).await?.result.as_str(), "deleted");
        assert!(!memory.objects().contains_key(SYSTEM));
        assert!(world.take_calls().1.is_empty(), "nothing of the other is touched");
        let calls = memory.take_calls();
        assert!(calls.contains("POST /apis/events.k8s.io/v1/namespaces/default/events"), "{calls}");
        assert!(world.stacks.state(stack).is_some_and(|state| state.name() == "CREATE_COMPLETE"));
    }
    Ok(())
}

#[tokio::test]
async fn a_dry_run_with_an_unknown_value_changes_nothing() -> anyhow::Result<()> {
    for value in ["True", "yes", "1", "tru"] {
        let (memory, world, context) = cluster();
        if let Some(object) = memory.objects().get_mut(SYSTEM) {
            object["metadata"]["annotations"] = json!({ "dispatch.coactus.io/dry-run": value });
        }
        for _ in 0..2 {
            one_reconcile(&context).await?;
        }
        let object = memory.objects().get(SYSTEM).context("the object")?.clone();
        assert_eq!(ready(&object["status"])["reason"], "DryRun", "{value}");
        assert!(world.take_calls().1.is_empty(), "{value}");
        assert!(memory.objects().keys().all(|place| !place.contains("/deployments/")), "{value}");
    }
    Ok(())
}

/// Neither AWS nor the cluster is changed for a spec that asks for what is not allowed, whatever else it says.
#[tokio::test]
async fn a_spec_that_is_not_allowed_causes_no_write_but_its_status() -> anyhow::Result<()> {
    for more in [json!({}), json!({ "suspend": true }), json!({ "managementPolicy": "Observe" })] {
        let (memory, world, mut context) = cluster();
        context.options.restrictions.images = AllowList::parse("registry.example/team");
        if let Some(object) = memory.objects().get_mut(SYSTEM) {
            merge(&mut object["spec"], &more);
            object["spec"]["workers"]["image"] = json!("registry.example/team-evil/x:1");
        }
        for _ in 0..2 {
            assert_eq!(one_reconcile(&context).await?.result.as_str(), "stalled", "{more}");
        }
        let (read, written) = world.take_calls();
        assert!(read.is_empty() && written.is_empty(), "{more}: {read:?} {written:?}");
        let calls = memory.take_calls();
        let mut writes = calls.lines().filter(|call| !call.starts_with("GET "));
        let status = format!("PATCH {SYSTEM}/status");
        assert!(writes.all(|call| call == status || call.contains("/events")), "{calls}");
        let object = memory.objects().get(SYSTEM).context("the object")?.clone();
        assert_eq!(ready(&object["status"])["reason"], "NotAllowed", "{more}");
        assert!(object["metadata"]["finalizers"].is_null(), "{more}");
    }
    Ok(())
}

#[tokio::test]
async fn the_same_event_is_counted_and_another_text_is_another_event() -> anyhow::Result<()> {
    let (memory, _, context) = cluster();
    memory.take_calls();
    let object = memory.objects().get(SYSTEM).context("the object")?.clone();
    let about: SystemObject = serde_json::from_value(object)?;
    for text in ["Table CREATE_FAILED: no", "Table CREATE_FAILED: no", "Topic CREATE_FAILED: no"] {
        context.recorder.publish(&about, vec![ObjectEvent::new(EventReason::Stalled, text)]).await;
    }
    let calls = memory.take_calls();
    let verbs: Vec<&str> = calls.lines().filter_map(|call| call.split(' ').next()).collect();
    assert_eq!(verbs, ["POST", "PATCH", "POST"]);
    Ok(())
}

/// Result of two concurrent reconciles, of which that of [`BUSAN`] fails.
struct Beside {
    /// Status of the other object, which was reconciled twice.
    good: Value,
    /// Duration of the other object's reconciles.
    took: Duration,
    /// Reason of the failing object's `Ready`.
    reason: String,
    /// When the failing object is retried.
    next: Option<Duration>,
    metrics: String,
}

async fn beside(trouble: Trouble) -> anyhow::Result<Beside> {
    let (memory, _, context) = troubled(trouble);
    let object = memory.objects().get(SYSTEM).context("the object")?.to_string();
    let other = object.replace("seoul", BUSAN).replace(r#""uid":"u""#, r#""uid":"v""#);
    let in_trouble = SYSTEM.replace("seoul", BUSAN);
    memory.objects().insert(in_trouble.clone(), serde_json::from_str(&other)?);
    let context = Arc::new(context);
    let (seoul, busan) = (("default".to_owned(), "seoul".to_owned()), ("default".to_owned(), BUSAN.to_owned()));
    let begun = Instant::now();
    let both_looks = async {
        attend(&context, &seoul).await;
        attend(&context, &seoul).await;
        begun.elapsed()
    };
    let (next, took) = tokio::join!(attend(&context, &busan), both_looks);
    let status = |path: &str| memory.objects().get(path).map(|object| object["status"].clone()).unwrap_or_default();
    let reason = ready(&status(&in_trouble))["reason"].as_str().unwrap_or_default().to_owned();
    Ok(Beside { good: status(SYSTEM), took, reason, next, metrics: context.metrics.encode()? })
}

fn ready(status: &Value) -> &Value {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or(&Value::Null)
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_panics_affects_no_other_and_is_counted() -> anyhow::Result<()> {
    let Beside { good, reason, next, metrics, .. } = Box::pin(beside(Trouble::Panics)).await?;
    assert_eq!(ready(&good)["status"], "True", "{good:#}");
    assert_eq!(reason, "InternalError");
    assert!(next.is_some_and(|next| next < Duration::from_secs(10)), "it is retried: {next:?}");
    assert!(metrics.contains("dispatch_operator_reconcile_panics_total 1"), "{metrics}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_hangs_affects_no_other_and_ends_at_its_deadline() -> anyhow::Result<()> {
    let begun = Instant::now();
    let Beside { good, took, reason, next, metrics } = Box::pin(beside(Trouble::Hangs)).await?;
    assert_eq!(ready(&good)["status"], "True", "{good:#}");
    assert!(took < Duration::from_secs(1), "it waited for the hanging reconcile: {took:?}");
    assert_eq!(begun.elapsed().as_secs(), 90);
    assert_eq!(reason, "DeadlineExceeded");
    assert!(next.is_some_and(|next| next < Duration::from_secs(10)), "it is retried: {next:?}");
    assert!(metrics.contains("dispatch_operator_reconcile_errors_total{kind=\"deadline\"} 1"), "{metrics}");
    Ok(())
}
