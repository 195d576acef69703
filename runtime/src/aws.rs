//! Shared settings of the AWS clients, and what their errors mean.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use dispatch_api::worker_config::AwsEndpoint;
use thiserror::Error;

use crate::ports::PortError;

/// Longest time one try may take. SQS, SNS and Streams answer in tens of milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time a call may take with all its tries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest time a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Tries of one call; the SDK backs off with jitter between them.
const ATTEMPTS: u32 = 3;

/// Settings for a city's region. Credentials are found the way every AWS tool does. The endpoint is the configured one; without
/// it `AWS_ENDPOINT_URL` counts. No call is made before the first request.
pub async fn sdk_config(endpoint: &AwsEndpoint) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new(endpoint.region.clone()))
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts)
        // It watches over long bodies. Ours are short, and each try has a time-out of its own.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(url) = &endpoint.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    loader.load().await
}

/// A failed call: the service's code and text. The SDK's own error also holds request and response, and so addresses and tokens.
#[derive(Debug, Error)]
#[error("{code}: {message}")]
struct Failure {
    code: String,
    message: String,
}

/// The port's error for a failed call: what a service refuses with a client error other than throttling stays refused; what it cannot do
/// itself, with whatever code or none, may pass.
pub(crate) fn port_error<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata,
{
    let (fallback, refused) = match error {
        SdkError::ConstructionFailure(_) => ("the request could not be made", true),
        SdkError::TimeoutError(_) => ("no answer in time", false),
        SdkError::DispatchFailure(_) => ("the connection failed", false),
        SdkError::ServiceError(service) => {
            let passes = service.raw().status().is_server_error() || may_pass(error.code().unwrap_or_default());
            ("refused", !passes)
        }
        _ => ("the answer could not be read", false),
    };
    let failure = Failure {
        code: error.code().unwrap_or("no code").to_owned(),
        message: error.message().unwrap_or(fallback).to_owned(),
    };
    if refused {
        PortError::Failed { action, source: Box::new(failure) }
    } else {
        PortError::Unavailable { action, source: Box::new(failure) }
    }
}

/// The port's error for an entry of a batch that was not taken: at the sender's fault it stays refused.
pub(crate) fn refused_entry(action: &'static str, code: &str, message: Option<&str>, sender_fault: bool) -> PortError {
    let failure = Failure { code: code.to_owned(), message: message.unwrap_or("refused").to_owned() };
    if sender_fault && !may_pass(code) {
        PortError::Failed { action, source: Box::new(failure) }
    } else {
        PortError::Unavailable { action, source: Box::new(failure) }
    }
}

/// Codes of the "Common errors" pages and of the operations used that say "later".
fn may_pass(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "Throttled"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestLimitExceeded"
            | "LimitExceededException"
            | "ProvisionedThroughputExceededException"
            | "OverLimit"
            | "InternalError"
            | "InternalFailure"
            | "InternalServerError"
            | "ServiceUnavailable"
            | "KmsThrottled"
            | "KMSThrottling"
    )
}
