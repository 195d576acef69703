//! The measurements of a run: percentiles, counters of HTTP calls, and the times of each request.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};

use dispatch_http_types::NotificationKind;
use serde::Serialize;

use crate::schedule::REQUESTS_MAX;

/// Percentiles by the nearest-rank method: each of them is one of the samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Number of samples. Without samples, all percentiles are 0.
    pub count: usize,
    pub p50: u64,
    pub p95: u64,
    pub p99: u64,
    pub max: u64,
}

impl Percentiles {
    pub fn from_samples(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        let rank = |per_cent: usize| {
            let rank = (samples.len() * per_cent).div_ceil(100).max(1);
            samples.get(rank - 1).copied().unwrap_or(0)
        };
        Self { count: samples.len(), p50: rank(50), p95: rank(95), p99: rank(99), max: rank(100) }
    }
}

/// The calls of a route by outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteCalls {
    /// All calls, including retries.
    pub calls: u64,
    /// Responses with a 4xx status, by status.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<u16, u64>,
    /// Responses with a 5xx status.
    pub server_errors: u64,
    /// Calls that reached no server, or lost the connection before the response.
    pub connection_errors: u64,
    /// Calls without a response in time.
    pub timeouts: u64,
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// The server responded with this status.
    Status(u16),
    /// The connection failed.
    Connection,
    /// The response did not arrive in time.
    Timeout,
}

/// The times of one request, ms of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Times {
    sent: Option<u64>,
    first_offer: Option<u64>,
    matched: Option<u64>,
    pickup_m: Option<u32>,
}

/// All measurements of a run, shared by its actors.
#[derive(Default)]
pub struct Book {
    times: Mutex<HashMap<String, Times>>,
    routes: Mutex<BTreeMap<&'static str, RouteCalls>>,
    notifications: Mutex<BTreeMap<String, u64>>,
    tally: Mutex<Tally>,
}

/// The simple counters of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Event streams that ended and were reopened.
    pub stream_reconnects: u64,
    /// Events that could not be read.
    pub unreadable_events: u64,
    /// Offers to drivers who were on a ride.
    pub offers_while_riding: u64,
    /// Answers to offers that had ended.
    pub late_answers: u64,
    /// Rides that drivers resumed from the state at the service after a missed notification.
    pub rides_resumed: u64,
    /// Rounds of pings skipped because earlier ones were still in progress.
    pub ping_rounds_skipped: u64,
    /// Positions that the service dropped.
    pub positions_dropped: u64,
}

impl Book {
    /// Records when a request was sent.
    pub fn sent(&self, dispatch: &str, at: u64) {
        self.note(dispatch, |times| _ = times.sent.get_or_insert(at));
    }

    /// Records when a driver received an offer.
    pub fn offered(&self, dispatch: &str, at: u64) {
        self.note(dispatch, |times| _ = times.first_offer.get_or_insert(at));
    }

    /// Records when the user or the driver learned of the acceptance.
    pub fn matched(&self, dispatch: &str, at: u64) {
        self.note(dispatch, |times| _ = times.matched.get_or_insert(at));
    }

    /// Records the distance to the pickup when the driver learned of the ride.
    pub fn pickup_distance(&self, dispatch: &str, metres: u32) {
        self.note(dispatch, |times| _ = times.pickup_m.get_or_insert(metres));
    }

    /// Counts a call.
    pub fn call(&self, route: &'static str, end: CallEnd) {
        let mut routes = self.routes.lock();
        let counts = routes.entry(route).or_default();
        counts.calls += 1;
        match end {
            CallEnd::Status(status @ 400..500) => *counts.refused.entry(status).or_default() += 1,
            CallEnd::Status(500..) => counts.server_errors += 1,
            CallEnd::Status(_) => {}
            CallEnd::Connection => counts.connection_errors += 1,
            CallEnd::Timeout => counts.timeouts += 1,
        }
    }

    /// Counts a notification.
    pub fn notification(&self, kind: NotificationKind) {
        let name = serde_json::to_value(kind).ok().and_then(|name| name.as_str().map(str::to_owned));
        *self.notifications.lock().entry(name.unwrap_or_default()).or_default() += 1;
    }

    /// Changes a simple counter.
    pub fn tally(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock());
    }

    /// The simple counters.
    pub fn tallied(&self) -> Tally {
        *self.tally.lock()
    }

    /// Calls by route.
    pub fn routes(&self) -> BTreeMap<&'static str, RouteCalls> {
        self.routes.lock().clone()
    }

    /// Notifications by kind.
    pub fn notifications(&self) -> BTreeMap<String, u64> {
        self.notifications.lock().clone()
    }

    /// The times from sending each request to its first offer and to its match, and the distances to the pickup.
    pub fn measured(&self) -> Measured {
        let times = self.times.lock();
        let own = || times.values().filter_map(|times| times.sent.map(|sent| (sent, times)));
        let since = |sent: u64, at: Option<u64>| at.map(|at| at.saturating_sub(sent));
        Measured {
            first_offer_ms: own().filter_map(|(sent, times)| since(sent, times.first_offer)).collect(),
            match_ms: own().filter_map(|(sent, times)| since(sent, times.matched)).collect(),
            pickup_m: own().filter_map(|(_, times)| times.pickup_m).map(u64::from).collect(),
        }
    }

    fn note(&self, dispatch: &str, change: impl FnOnce(&mut Times)) {
        let mut all = self.times.lock();
        // An offer may arrive before the response to its request, so offers of unknown requests are recorded too, up to
        // a limit.
        if all.len() < 2 * REQUESTS_MAX as usize || all.contains_key(dispatch) {
            change(all.entry(dispatch.to_owned()).or_default());
        }
    }
}

/// Samples of all requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// Time from sending the request until a driver received the first offer, ms.
    pub first_offer_ms: Vec<u64>,
    /// Time from sending the request until the acceptance was known, ms.
    pub match_ms: Vec<u64>,
    /// Distance from the driver to the pickup at the acceptance, m.
    pub pickup_m: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let of = Percentiles::from_samples((1..=100).rev().collect());
        assert_eq!(of, Percentiles { count: 100, p50: 50, p95: 95, p99: 99, max: 100 });
        assert_eq!(Percentiles::from_samples(vec![7]), Percentiles { count: 1, p50: 7, p95: 7, p99: 7, max: 7 });
        assert_eq!(Percentiles::from_samples(vec![3, 1]), Percentiles { count: 2, p50: 1, p95: 3, p99: 3, max: 3 });
        assert_eq!(Percentiles::from_samples(Vec::new()), Percentiles::default());
    }

    proptest! {
        #[test]
        fn percentiles_rise_and_cover_their_share(samples in prop::collection::vec(0u64..10_000, 1..300)) {
            let of = Percentiles::from_samples(samples.clone());
            prop_assert!(of.p50 <= of.p95 && of.p95 <= of.p99 && of.p99 <= of.max);
            for (value, per_cent) in [(of.p50, 50), (of.p95, 95), (of.p99, 99), (of.max, 100)] {
                prop_assert!(samples.contains(&value));
                let no_larger = samples.iter().filter(|sample| **sample <= value).count();
                prop_assert!(no_larger * 100 >= samples.len() * per_cent);
            }
        }
    }

    #[test]
    fn the_first_time_of_each_kind_counts_in_any_order() {
        let book = Book::default();
        book.offered("a", 120);
        book.sent("a", 100);
        book.offered("a", 900);
        book.matched("a", 1_100);
        book.matched("a", 1_200);
        book.pickup_distance("a", 350);
        book.offered("of another run", 5);
        let expected = Measured { first_offer_ms: vec![20], match_ms: vec![1_000], pickup_m: vec![350] };
        assert_eq!(book.measured(), expected);
    }

    #[test]
    fn calls_are_counted_by_their_end() {
        let book = Book::default();
        for end in [
            CallEnd::Status(200),
            CallEnd::Status(409),
            CallEnd::Status(409),
            CallEnd::Status(503),
            CallEnd::Connection,
            CallEnd::Timeout,
        ] {
            book.call("GET /x", end);
        }
        let expected = RouteCalls {
            calls: 6,
            refused: BTreeMap::from([(409, 2)]),
            server_errors: 1,
            connection_errors: 1,
            timeouts: 1,
        };
        assert_eq!(book.routes(), BTreeMap::from([("GET /x", expected)]));
    }
}
