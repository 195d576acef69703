//! Receiving from SQS.

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

use crate::aws::port_error;
use crate::ports::PortError;
use crate::telemetry::metrics::Metrics;

/// How long a poll waits for a message. SQS allows 20 s; the poll under way is waited for at the end of a process, which has ten, and
/// an empty answer every two and a half seconds for each queue costs little.
const WAIT_SECONDS: i32 = 5;
/// A poll's own time limit: the wait, and room for the answer.
const POLL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the poll under way at the end: it answers within its wait unless the queue is away, and then it brings nothing.
/// What it brings has a second of the process' ten left to be handed back.
const LAST_POLL_WITHIN: Duration = Duration::from_secs(8);
/// Messages of one answer; SQS allows no more.
const BATCH: u8 = 10;
/// Loops of one queue. Each handles its batch concurrently, so twenty messages of a queue are in work at once.
const POLLERS: usize = 2;
/// Pause of a loop after an answer that was not full: what comes meanwhile comes with the next. A quiet queue does not notice, because its
/// messages find a loop that waits.
const PAUSE_AFTER_FEW: Duration = Duration::from_millis(200);
/// How long a handled message may wait for others to be deleted with: far below any visibility timeout. A process that ends meanwhile leaves
/// them to be handled again, which is harmless.
const DELETED_WITHIN: Duration = Duration::from_millis(500);
/// Handled messages that may wait to be deleted; loops wait where there are more, and then the queue does not answer.
const DELETIONS_MAX: usize = 64;
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
    /// The same, with the time-outs of a poll.
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

    /// Receives until `shutdown`, then finishes what is in work; what could not be done is handed back, so that others have it at once, and
    /// so is what the poll under way still brings: dropped, a message on its way would be invisible to all until its visibility timeout.
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

    /// Deletes what is handled, several at once, until nobody handles any more.
    async fn delete_in_batches(&self, mut deletions: Receiver<String>) {
        while let Some(first) = deletions.recv().await {
            let (mut receipts, until) = (vec![first], Instant::now() + DELETED_WITHIN);
            while receipts.len() < usize::from(BATCH)
                && let Ok(Some(receipt)) = tokio::time::timeout_at(until, deletions.recv()).await
            {
                receipts.push(receipt);
            }
            if let Err(error) = self.delete(receipts).await {
                // They come again; handling them again is harmless.
                self.failed(&error);
            }
        }
    }

    /// Waits for the poll under way, and hands back what it brings.
    async fn hand_back_the_last(&self, receiving: impl Future<Output = Result<Vec<Message>, PortError>>) {
        // A poll that fails, or takes longer, brings nothing.
        let Ok(Ok(messages)) = tokio::time::timeout(LAST_POLL_WITHIN, receiving).await else { return };
        let receipts: Vec<String> = messages.into_iter().filter_map(|message| message.receipt_handle).collect();
        if !receipts.is_empty()
            && let Err(error) = self.hand_back(receipts).await
        {
            // They come again after the visibility timeout.
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
                // Somebody deletes for as long as there are loops.
                (Handled::Done, Some(receipt)) => drop(done.send(receipt).await),
                (Handled::Left, receipt) => left.extend(receipt),
                (Handled::Done | Handled::Unreadable, _) => {}
            }
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
