//! In-memory messaging that records what it is given, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use async_trait::async_trait;
use dispatch_core::time::EpochMs;
use dispatch_http_types::Notification;
use tokio::sync::mpsc::Receiver;

use crate::adapters::messaging::events::Listeners;
use crate::ports::{
    Device, DevicePush, EventStreams, Notifier, OfferTimers, Person, PortError, PushOutcome, ResponseMessage,
    ResponseQueue, TimerMessage,
};

/// An append-only list behind a shared reference.
#[derive(Debug)]
pub struct Log<T>(Mutex<Vec<T>>);

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Log<T> {
    fn push(&self, entry: T) {
        self.0.lock().push(entry);
    }

    /// All entries so far.
    pub fn all(&self) -> Vec<T> {
        self.0.lock().clone()
    }

    /// Removes and returns all entries so far.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// Timers that never fire.
#[derive(Debug, Default)]
pub struct FakeTimers {
    /// Started timers, with the delay in ms.
    pub started: Log<(TimerMessage, u64)>,
}

#[async_trait]
impl OfferTimers for FakeTimers {
    async fn start(&self, message: &TimerMessage, delay_ms: u64) -> Result<(), PortError> {
        self.started.push((message.clone(), delay_ms));
        Ok(())
    }
}

/// A queue without consumers.
#[derive(Debug, Default)]
pub struct FakeResponses {
    /// Messages sent.
    pub sent: Log<ResponseMessage>,
}

#[async_trait]
impl ResponseQueue for FakeResponses {
    async fn send(&self, message: &ResponseMessage) -> Result<(), PortError> {
        self.sent.push(message.clone());
        Ok(())
    }
}

/// A topic without subscribers.
#[derive(Debug, Default)]
pub struct FakeNotifier {
    /// Notifications published.
    pub published: Log<Notification>,
}

#[async_trait]
impl Notifier for FakeNotifier {
    async fn publish(&self, notifications: &[Notification]) -> Result<(), PortError> {
        for notification in notifications {
            self.published.push(notification.clone());
        }
        Ok(())
    }
}

/// Devices that accept everything.
#[derive(Debug, Default)]
pub struct FakeDevices {
    /// Notifications pushed, by endpoint.
    pub pushed: Log<(String, Notification)>,
    /// Owners of the tokens.
    owners: Mutex<BTreeMap<String, Person>>,
    /// Endpoints whose device is gone.
    pub gone: Mutex<BTreeSet<String>>,
    /// Whether the platform application is disabled.
    pub disabled: AtomicBool,
}

fn endpoint_of(token: &str) -> String {
    format!("arn:aws:sns:ap-northeast-2:000000000000:endpoint/GCM/fake/{token}")
}

#[async_trait]
impl DevicePush for FakeDevices {
    async fn register(&self, person: &Person, token: &str) -> Result<Option<Device>, PortError> {
        let former_owner = self.owners.lock().get(token).filter(|it| *it != person).cloned();
        Ok(Some(Device { endpoint_arn: endpoint_of(token), former_owner }))
    }

    async fn assign(&self, _endpoint_arn: &str, person: &Person, token: &str) -> Result<(), PortError> {
        self.owners.lock().insert(token.to_owned(), person.clone());
        self.gone.lock().remove(&endpoint_of(token));
        Ok(())
    }

    async fn unregister(&self, endpoint_arn: &str, person: &Person) -> Result<(), PortError> {
        let mut owners = self.owners.lock();
        let token = endpoint_arn.rsplit('/').next().unwrap_or_default();
        if owners.get(token).is_none_or(|owner| owner == person) {
            owners.remove(token);
            self.gone.lock().insert(endpoint_arn.to_owned());
        }
        Ok(())
    }

    async fn push(
        &self,
        endpoint_arn: &str,
        notification: &Notification,
        _expires_at: EpochMs,
    ) -> Result<PushOutcome, PortError> {
        if self.disabled.load(Ordering::SeqCst) {
            return Ok(PushOutcome::Disabled);
        }
        if self.gone.lock().contains(endpoint_arn) {
            return Ok(PushOutcome::Gone);
        }
        self.pushed.push((endpoint_arn.to_owned(), notification.clone()));
        Ok(PushOutcome::Sent)
    }
}

/// Event streams of one process.
#[derive(Default)]
pub struct FakeEvents {
    listeners: Listeners,
}

#[async_trait]
impl EventStreams for FakeEvents {
    async fn send(&self, notification: &Notification) -> Result<(), PortError> {
        self.listeners.deliver(notification);
        Ok(())
    }

    async fn listen(&self, person: &Person) -> Result<Receiver<Notification>, PortError> {
        Ok(self.listeners.add(person))
    }
}
