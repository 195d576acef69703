//! What handlers work with.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::middleware::limits::{Admission, StreamPlaces};
use super::middleware::rate_limit::Rates;
use crate::auth::Authenticator;
use crate::engine::Engine;
use crate::ports::IdempotencyStore;

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The engine, with its ports, city and metrics.
    pub engine: Arc<Engine>,
    /// Who may call, and how often.
    pub access: Access,
    /// Answers to requests that may be repeated.
    pub answers: Arc<dyn IdempotencyStore>,
    /// Ends the event streams.
    pub shutdown: CancellationToken,
    /// Bound of requests served at once.
    pub admission: Admission,
    /// Bound of event streams open at once.
    pub stream_places: StreamPlaces,
}

/// Who may call, and how often.
#[derive(Clone)]
pub struct Access {
    /// Knows callers by their tokens.
    pub authenticator: Arc<Authenticator>,
    /// Counts what they ask.
    pub rates: Arc<Rates>,
}

impl AppState {
    /// A state with the usual bounds.
    pub fn new(
        engine: Arc<Engine>,
        access: Access,
        answers: Arc<dyn IdempotencyStore>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            engine,
            access,
            answers,
            shutdown,
            admission: Admission::default(),
            stream_places: StreamPlaces::default(),
        }
    }
}
