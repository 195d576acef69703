//! Metrics of the process. Labels have fixed sets of values: no id, phone number or position is ever a label.

mod names;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use dispatch_core::dispatch::{EventType, Record};
use dispatch_core::meter::ReviewReason;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use self::names::*;
use crate::ports::PortError;
use crate::telemetry::heartbeat::{Heartbeat, Heartbeats};
use crate::telemetry::unreadable::UnreadableLog;

/// Upper bounds of the duration histogram, s: around the goals of 50 ms and 150 ms for a response.
const DURATION_BUCKETS_S: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Upper bounds of the histogram of batch sizes.
const BATCH_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Because {
    because: &'static str,
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
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Change {
    change: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listener {
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GateWait {
    dependency: &'static str,
    kind: &'static str,
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

/// All metrics of a process. Share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Counter,
    requests_refused: Family<Reason, Counter>,
    offers: Counter,
    accepted: Counter,
    completed: Counter,
    cancelled: Family<By, Counter>,
    reviews: Family<Reason, Counter>,
    iterator_age_ms: Gauge<u64, AtomicU64>,
    stream_records: Family<Outcome, Counter>,
    stream_leases: Gauge<u64, AtomicU64>,
    lease_changes: Family<Change, Counter>,
    stream_gaps: Counter,
    stream_without_shards: Counter,
    stale_writes: Counter,
    store_retries: Family<Because, Counter>,
    lost_answers: Counter,
    queue_messages: Family<QueueOutcome, Counter>,
    port_errors: Family<Action, Counter>,
    pushes: Family<Outcome, Counter>,
    unreadable: Family<Kind, Counter>,
    unreadable_log: UnreadableLog,
    receivers_dropped: Counter,
    cache_writable: Gauge<u64, AtomicU64>,
    cache_refusals: Family<Code, Counter>,
    cache_reconnections: Family<Reason, Counter>,
    cache_repairs: Family<Kind, Counter>,
    fleet_searches: Family<Source, Counter>,
    pings: Family<Outcome, Counter>,
    drivers_deactivated: Family<Reason, Counter>,
    clock_ahead_ms: Gauge,
    clock_trusted: Gauge,
    index_drivers: Gauge<u64, AtomicU64>,
    index_rebuilds: Counter,
    eta_requests: Family<Outcome, Counter>,
    eta_estimated: Counter,
    eta_duration: Histogram,
    batches: Counter,
    batch_size: Histogram,
    left_over: Counter,
    not_batched: Family<Reason, Counter>,
    http: Family<HttpRequest, Histogram>,
    shed: Counter,
    accept_failures: Family<Listener, Counter>,
    connections_evicted: Family<Listener, Counter>,
    gate_waits: Family<GateWait, Gauge>,
    pulses: Heartbeats,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates all metrics with the value zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Counter::default(),
            requests_refused: Family::default(),
            offers: Counter::default(),
            accepted: Counter::default(),
            completed: Counter::default(),
            cancelled: Family::default(),
            reviews: Family::default(),
            iterator_age_ms: Gauge::default(),
            stream_records: Family::default(),
            stream_leases: Gauge::default(),
            lease_changes: Family::default(),
            stream_gaps: Counter::default(),
            stream_without_shards: Counter::default(),
            stale_writes: Counter::default(),
            store_retries: Family::default(),
            lost_answers: Counter::default(),
            queue_messages: Family::default(),
            port_errors: Family::default(),
            pushes: Family::default(),
            unreadable: Family::default(),
            unreadable_log: UnreadableLog::default(),
            receivers_dropped: Counter::default(),
            cache_writable: Gauge::default(),
            cache_refusals: Family::default(),
            cache_reconnections: Family::default(),
            cache_repairs: Family::default(),
            fleet_searches: Family::default(),
            pings: Family::default(),
            drivers_deactivated: Family::default(),
            clock_ahead_ms: Gauge::default(),
            clock_trusted: Gauge::default(),
            index_drivers: Gauge::default(),
            index_rebuilds: Counter::default(),
            eta_requests: Family::default(),
            eta_estimated: Counter::default(),
            eta_duration: Histogram::new(DURATION_BUCKETS_S),
            batches: Counter::default(),
            batch_size: Histogram::new(BATCH_BUCKETS),
            left_over: Counter::default(),
            not_batched: Family::default(),
            http: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS_S)),
            shed: Counter::default(),
            accept_failures: Family::default(),
            connections_evicted: Family::default(),
            gate_waits: Family::default(),
            pulses: Heartbeats::default(),
        };
        metrics.register();
        // Until a probe has failed.
        metrics.cache_writable(true);
        metrics.clock(None, true);
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(DISPATCH_REQUESTS, "Requests stored", self.requests.clone());
        let refused = "Requests refused by the rules of the city";
        registry.register(DISPATCH_REQUESTS_REFUSED, refused, self.requests_refused.clone());
        registry.register(DISPATCH_OFFERS, "Offers made", self.offers.clone());
        registry.register(DISPATCH_ACCEPTED, "Offers accepted", self.accepted.clone());
        registry.register(DISPATCH_COMPLETED, "Rides completed", self.completed.clone());
        registry.register(DISPATCH_CANCELLED, "Dispatches cancelled", self.cancelled.clone());
        registry.register(DISPATCH_REVIEWS, "Rides that operations must review", self.reviews.clone());
        registry.register(
            STREAM_ITERATOR_AGE,
            "Age of the oldest unfinished stream record",
            self.iterator_age_ms.clone(),
        );
        registry.register(STREAM_RECORDS, "Stream records read", self.stream_records.clone());
        registry.register(STREAM_LEASES, "Stream leases held by this process", self.stream_leases.clone());
        registry.register(STREAM_LEASE_CHANGES, "Changes of stream leases", self.lease_changes.clone());
        registry.register(STREAM_GAPS, "Times that unread stream records expired", self.stream_gaps.clone());
        let (help, without) = ("Minutes without a readable shard", self.stream_without_shards.clone());
        registry.register(STREAM_WITHOUT_SHARDS, help, without);
        registry.register(STREAM_STALE_WRITES, "Writes refused because the lease was lost", self.stale_writes.clone());
        registry.register(STORE_RETRIES, "Repeated calls of the table", self.store_retries.clone());
        registry.register(STORE_LOST_ANSWERS, "Stored writes whose answer was lost", self.lost_answers.clone());
        registry.register(QUEUE_MESSAGES, "Queue messages received", self.queue_messages.clone());
        registry.register(PORT_ERRORS, "Failed calls of other services", self.port_errors.clone());
        registry.register(PUSHES, "Push notifications to devices", self.pushes.clone());
        registry.register(RECORDS_UNREADABLE, "Stored records skipped because unreadable", self.unreadable.clone());
        registry.register(
            EVENT_RECEIVERS_DROPPED,
            "Event streams closed for slow clients",
            self.receivers_dropped.clone(),
        );
        registry.register(CACHE_WRITABLE, "Whether Redis accepts writes", self.cache_writable.clone());
        registry.register(CACHE_REFUSALS, "Error replies of Redis", self.cache_refusals.clone());
        let (help, replaced) = ("Replacements of all connections to Redis", self.cache_reconnections.clone());
        registry.register(CACHE_RECONNECTIONS, help, replaced);
        registry.register(CACHE_REPAIRS, "Invalid keys of Redis deleted", self.cache_repairs.clone());
        registry.register(FLEET_SEARCHES, "Searches for drivers", self.fleet_searches.clone());
        registry.register(PINGS, "Driver positions received", self.pings.clone());
        let (help, deactivated) = ("Drivers who became inactive as absent", self.drivers_deactivated.clone());
        registry.register(DRIVERS_DEACTIVATED, help, deactivated);
        registry.register(CLOCK_AHEAD, "How far the clock is ahead of that of AWS", self.clock_ahead_ms.clone());
        registry.register(CLOCK_TRUSTED, "Whether the clock agrees with that of AWS", self.clock_trusted.clone());
        registry.register(FLEET_INDEX_DRIVERS, "Drivers in the index of the process", self.index_drivers.clone());
        registry.register(FLEET_INDEX_REBUILDS, "Rebuilds of the driver index", self.index_rebuilds.clone());
        registry.register(ETA_REQUESTS, "Requests to the router", self.eta_requests.clone());
        registry.register(ETA_ESTIMATED, "Drivers ranked without the router's time", self.eta_estimated.clone());
        let (help, eta) = ("Duration of requests to the router", self.eta_duration.clone());
        registry.register_with_unit(ETA_DURATION, help, Unit::Seconds, eta);
        registry.register(MATCHING_BATCHES, "Batch windows closed", self.batches.clone());
        registry.register(MATCHING_BATCH_SIZE, "Requests in a batch window", self.batch_size.clone());
        registry.register(MATCHING_LEFT_OVER, "Requests in batch windows without a driver", self.left_over.clone());
        registry.register(MATCHING_FALLBACKS, "Searches that skipped batched matching", self.not_batched.clone());
        registry.register(HTTP_REQUESTS_SHED, "HTTP requests refused under load", self.shed.clone());
        let (help, failures) = ("Connections that could not be accepted", self.accept_failures.clone());
        registry.register(HTTP_ACCEPT_FAILURES, help, failures);
        let (help, evicted) = ("Waiting connections closed for others", self.connections_evicted.clone());
        registry.register(HTTP_CONNECTIONS_EVICTED, help, evicted);
        let (help, waits) = ("Whether the process waits for a dependency before it starts", self.gate_waits.clone());
        registry.register(GATE_WAITS, help, waits);
        let (help, http) = ("Duration of HTTP requests", self.http.clone());
        registry.register_with_unit(HTTP_REQUEST_DURATION, help, Unit::Seconds, http);
    }

    /// The registry in the `OpenMetrics` text format.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts a stored request.
    pub fn request_stored(&self) {
        self.requests.inc();
    }

    /// Counts a request that the rules of the city refuse, by the name of the problem.
    pub fn request_refused(&self, reason: &'static str) {
        self.requests_refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts the records of a stored change.
    pub fn recorded(&self, records: &[Record]) {
        for record in records {
            match record.record_type {
                EventType::DriverAssigned => self.offers.inc(),
                EventType::DriverAccepted => self.accepted.inc(),
                EventType::TripCompleted => self.completed.inc(),
                EventType::CancelledByUser => self.cancelled.get_or_create(&By { by: "user" }).inc(),
                EventType::CancelledByDriver => self.cancelled.get_or_create(&By { by: "driver" }).inc(),
                EventType::CancelledBySystem => self.cancelled.get_or_create(&By { by: "system" }).inc(),
                EventType::CancelledByOperations => self.cancelled.get_or_create(&By { by: "operations" }).inc(),
                _ => 0,
            };
        }
    }

    /// Counts a ride that operations must review.
    pub fn review_requested(&self, reason: ReviewReason) {
        self.reviews.get_or_create(&Reason { reason: reason.as_str() }).inc();
    }

    /// Sets the age of the oldest unfinished stream record; 0 at the tip.
    pub fn stream_age_ms(&self, age_ms: u64) {
        self.iterator_age_ms.set(age_ms);
    }

    /// Counts a stream record: `advanced`, `skipped`, `set_aside` or `given_up`.
    pub fn stream_record(&self, outcome: &'static str) {
        self.stream_records.get_or_create(&Outcome { outcome }).inc();
    }

    /// Sets the number of leases this process holds.
    pub fn stream_leases(&self, count: usize) {
        self.stream_leases.set(count as u64);
    }

    /// Counts a lease change: `created`, `taken`, `finished`, `handed_over`, `given_back`, `left` (to the fail-over
    /// time) or `lost`.
    pub fn lease_change(&self, change: &'static str) {
        self.lease_changes.get_or_create(&Change { change }).inc();
    }

    /// Counts an expiry of unread records.
    pub fn stream_gap(&self) {
        self.stream_gaps.inc();
    }

    /// Counts a minute without a readable shard.
    pub fn stream_without_shards(&self) {
        self.stream_without_shards.inc();
    }

    /// Counts a write that was refused because the lease has another owner.
    pub fn stale_write(&self) {
        self.stale_writes.inc();
    }

    /// Counts a repeated call of the table: after a `conflict`, when `throttled`, or when the first call is `in_doubt`.
    pub fn store_retry(&self, because: &'static str) {
        self.store_retries.get_or_create(&Because { because }).inc();
    }

    /// Counts a write that had succeeded although its answer was lost.
    pub fn lost_answer_found(&self) {
        self.lost_answers.inc();
    }

    /// Counts a queue message: `handled`, `left` for redelivery, or `unreadable`.
    pub fn queue_message(&self, queue: &'static str, outcome: &'static str) {
        self.queue_messages.get_or_create(&QueueOutcome { queue, outcome }).inc();
    }

    /// Counts a failed call.
    pub fn port_error(&self, error: &PortError) {
        self.port_errors.get_or_create(&Action { action: error.action() }).inc();
    }

    /// Counts a push notification to a device that was `sent`, or whose device is `gone`.
    pub fn push(&self, outcome: &'static str) {
        self.pushes.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a push notification that the disabled platform application refused, and logs it once per period.
    pub fn push_disabled(&self) {
        self.push("disabled");
        if self.unreadable_log.is_due("push") {
            tracing::warn!(
                "SNS has disabled the platform application: no device receives push notifications until the service \
                 account key is replaced"
            );
        }
    }

    /// Counts a stored record that was skipped, and names it in the log once per period. `kind` is what it should be,
    /// `key` its key in the table. The error must not contain values.
    pub fn record_unreadable(&self, kind: &'static str, key: &str, error: &dyn std::error::Error) {
        self.unreadable.get_or_create(&Kind { kind }).inc();
        if self.is_line_due(key) {
            tracing::warn!(kind, key, %error, "a stored record cannot be read and is skipped; repair or delete it");
        }
    }

    /// Whether a log line about an unreadable record or message is due. It is once per period for each key.
    pub(crate) fn is_line_due(&self, key: &str) -> bool {
        self.unreadable_log.is_due(key)
    }

    /// Counts an event stream closed because its client did not keep up.
    pub fn receiver_dropped(&self) {
        self.receivers_dropped.inc();
    }

    /// Sets whether Redis accepts writes.
    pub fn cache_writable(&self, is_writable: bool) {
        self.cache_writable.set(u64::from(is_writable));
    }

    /// Counts an error reply of Redis.
    pub fn cache_refusal(&self, code: &'static str) {
        self.cache_refusals.get_or_create(&Code { code }).inc();
    }

    /// Counts a replacement of all connections to Redis.
    pub fn cache_reconnected(&self, reason: &'static str) {
        self.cache_reconnections.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a key of Redis that was deleted because it had another type or an invalid value, and names it in the log
    /// once per period.
    pub fn cache_repaired(&self, kind: &'static str, key: &str) {
        self.cache_repairs.get_or_create(&Kind { kind }).inc();
        if self.is_line_due(key) {
            tracing::warn!(kind, key, "a key of the cache had another type or an invalid value and was deleted");
        }
    }

    /// Counts a search for drivers: in the `index` or in `redis`.
    pub fn fleet_search(&self, source: &'static str) {
        self.fleet_searches.get_or_create(&Source { source }).inc();
    }

    /// Counts positions of drivers: `taken`, `outdated`, `inaccurate`, `implausible`, `unknown`, `invalid` or
    /// `refused`.
    pub fn pings(&self, outcome: &'static str, count: u32) {
        if count > 0 {
            self.pings.get_or_create(&Outcome { outcome }).inc_by(count.into());
        }
    }

    /// Counts a driver who became inactive without having asked for it.
    pub fn driver_deactivated(&self, reason: &'static str) {
        self.drivers_deactivated.get_or_create(&Reason { reason }).inc();
    }

    /// Sets how far the machine's clock is ahead of that of AWS, and whether it is trusted.
    pub fn clock(&self, ahead_ms: Option<i64>, is_trusted: bool) {
        self.clock_ahead_ms.set(ahead_ms.unwrap_or(0));
        self.clock_trusted.set(i64::from(is_trusted));
    }

    /// Sets the number of drivers in the index.
    pub fn index_drivers(&self, drivers: usize) {
        self.index_drivers.set(drivers as u64);
    }

    /// Counts a rebuild of the index.
    pub fn index_rebuilt(&self) {
        self.index_rebuilds.inc();
    }

    /// Counts a request to the router: `answered`, `refused`, `failed`, `timed_out`, or `left_alone` if the circuit
    /// breaker was open.
    pub fn eta_request(&self, outcome: &'static str) {
        self.eta_requests.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts drivers ranked without the router's driving time.
    pub fn eta_estimated(&self, drivers: usize) {
        self.eta_estimated.inc_by(drivers as u64);
    }

    /// Observes the duration of a request to the router.
    pub fn eta_took(&self, took: Duration) {
        self.eta_duration.observe(took.as_secs_f64());
    }

    /// Counts a batch window with this number of requests.
    pub fn batch_closed(&self, requests: usize) {
        self.batches.inc();
        self.batch_size.observe(requests as f64);
    }

    /// Counts requests in batch windows without a driver.
    pub fn batch_left_over(&self, requests: usize) {
        self.left_over.inc_by(requests as u64);
    }

    /// Counts searches that skipped batched matching: `single` in a window, `plentiful` drivers, or `overload`.
    pub fn search_not_batched(&self, reason: &'static str, requests: usize) {
        self.not_batched.get_or_create(&Reason { reason }).inc_by(requests as u64);
    }

    /// Counts a request refused because the limit of concurrent requests was reached.
    pub fn request_shed(&self) {
        self.shed.inc();
    }

    /// Sets whether the process waits for a dependency before it starts, which answers in this way.
    pub fn gate_waits(&self, dependency: &'static str, kind: &'static str, waits: bool) {
        self.gate_waits.get_or_create(&GateWait { dependency, kind }).set(waits.into());
    }

    /// Counts a connection that a listener could not accept.
    pub fn http_accept_failed(&self, listener: &'static str) {
        self.accept_failures.get_or_create(&Listener { listener }).inc();
    }

    /// Counts a waiting connection of a listener that was closed for another client.
    pub fn http_connection_evicted(&self, listener: &'static str) {
        self.connections_evicted.get_or_create(&Listener { listener }).inc();
    }

    /// Registers a loop of this process, which must send a heartbeat in every iteration.
    pub fn pulse(&self, name: &'static str) -> Heartbeat {
        self.pulses.begin(name)
    }

    /// Registers a loop that may end while the process runs, and is monitored until then.
    pub fn pulse_while_held(&self, name: &'static str, longest: Duration) -> Heartbeat {
        self.pulses.begin_while_held(name, longest)
    }

    /// The name of a loop that hangs or has panicked.
    pub fn silent_loop(&self) -> Option<&'static str> {
        self.pulses.silent()
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
    fn stored_records_are_counted_under_the_names_dashboards_use() {
        let metrics = Metrics::new();
        let record = |record_type| Record { record_type, at: EpochMs(0), details: "".into() };
        metrics.request_stored();
        metrics.recorded(&[record(EventType::DriverAssigned), record(EventType::CancelledBySystem)]);
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
