//! Receives messages from SQS.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message};
use futures::future::join_all;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::adapters::aws::port_error;
use crate::ports::PortError;
use crate::telemetry::metrics::Metrics;

/// Long-polling wait, s. SQS allows 20 s. At shutdown the poll in progress is awaited, and the process has ten seconds;
/// an empty response every two and a half seconds for each queue costs little.
const WAIT_SECONDS: i32 = 5;
/// Time-out of a poll: the wait, and room for the response.
const POLL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the poll in progress at shutdown: it returns within its wait unless the queue is unavailable, and
/// then it returns nothing. The rest of the process' ten seconds suffices to hand its messages back.
const LAST_POLL_WITHIN: Duration = Duration::from_secs(8);
/// Messages of one response, the maximum that SQS allows.
const BATCH: u8 = 10;
/// Poll loops for each queue. Each handles its batch concurrently, so up to twenty messages of a queue are in progress.
const POLLERS: usize = 2;
/// Pause of a loop after a partial batch, so that messages arriving meanwhile share the next one. A queue with little
/// traffic is not delayed, because another loop is polling.
const PAUSE_AFTER_FEW: Duration = Duration::from_millis(200);
/// How long a handled message may wait to be deleted in a batch: far less than any visibility timeout. If the process
/// crashes meanwhile, it is handled again, which is harmless.
const DELETE_WITHIN: Duration = Duration::from_millis(500);
/// Handled messages that may wait for deletion. Loops wait if there are more, which means that the queue is
/// unavailable.
const DELETIONS_MAX: usize = 64;
/// Pause after a failed poll.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A message for a handler. Its content is never logged.
pub struct Received {
    /// Message id of SQS, for logs.
    pub id: String,
    pub body: String,
    /// String attributes.
    pub attributes: HashMap<String, String>,
}

/// The result of handling a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// Done; it is deleted.
    Done,
    /// Failed: the message is redelivered after the visibility timeout, and moved to the dead-letter queue after its
    /// last delivery.
    Left,
    /// The message cannot be parsed; after its last delivery it is kept in the dead-letter queue for inspection.
    Unreadable,
}

/// A handler of a queue's messages. A message may be delivered repeatedly, late, and after its successors.
#[async_trait]
pub trait MessageHandler: Send + Sync {
    /// Handles one message.
    async fn handle(&self, message: &Received) -> Handled;
}

/// The consumer of one queue.
pub struct Consumer {
    client: Client,
    /// The same client with the time-outs of a poll.
    polling: Client,
    url: String,
    queue: &'static str,
    metrics: Arc<Metrics>,
}

impl Consumer {
    /// Receives from the queue at `url`; `queue` names it in logs and metrics.
    pub fn new(client: Client, url: &str, queue: &'static str, metrics: Arc<Metrics>) -> Self {
        let timeouts =
            TimeoutConfig::builder().operation_attempt_timeout(POLL_TIMEOUT).operation_timeout(POLL_TIMEOUT).build();
        let polling = Client::from_conf(client.config().to_builder().timeout_config(timeouts).build());
        Self { client, polling, url: url.to_owned(), queue, metrics }
    }

    /// Receives until `shutdown`, then finishes the work in progress. Messages that could not be handled, and those of
    /// the poll in progress, are handed back so that other consumers receive them at once; otherwise they would remain
    /// invisible until the visibility timeout.
    pub async fn run(&self, handler: &dyn MessageHandler, shutdown: &CancellationToken) {
        let (done, deletions) = channel(DELETIONS_MAX);
        let polling = async {
            join_all((0..POLLERS).map(|_| self.poll(handler, &done, shutdown))).await;
            drop(done);
        };
        tokio::join!(polling, self.delete_in_batches(deletions));
    }

    async fn poll(&self, handler: &dyn MessageHandler, done: &Sender<String>, shutdown: &CancellationToken) {
        let pulse = self.metrics.pulse(self.queue);
        loop {
            pulse.beat();
            let mut receiving = std::pin::pin!(self.receive());
            let received = tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.hand_back_the_last(receiving).await,
                received = &mut receiving => received,
            };
            let pause = match received {
                Ok(messages) => {
                    let few = !messages.is_empty() && messages.len() < usize::from(BATCH);
                    self.handle_batch(handler, messages, done, shutdown).await;
                    few.then_some(PAUSE_AFTER_FEW)
                }
                Err(error) => {
                    self.failed(&error);
                    Some(PAUSE_AFTER_FAILURE)
                }
            };
            let Some(pause) = pause else { continue };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Deletes handled messages in batches until all loops have ended.
    async fn delete_in_batches(&self, mut deletions: Receiver<String>) {
        while let Some(first) = deletions.recv().await {
            let (mut receipts, until) = (vec![first], Instant::now() + DELETE_WITHIN);
            while receipts.len() < usize::from(BATCH)
                && let Ok(Some(receipt)) = tokio::time::timeout_at(until, deletions.recv()).await
            {
                receipts.push(receipt);
            }
            if let Err(error) = self.delete(receipts).await {
                // They are redelivered; handling them again is harmless.
                self.failed(&error);
            }
        }
    }

    /// Waits for the poll in progress, and hands its messages back.
    async fn hand_back_the_last(&self, receiving: impl Future<Output = Result<Vec<Message>, PortError>>) {
        // A poll that fails or times out returns no messages.
        let Ok(Ok(messages)) = tokio::time::timeout(LAST_POLL_WITHIN, receiving).await else { return };
        let receipts: Vec<String> = messages.into_iter().filter_map(|message| message.receipt_handle).collect();
        if !receipts.is_empty()
            && let Err(error) = self.hand_back(receipts).await
        {
            // They are redelivered after the visibility timeout.
            self.failed(&error);
        }
    }

    async fn receive(&self) -> Result<Vec<Message>, PortError> {
        let request = self
            .polling
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(BATCH.into())
            .wait_time_seconds(WAIT_SECONDS)
            .message_attribute_names("All");
        let answer = request.send().await.map_err(|error| port_error("receiving messages", &error))?;
        Ok(answer.messages.unwrap_or_default())
    }

    async fn handle_batch(
        &self,
        handler: &dyn MessageHandler,
        messages: Vec<Message>,
        done: &Sender<String>,
        shutdown: &CancellationToken,
    ) {
        let ends = join_all(messages.into_iter().map(|message| self.handle_one(handler, message))).await;
        let mut left = Vec::new();
        for (handled, receipt) in ends {
            match (handled, receipt) {
                // The deleting task runs for as long as there are loops.
                (Handled::Done, Some(receipt)) => drop(done.send(receipt).await),
                (Handled::Left, receipt) => left.extend(receipt),
                (Handled::Done | Handled::Unreadable, _) => {}
            }
        }
        // Unless the process shuts down, they wait for the visibility timeout, so that failures are not retried without
        // a pause.
        if !left.is_empty()
            && shutdown.is_cancelled()
            && let Err(error) = self.hand_back(left).await
        {
            // They are redelivered after the visibility timeout.
            self.failed(&error);
        }
    }

    /// Handles a message; returns the result and its receipt.
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
                // It is delivered several times before it is moved to the dead-letter queue.
                if self.metrics.is_line_due(&received.id) {
                    tracing::error!(queue = self.queue, message = received.id, "a message cannot be parsed");
                }
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
            tracing::warn!(
                queue = self.queue,
                count = answer.failed().len(),
                "handled messages could not be deleted and will be redelivered"
            );
        }
        Ok(())
    }

    fn failed(&self, error: &PortError) {
        self.metrics.port_error(error);
        let reason = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(queue = self.queue, %error, reason, "a call of the queue failed; it will be retried");
    }
}
