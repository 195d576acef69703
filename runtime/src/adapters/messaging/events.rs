//! The fan-out behind `GET /v1/events`: one Redis channel for each city, one subscription for each process.
//!
//! A city's notifications are few (about ten for each ride) and small, so every replica receives all of them and keeps
//! those for its own listeners; a channel for each person would cost a subscription for each connection. Redis pub/sub
//! delivers at most once: notifications published while a replica reconnects are lost to its listeners, who read the
//! dispatch when they reconnect.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dispatch_http_types::Notification;
use futures::StreamExt;
use redis::AsyncCommands;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::adapters::fleet::keys::Keys;
use crate::adapters::fleet::{Connection, RESPONSE_TIMEOUT, RedisConnector};
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
        let mut all = self.0.lock();
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
        let mut all = self.0.lock();
        let Some(senders) = all.get_mut(&notification.recipient) else { return 0 };
        let before = senders.iter().filter(|sender| !sender.is_closed()).count();
        senders.retain(|sender| sender.try_send(notification.clone()).is_ok());
        before.saturating_sub(senders.len())
    }
}

/// [`EventStreams`] over Redis pub/sub. Notifications are received only while [`RedisEvents::run`] runs.
pub struct RedisEvents {
    connector: RedisConnector,
    publisher: Connection,
    channel: String,
    listeners: Listeners,
    metrics: Arc<Metrics>,
}

impl RedisEvents {
    /// The event streams of a city.
    pub fn new(connector: RedisConnector, city: &str, metrics: Arc<Metrics>) -> Self {
        let publisher = Connection::new(connector.clone());
        let channel = Keys::new(city).events();
        Self { connector, publisher, channel, listeners: Listeners::default(), metrics }
    }

    /// Maintains the subscription until `shutdown`.
    pub async fn run(&self, shutdown: &CancellationToken) {
        let mut pause = RECONNECT_FIRST;
        let pulse = self.metrics.pulse("the event stream subscription");
        loop {
            pulse.beat();
            tokio::select! {
                () = shutdown.cancelled() => return,
                was_connected = self.listen_once(&pulse, pause == RECONNECT_FIRST) => {
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

    /// Runs one subscription until it breaks or the connections are replaced; returns whether it was established. Only
    /// the first of several failures is logged.
    async fn listen_once(&self, pulse: &Heartbeat, is_first: bool) -> bool {
        let mut generations = self.connector.generations();
        let subscription = match self.connector.subscribe(&self.channel).await {
            Ok(subscription) => subscription,
            Err(error) => {
                if is_first {
                    tracing::warn!(%error, "cannot subscribe to event streams; will retry");
                }
                self.metrics.port_error(&PortError::Unavailable { action: "subscribing", source: Box::new(error) });
                return false;
            }
        };
        tracing::debug!("event streams are connected");
        let (mut server, mut messages) = subscription.split();
        loop {
            pulse.beat();
            let message = tokio::select! {
                message = tokio::time::timeout(PING_AFTER, messages.next()) => message,
                // The connector outlives this subscription, so the channel never closes.
                _ = generations.changed() => return true,
            };
            match message {
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
            // A client that publishes one may publish many.
            if self.metrics.is_line_due(&self.channel) {
                tracing::warn!(channel = self.channel, "received an invalid notification for event streams");
            }
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
