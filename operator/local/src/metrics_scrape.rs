//! Traffic figures, from the runtime's Prometheus page.

use std::time::Duration;

/// Counters that the view and the summary show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct TrafficCounts {
    /// Dispatches requested.
    pub(crate) requests: u64,
    /// Offers made to drivers.
    pub(crate) offers: u64,
    /// Offers accepted.
    pub(crate) accepted: u64,
    /// Rides completed.
    pub(crate) completed: u64,
    /// Dispatches cancelled.
    pub(crate) cancelled: u64,
}

impl TrafficCounts {
    /// Reads the counters of a page in the text exposition format. Samples of a family are summed over their labels;
    /// all other lines are ignored.
    pub(crate) fn parse(page: &str) -> Self {
        let mut counts = Self::default();
        for line in page.lines() {
            if let Some((name, value)) = sample(line)
                && let Some(field) = counts.field(name)
            {
                *field = field.saturating_add(value);
            }
        }
        counts
    }

    fn field(&mut self, metric: &str) -> Option<&mut u64> {
        match metric {
            "dispatch_requests_total" => Some(&mut self.requests),
            "dispatch_offers_total" => Some(&mut self.offers),
            "dispatch_accepted_total" => Some(&mut self.accepted),
            "dispatch_completed_total" => Some(&mut self.completed),
            "dispatch_cancelled_total" => Some(&mut self.cancelled),
            _ => None,
        }
    }

    fn combine(self, other: Self, with: fn(u64, u64) -> u64) -> Self {
        Self {
            requests: with(self.requests, other.requests),
            offers: with(self.offers, other.offers),
            accepted: with(self.accepted, other.accepted),
            completed: with(self.completed, other.completed),
            cancelled: with(self.cancelled, other.cancelled),
        }
    }
}

/// Name and value of a sample line, `name{labels} value [timestamp]`; `None` if the value is not a count.
fn sample(line: &str) -> Option<(&str, u64)> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    // A label value may contain a space or an escaped quote; the counter's value follows the last brace.
    let value = rest.rsplit_once('}').map_or(rest, |(_, value)| value).split_whitespace().next()?;
    let value: f64 = value.parse().ok()?;
    // Counters of events are whole numbers far below 2^53, above which a float is no longer exact.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within 0 and 2^53")]
    (0.0..9_007_199_254_740_992.0).contains(&value).then_some((name, value as u64))
}

/// Totals over all restarts of the runtime. A restarted runtime counts from zero; the last known counts of its
/// predecessor are added, as by Prometheus' `increase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrafficTotals {
    before: TrafficCounts,
    current: TrafficCounts,
    rate_base: Option<(Duration, u64)>,
    rate: Option<u64>,
}

/// Span of the request rate: long enough to be steady at two requests per second.
const RATE_SPAN: Duration = Duration::from_secs(10);

impl TrafficTotals {
    /// Adds a sample; `at` is the time since the run started.
    pub(crate) fn observe(&mut self, counts: TrafficCounts, at: Duration) {
        if counts.requests < self.current.requests || counts.offers < self.current.offers {
            self.before = self.totals();
        }
        self.current = counts;
        let requests = self.totals().requests;
        match self.rate_base {
            None => self.rate_base = Some((at, requests)),
            Some((since, base)) if at >= since + RATE_SPAN => {
                let span_ms = u64::try_from(at.saturating_sub(since).as_millis()).unwrap_or(u64::MAX).max(1);
                self.rate = Some(requests.saturating_sub(base).saturating_mul(10_000) / span_ms);
                self.rate_base = Some((at, requests));
            }
            Some(_) => {}
        }
    }

    /// Totals since the start of the run.
    pub(crate) fn totals(&self) -> TrafficCounts {
        self.before.combine(self.current, u64::saturating_add)
    }

    pub(crate) fn line(&self) -> String {
        let all = self.totals();
        let rate = self.rate.map_or_else(String::new, |tenths| format!(" ({}.{}/s)", tenths / 10, tenths % 10));
        format!(
            "{} requests{rate}, {} offers, {} accepted, {} completed, {} cancelled",
            all.requests, all.offers, all.accepted, all.completed, all.cancelled
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = r#"# HELP dispatch_requests Dispatches requested.
# TYPE dispatch_requests counter
dispatch_requests_total 42
# TYPE dispatch_offers counter
dispatch_offers_total{outcome="accepted"} 30
dispatch_offers_total{outcome="rejected, \"busy\" } 7"} 9 1700000000000
dispatch_accepted_total{city="seoul"} 30.0
dispatch_completed_total 2.8e1
dispatch_cancelled_total{by="user"} 1
dispatch_cancelled_total{by="system"} 2
dispatch_stage_seconds_bucket{le="+Inf"} 12
dispatch_offers_created 1.7e9
# EOF
"#;

    #[test]
    fn counters_are_summed_over_their_labels() {
        let counts = TrafficCounts::parse(PAGE);
        assert_eq!(counts, TrafficCounts { requests: 42, offers: 39, accepted: 30, completed: 28, cancelled: 3 });
    }

    #[test]
    fn counts_continue_after_a_restart() {
        let mut traffic = TrafficTotals::default();
        let counts = |requests| TrafficCounts { requests, offers: requests, ..TrafficCounts::default() };
        traffic.observe(counts(10), Duration::from_secs(1));
        traffic.observe(counts(3), Duration::from_secs(2));
        traffic.observe(counts(5), Duration::from_secs(3));
        assert_eq!(traffic.totals().requests, 15);
    }

    #[test]
    fn the_rate_is_that_of_ten_seconds() {
        let mut traffic = TrafficTotals::default();
        for second in 0..=20 {
            let counts = TrafficCounts { requests: second * 2, ..TrafficCounts::default() };
            traffic.observe(counts, Duration::from_secs(second));
        }
        assert_eq!(traffic.line(), "40 requests (2.0/s), 0 offers, 0 accepted, 0 completed, 0 cancelled");
    }

    proptest! {
        #[test]
        fn no_page_breaks_the_reader(page in "\\PC*(\n\\PC*){0,5}") {
            let _ = TrafficCounts::parse(&page);
        }

        #[test]
        fn every_written_counter_is_read(value in 0_u64..1_000_000_000, label in "[a-z ]{0,12}") {
            let counts = TrafficCounts::parse(&format!("dispatch_offers_total{{reason=\"{label}\"}} {value}\n"));
            prop_assert_eq!(counts.offers, value);
        }
    }
}
