//! The connection's objects on a real API server, written with the permissions that the manifests grant the operator.

use std::sync::Arc;

use dispatch_api::dispatch_system::{OutputsStatus, SecretKeyRef};
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::engine::plan::workers::{WorkerClients, WorkerEnvironment};
use dispatch_operator::engine::secrets::Secrets;
use dispatch_operator::engine::settings::Mode;
use dispatch_operator::engine::status::{ConnectionFinding, ConnectionState};
use dispatch_operator::kubernetes::infra::cluster::Cluster;
use dispatch_operator::kubernetes::infra::fence::Fence;
use dispatch_operator::kubernetes::infra::metrics::Metrics;
use dispatch_operator::kubernetes::reconcile::connection::Connection;
use dispatch_operator::kubernetes::reconcile::worker_deployments::{self, Setting};
use dispatch_operator::testing::system;
use dispatch_tests::apiserver::ApiServer;

use crate::support::{OPERATOR, allow_secrets, operator_of};

const TOKEN: &str = "a-token/with@signs";

/// A system in a cluster, and the operator's client.
struct Stage {
    server: ApiServer,
    cluster: Cluster,
    metrics: Arc<Metrics>,
    system: ValidatedSystem,
    outputs: OutputsStatus,
    secrets: Secrets,
    recorded: Option<String>,
}

impl Stage {
    /// With the permissions of the cluster-wide overlay.
    async fn start() -> anyhow::Result<Option<Self>> {
        let Some(server) = ApiServer::start().await? else { return Ok(None) };
        let metrics = Arc::new(Metrics::new());
        let cluster = Cluster::new(operator_of(&server).await?, Fence::open(), Arc::clone(&metrics));
        let mut system = system();
        system.uid = Some("3a5f1c9e-0000-4000-8000-000000000001".to_owned());
        system.spec.cache.auth_secret_ref = Some(SecretKeyRef { name: "redis".to_owned(), key: "token".to_owned() });
        let mut secrets = Secrets::default();
        secrets.insert("redis", "token", TOKEN.into());
        let outputs = OutputsStatus {
            table_name: "coactus-default-seoul".to_owned(),
            cache_url: "rediss://master.example:6379".to_owned(),
            export_bucket: "coactus-default-seoul-exports-000000000000".to_owned(),
            ..OutputsStatus::default()
        };
        Ok(Some(Self { server, cluster, metrics, system, outputs, secrets, recorded: None }))
    }

    fn allow_secrets(&self) -> anyhow::Result<()> {
        allow_secrets(&self.server)
    }

    fn want_secret(&mut self, name: Option<&str>) {
        self.system.spec.connection.secret_name = name.map(str::to_owned);
    }

    async fn step(&mut self) -> anyhow::Result<ConnectionState> {
        let connection = Connection {
            system: &self.system,
            outputs: Some(&self.outputs),
            secrets: &self.secrets,
            recorded: self.recorded.as_deref(),
            taken: None,
            takes_over: false,
        };
        let ConnectionFinding { state, secret_name } = connection.step(&self.cluster).await?;
        self.recorded = secret_name;
        Ok(state)
    }

    /// Steps until the name is in the status and the Secret exists.
    async fn publish(&mut self) -> anyhow::Result<ConnectionState> {
        match self.step().await? {
            ConnectionState::Publishing => self.step().await,
            other => Ok(other),
        }
    }

    /// Applies the worker objects and returns the name that another owner has, if any.
    async fn pool(&self) -> anyhow::Result<Option<String>> {
        let setting = Setting {
            image: "runtime",
            endpoint_url: None,
            cache_secret_version: None,
            mode: Mode::CarryOut,
            takes_over: false,
            looks_first: false,
            routed: false,
            clients: &WorkerClients::default(),
            environment: &WorkerEnvironment::default(),
            absent: &[],
        };
        Ok(worker_deployments::ensure(&self.cluster, &self.system, Some(&self.outputs), setting).await?.taken)
    }

    fn field(&self, object: &str, path: &str) -> anyhow::Result<String> {
        self.server.kubectl(&["get", object, &format!("--output=go-template={path}")])
    }

    fn secret(&self, name: &str, key: &str) -> anyhow::Result<String> {
        self.field(&format!("secret/{name}"), &format!("{{{{ .data.{key} | base64decode }}}}"))
    }

    fn exists(&self, object: &str) -> anyhow::Result<bool> {
        Ok(!self.server.kubectl(&["get", object, "--ignore-not-found", "--output=name"])?.is_empty())
    }

    /// Writes to Kubernetes so far.
    fn writes(&self) -> anyhow::Result<String> {
        let text = self.metrics.encode()?;
        Ok(text.lines().filter(|line| line.contains("kubernetes_writes_total{")).collect())
    }
}

#[tokio::test]
async fn a_connection_secret_is_created_maintained_renamed_and_removed() -> anyhow::Result<()> {
    let Some(mut stage) = Stage::start().await? else { return Ok(()) };
    stage.allow_secrets()?;
    stage.want_secret(Some("city"));
    assert_eq!(stage.step().await?, ConnectionState::Publishing, "the name is recorded in the status first");
    assert!(!stage.exists("secret/city")?);
    assert_eq!(stage.step().await?, ConnectionState::Published);
    assert_eq!(stage.secret("city", "cacheUrl")?, "rediss://:a-token%2Fwith%40signs@master.example:6379");
    assert_eq!(stage.secret("city", "cacheAuthToken")?, TOKEN);
    let owner = stage.field("secret/city", "{{ (index .metadata.ownerReferences 0).uid }}")?;
    assert_eq!(Some(owner), stage.system.uid);
    assert_eq!(stage.field("secret/city", "{{ index .metadata.labels \"dispatch.coactus.io/system\" }}")?, "seoul");

    let writes = stage.writes()?;
    for _ in 0..3 {
        assert_eq!(stage.step().await?, ConnectionState::Published);
    }
    assert_eq!(stage.writes()?, writes, "in sync nothing is written");
    for tampered in [r#"{"data":{"cacheUrl":"eA=="}}"#, r#"{"data":null}"#, r#"{"metadata":{"labels":null}}"#] {
        stage.server.kubectl(&["patch", "secret", "city", "--type=merge", "--patch", tampered])?;
        assert_eq!(stage.step().await?, ConnectionState::Published);
        assert!(stage.secret("city", "cacheUrl")?.ends_with("@master.example:6379"), "{tampered}");
        assert_eq!(stage.field("secret/city", "{{ len .metadata.labels }}")?, "4", "{tampered}");
    }
    stage.secrets.insert("redis", "token", "another".into());
    stage.step().await?;
    assert_eq!(stage.secret("city", "cacheAuthToken")?, "another");
    stage.system.spec.cache.auth_secret_ref = None;
    stage.step().await?;
    assert_eq!(stage.field("secret/city", "{{ len .data }}")?, "1", "a removed token is deleted");

    stage.want_secret(Some("moved"));
    assert_eq!(stage.publish().await?, ConnectionState::Published);
    assert!(!stage.exists("secret/city")? && stage.exists("secret/moved")?);
    stage.want_secret(None);
    stage.step().await?;
    assert!(!stage.exists("secret/moved")?);
    assert_eq!(stage.recorded, None);
    Ok(())
}

#[tokio::test]
async fn a_secret_of_another_owner_is_neither_changed_nor_removed() -> anyhow::Result<()> {
    let Some(mut stage) = Stage::start().await? else { return Ok(()) };
    stage.allow_secrets()?;
    stage.server.kubectl(&["create", "secret", "generic", "theirs", "--from-literal=cacheUrl=x"])?;
    stage.want_secret(Some("theirs"));
    assert_eq!(stage.publish().await?, ConnectionState::Taken("Secret", "theirs".to_owned()));
    assert_eq!((stage.secret("theirs", "cacheUrl")?, stage.writes()?), ("x".to_owned(), String::new()));
    stage.want_secret(Some("ours"));
    assert_eq!(stage.publish().await?, ConnectionState::Published);
    assert!(stage.exists("secret/theirs")? && stage.exists("secret/ours")?);
    // A system that was deleted and created again is another owner.
    stage.system.uid = Some("3a5f1c9e-0000-4000-8000-000000000002".to_owned());
    assert_eq!(stage.step().await?, ConnectionState::Taken("Secret", "ours".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_missing_permission_to_write_secrets_is_reported() -> anyhow::Result<()> {
    let Some(mut stage) = Stage::start().await? else { return Ok(()) };
    stage.want_secret(Some("city"));
    let denied = stage.publish().await?;
    let ConnectionState::Denied(words) = denied else { anyhow::bail!("{denied:?}") };
    assert!(words.contains("secrets \"city\" is forbidden"), "{words}");
    assert!(!words.contains("a-token"));
    stage.allow_secrets()?;
    assert_eq!(stage.step().await?, ConnectionState::Published);
    let may = |verb: &str| {
        let user = format!("--as={OPERATOR}");
        let answer = stage.server.try_kubectl(&["auth", "can-i", verb, "secrets", &user])?;
        anyhow::Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
    };
    for (verb, expected) in [("get", "yes"), ("create", "yes"), ("list", "no"), ("watch", "no")] {
        assert_eq!(may(verb)?, expected, "{verb}");
    }
    Ok(())
}

#[tokio::test]
async fn the_connection_config_map_follows_its_name_and_overwrites_no_other() -> anyhow::Result<()> {
    let Some(mut stage) = Stage::start().await? else { return Ok(()) };
    assert_eq!(stage.pool().await?, None);
    assert_eq!(stage.field("configmap/seoul-connection", "{{ .data.tableName }}")?, "coactus-default-seoul");
    stage.server.kubectl(&["create", "configmap", "theirs", "--from-literal=tableName=x"])?;
    stage.system.spec.connection.config_map_name = Some("theirs".to_owned());
    assert_eq!(stage.pool().await?, Some("theirs".to_owned()));
    assert_eq!(stage.field("configmap/theirs", "{{ .data }}")?, "map[tableName:x]");
    assert!(!stage.exists("configmap/seoul-connection")?, "the old name is no longer in use");
    let writes = stage.writes()?;
    stage.pool().await?;
    assert_eq!(stage.writes()?, writes);

    stage.system.spec.connection.config_map_name = Some("city".to_owned());
    assert_eq!(stage.pool().await?, None);
    let city = stage.field("configmap/city", "{{ .data.city }} {{ .data.region }} {{ .data.exportBucket }}")?;
    assert_eq!(city, "seoul ap-northeast-2 coactus-default-seoul-exports-000000000000");
    assert!(!stage.server.kubectl(&["get", "configmap", "city", "--output=yaml"])?.contains("a-token"));
    stage.server.kubectl(&["label", "configmap", "city", "app.kubernetes.io/managed-by-"])?;
    assert_eq!(stage.pool().await?, None, "an owned object without its label is still owned");
    stage.system.spec.connection.config_map_name = None;
    assert_eq!(stage.pool().await?, None);
    assert!(!stage.exists("configmap/city")? && stage.exists("configmap/seoul-connection")?);
    assert!(stage.exists("configmap/theirs")?);
    Ok(())
}
