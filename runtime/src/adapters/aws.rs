//! Shared settings of the AWS clients, and the classification of their errors.

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

/// Time-out of one attempt. SQS, SNS and Streams answer in tens of milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time-out of a call with all its attempts.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);
/// Time-out of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Attempts of one call; the SDK backs off with jitter between them.
const ATTEMPTS: u32 = 3;

/// Settings for a city's region. Credentials come from the default provider chain. The endpoint is the configured one,
/// or `AWS_ENDPOINT_URL`. No call is made before the first request.
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
        // It protects large bodies. Ours are small, and each attempt has its own time-out.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(url) = &endpoint.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    loader.load().await
}

/// The code and message of a failed call. The SDK's own error also contains the request and the response, and therefore
/// addresses and tokens.
#[derive(Debug, Error)]
#[error("{code}: {message}")]
struct Failure {
    code: String,
    message: String,
}

/// Converts a failed call. A client error other than throttling is permanent (`Failed`); every other error is temporary
/// (`Unavailable`).
pub(crate) fn port_error<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata,
{
    let (fallback, refused) = match error {
        SdkError::ConstructionFailure(_) => ("the request could not be built", true),
        SdkError::TimeoutError(_) => ("no answer in time", false),
        SdkError::DispatchFailure(_) => ("the connection failed", false),
        SdkError::ServiceError(service) => {
            let transient = service.raw().status().is_server_error() || is_transient(error.code().unwrap_or_default());
            ("refused", !transient)
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

/// Converts a failed entry of a batch. An error caused by the sender is permanent.
pub(crate) fn refused_entry(action: &'static str, code: &str, message: Option<&str>, sender_fault: bool) -> PortError {
    let failure = Failure { code: code.to_owned(), message: message.unwrap_or("refused").to_owned() };
    if sender_fault && !is_transient(code) {
        PortError::Failed { action, source: Box::new(failure) }
    } else {
        PortError::Unavailable { action, source: Box::new(failure) }
    }
}

/// Transient error codes of the "Common errors" pages and of the operations used.
fn is_transient(code: &str) -> bool {
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
