//! The fan-out behind `GET /v1/events`: one Redis channel for each city, one subscription for each process.
//!
//! A city's notifications are few (about ten for each ride) and small, so every replica receives all of them and keeps
//! those for its own listeners; a channel for each person would cost a subscription for each connection. Redis pub/sub
//! delivers at most once: notifications published while a replica reconnects are lost to its listeners, who read the
//! dispatch when they reconnect.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dispatch_http_types::Notification;
use futures::StreamExt;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::fleet::keys::Keys;
use crate::fleet::{ConnectError, RESPONSE_TIMEOUT, RedisConnector};
use crate::ports::{EventStreams, Person, PortError};
use crate::telemetry::heartbeat::Heartbeat;
use crate::telemetry::metrics::Metrics;

/// Notifications a listener may lag behind. A ride has about ten; a listener that lags further does not read.
const LISTENER_BUFFER: usize = 32;
/// First pause before a broken subscription is restored; it doubles.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
/// Longest pause before a broken subscription is restored.
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// Time without a notification after which the server is pinged: a subscription whose peer has vanished would otherwise
/// stay silent forever.
const PING_AFTER: Duration = Duration::from_secs(10);

/// The listeners of this process, by person.
#[derive(Default)]
pub(super) struct Listeners(Mutex<HashMap<String, Vec<Sender<Notification>>>>);

impl Listeners {
    pub(super) fn add(&self, person: &Person) -> Receiver<Notification> {
        let (sender, receiver) = channel(LISTENER_BUFFER);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Connections are rare; each one removes closed listeners.
        all.retain(|_, senders| {
            senders.retain(|sender| !sender.is_closed());
            !senders.is_empty()
        });
        all.entry(person.as_str().to_owned()).or_default().push(sender);
        receiver
    }

    /// Delivers a notification to its listeners; returns how many were closed because they did not read.
    pub(super) fn deliver(&self, notification: &Notification) -> usize {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(senders) = all.get_mut(&notification.recipient) else { return 0 };
        let before = senders.iter().filter(|sender| !sender.is_closed()).count();
        senders.retain(|sender| sender.try_send(notification.clone()).is_ok());
        before.saturating_sub(senders.len())
    }
}

/// [`EventStreams`] over Redis pub/sub. Notifications are received only while [`RedisEvents::run`] runs.
pub struct RedisEvents {
    connector: RedisConnector,
    publisher: ConnectionManager,
    channel: String,
    listeners: Listeners,
    metrics: Arc<Metrics>,
}

impl RedisEvents {
    /// The event streams of a city.
    pub fn new(connector: RedisConnector, city: &str, metrics: Arc<Metrics>) -> Result<Self, ConnectError> {
        let publisher = connector.manager()?;
        let channel = Keys::new(city).events();
        Ok(Self { connector, publisher, channel, listeners: Listeners::default(), metrics })
    }

    /// Maintains the subscription until `shutdown`.
    pub async fn run(&self, shutdown: &CancellationToken) {
        let mut pause = RECONNECT_FIRST;
        let pulse = self.metrics.pulse("the event stream subscription");
        loop {
            pulse.beat();
            tokio::select! {
                () = shutdown.cancelled() => return,
                was_connected = self.listen_once(&pulse) => {
                    if was_connected {
                        pause = RECONNECT_FIRST;
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RECONNECT_MAX),
            }
        }
    }

    /// Runs one subscription until it breaks; returns whether it was established.
    async fn listen_once(&self, pulse: &Heartbeat) -> bool {
        let subscription = match self.connector.subscribe(&self.channel).await {
            Ok(subscription) => subscription,
            Err(error) => {
                self.metrics.port_error(&PortError::Unavailable { action: "subscribing", source: Box::new(error) });
                tracing::warn!("cannot subscribe to event streams; will retry");
                return false;
            }
        };
        tracing::debug!("event streams are connected");
        let (mut server, mut messages) = subscription.split();
        loop {
            pulse.beat();
            match tokio::time::timeout(PING_AFTER, messages.next()).await {
                Ok(Some(message)) => self.deliver(&message.get_payload::<Vec<u8>>().unwrap_or_default()),
                Ok(None) => return true,
                Err(_) => {
                    let ping = tokio::time::timeout(RESPONSE_TIMEOUT, server.ping::<redis::Value>()).await;
                    if !matches!(ping, Ok(Ok(_))) {
                        tracing::warn!("Redis does not answer a ping of event streams; reconnecting");
                        return true;
                    }
                }
            }
        }
    }

    fn deliver(&self, payload: &[u8]) {
        let Ok(notification) = serde_json::from_slice(payload) else {
            tracing::warn!("received an invalid notification for event streams");
            return;
        };
        for _ in 0..self.listeners.deliver(&notification) {
            self.metrics.receiver_dropped();
        }
    }
}

#[async_trait]
impl EventStreams for RedisEvents {
    async fn send(&self, notification: &Notification) -> Result<(), PortError> {
        const ACTION: &str = "publishing to event streams";
        let payload = serde_json::to_string(notification)
            .map_err(|error| PortError::Failed { action: ACTION, source: Box::new(error) })?;
        let published: Result<(), _> = self.publisher.clone().publish(&self.channel, payload).await;
        published.map_err(|error| PortError::Unavailable { action: ACTION, source: Box::new(error) })
    }

    async fn listen(&self, person: &Person) -> Result<Receiver<Notification>, PortError> {
        Ok(self.listeners.add(person))
    }
}
