//! Adapters from the engine's ports to AWS. The only module of the operator that holds SDK clients.

mod cloudformation;
mod dynamodb;
mod elasticache;
mod error;
mod s3;
mod sns;
mod sqs;
mod sts;

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_sts::config::Credentials;
use dispatch_api::dispatch_system::AwsSpec;
use jiff::Timestamp;

use crate::cloud::ports::Ports;

/// Longest time one try of a call may take. CloudFormation's slowest answers (a change set of many resources) come in seconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time a call may take with all its tries.
const OPERATION_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest time a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Tries of one call: the SDK backs off with jitter between them.
const ATTEMPTS: u32 = 5;

fn loader(region: &str) -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new(region.to_owned()))
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts)
}

#[expect(clippy::disallowed_methods, reason = "this is the adapter behind the clock of the ports")]
fn system_clock() -> Timestamp {
    Timestamp::now()
}

/// Connection settings shared by all clients of one system. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AwsClients {
    config: SdkConfig,
}

impl AwsClients {
    /// Reads credentials the way every AWS tool does (environment, profile, SSO, web identity, container, instance) and, where
    /// the manifest names a role, assumes that role with them. `endpoint_url` replaces the address of every service; without it
    /// `AWS_ENDPOINT_URL` counts. No call is made before the first request.
    pub async fn connect(region: &str, endpoint_url: Option<&str>, aws: &AwsSpec) -> Self {
        let mut loader = loader(region);
        if let Some(url) = endpoint_url {
            loader = loader.endpoint_url(url);
        }
        let own = Box::pin(loader.load()).await;
        let Some(role) = &aws.role_arn else { return Self { config: own } };
        let mut assumed = AssumeRoleProvider::builder(role).session_name("dispatch-operator").configure(&own);
        if let Some(id) = &aws.external_id {
            assumed = assumed.external_id(id);
        }
        let assumed = assumed.build().await;
        let provider = aws_sdk_sts::config::SharedCredentialsProvider::new(assumed);
        Self { config: own.into_builder().credentials_provider(provider).build() }
    }

    /// Talks to an emulator at `endpoint_url`, with credentials that mean nothing anywhere else: an emulator checks none, and
    /// the real ones of whoever starts it have no business there.
    pub async fn emulated(region: &str, endpoint_url: &str) -> Self {
        let nobody = Credentials::new("test", "test", None, None, "emulator");
        let loader = loader(region).endpoint_url(endpoint_url).credentials_provider(nobody);
        Self { config: Box::pin(loader.load()).await }
    }

    /// The shared connection settings, for clients the engine has no use for.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The engine's ports on these clients.
    pub fn ports(&self) -> Ports {
        Ports {
            stacks: Arc::new(cloudformation::CloudFormation::new(&self.config)),
            tables: Arc::new(dynamodb::DynamoDb::new(&self.config)),
            push: Arc::new(sns::Sns::new(&self.config)),
            caches: Arc::new(elasticache::ElastiCache::new(&self.config)),
            queues: Arc::new(sqs::Sqs::new(&self.config)),
            buckets: Arc::new(s3::S3::new(&self.config)),
            identity: Arc::new(sts::Sts::new(&self.config)),
            clock: system_clock,
        }
    }
}
