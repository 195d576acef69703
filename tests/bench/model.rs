//! Models of what no emulator shows, latency and throughput limits of AWS, and the specification's rules.

use dispatch_core::policy::DispatchPolicy;

/// Time of a page of 1 MB on DynamoDB, ms. AWS states single-digit milliseconds for small items and nothing for full
/// pages. The value is low on purpose, in favour of arm A.
pub(crate) const PAGE_MS: f64 = 4.0;

/// Read units of a page: half a unit for each 4 KB of 1 MB, because reads of an index are eventually consistent.
pub(crate) const PAGE_UNITS: f64 = 128.0;

/// Read units per second of one partition (AWS, "Partitions, keys, and write sharding").
pub(crate) const PARTITION_READ_UNITS: f64 = 3_000.0;

/// Write units per second of one partition (same source).
pub(crate) const PARTITION_WRITE_UNITS: f64 = 1_000.0;

/// Spec §8, literally: one search for five candidates, nearest first, 120 s each, without cool-downs and without an age
/// limit for positions. A request that no candidate accepts fails.
pub(crate) fn specification_policy() -> DispatchPolicy {
    DispatchPolicy {
        distance_bucket_m: 0,
        offer_timeout_ms: 120_000,
        search_budget_ms: 0,
        stale_after_ms: i64::MAX.unsigned_abs(),
        cool_down_after_reject_ms: 0,
        cool_down_after_timeout_ms: 0,
        auto_accept: false,
        ..DispatchPolicy::default()
    }
}
