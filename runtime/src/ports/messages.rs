//! Messages between roles and to people, and the ports that carry them.

use async_trait::async_trait;
use dispatch_core::dispatch::OfferOutcome;
use dispatch_http_types::Notification;
use serde::{Deserialize, Serialize};

use super::error::PortError;
use super::profiles::Person;

/// A delayed message of the `offers` queue: the seed's SQS message, and a wake-up without a driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimerMessage {
    /// Which dispatch.
    pub dispatch_id: String,
    /// The driver who was asked; absent where a search is to be repeated (addition).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_id: Option<String>,
    /// When the offer was made.
    pub request_time: String,
    /// When it runs out.
    pub timeout_at: String,
    /// Addition: which offer; absent where a search is to be repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_seq: Option<u32>,
    /// Addition: where a search is to be repeated, the version (`ver`) of the dispatch that found nobody; one that has gone on since needs
    /// no repetition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ver: Option<u32>,
}

/// Durable timers.
#[async_trait]
pub trait OfferTimers: Send + Sync {
    /// Delivers the message after `delay_ms`, rounded up to whole seconds, at most 900 s; once or more often.
    async fn start(&self, message: &TimerMessage, delay_ms: u64) -> Result<(), PortError>;
}

/// A message of the `responses` queue: how a driver answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseMessage {
    /// Which dispatch.
    pub dispatch_id: String,
    /// Who answered, or did not.
    pub driver_id: String,
    /// Who asked for the ride.
    pub user_id: String,
    /// Which offer.
    pub offer_seq: u32,
    /// How it ended.
    pub response: OfferOutcome,
    /// When.
    pub responded_at: String,
}

/// The queue between an answer and the apps.
#[async_trait]
pub trait ResponseQueue: Send + Sync {
    /// Sends a response on its way to both apps.
    async fn send(&self, message: &ResponseMessage) -> Result<(), PortError>;
}

/// The topic.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Publishes to the topic, from where it reaches devices and event streams; once or more often. After a failure some may have been
    /// published.
    async fn publish(&self, notifications: &[Notification]) -> Result<(), PortError>;
}

/// Push to one device (FCM behind an SNS platform endpoint).
#[async_trait]
pub trait DevicePush: Send + Sync {
    /// Registers a device token of a person and gives its endpoint ARN; `None` where the system has no platform application.
    async fn register(&self, person: &Person, token: &str) -> Result<Option<String>, PortError>;

    /// Pushes to an endpoint. A disabled endpoint is not an error: the device is gone.
    async fn push(&self, endpoint_arn: &str, notification: &Notification) -> Result<(), PortError>;
}

/// The fan-out between replicas behind `GET /v1/events`.
#[async_trait]
pub trait EventStreams: Send + Sync {
    /// Hands a notification to whoever listens for its recipient, in any replica. Nobody listening is not an error.
    async fn send(&self, notification: &Notification) -> Result<(), PortError>;

    /// Listens for a person's notifications until the receiver is dropped.
    async fn listen(&self, person: &Person) -> Result<tokio::sync::mpsc::Receiver<Notification>, PortError>;
}
