//! What stands in for the parts of AWS that no emulator shows: time, throughput limits, and the seed's rules.

use dispatch_core::policy::DispatchPolicy;

/// Time a page of 1 MB takes on DynamoDB, ms. AWS promises single-digit milliseconds for small items and nothing for full pages; this
/// is low on purpose, in favour of the seed's way.
pub const PAGE_MS: f64 = 4.0;

/// Read units of a page: 1 MB in pieces of 4 KB, half a unit each where reading is eventually consistent, as an index always is.
pub const PAGE_UNITS: f64 = 128.0;

/// Read units a second that one partition key gives (AWS, "Partitions, keys and write sharding").
pub const PARTITION_READ_UNITS: f64 = 3_000.0;

/// Write units a second that one partition key takes (the same).
pub const PARTITION_WRITE_UNITS: f64 = 1_000.0;

/// The seed's section 8, literally: five candidates of one search, nearest first, 120 s each, nobody rests, nobody is stale, and a
/// request nobody takes has failed.
pub fn seed_policy() -> DispatchPolicy {
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
