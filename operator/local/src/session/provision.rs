//! The operator's engine in a local run: the reconcile of `dispatch-operator apply`, with this machine's addresses for
//! the workers.

use std::time::Duration;

use dispatch_api::conditions::ConditionType;
use dispatch_api::dispatch_system::{AwsSpec, DispatchSystemStatus};
use dispatch_api::validate::ValidatedSystem;
use dispatch_api::worker_config::{AuthConfig, LimitsConfig, RateConfig, WorkerConfig};
use dispatch_operator::cloud::aws::AwsClients;
use dispatch_operator::cloud::ports::Ports;
use dispatch_operator::engine::error::EngineError;
use dispatch_operator::engine::progress;
use dispatch_operator::engine::reconcile::reconcile;
use dispatch_operator::engine::secrets::Secrets;
use dispatch_operator::engine::settings::{Settings, WaitPolicy};
use dispatch_operator::engine::worker_config::{WorkerOverrides, worker_config};

use crate::endpoints::{AwsIdentity, Endpoints};

/// An emulator creates a stack in seconds, so the engine polls often. Ten minutes mean that something is wrong.
const WAIT_POLICY: WaitPolicy =
    WaitPolicy { first: Duration::from_millis(200), longest: Duration::from_secs(2), total: Duration::from_mins(10) };

/// Reconciles the system of a run.
pub(crate) struct Provisioner {
    ports: Ports,
    overrides: WorkerOverrides,
    secrets: Secrets,
    status: Option<DispatchSystemStatus>,
}

/// Result of a reconcile.
pub(crate) struct ProvisionOutcome {
    /// Present once the stack has the resources that the workers need.
    pub(crate) worker_config: Option<WorkerConfig>,
    /// Whether the system matches its manifest.
    pub(crate) ready: bool,
    /// Why it does not; empty if it does.
    pub(crate) reason: String,
    /// Whether the manifest suspends the system, so that no worker runs.
    pub(crate) suspended: bool,
    /// The stack's status in CloudFormation.
    pub(crate) stack_status: String,
}

impl Provisioner {
    /// Connects to the endpoint. The workers accept the tokens described by `auth`. The manifest's `roleArn` is not
    /// assumed: it is a role of the real account.
    pub(crate) async fn connect(
        endpoints: &Endpoints,
        identity: AwsIdentity,
        auth: &AuthConfig,
        secrets: Secrets,
    ) -> Self {
        let Endpoints { aws, region, redis, .. } = endpoints;
        let clients = match identity {
            AwsIdentity::Emulated => AwsClients::emulated(region, aws).await,
            AwsIdentity::Inherited => AwsClients::connect(region, Some(aws), &AwsSpec::default()).await,
        };
        let overrides = WorkerOverrides {
            endpoint_url: Some(aws.clone()),
            cache_url: Some(redis.clone()),
            auth: Some(auth.clone()),
            limits: Some(limits()),
        };
        Self { ports: clients.ports(), overrides, secrets, status: None }
    }

    /// Reconciles once, and keeps the status for the next time.
    pub(crate) async fn reconcile(
        &mut self,
        system: &ValidatedSystem,
        mut on_progress: impl FnMut(progress::Event) + Send,
    ) -> Result<ProvisionOutcome, EngineError> {
        let settings = Settings {
            secrets: self.secrets.clone(),
            wait_policy: WAIT_POLICY,
            previous: self.status.clone(),
            ..Settings::default()
        };
        let report = reconcile(system, &self.ports, &settings, &mut on_progress).await?;
        let ready = report.is_ready();
        let outcome = ProvisionOutcome {
            worker_config: report.outputs.as_ref().map(|outputs| worker_config(system, outputs, &self.overrides)),
            ready,
            reason: if ready { String::new() } else { not_ready_reason(&report.status) },
            suspended: system.spec.suspend,
            stack_status: report.status.stack_status.clone().unwrap_or_else(|| "no stack".to_owned()),
        };
        self.status = Some(report.status);
        Ok(outcome)
    }
}

/// All callers of a run have one address, and its simulator is one subject. The usual limits, which protect a city from
/// one of many, would only measure this machine.
fn limits() -> LimitsConfig {
    let rate = RateConfig { per_second: 20_000, burst: 40_000 };
    LimitsConfig { per_subject: rate, per_address: rate, address_share_percent: 100, ..LimitsConfig::default() }
}

fn not_ready_reason(status: &DispatchSystemStatus) -> String {
    status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready).map_or_else(
        || "the status has no condition Ready".to_owned(),
        |ready| match ready.message.as_str() {
            "" => ready.reason.clone(),
            message => message.to_owned(),
        },
    )
}
