//! The role `dispatch-algorithm`: handles the stream's records and the `offers` queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dispatch_core::ids::DispatchId;
use dispatch_core::policy::MatchingMode;

use crate::adapters::messaging::{Handled, MessageHandler, Received, TimerHandler};
use crate::engine::{Engine, EngineError, Trigger};
use crate::ports::TimerMessage;
use crate::stream::{DispatchHandler, StreamChange};

/// Searches for a driver when the stream delivers a dispatch that waits for one, and copies drivers that another
/// service changed into the cache.
pub struct Algorithm(pub Arc<Engine>);

#[async_trait]
impl DispatchHandler for Algorithm {
    async fn handle(&self, change: StreamChange) -> Result<(), EngineError> {
        match change {
            StreamChange::Waiting { stored, indexed } => {
                if !indexed {
                    self.0.index(&stored).await?;
                }
                self.0.advance(*stored, Trigger::Event).await
            }
            StreamChange::Driver(driver) => Ok(self.0.refresh_driver(&driver).await?),
            StreamChange::Taken { driver, dispatch } => Ok(self.0.occupy_in_fleet(&driver, &dispatch).await?),
        }
    }

    fn waits(&self) -> bool {
        self.0.city.settings().policy.matching.mode == MatchingMode::Batched
    }
}

/// Ends offers that timed out and repeats searches that found no driver.
pub struct OfferTimeouts(pub Arc<Engine>);

#[async_trait]
impl MessageHandler for OfferTimeouts {
    async fn handle(&self, message: &Received) -> Handled {
        let read = serde_json::from_str::<TimerMessage>(&message.body).ok();
        let Some((timer, id)) =
            read.and_then(|timer| DispatchId::parse(timer.dispatch_id.clone()).ok().map(|id| (timer, id)))
        else {
            return Handled::Unreadable;
        };
        let result = match timer.offer_seq {
            Some(offer_seq) => self.time_out(&id, &timer, offer_seq).await,
            None => self.0.wake(&id, timer.ver).await,
        };
        match result {
            Ok(()) | Err(EngineError::NotFound) => Handled::Done,
            // Repaired in time, it continues; otherwise the timer is kept in the dead-letter queue.
            Err(error) if error.is_unreadable() => Handled::Left,
            Err(error) => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(dispatch = %id, %error, reason, "a timer failed; its message will be redelivered");
                Handled::Left
            }
        }
    }
}

#[async_trait]
impl TimerHandler for OfferTimeouts {
    async fn fire(&self, timer: &TimerMessage) -> Option<Duration> {
        let id = DispatchId::parse(timer.dispatch_id.clone()).ok()?;
        if !self.0.ports.clock.is_trusted() {
            // The durable timer leads to a process whose clock is right.
            return None;
        }
        match self.0.time_out(&id, timer.offer_seq?).await {
            Ok(left_ms) => left_ms.map(Duration::from_millis),
            Err(error) if error.is_unreadable() => None,
            Err(error) => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(dispatch = %id, %error, reason, "a local timer failed; the durable one will follow");
                None
            }
        }
    }
}

impl OfferTimeouts {
    /// Restarts a timer that is early (clocks differ, or the message was redriven manually) for the remaining time.
    async fn time_out(&self, id: &DispatchId, timer: &TimerMessage, offer_seq: u32) -> Result<(), EngineError> {
        if let Some(left_ms) = self.0.time_out(id, offer_seq).await? {
            self.0.ports.timers.start(timer, left_ms).await?;
        }
        Ok(())
    }
}
