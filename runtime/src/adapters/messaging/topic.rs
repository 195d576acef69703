//! The SNS topic: the message is the JSON of spec §7.4, and routing data is in message attributes.

use async_trait::async_trait;
use aws_sdk_sns::Client;
use aws_sdk_sns::types::{BatchResultErrorEntry, MessageAttributeValue, PublishBatchRequestEntry};
use dispatch_http_types::{Notification, NotificationKind};

use crate::adapters::aws::{port_error, refused_entry};
use crate::adapters::messaging::batcher::{BatchCall, Batcher, all_failed, results};
use crate::adapters::messaging::consumer::Received;
use crate::ports::{Notifier, PortError};

const RECIPIENT: &str = "recipient";
const KIND: &str = "kind";
const ID: &str = "id";

const ACTION: &str = "publishing a notification";

/// [`Notifier`] over SNS `PublishBatch`.
pub struct SnsNotifier(Batcher<PublishBatchRequestEntry, Publishing>);

struct Publishing {
    client: Client,
    topic_arn: String,
}

impl SnsNotifier {
    /// Publishes to the topic.
    pub fn new(client: Client, topic_arn: &str) -> Self {
        Self(Batcher::new(Publishing { client, topic_arn: topic_arn.to_owned() }))
    }
}

#[async_trait]
impl BatchCall<PublishBatchRequestEntry> for Publishing {
    fn action(&self) -> &'static str {
        ACTION
    }

    async fn send(&self, mut entries: Vec<PublishBatchRequestEntry>) -> Vec<Result<(), PortError>> {
        let count = entries.len();
        for (index, entry) in entries.iter_mut().enumerate() {
            entry.id = index.to_string();
        }
        let request = self.client.publish_batch().topic_arn(&self.topic_arn);
        match request.set_publish_batch_request_entries(Some(entries)).send().await {
            Ok(answer) => results(count, answer.failed().iter().map(|entry| (entry.id(), refused(entry)))),
            Err(error) => all_failed(count, || port_error(ACTION, &error)),
        }
    }
}

fn refused(entry: &BatchResultErrorEntry) -> PortError {
    refused_entry(ACTION, entry.code(), entry.message(), entry.sender_fault())
}

fn failed(source: impl std::error::Error + Send + Sync + 'static) -> PortError {
    PortError::Failed { action: ACTION, source: Box::new(source) }
}

fn attribute(value: &str) -> Result<MessageAttributeValue, PortError> {
    MessageAttributeValue::builder().data_type("String").string_value(value).build().map_err(failed)
}

/// An entry of a batch; its id is set when it is sent.
fn entry(notification: &Notification) -> Result<PublishBatchRequestEntry, PortError> {
    PublishBatchRequestEntry::builder()
        .id("0")
        .message(serde_json::to_string(&notification.body).map_err(failed)?)
        .message_attributes(RECIPIENT, attribute(&notification.recipient)?)
        .message_attributes(KIND, attribute(kind_text(notification.kind))?)
        .message_attributes(ID, attribute(&notification.id)?)
        .build()
        .map_err(failed)
}

/// The value of the kind in every message: `OFFER`, `DRIVER_ACCEPTED`, …
pub(super) fn kind_text(kind: NotificationKind) -> &'static str {
    match kind {
        NotificationKind::Offer => "OFFER",
        NotificationKind::DispatchConfirmed => "DISPATCH_CONFIRMED",
        NotificationKind::OfferClosed => "OFFER_CLOSED",
        NotificationKind::DriverAccepted => "DRIVER_ACCEPTED",
        NotificationKind::DriverRejected => "DRIVER_REJECTED",
        NotificationKind::DispatchFailed => "DISPATCH_FAILED",
        NotificationKind::DispatchCancelled => "DISPATCH_CANCELLED",
        NotificationKind::TripProgress => "TRIP_PROGRESS",
        NotificationKind::DriverInactive => "DRIVER_INACTIVE",
    }
}

#[async_trait]
impl Notifier for SnsNotifier {
    async fn publish(&self, notifications: &[Notification]) -> Result<(), PortError> {
        let entries: Result<Vec<_>, _> = notifications.iter().map(entry).collect();
        self.0.send(entries?).await
    }
}

/// The notification in a message of the `notifications` queue. The subscription uses raw delivery, so the body is what
/// was published and the attributes are the message's own ("Amazon SNS raw message delivery").
pub fn notification_of(message: &Received) -> Option<Notification> {
    let text = |name: &str| message.attributes.get(name).cloned();
    Some(Notification {
        id: text(ID)?,
        recipient: text(RECIPIENT)?,
        kind: serde_json::from_value(serde_json::Value::String(text(KIND)?)).ok()?,
        body: serde_json::from_str(&message.body).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_same_value_everywhere() {
        for kind in [
            NotificationKind::Offer,
            NotificationKind::DispatchConfirmed,
            NotificationKind::OfferClosed,
            NotificationKind::DriverAccepted,
            NotificationKind::DriverRejected,
            NotificationKind::DispatchFailed,
            NotificationKind::DispatchCancelled,
            NotificationKind::TripProgress,
            NotificationKind::DriverInactive,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind_text(kind));
        }
    }

    #[test]
    fn the_specified_message_is_parsed_and_others_are_rejected() {
        let body = r#"{"message":"새로운 배차 요청이 있습니다","dispatchId":"dispatch#00001",
            "pickupAddress":"서울시 중구 명동","destinationAddress":"서울시 종로구 종로",
            "estimatedFare":12000,"estimatedDistance":"2.5km"}"#;
        let attributes = [(RECIPIENT, "driver#00001"), (KIND, "OFFER"), (ID, "1")];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut message = Received { id: "m".to_owned(), body: body.to_owned(), attributes };
        let read = notification_of(&message).unwrap();
        assert_eq!(read.kind, NotificationKind::Offer);
        assert_eq!(read.body.estimated_distance.as_deref(), Some("2.5km"));
        message.body = "hello".to_owned();
        assert_eq!(notification_of(&message), None);
    }
}
