//! Reconciles of the controller on a real API server, with AWS in memory: what the status contains, and what is not
//! written twice.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::cloud::ports::Ports;
use dispatch_operator::engine::plan::workers::WorkerClients;
use dispatch_operator::kubernetes::context::{Context, Objects, Options};
use dispatch_operator::kubernetes::infra::client_pool::ClientPool;
use dispatch_operator::kubernetes::infra::cluster::Cluster;
use dispatch_operator::kubernetes::infra::event_recorder::EventRecorder;
use dispatch_operator::kubernetes::infra::fence::Fence;
use dispatch_operator::kubernetes::infra::metrics::Metrics;
use dispatch_operator::kubernetes::policy::access::ExternalIds;
use dispatch_operator::kubernetes::policy::requeue::RequeuePolicy;
use dispatch_operator::kubernetes::policy::restrictions::Restrictions;
use dispatch_operator::kubernetes::policy::tenancy::Defaults;
use dispatch_operator::kubernetes::reconcile::reconcile;
use dispatch_operator::testing::{MANIFEST, World};
use dispatch_tests::apiserver::ApiServer;
use jiff::Timestamp;
use serde_json::Value;

use crate::support::{allow_secrets, operator_of};

/// Limit of reconciles until the status has the expected value.
const RECONCILES_MAX: usize = 20;
/// Current time of the fakes: noon in Seoul.
static NOW: AtomicI64 = AtomicI64::new(1_714_618_800);

fn clock() -> Timestamp {
    Timestamp::from_second(NOW.load(Ordering::Relaxed)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The same account for every system.
struct OneWorld(World);

impl ClientPool for OneWorld {
    fn ports<'a>(&'a self, _system: &'a ValidatedSystem) -> Pin<Box<dyn Future<Output = Ports> + Send + 'a>> {
        Box::pin(async { self.0.ports() })
    }
}

struct Stage {
    server: ApiServer,
    client: kube::Client,
    world: World,
}

impl Stage {
    async fn start(manifest: &str) -> anyhow::Result<Option<Self>> {
        let Some(server) = ApiServer::start().await? else { return Ok(None) };
        server.install_crd()?;
        let client = operator_of(&server).await?;
        allow_secrets(&server)?;
        let file = server.file("system.yaml", manifest)?;
        server.kubectl(&["apply", "-f", &file])?;
        Ok(Some(Self { server, client, world: World::default() }))
    }

    /// An operator process without cached state.
    fn process(&self) -> Context {
        let (fence, metrics) = (Fence::open(), Arc::new(Metrics::new()));
        let cluster = Cluster::new(self.client.clone(), fence.clone(), Arc::clone(&metrics));
        let resync = Duration::from_mins(5);
        Context {
            aws: Arc::new(OneWorld(self.world.clone())),
            recorder: EventRecorder::new(self.client.clone(), "test", fence, Arc::clone(&metrics)),
            cluster,
            metrics,
            options: Options {
                image: "runtime".to_owned(),
                endpoint_url: None,
                resync,
                spread: Duration::ZERO,
                requeue: RequeuePolicy::default(),
                defaults: Defaults::default(),
                restrictions: Restrictions::default(),
                external_ids: ExternalIds::Spec,
                clients: WorkerClients::default(),
            },
            clock,
            objects: Objects::new(20),
        }
    }

    fn object(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.server.kubectl(&["get", "dispatchsystem", "seoul", "--output=json"])?)?)
    }

    /// Reconciles until the object has this text at this JSON pointer.
    async fn until(&self, process: &Context, place: &str, text: &str) -> anyhow::Result<Value> {
        let mut seen = Value::Null;
        for _ in 0..RECONCILES_MAX {
            reconcile(process, &("default".to_owned(), "seoul".to_owned())).await?;
            seen = self.object()?;
            if seen.pointer(place).and_then(Value::as_str) == Some(text) {
                return Ok(seen);
            }
        }
        anyhow::bail!("{place} is not {text}: {:#}", seen["status"])
    }
}

fn reason(object: &Value, kind: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind);
    found.map(|condition| condition["reason"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_scheduled_export_and_a_connection_reach_the_status_and_are_written_once() -> anyhow::Result<()> {
    let manifest = format!(
        "{MANIFEST}  export: {{ schedule: '0 4 * * *' }}\n  connection: {{ configMapName: city, secretName: city }}\n"
    );
    let Some(stage) = Stage::start(&manifest).await? else { return Ok(()) };
    let process = stage.process();
    let next = "/status/exportSchedule/nextExportAt";
    stage.until(&process, "/status/connectionSecretName", "city").await?;
    let object = stage.until(&process, next, "2024-05-02T19:00:00Z").await?;
    assert_eq!(reason(&object, "ExportsReady"), "Scheduled");
    reconcile(&process, &("default".to_owned(), "seoul".to_owned())).await?;
    let object = stage.object()?;
    assert_eq!(reason(&object, "ConnectionPublished"), "Published");
    let data = stage.server.kubectl(&["get", "secret", "city", "--output=jsonpath={.data.cacheUrl}"])?;
    ensure!(!data.is_empty());
    for _ in 0..10 {
        reconcile(&process, &("default".to_owned(), "seoul".to_owned())).await?;
    }
    assert_eq!(stage.object()?["metadata"]["resourceVersion"], object["metadata"]["resourceVersion"]);

    // 04:00. Each reconcile runs in a new process, which does not wait for an earlier one.
    let slot = 1_714_618_800 + 16 * 3600 + 10;
    NOW.store(slot, Ordering::Relaxed);
    stage.world.change_exports(|exports| exports.now = clock());
    stage.until(&process, "/status/lastExport/state", "IN_PROGRESS").await?;
    stage.until(&stage.process(), "/status/exportSchedule/handledUntil", "2024-05-02T19:00:00Z").await?;
    let object = stage.until(&stage.process(), "/status/lastExport/state", "COMPLETED").await?;
    assert_eq!(object.pointer(next), Some(&"2024-05-03T19:00:00Z".into()));
    assert_eq!(object["status"]["lastExport"]["itemCount"], 3);
    assert_eq!(object["status"]["lastExport"]["slot"], "2024-05-02T19:00:00Z");
    assert_eq!(reason(&object, "ExportsReady"), "ExportCompleted");
    let events = stage.server.kubectl(&["get", "events", "--output=jsonpath={.items[*].reason}"])?;
    ensure!(events.contains("ExportStarted") && events.contains("ExportCompleted"), "{events}");
    let mut started = 0;
    stage.world.change_exports(|exports| started = exports.started.len());
    assert_eq!(started, 1);
    Ok(())
}
