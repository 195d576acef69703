//! The role `driver-response` behind its HTTP API: turns messages of the `responses` queue into notifications for both
//! apps (spec §4), and delivers messages of the `notifications` queue to event streams and devices.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use dispatch_core::time::EpochMs;
use dispatch_http_types::{Notification, NotificationKind};
use parking_lot::Mutex;

use crate::adapters::messaging::{Handled, MessageHandler, NOTIFICATION_LIVES_MS, Received, notification_of};
use crate::city::parse_timestamp;
use crate::engine::{Engine, notifications_of_response};
use crate::ports::{Person, PortError, Ports, PushOutcome};
use crate::telemetry::{AuditLine, AuditOutcome};

/// Notifies both apps of the end of an offer.
pub struct Answers(pub Arc<Engine>);

#[async_trait]
impl MessageHandler for Answers {
    async fn handle(&self, message: &Received) -> Handled {
        let read = serde_json::from_str(&message.body).ok();
        let Some(both) = read.and_then(|response| notifications_of_response(&response)) else {
            return Handled::Unreadable;
        };
        // If one failed, both are sent again; receivers recognise a notification by its id.
        done(&self.0, self.0.ports.notifier.publish(&both).await)
    }
}

/// Delivers notifications to event streams and devices.
pub struct Deliveries {
    engine: Arc<Engine>,
    /// Whether the system has a platform application; without one no device endpoint is looked up.
    has_platform: bool,
    half_done: HalfDone,
}

#[async_trait]
impl MessageHandler for Deliveries {
    async fn handle(&self, message: &Received) -> Handled {
        let Some(notification) = notification_of(message) else { return Handled::Unreadable };
        let Some(person) = Person::parse(&notification.recipient) else { return Handled::Unreadable };
        let now = self.engine.ports.clock.now();
        let expires_at = expires_at(&notification, now);
        if expires_at <= now {
            // An offer that is over must not reach its driver; its end was notified.
            return Handled::Done;
        }
        let done_before = self.half_done.take(&notification.id);
        let streamed = match done_before {
            Some(Half::Streamed) => Ok(()),
            _ => self.engine.ports.streams.send(&notification).await,
        };
        let pushed = match done_before {
            Some(Half::Pushed) => Ok(()),
            _ if self.has_platform => self.push(&person, &notification, expires_at).await,
            _ => Ok(()),
        };
        if notification.body.pickup_address.is_some() && (streamed.is_ok() || pushed.is_ok()) {
            audit_offer(&notification);
        }
        // What succeeded is not repeated when the message is redelivered for the other half.
        match (&streamed, &pushed) {
            (Ok(()), Err(_)) => self.half_done.add(notification.id, Half::Streamed),
            (Err(_), Ok(())) => self.half_done.add(notification.id, Half::Pushed),
            _ => {}
        }
        done(&self.engine, streamed.and(pushed))
    }
}

impl Deliveries {
    pub fn new(engine: Arc<Engine>, has_platform: bool) -> Self {
        Self { engine, has_platform, half_done: HalfDone::default() }
    }

    async fn push(&self, person: &Person, notification: &Notification, expires_at: EpochMs) -> Result<(), PortError> {
        let Engine { ports: Ports { profiles, devices, .. }, metrics, .. } = &*self.engine;
        let Some(endpoint) = profiles.device(person).await? else { return Ok(()) };
        match devices.push(&endpoint, notification, expires_at).await? {
            PushOutcome::Sent => metrics.push("sent"),
            // A redelivery would not help, and the event stream has the notification.
            PushOutcome::Disabled => metrics.push_disabled(),
            PushOutcome::Gone => {
                metrics.push("gone");
                profiles.remove_device(person, &endpoint).await?;
                tracing::info!(person = person.as_str(), "removed a device that no longer receives notifications");
            }
        }
        Ok(())
    }
}

/// Records that a driver received the addresses of an offer.
fn audit_offer(notification: &Notification) {
    let objects: Vec<String> = notification.body.dispatch_id.iter().cloned().collect();
    let (subject, outcome) = (notification.recipient.as_str(), AuditOutcome::Done);
    AuditLine { subject, operation: "deliverOffer", objects: &objects, outcome }.write();
}

/// Until when a notification is of use: an offer until it times out, any other for a fixed time.
fn expires_at(notification: &Notification, now: EpochMs) -> EpochMs {
    let offer_ends = notification.body.timeout_at.as_deref().filter(|_| notification.kind == NotificationKind::Offer);
    offer_ends.and_then(parse_timestamp).unwrap_or_else(|| now.plus_ms(NOTIFICATION_LIVES_MS))
}

/// The part of a delivery that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Streamed,
    Pushed,
}

/// Notifications that are remembered: those of some minutes of an outage of Redis or SNS. Beyond it, a half may be
/// repeated; apps recognise a notification by its id, and devices replace the one they show.
const HALF_DONE_MAX: usize = 10_000;

/// Notifications of which one half was delivered by this process.
#[derive(Default)]
struct HalfDone(Mutex<HashMap<String, Half>>);

impl HalfDone {
    fn take(&self, id: &str) -> Option<Half> {
        self.0.lock().remove(id)
    }

    fn add(&self, id: String, half: Half) {
        let mut halves = self.0.lock();
        if halves.len() >= HALF_DONE_MAX {
            halves.clear();
        }
        halves.insert(id, half);
    }
}

/// A permanent failure is counted and dropped. A temporary one is left for redelivery.
fn done(engine: &Engine, result: Result<(), PortError>) -> Handled {
    let Err(error) = result else { return Handled::Done };
    engine.metrics.port_error(&error);
    if error.is_unreadable() {
        return Handled::Done;
    }
    let reason = std::error::Error::source(&error).map(ToString::to_string);
    tracing::warn!(%error, reason, "a notification is delayed or lost");
    match error {
        PortError::Unavailable { .. } => Handled::Left,
        PortError::Failed { .. } | PortError::Unreadable { .. } => Handled::Done,
    }
}
