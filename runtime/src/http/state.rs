//! The state shared by all handlers.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::middleware::limits::{Admission, StreamPlaces};
use super::middleware::rate_limit::Rates;
use crate::auth::Authenticator;
use crate::engine::Engine;
use crate::ports::{IdempotencyStore, PersonStore};

/// The state shared by all handlers. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The engine, with its ports, city and metrics.
    pub engine: Arc<Engine>,
    pub access: Access,
    /// Stored responses to requests with an Idempotency-Key.
    pub answers: Arc<dyn IdempotencyStore>,
    /// Erases and exports the data of one person.
    pub persons: Arc<dyn PersonStore>,
    /// Ends the event streams when the process shuts down.
    pub shutdown: CancellationToken,
    /// Limits concurrent requests.
    pub admission: Admission,
    /// Limits open event streams.
    pub stream_places: StreamPlaces,
}

/// Authentication and rate limits.
#[derive(Clone)]
pub struct Access {
    pub authenticator: Arc<Authenticator>,
    pub rates: Arc<Rates>,
}

impl AppState {
    /// A state with the default limits.
    pub fn new<S>(engine: Arc<Engine>, access: Access, store: Arc<S>, shutdown: CancellationToken) -> Self
    where
        S: IdempotencyStore + PersonStore + 'static,
    {
        Self {
            engine,
            access,
            answers: Arc::<S>::clone(&store),
            persons: store,
            shutdown,
            admission: Admission::default(),
            stream_places: StreamPlaces::default(),
        }
    }
}
