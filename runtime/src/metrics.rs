//! What the process counts. Labels are drawn from closed sets: no id, phone number or position ever becomes one.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use dispatch_core::dispatch::{Record, RecordType};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::port::PortError;

/// Requests stored; exposed, like every counter, with the suffix `_total`.
pub const DISPATCH_REQUESTS: &str = "dispatch_requests";
/// Offers made.
pub const DISPATCH_OFFERS: &str = "dispatch_offers";
/// Offers accepted.
pub const DISPATCH_ACCEPTED: &str = "dispatch_accepted";
/// Rides completed.
pub const DISPATCH_COMPLETED: &str = "dispatch_completed";
/// Dispatches cancelled, by whom.
pub const DISPATCH_CANCELLED: &str = "dispatch_cancelled";
/// Age of the newest stream record read, ms: how far the algorithm is behind the table.
pub const STREAM_ITERATOR_AGE: &str = "dispatch_stream_iterator_age_milliseconds";
/// Stream records by what became of them.
pub const STREAM_RECORDS: &str = "dispatch_stream_records";
/// Queue messages by queue and what became of them.
pub const QUEUE_MESSAGES: &str = "dispatch_queue_messages";
/// Failed calls of ports, by action.
pub const PORT_ERRORS: &str = "dispatch_port_errors";
/// Receivers of event streams dropped because they did not keep up.
pub const EVENT_RECEIVERS_DROPPED: &str = "dispatch_event_receivers_dropped";
/// Searches for drivers by where they were made: `index` or `redis`.
pub const FLEET_SEARCHES: &str = "dispatch_fleet_searches";
/// Drivers in the index of the process.
pub const FLEET_INDEX_DRIVERS: &str = "dispatch_fleet_index_drivers";
/// Times the index was made anew from Redis.
pub const FLEET_INDEX_REBUILDS: &str = "dispatch_fleet_index_rebuilds";
/// Duration of HTTP requests; the registry adds `_seconds`.
pub const HTTP_REQUEST_DURATION: &str = "dispatch_http_request_duration";

/// Upper bounds of the duration histogram, s: around the 50 ms and 150 ms goals for an answer.
const DURATION_BUCKETS_S: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Action {
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueOutcome {
    queue: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpRequest {
    method: String,
    route: String,
    status: u16,
}

/// All metrics of a process. Share it behind an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Counter,
    offers: Counter,
    accepted: Counter,
    completed: Counter,
    cancelled: Family<By, Counter>,
    iterator_age_ms: Gauge<u64, AtomicU64>,
    stream_records: Family<Outcome, Counter>,
    queue_messages: Family<QueueOutcome, Counter>,
    port_errors: Family<Action, Counter>,
    receivers_dropped: Counter,
    fleet_searches: Family<Source, Counter>,
    index_drivers: Gauge<u64, AtomicU64>,
    index_rebuilds: Counter,
    http: Family<HttpRequest, Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Counter::default(),
            offers: Counter::default(),
            accepted: Counter::default(),
            completed: Counter::default(),
            cancelled: Family::default(),
            iterator_age_ms: Gauge::default(),
            stream_records: Family::default(),
            queue_messages: Family::default(),
            port_errors: Family::default(),
            receivers_dropped: Counter::default(),
            fleet_searches: Family::default(),
            index_drivers: Gauge::default(),
            index_rebuilds: Counter::default(),
            http: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS_S)),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(DISPATCH_REQUESTS, "Requests stored", self.requests.clone());
        registry.register(DISPATCH_OFFERS, "Offers made", self.offers.clone());
        registry.register(DISPATCH_ACCEPTED, "Offers accepted", self.accepted.clone());
        registry.register(DISPATCH_COMPLETED, "Rides completed", self.completed.clone());
        registry.register(DISPATCH_CANCELLED, "Dispatches cancelled", self.cancelled.clone());
        registry.register(STREAM_ITERATOR_AGE, "Age of the newest stream record read", self.iterator_age_ms.clone());
        registry.register(STREAM_RECORDS, "Stream records read", self.stream_records.clone());
        registry.register(QUEUE_MESSAGES, "Queue messages received", self.queue_messages.clone());
        registry.register(PORT_ERRORS, "Failed calls of other services", self.port_errors.clone());
        registry.register(EVENT_RECEIVERS_DROPPED, "Slow event streams closed", self.receivers_dropped.clone());
        registry.register(FLEET_SEARCHES, "Searches for drivers", self.fleet_searches.clone());
        registry.register(FLEET_INDEX_DRIVERS, "Drivers in the index", self.index_drivers.clone());
        registry.register(FLEET_INDEX_REBUILDS, "Times the index was made anew", self.index_rebuilds.clone());
        let (help, http) = ("Duration of HTTP requests", self.http.clone());
        registry.register_with_unit(HTTP_REQUEST_DURATION, help, Unit::Seconds, http);
    }

    /// The whole registry in the `OpenMetrics` text format.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts a stored request.
    pub fn request_stored(&self) {
        self.requests.inc();
    }

    /// Counts what the records of a stored change say.
    pub fn recorded(&self, records: &[Record]) {
        for record in records {
            match record.record_type {
                RecordType::DriverAssigned => self.offers.inc(),
                RecordType::DriverAccepted => self.accepted.inc(),
                RecordType::TripCompleted => self.completed.inc(),
                RecordType::CancelledByUser => self.cancelled.get_or_create(&By { by: "user" }).inc(),
                RecordType::CancelledByDriver => self.cancelled.get_or_create(&By { by: "driver" }).inc(),
                RecordType::CancelledBySystem => self.cancelled.get_or_create(&By { by: "system" }).inc(),
                _ => 0,
            };
        }
    }

    /// Sets how old the newest stream record read is; 0 at the tip.
    pub fn stream_age_ms(&self, age_ms: u64) {
        self.iterator_age_ms.set(age_ms);
    }

    /// Counts a stream record: `advanced`, `skipped`, `unreadable` or `given_up`.
    pub fn stream_record(&self, outcome: &'static str) {
        self.stream_records.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a queue message: `handled`, `left` for redelivery, or `unreadable`.
    pub fn queue_message(&self, queue: &'static str, outcome: &'static str) {
        self.queue_messages.get_or_create(&QueueOutcome { queue, outcome }).inc();
    }

    /// Counts a failed call.
    pub fn port_error(&self, error: &PortError) {
        let (PortError::Unavailable { action, .. } | PortError::Failed { action, .. }) = error;
        self.port_errors.get_or_create(&Action { action }).inc();
    }

    /// Counts an event stream that was closed because its reader did not keep up.
    pub fn receiver_dropped(&self) {
        self.receivers_dropped.inc();
    }

    /// Counts a search for drivers: in the `index` or in `redis`.
    pub fn fleet_search(&self, source: &'static str) {
        self.fleet_searches.get_or_create(&Source { source }).inc();
    }

    /// Sets how many drivers the index has.
    pub fn index_drivers(&self, drivers: usize) {
        self.index_drivers.set(drivers as u64);
    }

    /// Counts an index that was made anew.
    pub fn index_rebuilt(&self) {
        self.index_rebuilds.inc();
    }

    /// Observes an HTTP request; `route` is the matched pattern (`/v1/dispatches/{id}`), never the path.
    pub fn http_request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let labels = HttpRequest { method: method.to_owned(), route: route.to_owned(), status };
        self.http.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use dispatch_core::time::EpochMs;

    use super::*;

    #[test]
    fn stored_records_are_counted_under_the_names_dashboards_know() {
        let metrics = Metrics::new();
        let record = |record_type| Record { record_type, at: EpochMs(0), details: "" };
        metrics.request_stored();
        metrics.recorded(&[record(RecordType::DriverAssigned), record(RecordType::CancelledBySystem)]);
        metrics.http_request("GET", "/v1/dispatches/{id}", 200, Duration::from_millis(3));
        let text = metrics.encode().unwrap();
        for line in [
            "dispatch_requests_total 1",
            "dispatch_offers_total 1",
            "dispatch_accepted_total 0",
            "dispatch_cancelled_total{by=\"system\"} 1",
            "dispatch_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/dispatches/{id}\",status=\"200\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
