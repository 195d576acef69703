//! The role `driver-response` behind its HTTP API: turns messages of the `responses` queue into notifications for both
//! apps (spec §4), and delivers messages of the `notifications` queue to event streams and devices.

use std::sync::Arc;

use async_trait::async_trait;
use dispatch_core::ids::{DriverId, UserId};
use dispatch_http_types::Notification;

use crate::engine::{Engine, notifications_of_response};
use crate::messaging::{Handled, MessageHandler, Received, notification_of};
use crate::ports::{Person, PortError};

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
    pub engine: Arc<Engine>,
    /// Whether the system has a platform application; without one no device endpoint is looked up.
    pub has_platform: bool,
}

#[async_trait]
impl MessageHandler for Deliveries {
    async fn handle(&self, message: &Received) -> Handled {
        let Some(notification) = notification_of(message) else { return Handled::Unreadable };
        let Some(person) = person(&notification.recipient) else { return Handled::Unreadable };
        let streamed = self.engine.ports.streams.send(&notification).await;
        let pushed = if self.has_platform { self.push(&person, &notification).await } else { Ok(()) };
        done(&self.engine, streamed.and(pushed))
    }
}

impl Deliveries {
    async fn push(&self, person: &Person, notification: &Notification) -> Result<(), PortError> {
        match self.engine.ports.profiles.device(person).await? {
            Some(endpoint) => self.engine.ports.devices.push(&endpoint, notification).await,
            None => Ok(()),
        }
    }
}

fn person(id: &str) -> Option<Person> {
    let user = || UserId::parse(id).ok().map(Person::User);
    DriverId::parse(id).ok().map(Person::Driver).or_else(user)
}

/// A permanent failure is counted and dropped. A temporary one is left for redelivery.
fn done(engine: &Engine, result: Result<(), PortError>) -> Handled {
    let Err(error) = result else { return Handled::Done };
    engine.metrics.port_error(&error);
    let reason = std::error::Error::source(&error).map(ToString::to_string);
    tracing::warn!(%error, reason, "a notification is delayed or lost");
    match error {
        PortError::Unavailable { .. } => Handled::Left,
        PortError::Failed { .. } => Handled::Done,
    }
}
