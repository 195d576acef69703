//! Worker objects of a system that was restored from a backup, on a real API server: their controller is the object as
//! it was before.

use std::sync::Arc;

use dispatch_api::dispatch_system::OutputsStatus;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::engine::plan::workers::{WorkerClients, WorkerEnvironment};
use dispatch_operator::engine::secrets::Secrets;
use dispatch_operator::engine::settings::Mode;
use dispatch_operator::engine::status::{ConnectionState, WorkersState};
use dispatch_operator::kubernetes::infra::cluster::Cluster;
use dispatch_operator::kubernetes::infra::fence::Fence;
use dispatch_operator::kubernetes::infra::metrics::Metrics;
use dispatch_operator::kubernetes::reconcile::connection::Connection;
use dispatch_operator::kubernetes::reconcile::worker_deployments::{self, Rollout, Setting};
use dispatch_operator::testing::system;
use dispatch_tests::apiserver::ApiServer;
use serde_json::Value;

use crate::support::{allow_secrets, operator_of};

const BEFORE: &str = "3a5f1c9e-0000-4000-8000-000000000001";
const RESTORED: &str = "3a5f1c9e-0000-4000-8000-000000000002";
const KINDS: &str = "serviceaccounts,configmaps,networkpolicies,services,deployments,poddisruptionbudgets,\
                     horizontalpodautoscalers,secrets";

struct Stage {
    server: ApiServer,
    cluster: Cluster,
    metrics: Arc<Metrics>,
    outputs: OutputsStatus,
}

fn of_uid(uid: &str) -> ValidatedSystem {
    let mut system = system();
    system.uid = Some(uid.to_owned());
    system.spec.connection.secret_name = Some("city".to_owned());
    system
}

impl Stage {
    async fn start() -> anyhow::Result<Option<Self>> {
        let Some(server) = ApiServer::start().await? else { return Ok(None) };
        let metrics = Arc::new(Metrics::new());
        let cluster = Cluster::new(operator_of(&server).await?, Fence::open(), Arc::clone(&metrics));
        allow_secrets(&server)?;
        let outputs = OutputsStatus {
            table_name: "coactus-default-seoul".to_owned(),
            cache_url: "rediss://master.example:6379".to_owned(),
            ..OutputsStatus::default()
        };
        Ok(Some(Self { server, cluster, metrics, outputs }))
    }

    async fn ensure(&self, system: &ValidatedSystem, takes_over: bool) -> anyhow::Result<(Rollout, ConnectionState)> {
        let setting = Setting {
            image: "runtime",
            endpoint_url: None,
            cache_secret_version: None,
            mode: Mode::CarryOut,
            takes_over,
            looks_first: false,
            routed: false,
            clients: &WorkerClients::default(),
            environment: &WorkerEnvironment::default(),
            absent: &[],
        };
        let rollout = worker_deployments::ensure(&self.cluster, system, Some(&self.outputs), setting).await?;
        let connection = Connection {
            system,
            outputs: Some(&self.outputs),
            secrets: &Secrets::default(),
            recorded: Some("city"),
            taken: rollout.taken.as_deref(),
            takes_over,
        };
        let state = connection.step(&self.cluster).await?.state;
        Ok((rollout, state))
    }

    /// Kind, name, version and controllers of all worker objects.
    fn objects(&self) -> anyhow::Result<Vec<(String, String, Vec<String>)>> {
        let labels = "dispatch.coactus.io/system=seoul";
        let text = self.server.kubectl(&["get", KINDS, "-l", labels, "-o", "json"])?;
        let list: Value = serde_json::from_str(&text)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let objects = list["items"].as_array().into_iter().flatten().map(|object| {
            let metadata = &object["metadata"];
            let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
            let controllers = owners.filter(|owner| owner["controller"] == true).map(|owner| text(&owner["uid"]));
            let name = format!("{} {}", text(&object["kind"]), text(&metadata["name"]));
            (name, text(&metadata["resourceVersion"]), controllers.collect())
        });
        Ok(objects.collect())
    }

    fn writes(&self) -> anyhow::Result<String> {
        let text = self.metrics.encode()?;
        Ok(text.lines().filter(|line| line.contains("kubernetes_writes_total{")).collect())
    }
}

#[tokio::test]
async fn objects_of_a_system_before_its_restore_are_taken_over_only_with_consent() -> anyhow::Result<()> {
    let Some(stage) = Stage::start().await? else { return Ok(()) };
    let (rollout, connection) = stage.ensure(&of_uid(BEFORE), false).await?;
    assert_eq!((rollout.workers.state, connection), (WorkersState::RollingOut, ConnectionState::Published));
    let before = stage.objects()?;
    assert!(before.len() >= 15, "{before:#?}");
    assert!(before.iter().all(|(_, _, controllers)| *controllers == [BEFORE]), "{before:#?}");

    let restored = of_uid(RESTORED);
    let (rollout, connection) = stage.ensure(&restored, false).await?;
    assert_eq!(rollout.workers.state, WorkersState::NameTaken);
    let text = &rollout.workers.message;
    assert!(
        text.contains("ServiceAccount seoul-dispatch-algorithm belongs to an earlier DispatchSystem seoul (uid 3a5f"),
        "{text}"
    );
    assert!(text.contains("dispatch.coactus.io/adoptions: seoul=default/seoul on namespace default"), "{text}");
    assert_eq!(connection, ConnectionState::Taken("Secret", "city".to_owned()));
    assert_eq!(stage.objects()?, before, "nothing is touched");

    let (rollout, connection) = stage.ensure(&restored, true).await?;
    assert_eq!((rollout.workers.state, connection), (WorkersState::RollingOut, ConnectionState::Published));
    let after = stage.objects()?;
    let names =
        |objects: &[(String, String, Vec<String>)]| objects.iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    assert!(after.iter().all(|(_, _, controllers)| *controllers == [RESTORED]), "{after:#?}");
    let writes = stage.writes()?;
    stage.ensure(&restored, false).await?;
    assert_eq!(stage.writes()?, writes, "the consent is needed once");
    Ok(())
}

/// Between a list without an object and its creation, another client may create it.
#[tokio::test]
async fn an_object_that_another_client_creates_meanwhile_is_not_touched() -> anyhow::Result<()> {
    let Some(stage) = Stage::start().await? else { return Ok(()) };
    stage.server.kubectl(&["create", "serviceaccount", "seoul-workers"])?;
    let read =
        || stage.server.kubectl(&["get", "serviceaccount", "seoul-workers", "-o", "json", "--show-managed-fields"]);
    let before = read()?;
    let (rollout, _) = stage.ensure(&of_uid(BEFORE), false).await?;
    assert_eq!(rollout.workers.state, WorkersState::NameTaken);
    assert!(rollout.workers.message.contains("ServiceAccount seoul-workers belongs to another owner"));
    assert_eq!(read()?, before);
    let made = stage.server.kubectl(&["get", "deployments,services", "-o", "name"])?;
    assert!(!made.contains("seoul-"), "{made}");
    Ok(())
}
