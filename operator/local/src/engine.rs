//! The engine as a local run uses it: the same reconcile as `apply`, with this machine's addresses for the workers.

use std::time::Duration;

use dispatch_api::conditions::ConditionType;
use dispatch_api::dispatch_system::{AwsSpec, DispatchSystemStatus};
use dispatch_api::validate::ValidatedSystem;
use dispatch_api::worker_config::{AuthConfig, LimitsConfig, RateConfig, WorkerConfig};

use crate::programs::Identity;
use crate::view::Endpoints;
use dispatch_operator::cloud::aws::AwsClients;
use dispatch_operator::cloud::ports::Ports;
use dispatch_operator::engine::error::EngineError;
use dispatch_operator::engine::progress;
use dispatch_operator::engine::reconcile::reconcile;
use dispatch_operator::engine::secrets::Secrets;
use dispatch_operator::engine::settings::{Settings, WaitPolicy};
use dispatch_operator::engine::worker_config::{WorkerOverrides, worker_config};

/// An emulator makes a stack in seconds, so it is looked at often; ten minutes mean that something is wrong.
const PATIENCE: WaitPolicy =
    WaitPolicy { first: Duration::from_millis(200), longest: Duration::from_secs(2), total: Duration::from_mins(10) };

/// The engine, connected.
pub struct Engine {
    ports: Ports,
    overrides: WorkerOverrides,
    secrets: Secrets,
    previous: Option<DispatchSystemStatus>,
}

/// What a reconcile came to.
pub struct Provision {
    /// What the workers need, once the stack has it.
    pub worker_config: Option<WorkerConfig>,
    /// Whether the system matches its manifest.
    pub ready: bool,
    /// Why not.
    pub reason: String,
    /// Whether the manifest wants the workers stopped.
    pub suspended: bool,
    /// CloudFormation's word for the stack's state.
    pub stack_status: String,
}

impl Engine {
    /// Connects to the endpoint, for workers that know callers by `auth`. The manifest's `roleArn` is not assumed: it is a role of
    /// the real account.
    pub async fn connect(region: &str, endpoints: &Endpoints, identity: Identity, auth: &AuthConfig) -> Self {
        let clients = match identity {
            Identity::Emulated => AwsClients::emulated(region, &endpoints.aws).await,
            Identity::Inherited => AwsClients::connect(region, Some(&endpoints.aws), &AwsSpec::default()).await,
        };
        let overrides = WorkerOverrides {
            endpoint_url: Some(endpoints.aws.clone()),
            cache_url: Some(endpoints.redis.clone()),
            auth: Some(auth.clone()),
            limits: Some(limits()),
        };
        Self { ports: clients.ports(), overrides, secrets: Secrets::default(), previous: None }
    }

    /// Gives it the secrets the manifest names.
    pub fn give(&mut self, secrets: Secrets) {
        self.secrets = secrets;
    }

    /// Reconciles once and remembers the status for the next time.
    pub async fn reconcile(
        &mut self,
        system: &ValidatedSystem,
        mut tell: impl FnMut(progress::Event) + Send,
    ) -> Result<Provision, EngineError> {
        let settings = Settings {
            secrets: self.secrets.clone(),
            wait_policy: PATIENCE,
            previous: self.previous.clone(),
            ..Settings::default()
        };
        let done = reconcile(system, &self.ports, &settings, &mut tell).await?;
        let config = done.outputs.as_ref().map(|outputs| worker_config(system, outputs, &self.overrides));
        let ready = done.is_ready();
        let reason = if ready { String::new() } else { reason(&done.status) };
        let stack_status = done.status.stack_status.clone().unwrap_or_else(|| "no stack".to_owned());
        self.previous = Some(done.status);
        Ok(Provision { worker_config: config, ready, reason, suspended: system.spec.suspend, stack_status })
    }
}

/// All callers of a run have one address, and its simulator is one subject: what protects a city from one of many would only
/// measure this machine.
fn limits() -> LimitsConfig {
    let all = RateConfig { per_second: 20_000, burst: 40_000 };
    LimitsConfig { per_subject: all, per_address: all, client_address_header: None }
}

/// Why a system is not ready, in the words of its status.
fn reason(status: &DispatchSystemStatus) -> String {
    status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready).map_or_else(
        || "its status does not say why".to_owned(),
        |ready| match ready.message.as_str() {
            "" => ready.reason.clone(),
            message => message.to_owned(),
        },
    )
}
