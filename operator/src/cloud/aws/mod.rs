//! Adapters from the engine's ports to AWS. The only module of the operator with SDK clients.

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

/// Timeout of one attempt. CloudFormation's slowest responses (a change set with many resources) take seconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of a call including its retries.
const OPERATION_TIMEOUT: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Attempts of one call. The SDK backs off with jitter between them.
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

/// SDK configuration shared by all clients of one system. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AwsClients {
    config: SdkConfig,
}

impl AwsClients {
    /// Uses the default AWS provider chain (environment, profile, SSO, web identity, container, instance) and assumes
    /// the role that the spec names, if any. `endpoint_url` takes precedence over `AWS_ENDPOINT_URL`. Makes no call
    /// itself.
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

    /// Connects to an emulator at `endpoint_url` with dummy credentials, so that no real credentials are sent to it.
    pub async fn emulated(region: &str, endpoint_url: &str) -> Self {
        let nobody = Credentials::new("test", "test", None, None, "emulator");
        let loader = loader(region).endpoint_url(endpoint_url).credentials_provider(nobody);
        Self { config: Box::pin(loader.load()).await }
    }

    /// The shared configuration, for clients that are not behind a port.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The engine's ports, with these clients.
    pub fn ports(&self) -> Ports {
        Ports {
            stacks: Arc::new(cloudformation::CloudFormation::new(&self.config)),
            tables: Arc::new(dynamodb::DynamoDb::new(&self.config)),
            exports: Arc::new(dynamodb::DynamoDb::new(&self.config)),
            push: Arc::new(sns::Sns::new(&self.config)),
            caches: Arc::new(elasticache::ElastiCache::new(&self.config)),
            queues: Arc::new(sqs::Sqs::new(&self.config)),
            topics: Arc::new(sns::Sns::new(&self.config)),
            buckets: Arc::new(s3::S3::new(&self.config)),
            identity: Arc::new(sts::Sts::new(&self.config)),
            clock: system_clock,
        }
    }
}
