//! Receiving from SQS.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::aws::port_error;
use crate::metrics::Metrics;
use crate::port::PortError;

/// Longest long poll SQS allows: the fewest empty answers.
const WAIT_SECONDS: i32 = 20;
/// A poll's own time limit: the wait, and room for the answer.
const POLL_TIMEOUT: Duration = Duration::from_secs(25);
/// Messages of one answer; SQS allows no more.
const BATCH: i32 = 10;
/// Loops of one queue. Each handles its batch concurrently, so twenty messages of a queue are in work at once.
const POLLERS: usize = 2;
/// Pause after a failed poll.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A message as handlers see it. Its content never reaches a log.
pub struct Received {
    /// SQS' id of this delivery's message, for logs.
    pub id: String,
    /// The body.
    pub body: String,
    /// Text attributes.
    pub attributes: HashMap<String, String>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// Done; it is deleted.
    Done,
    /// Not now: it comes again after the queue's visibility timeout, and goes to the dead-letter queue after its last try.
    Left,
    /// Nobody can read it: the dead-letter queue keeps it for a person.
    Unreadable,
}

/// What a queue's messages are for. A message may come again, late, and after its successors.
#[async_trait]
pub trait MessageHandler: Send + Sync {
    /// Handles one message.
    async fn handle(&self, message: &Received) -> Handled;
}

/// The receiving end of one queue.
pub struct Consumer {
    client: Client,
    url: String,
    queue: &'static str,
    metrics: Arc<Metrics>,
}

impl Consumer {
    /// Receives from the queue at `url`; `queue` names it in logs and metrics.
    pub fn new(client: Client, url: &str, queue: &'static str, metrics: Arc<Metrics>) -> Self {
        Self { client, url: url.to_owned(), queue, metrics }
    }

    /// Receives until `shutdown`, then finishes what is in work; what could not be done is handed back, so that others have it at once. A
    /// poll is dropped at once: a message that was on its way comes again after the visibility timeout.
    pub async fn run(&self, handler: &dyn MessageHandler, shutdown: &CancellationToken) {
        join_all((0..POLLERS).map(|_| self.poll(handler, shutdown))).await;
    }

    async fn poll(&self, handler: &dyn MessageHandler, shutdown: &CancellationToken) {
        let pulse = self.metrics.pulse(self.queue);
        loop {
            pulse.beat();
            let received = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                received = self.receive() => received,
            };
            match received {
                Ok(messages) => self.handle_batch(handler, messages, shutdown).await,
                Err(error) => {
                    self.failed(&error);
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(PAUSE_AFTER_FAILURE) => {}
                    }
                }
            }
        }
    }

    async fn receive(&self) -> Result<Vec<Message>, PortError> {
        let timeouts =
            TimeoutConfig::builder().operation_attempt_timeout(POLL_TIMEOUT).operation_timeout(POLL_TIMEOUT).build();
        let request = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(BATCH)
            .wait_time_seconds(WAIT_SECONDS)
            .message_attribute_names("All")
            .customize()
            .config_override(aws_sdk_sqs::config::Builder::new().timeout_config(timeouts));
        let answer = request.send().await.map_err(|error| port_error("receiving messages", &error))?;
        Ok(answer.messages.unwrap_or_default())
    }

    async fn handle_batch(&self, handler: &dyn MessageHandler, messages: Vec<Message>, shutdown: &CancellationToken) {
        let ends = join_all(messages.into_iter().map(|message| self.handle_one(handler, message))).await;
        let (mut done, mut left) = (Vec::new(), Vec::new());
        for (handled, receipt) in ends {
            match handled {
                Handled::Done => done.extend(receipt),
                Handled::Left => left.extend(receipt),
                Handled::Unreadable => {}
            }
        }
        if !done.is_empty()
            && let Err(error) = self.delete(done).await
        {
            // They come again; handling them again is harmless.
            self.failed(&error);
        }
        // While this process lives they wait, so that what fails is not tried without a pause.
        if !left.is_empty()
            && shutdown.is_cancelled()
            && let Err(error) = self.hand_back(left).await
        {
            // They come again after the visibility timeout.
            self.failed(&error);
        }
    }

    /// What became of a message, and its receipt.
    async fn handle_one(&self, handler: &dyn MessageHandler, message: Message) -> (Handled, Option<String>) {
        let Message { message_id, receipt_handle, body, message_attributes, .. } = message;
        let texts = message_attributes.unwrap_or_default().into_iter();
        let received = Received {
            id: message_id.unwrap_or_default(),
            body: body.unwrap_or_default(),
            attributes: texts.filter_map(|(name, value)| Some((name, value.string_value?))).collect(),
        };
        let outcome = handler.handle(&received).await;
        match outcome {
            Handled::Done => self.metrics.queue_message(self.queue, "handled"),
            Handled::Left => self.metrics.queue_message(self.queue, "left"),
            Handled::Unreadable => {
                self.metrics.queue_message(self.queue, "unreadable");
                tracing::error!(queue = self.queue, message = received.id, "a message cannot be read");
            }
        }
        (outcome, receipt_handle)
    }

    /// Makes messages visible again.
    async fn hand_back(&self, receipts: Vec<String>) -> Result<(), PortError> {
        const ACTION: &str = "handing messages back";
        let mut request = self.client.change_message_visibility_batch().queue_url(&self.url);
        for (index, receipt) in receipts.into_iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
            let entry = entry.receipt_handle(receipt).visibility_timeout(0).build();
            request =
                request.entries(entry.map_err(|error| PortError::Failed { action: ACTION, source: Box::new(error) })?);
        }
        request.send().await.map_err(|error| port_error(ACTION, &error))?;
        Ok(())
    }

    async fn delete(&self, receipts: Vec<String>) -> Result<(), PortError> {
        const ACTION: &str = "deleting messages";
        let mut request = self.client.delete_message_batch().queue_url(&self.url);
        for (index, receipt) in receipts.into_iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(receipt).build();
            request =
                request.entries(entry.map_err(|error| PortError::Failed { action: ACTION, source: Box::new(error) })?);
        }
        let answer = request.send().await.map_err(|error| port_error(ACTION, &error))?;
        if !answer.failed().is_empty() {
            tracing::warn!(queue = self.queue, count = answer.failed().len(), "handled messages will come again");
        }
        Ok(())
    }

    fn failed(&self, error: &PortError) {
        self.metrics.port_error(error);
        let reason = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(queue = self.queue, %error, reason, "the queue does not answer");
    }
}
