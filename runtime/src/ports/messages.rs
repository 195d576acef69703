//! Messages between roles and to apps, and the ports that carry them.

use async_trait::async_trait;
use dispatch_core::dispatch::OfferOutcome;
use dispatch_http_types::Notification;
use serde::{Deserialize, Serialize};

use super::error::PortError;
use super::profiles::Person;

/// A delayed message of the `offers` queue: the timeout of an offer (specification), or a repeated search (addition).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimerMessage {
    pub dispatch_id: String,
    /// The driver of the offer; absent for a repeated search (addition).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_id: Option<String>,
    /// When the offer was made, ISO 8601.
    pub request_time: String,
    /// When the offer ends, ISO 8601.
    pub timeout_at: String,
    /// Addition: the offer; absent for a repeated search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_seq: Option<u32>,
    /// Addition: the version (`ver`) of the dispatch whose search found no driver. The message is ignored if the
    /// dispatch has advanced since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ver: Option<u32>,
}

/// Durable timers.
#[async_trait]
pub trait OfferTimers: Send + Sync {
    /// Delivers the message at least once after `delay_ms`, rounded up to whole seconds; at most 900 s.
    async fn start(&self, message: &TimerMessage, delay_ms: u64) -> Result<(), PortError>;
}

/// A message of the `responses` queue: how an offer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseMessage {
    pub dispatch_id: String,
    pub driver_id: String,
    pub user_id: String,
    pub offer_seq: u32,
    pub response: OfferOutcome,
    /// ISO 8601.
    pub responded_at: String,
}

/// The queue between offers that have ended and the apps.
#[async_trait]
pub trait ResponseQueue: Send + Sync {
    /// Sends a response for delivery to both apps.
    async fn send(&self, message: &ResponseMessage) -> Result<(), PortError>;
}

/// The notification topic.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Publishes each notification at least once to the topic, which delivers to devices and event streams. After an
    /// error some may have been published.
    async fn publish(&self, notifications: &[Notification]) -> Result<(), PortError>;
}

/// Push to one device (FCM behind an SNS platform endpoint).
#[async_trait]
pub trait DevicePush: Send + Sync {
    /// Registers a device token of a person. Returns the endpoint ARN; `None` if the system has no platform
    /// application.
    async fn register(&self, person: &Person, token: &str) -> Result<Option<String>, PortError>;

    /// Pushes to an endpoint. A disabled endpoint is not an error: the device is gone.
    async fn push(&self, endpoint_arn: &str, notification: &Notification) -> Result<(), PortError>;
}

/// The fan-out between replicas behind `GET /v1/events`.
#[async_trait]
pub trait EventStreams: Send + Sync {
    /// Sends a notification to every listener of its recipient, in any replica. No listener is not an error.
    async fn send(&self, notification: &Notification) -> Result<(), PortError>;

    /// Listens for a person's notifications until the receiver is dropped.
    async fn listen(&self, person: &Person) -> Result<tokio::sync::mpsc::Receiver<Notification>, PortError>;
}
