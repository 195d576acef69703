//! Shared helpers of the suites.

use std::time::Duration;

use anyhow::Context as _;
use dispatch_api::conditions::ConditionType;
use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::cloud::aws::AwsClients;
use dispatch_operator::cloud::ports::Ports;
use dispatch_operator::engine::progress::Event;
use dispatch_operator::engine::reconcile::{ReconcileReport, reconcile};
use dispatch_operator::engine::settings::{Settings, WaitPolicy};
use dispatch_tests::apiserver::ApiServer;
use dispatch_tests::ministack::{Ministack, REGION};
use kube::config::{KubeConfigOptions, Kubeconfig};

/// The example manifest.
pub(crate) const SEOUL: &str = include_str!("../../examples/seoul.yaml");

/// Parses and validates a manifest.
pub(crate) fn seoul(text: &str) -> anyhow::Result<ValidatedSystem> {
    let systems = read_manifests(text)?;
    Ok(ValidatedSystem::try_from_raw(systems.first().context("one system")?)?)
}

/// Settings with short pauses: the emulator finishes at once.
pub(crate) fn settings() -> Settings {
    let wait_policy = WaitPolicy {
        first: Duration::from_millis(20),
        longest: Duration::from_millis(200),
        total: Duration::from_mins(2),
    };
    Settings { wait_policy, ..Settings::default() }
}

/// Reconciles once and collects the progress events.
pub(crate) async fn apply(system: &ValidatedSystem, ports: &Ports) -> anyhow::Result<(ReconcileReport, Vec<Event>)> {
    let mut events = Vec::new();
    let mut listen = |event| events.push(event);
    let done = reconcile(system, ports, &settings(), &mut listen).await?;
    Ok((done, events))
}

/// An empty emulator, its clients and the engine's ports.
pub(crate) struct Account {
    /// The emulator runs until this is dropped.
    _ministack: Ministack,
    /// Clients for changes outside the engine.
    pub aws: AwsClients,
    pub ports: Ports,
}

impl Account {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let ministack = Ministack::start().await?;
        let aws = AwsClients::emulated(REGION, &ministack.endpoint()).await;
        let ports = aws.ports();
        Ok(Self { _ministack: ministack, aws, ports })
    }
}

/// Reason and message of a condition.
pub(crate) fn condition(done: &ReconcileReport, kind: ConditionType) -> (String, String) {
    let found = done.status.conditions.iter().find(|condition| condition.type_ == kind);
    found.map(|condition| (condition.reason.clone(), condition.message.clone())).unwrap_or_default()
}

/// User of the operator on an API server, with no permissions other than those of the manifests.
pub(crate) const OPERATOR: &str = "dispatch-operator";

fn manifest(path: &str) -> String {
    format!("{}/../manifests/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// A client of the operator's user, with the permissions of the cluster-wide overlay.
pub(crate) async fn operator_of(server: &ApiServer) -> anyhow::Result<kube::Client> {
    server.kubectl(&["apply", "-f", &manifest("overlays/cluster-wide/cluster-role.yaml")])?;
    let user = format!("--user={OPERATOR}");
    server.kubectl(&["create", "clusterrolebinding", "operator", "--clusterrole=dispatch-operator", &user])?;
    let mut kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
    let mine = kubeconfig.auth_infos.first_mut().and_then(|user| user.auth_info.as_mut()).context("a user")?;
    mine.impersonate = Some(OPERATOR.to_owned());
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

/// Grants the permission of the kustomize component.
pub(crate) fn allow_secrets(server: &ApiServer) -> anyhow::Result<()> {
    let rule = std::fs::read_to_string(manifest("components/connection-secrets/rule.yaml"))?;
    let patch = serde_json::to_string(&serde_yaml::from_str::<serde_yaml::Value>(&rule)?)?;
    server.kubectl(&["patch", "clusterrole", OPERATOR, "--type=json", "--patch", &patch])?;
    Ok(())
}
