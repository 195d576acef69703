//! Sending to SQS.

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use serde::Serialize;

use crate::aws::port_error;
use crate::port::{OfferTimers, PortError, ResponseMessage, ResponseQueue, TimerMessage};
use crate::stream::DeadLetters;

/// Longest delay of one SQS message ("Amazon SQS delay queues": 0 seconds to 15 minutes).
const DELAY_SECONDS_MAX: u64 = 900;

/// [`OfferTimers`] as delayed messages of the `offers` queue.
pub struct SqsTimers {
    client: Client,
    url: String,
}

impl SqsTimers {
    /// Timers in the queue at `url`.
    pub fn new(client: Client, url: &str) -> Self {
        Self { client, url: url.to_owned() }
    }
}

fn delay_seconds(delay_ms: u64) -> i32 {
    i32::try_from(delay_ms.div_ceil(1000).min(DELAY_SECONDS_MAX)).unwrap_or_default()
}

fn body<T: Serialize>(action: &'static str, message: &T) -> Result<String, PortError> {
    serde_json::to_string(message).map_err(|error| PortError::Failed { action, source: Box::new(error) })
}

#[async_trait]
impl OfferTimers for SqsTimers {
    async fn start(&self, message: &TimerMessage, delay_ms: u64) -> Result<(), PortError> {
        const ACTION: &str = "starting a timer";
        let request = self.client.send_message().queue_url(&self.url).message_body(body(ACTION, message)?);
        let sent = request.delay_seconds(delay_seconds(delay_ms)).send().await;
        sent.map(|_| ()).map_err(|error| port_error(ACTION, &error))
    }
}

/// [`ResponseQueue`] as the `responses` queue.
pub struct SqsResponses {
    client: Client,
    url: String,
}

impl SqsResponses {
    /// Answers into the queue at `url`.
    pub fn new(client: Client, url: &str) -> Self {
        Self { client, url: url.to_owned() }
    }
}

#[async_trait]
impl ResponseQueue for SqsResponses {
    async fn send(&self, message: &ResponseMessage) -> Result<(), PortError> {
        const ACTION: &str = "sending an answer";
        let request = self.client.send_message().queue_url(&self.url).message_body(body(ACTION, message)?);
        request.send().await.map(|_| ()).map_err(|error| port_error(ACTION, &error))
    }
}

/// [`DeadLetters`] as messages of the `offers` queue's dead-letter queue.
pub struct SqsDeadLetters {
    client: Client,
    url: String,
}

impl SqsDeadLetters {
    /// Letters into the queue at `url`.
    pub fn new(client: Client, url: &str) -> Self {
        Self { client, url: url.to_owned() }
    }
}

#[async_trait]
impl DeadLetters for SqsDeadLetters {
    async fn set_aside(&self, letter: &str) -> Result<(), PortError> {
        const ACTION: &str = "setting a record aside";
        let request = self.client.send_message().queue_url(&self.url).message_body(letter);
        request.send().await.map(|_| ()).map_err(|error| port_error(ACTION, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_never_early_and_never_longer_than_sqs_allows() {
        for (delay_ms, seconds) in [(0, 0), (1, 1), (1000, 1), (15_001, 16), (900_000, 900), (u64::MAX, 900)] {
            assert_eq!(delay_seconds(delay_ms), seconds, "{delay_ms} ms");
        }
    }
}
