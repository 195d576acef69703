//! Sends messages to SQS.

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::{BatchResultErrorEntry, SendMessageBatchRequestEntry};
use serde::Serialize;

use crate::adapters::aws::{port_error, refused_entry};
use crate::adapters::messaging::batcher::{BatchCall, Batcher, all_failed, results};
use crate::ports::{OfferTimers, PortError, ResponseMessage, ResponseQueue, TimerMessage};
use crate::stream::DeadLetters;

/// Longest delay of an SQS message ("Amazon SQS delay queues": 0 seconds to 15 minutes).
const DELAY_SECONDS_MAX: u64 = 900;

/// A message to send.
struct Outgoing {
    body: String,
    delay_seconds: Option<i32>,
}

/// `SendMessageBatch` to one queue.
struct Sending {
    client: Client,
    url: String,
    action: &'static str,
}

impl Sending {
    fn broken(&self, error: &BuildError) -> PortError {
        refused_entry(self.action, "no code", Some(&error.to_string()), true)
    }

    fn refused(&self, entry: &BatchResultErrorEntry) -> PortError {
        refused_entry(self.action, entry.code(), entry.message(), entry.sender_fault())
    }
}

#[async_trait]
impl BatchCall<Outgoing> for Sending {
    fn action(&self) -> &'static str {
        self.action
    }

    async fn send(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PortError>> {
        let count = messages.len();
        let entry = |(index, message): (usize, Outgoing)| {
            let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(message.body);
            entry.set_delay_seconds(message.delay_seconds).build()
        };
        let entries: Result<Vec<_>, _> = messages.into_iter().enumerate().map(entry).collect();
        let entries = match entries {
            Ok(entries) => entries,
            // Only an entry without a body or an id fails, and ours have both.
            Err(error) => return all_failed(count, || self.broken(&error)),
        };
        let request = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries));
        match request.send().await {
            Ok(answer) => results(count, answer.failed().iter().map(|entry| (entry.id(), self.refused(entry)))),
            Err(error) => all_failed(count, || port_error(self.action, &error)),
        }
    }
}

/// [`OfferTimers`] as delayed messages of the `offers` queue.
pub struct SqsTimers(Batcher<Outgoing, Sending>);

impl SqsTimers {
    /// Timers in the queue at `url`.
    pub fn new(client: Client, url: &str) -> Self {
        Self(Batcher::new(Sending { client, url: url.to_owned(), action: "starting a timer" }))
    }
}

fn delay_seconds(delay_ms: u64) -> i32 {
    i32::try_from(delay_ms.div_ceil(1000).min(DELAY_SECONDS_MAX)).unwrap_or_default()
}

fn broken(action: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> PortError {
    PortError::Failed { action, source: Box::new(source) }
}

async fn send<T: Serialize>(
    batcher: &Batcher<Outgoing, Sending>,
    message: &T,
    delay_seconds: Option<i32>,
) -> Result<(), PortError> {
    let body = serde_json::to_string(message).map_err(|error| broken(batcher.action(), error))?;
    batcher.send(vec![Outgoing { body, delay_seconds }]).await
}

#[async_trait]
impl OfferTimers for SqsTimers {
    async fn start(&self, message: &TimerMessage, delay_ms: u64) -> Result<(), PortError> {
        send(&self.0, message, Some(delay_seconds(delay_ms))).await
    }
}

/// [`ResponseQueue`] as the `responses` queue.
pub struct SqsResponses(Batcher<Outgoing, Sending>);

impl SqsResponses {
    /// Sends answers to the queue at `url`.
    pub fn new(client: Client, url: &str) -> Self {
        Self(Batcher::new(Sending { client, url: url.to_owned(), action: "sending an answer" }))
    }
}

#[async_trait]
impl ResponseQueue for SqsResponses {
    async fn send(&self, message: &ResponseMessage) -> Result<(), PortError> {
        send(&self.0, message, None).await
    }
}

/// [`DeadLetters`] as messages of the `offers` queue's dead-letter queue.
pub struct SqsDeadLetters {
    client: Client,
    url: String,
}

impl SqsDeadLetters {
    /// Sends dead letters to the queue at `url`.
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
