//! The ports of the runtime: what the roles need from the outside. No SDK type appears here.
//!
//! | port | adapter | decides |
//! | --- | --- | --- |
//! | [`DispatchStore`], [`ProfileStore`] | DynamoDB (`store`) | everything |
//! | [`PositionSink`], [`DriverSearch`], [`Reservations`], [`RouteTails`] | Redis (`fleet`) | nothing: they propose |
//! | [`PersonStore`] | DynamoDB (`store`) | nothing: it erases and exports |
//! | [`IdempotencyStore`] | DynamoDB (`store`) | whether a request was made before |
//! | [`OfferTimers`], [`ResponseQueue`] | SQS (`messaging`) | nothing: they remind |
//! | [`Notifier`], [`EventStreams`] | SNS, Redis pub/sub (`messaging`) | nothing: they notify |
//! | [`Eta`] | a router over HTTP (`eta`) | nothing: it only orders candidates |
//! | [`Clock`] | the machine's clock | the time |
//!
//! The runtime holds ports as trait objects: `main` chooses the adapters, and tests choose their own.

pub mod clock;
mod dispatches;
mod error;
mod eta;
mod fleet;
mod idempotency;
mod messages;
mod persons;
mod profiles;

use std::sync::Arc;

pub use clock::Clock;
pub use dispatches::{
    Commit, CreateOutcome, DispatchDetails, DispatchStore, NewDispatch, OngoingRide, OpenReview, Owner, Page,
    StoredDispatch, TravelledRoute,
};
pub use error::PortError;
pub use eta::Eta;
pub use fleet::{
    DriverSearch, FleetEntry, FleetPorts, HoldToken, Ping, PingOutcome, PositionSink, Reservations, RouteTail,
    RouteTails,
};
pub use idempotency::{ANSWER_KEPT_MS, HELD_MS, IdempotencyState, IdempotencyStore, IdempotentRequest, StoredAnswer};
pub use messages::{
    Device, DevicePush, EventStreams, Notifier, OfferTimers, PushOutcome, ResponseMessage, ResponseQueue, TimerMessage,
};
pub use persons::{Counts, DataKind, ErasedPage, Erasure, PageErasure, PersonPage, PersonStore, ProfileErasure};
pub use profiles::{
    ActiveCursor, ActivePage, AvailabilityChange, CurrentStatus, Driver, DriverProfile, Person, ProfileStore, User,
    UserProfile,
};

/// All ports of a process.
#[derive(Clone)]
pub struct Ports {
    pub dispatches: Arc<dyn DispatchStore>,
    pub profiles: Arc<dyn ProfileStore>,
    pub fleet: FleetPorts,
    pub timers: Arc<dyn OfferTimers>,
    pub responses: Arc<dyn ResponseQueue>,
    pub notifier: Arc<dyn Notifier>,
    pub devices: Arc<dyn DevicePush>,
    pub streams: Arc<dyn EventStreams>,
    pub eta: Arc<dyn Eta>,
    pub clock: Arc<dyn Clock>,
}
