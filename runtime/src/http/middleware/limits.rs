//! How much one process does at once.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Requests served at once by one process. A request waits on DynamoDB and Redis most of its time; at 20 ms each, this many
/// make some 25,000 a second, more than a process can parse, so reaching it means that something behind us stands still.
const IN_FLIGHT_MAX: usize = 512;

/// Streams open at once in one process: some 30 KB each with their buffers make 300 MB.
const STREAMS_MAX: usize = 10_000;

/// One bound for all requests of a process.
#[derive(Clone)]
pub struct Admission(pub(in crate::http) Arc<Semaphore>);

impl Admission {
    /// Admits this many requests at once.
    pub fn of(in_flight_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(in_flight_max)))
    }
}

impl Default for Admission {
    /// As many as one process can serve.
    fn default() -> Self {
        Self::of(IN_FLIGHT_MAX)
    }
}

/// Places for event streams.
#[derive(Clone)]
pub struct StreamPlaces(pub(in crate::http) Arc<Semaphore>);

impl StreamPlaces {
    /// This many places.
    pub fn of(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }
}

impl Default for StreamPlaces {
    fn default() -> Self {
        Self::of(STREAMS_MAX)
    }
}
