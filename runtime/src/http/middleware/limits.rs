//! Limits on the concurrent work of one process.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Maximum concurrent requests of one process. A request spends most of its time waiting for DynamoDB and Redis. At 20
/// ms each, this many make about 25,000 requests a second, more than a process can parse, so the limit is only reached
/// when a backend service does not respond.
const IN_FLIGHT_MAX: usize = 512;

/// Maximum open event streams of one process: with about 30 KB of buffers each, they take 300 MB.
const STREAMS_MAX: usize = 10_000;

/// The limit on concurrent requests, shared by all routes of a process.
#[derive(Clone)]
pub struct Admission(pub(in crate::http) Arc<Semaphore>);

impl Admission {
    /// Admits at most `in_flight_max` concurrent requests.
    pub fn new(in_flight_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(in_flight_max)))
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(IN_FLIGHT_MAX)
    }
}

/// The limit on open event streams of a process.
#[derive(Clone)]
pub struct StreamPlaces(pub(in crate::http) Arc<Semaphore>);

impl StreamPlaces {
    pub fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }
}

impl Default for StreamPlaces {
    fn default() -> Self {
        Self::new(STREAMS_MAX)
    }
}
