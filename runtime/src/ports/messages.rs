//! Messages between roles and to apps, and the ports that carry them.

use async_trait::async_trait;
use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::time::EpochMs;
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

/// A registered device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// ARN of its endpoint.
    pub endpoint_arn: String,
    /// The person who registered this device before, if it was another one. A device belongs to one person.
    pub former_owner: Option<Person>,
}

/// The result of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    Sent,
    /// The app was removed from the device, or the endpoint was deleted.
    Gone,
    /// SNS has disabled the platform application: FCM refuses its service account key. Pushes to all devices fail until
    /// the key is replaced.
    Disabled,
}

/// Push to one device (FCM behind an SNS platform endpoint).
#[async_trait]
pub trait DevicePush: Send + Sync {
    /// Finds or creates the endpoint of a device token. `None` if the system has no platform application. A former
    /// owner stays the owner until [`DevicePush::assign`], so that a caller who fails in between finds it again.
    async fn register(&self, person: &Person, token: &str) -> Result<Option<Device>, PortError>;

    /// Makes a person the owner of an endpoint, and enables it.
    async fn assign(&self, endpoint_arn: &str, person: &Person, token: &str) -> Result<(), PortError>;

    /// Deletes an endpoint, unless it belongs to another person by now. Idempotent.
    async fn unregister(&self, endpoint_arn: &str, person: &Person) -> Result<(), PortError>;

    /// Pushes to an endpoint. A device that is off receives the notification until `expires_at`.
    async fn push(
        &self,
        endpoint_arn: &str,
        notification: &Notification,
        expires_at: EpochMs,
    ) -> Result<PushOutcome, PortError>;
}

/// The fan-out between replicas behind `GET /v1/events`.
#[async_trait]
pub trait EventStreams: Send + Sync {
    /// Sends a notification to every listener of its recipient, in any replica. No listener is not an error.
    async fn send(&self, notification: &Notification) -> Result<(), PortError>;

    /// Listens for a person's notifications until the receiver is dropped.
    async fn listen(&self, person: &Person) -> Result<tokio::sync::mpsc::Receiver<Notification>, PortError>;
}
