//! Shared limits of the baselines' searches: the read units of one index partition, or the one thread of Redis.

use super::arm::Source;
use crate::model::{PAGE_MS, PAGE_UNITS, PARTITION_READ_UNITS};
use crate::search::Costs;

/// A token bucket that may be overdrawn: the next caller waits for the debt, as in DynamoDB, which answers a page and
/// charges for it afterwards.
#[derive(Debug, Clone)]
pub(super) struct TokenBucket {
    per_s: f64,
    /// Tokens at the time `at`, at most those of one second.
    level: f64,
    at: u64,
}

impl TokenBucket {
    /// A full bucket.
    pub(super) fn full(per_s: f64) -> Self {
        Self { per_s, level: per_s, at: 0 }
    }

    fn fill(&mut self, now: u64) {
        let since_s = now.saturating_sub(self.at) as f64 / 1000.0;
        self.level = (self.level + since_s * self.per_s).min(self.per_s);
        self.at = self.at.max(now);
    }

    /// Takes tokens, even if they are not available; returns whether they were.
    pub(super) fn take(&mut self, tokens: f64, now: u64) -> bool {
        self.fill(now);
        let available = self.level >= tokens.min(self.per_s);
        self.level -= tokens;
        available
    }

    /// Time until the tokens are available, or the bucket is full, ms.
    fn wait_ms(&mut self, tokens: f64, now: u64) -> u64 {
        self.fill(now);
        ceil_ms((tokens.min(self.per_s) - self.level).max(0.0) / self.per_s * 1000.0)
    }
}

fn ceil_ms(ms: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some seconds, never negative")]
    let whole = ms.max(0.0).ceil() as u64;
    whole
}

/// A search of a baseline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    /// Time of the answer, ms.
    pub answered_at: u64,
    pub calls: f64,
    pub read_units: f64,
}

/// The source that all searches of a baseline share.
pub(super) struct Shared {
    source: Source,
    costs: Costs,
    partition: TokenBucket,
    free_at: u64,
}

impl Shared {
    pub(super) fn new(source: Source, costs: Costs) -> Self {
        Self { source, costs, partition: TokenBucket::full(PARTITION_READ_UNITS), free_at: 0 }
    }

    /// Time until the next search can start, ms.
    pub(super) fn wait_ms(&mut self, active: usize, now: u64) -> u64 {
        match self.source {
            Source::Table => self.partition.wait_ms(self.read_units(active), now),
            Source::Redis | Source::Index => self.free_at.saturating_sub(now),
        }
    }

    /// Starts a search over a number of active drivers.
    pub(super) fn begin(&mut self, active: usize, now: u64) -> Begun {
        let drivers = active as f64;
        match self.source {
            Source::Table => {
                let read_units = self.read_units(active);
                let pages = (read_units / PAGE_UNITS).ceil().max(1.0);
                self.partition.take(read_units, now);
                // Each function reads, filters and sorts on its own; functions do not wait for each other.
                let took_ms = pages * PAGE_MS + drivers * self.costs.scan_us / 1000.0;
                Begun { answered_at: now + ceil_ms(took_ms), calls: pages, read_units }
            }
            Source::Redis => {
                let took_ms = ceil_ms(drivers * self.costs.redis_us / 1000.0);
                self.free_at = now + took_ms;
                Begun { answered_at: now + took_ms, calls: 0.0, read_units: 0.0 }
            }
            Source::Index => Begun { answered_at: now, calls: 0.0, read_units: 0.0 },
        }
    }

    fn read_units(&self, active: usize) -> f64 {
        active as f64 * self.costs.read_units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs { redis_us: 0.5, scan_us: 5.0, read_units: 0.06 };

    #[test]
    fn one_scan_of_fifty_thousand_drivers_occupies_the_partition_for_a_second() {
        let mut table = Shared::new(Source::Table, COSTS);
        assert_eq!(table.wait_ms(50_000, 0), 0, "the partition was idle");
        let begun = table.begin(50_000, 0);
        assert_eq!((begun.calls, begun.answered_at), (24.0, 346));
        assert_eq!(table.wait_ms(50_000, 0), 1_000);
        assert_eq!(table.wait_ms(50_000, 600), 400);
    }

    #[test]
    fn redis_serves_one_search_at_a_time() {
        let mut redis = Shared::new(Source::Redis, COSTS);
        assert_eq!(redis.begin(50_000, 100).answered_at, 125);
        assert_eq!(redis.wait_ms(50_000, 110), 15);
    }
}
