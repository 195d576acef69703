//! What the roles need of the world, in their own words. No SDK type appears here.
//!
//! | port | real adapter | decides |
//! | --- | --- | --- |
//! | [`DispatchStore`], [`ProfileStore`] | DynamoDB (`store`) | everything |
//! | [`Fleet`] | Redis (`fleet`) | nothing: it proposes and reserves |
//! | [`IdempotencyStore`] | DynamoDB (`store`) | whether a request was made before |
//! | [`OfferTimers`], [`ResponseQueue`] | SQS (`messaging`) | nothing: it reminds |
//! | [`Notifier`], [`EventStreams`] | SNS, Redis pub/sub (`messaging`) | nothing: it tells |
//! | [`Eta`] | a router over HTTP (`eta`) | nothing: it says who is near |
//! | [`Clock`] | the machine's clock | the time |
//!
//! The runtime holds them as trait objects: which adapter stands behind one is chosen once in `main`, and tests choose
//! their own.

pub mod clock;
mod dispatches;
mod error;
mod eta;
mod fleet;
mod idempotency;
mod messages;
mod profiles;

use std::sync::Arc;

pub use clock::Clock;
pub use dispatches::{Commit, Created, DispatchStore, NewDispatch, Owner, Page, StoredDispatch, TravelledRoute};
pub use error::PortError;
pub use eta::Eta;
pub use fleet::{Fleet, FleetEntry, HoldToken, Ping, Recorded, RouteTail};
pub use idempotency::{ANSWER_KEPT_MS, HELD_MS, IdempotencyState, IdempotencyStore, IdempotentRequest, StoredAnswer};
pub use messages::{DevicePush, EventStreams, Notifier, OfferTimers, ResponseMessage, ResponseQueue, TimerMessage};
pub use profiles::{AvailabilityChange, DriverProfile, Person, ProfileStore, UserProfile};

/// All ports of a process.
#[derive(Clone)]
pub struct Ports {
    /// Dispatches.
    pub dispatches: Arc<dyn DispatchStore>,
    /// Users and drivers.
    pub profiles: Arc<dyn ProfileStore>,
    /// Live drivers.
    pub fleet: Arc<dyn Fleet>,
    /// Durable timers.
    pub timers: Arc<dyn OfferTimers>,
    /// Answers on their way to the apps.
    pub responses: Arc<dyn ResponseQueue>,
    /// The topic.
    pub notifier: Arc<dyn Notifier>,
    /// Devices.
    pub devices: Arc<dyn DevicePush>,
    /// Event streams.
    pub streams: Arc<dyn EventStreams>,
    /// How long drivers need to a pickup.
    pub eta: Arc<dyn Eta>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}
