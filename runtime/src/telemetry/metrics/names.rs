//! Names of the metrics. Dashboards and alerts use them.

/// Requests stored; like every counter, it is exposed with the suffix `_total`.
pub const DISPATCH_REQUESTS: &str = "dispatch_requests";
/// Requests refused by the rules of the city, by reason.
pub const DISPATCH_REQUESTS_REFUSED: &str = "dispatch_requests_refused";
/// Offers made.
pub const DISPATCH_OFFERS: &str = "dispatch_offers";
/// Offers accepted.
pub const DISPATCH_ACCEPTED: &str = "dispatch_accepted";
/// Rides completed.
pub const DISPATCH_COMPLETED: &str = "dispatch_completed";
/// Dispatches cancelled, by user, driver, system or operations.
pub const DISPATCH_CANCELLED: &str = "dispatch_cancelled";
/// Rides that operations must review, by reason.
pub const DISPATCH_REVIEWS: &str = "dispatch_reviews";
/// Age of the oldest unfinished stream record, ms: how far the algorithm is behind the table.
pub const STREAM_ITERATOR_AGE: &str = "dispatch_stream_iterator_age_milliseconds";
/// Stream records by outcome.
pub const STREAM_RECORDS: &str = "dispatch_stream_records";
/// Leases of stream shards held by this process.
pub const STREAM_LEASES: &str = "dispatch_stream_leases";
/// Lease changes by kind.
pub const STREAM_LEASE_CHANGES: &str = "dispatch_stream_lease_changes";
/// Number of times that unread records expired.
pub const STREAM_GAPS: &str = "dispatch_stream_gaps";
/// Minutes without a readable shard.
pub const STREAM_WITHOUT_SHARDS: &str = "dispatch_stream_without_shards";
/// Writes refused because the lease has another owner.
pub const STREAM_STALE_WRITES: &str = "dispatch_stream_stale_writes";
/// Repeated calls of the table by reason: `conflict`, `throttled` or `in_doubt`.
pub const STORE_RETRIES: &str = "dispatch_store_retries";
/// Writes of the table that had succeeded although their answer was lost.
pub const STORE_LOST_ANSWERS: &str = "dispatch_store_lost_answers";
/// Queue messages by queue and outcome.
pub const QUEUE_MESSAGES: &str = "dispatch_queue_messages";
/// Failed calls of other services by action.
pub const PORT_ERRORS: &str = "dispatch_port_errors";
/// Push notifications by outcome: `sent`, `gone` if the device no longer receives any, or `disabled` if the platform
/// application is disabled.
pub const PUSHES: &str = "dispatch_pushes";
/// Stored records that could not be read and were skipped, by kind.
pub const RECORDS_UNREADABLE: &str = "dispatch_records_unreadable";
/// Event streams closed because their client did not keep up.
pub const EVENT_RECEIVERS_DROPPED: &str = "dispatch_event_receivers_dropped";
/// 1 while Redis accepts writes, 0 while it refuses them or does not answer.
pub const CACHE_WRITABLE: &str = "dispatch_cache_writable";
/// Error replies of Redis by code.
pub const CACHE_REFUSALS: &str = "dispatch_cache_refusals";
/// Times that all connections to Redis were replaced, by reason: an error code or `timeout`.
pub const CACHE_RECONNECTIONS: &str = "dispatch_cache_reconnections";
/// Keys of Redis that had another type or an invalid value and were deleted, by kind.
pub const CACHE_REPAIRS: &str = "dispatch_cache_repairs";
/// Searches for drivers by source: `index` or `redis`.
pub const FLEET_SEARCHES: &str = "dispatch_fleet_searches";
/// Driver positions by outcome: `taken`, `outdated`, `inaccurate`, `implausible`, `unknown`, `invalid` in a batch, or
/// `refused` if a queue was full or the cache unavailable.
pub const PINGS: &str = "dispatch_pings";
/// Drivers who became inactive without having asked for it, by reason: `silent` or `unanswered`.
pub const DRIVERS_DEACTIVATED: &str = "dispatch_drivers_deactivated";
/// How far the machine's clock is ahead of that of AWS, ms; 0 until it is known.
pub const CLOCK_AHEAD: &str = "dispatch_clock_ahead_milliseconds";
/// 1 while the machine's clock agrees with that of AWS or cannot be compared, 0 while it is wrong.
pub const CLOCK_TRUSTED: &str = "dispatch_clock_trusted";
/// Drivers in the index of the process.
pub const FLEET_INDEX_DRIVERS: &str = "dispatch_fleet_index_drivers";
/// Rebuilds of the index from Redis.
pub const FLEET_INDEX_REBUILDS: &str = "dispatch_fleet_index_rebuilds";
/// Requests to the router by outcome.
pub const ETA_REQUESTS: &str = "dispatch_eta_requests";
/// Drivers without a route, or ranked by distance because the router did not answer.
pub const ETA_ESTIMATED: &str = "dispatch_eta_estimated";
/// Duration of requests to the router; the registry adds `_seconds`.
pub const ETA_DURATION: &str = "dispatch_eta_duration";
/// Batch windows closed.
pub const MATCHING_BATCHES: &str = "dispatch_matching_batches";
/// Requests in a batch window.
pub const MATCHING_BATCH_SIZE: &str = "dispatch_matching_batch_size";
/// Requests in a batch window without a driver.
pub const MATCHING_LEFT_OVER: &str = "dispatch_matching_left_over";
/// Searches that skipped batched matching although the city uses it, by reason.
pub const MATCHING_FALLBACKS: &str = "dispatch_matching_fallbacks";
/// Whether the process waits for a dependency before it starts, by dependency and kind of its answer.
pub const GATE_WAITS: &str = "dispatch_gate_waits";
/// HTTP requests refused because the limit of concurrent requests was reached.
pub const HTTP_REQUESTS_SHED: &str = "dispatch_http_requests_shed";
/// Connections that could not be accepted, by listener: the process has no file descriptors left.
pub const HTTP_ACCEPT_FAILURES: &str = "dispatch_http_accept_failures";
/// Waiting connections closed for others because the limit of connections was reached, by listener.
pub const HTTP_CONNECTIONS_EVICTED: &str = "dispatch_http_connections_evicted";
/// Duration of HTTP requests; the registry adds `_seconds`.
pub const HTTP_REQUEST_DURATION: &str = "dispatch_http_request_duration";
