//! The DynamoDB client.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use dispatch_api::worker_config::AwsEndpoint;

/// Longest time one try may take. DynamoDB answers in milliseconds and transactions in tens of them; a try that takes longer than this
/// hangs on a lost connection.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time a call may take with all its tries: less than an HTTP client waits.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest time a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Tries of one call; the SDK backs off with jitter between them.
const ATTEMPTS: u32 = 3;

/// A client for a city's region. Credentials are found the way every AWS tool does. The endpoint is the configured one; without it
/// `AWS_ENDPOINT_URL` counts. No call is made before the first request.
pub async fn client(endpoint: &AwsEndpoint) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new(endpoint.region.clone()))
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts);
    if let Some(url) = &endpoint.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    Client::new(&loader.load().await)
}
