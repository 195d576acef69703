//! The summary of a run, as text for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use dispatch_core::dispatch::{DispatchStatus, EventType};
use serde::{Serialize, Serializer};

use crate::audit::{Ending, History, Violation, is_terminal};
use crate::metrics::{Book, Percentiles, RouteCalls, Tally};

/// Violations that the text lists; the JSON contains all of them.
const VIOLATIONS_PRINTED: usize = 20;

/// Requests by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// Requests sent.
    #[serde(rename = "requests")]
    pub made: usize,
    /// Requests that a driver accepted.
    pub accepted: usize,
    /// Rides that were completed.
    pub completed: usize,
    /// Rides that were paid.
    pub paid: usize,
    /// Requests that the user cancelled.
    pub cancelled_by_user: usize,
    /// Rides that the driver cancelled.
    pub cancelled_by_driver: usize,
    /// Requests that the system cancelled because no driver was found.
    pub unmatched: usize,
    /// Requests that an outage refused until their users gave up. They were never acknowledged, and are no violations.
    pub refused: usize,
    /// Requests that had not ended at the end of the run.
    pub unfinished: usize,
    /// The share of requests that a driver accepted, 0 to 1, without those that the user cancelled. 1 if there were
    /// none.
    #[serde(serialize_with = "rounded")]
    pub served_share: f64,
    /// The average number of offers for a request that a driver accepted.
    #[serde(serialize_with = "rounded")]
    pub offers_per_match: f64,
}

impl Requests {
    /// Counts outcomes. `made` requests were sent, of which `refused` were not stored; others without a history are
    /// unfinished.
    pub fn new(histories: &[History], made: usize, refused: usize) -> Self {
        let has = |history: &History, wanted| history.events.iter().any(|(event, _)| *event == wanted);
        let count = |wanted| histories.iter().filter(|history| has(history, wanted)).count();
        let matched = || histories.iter().filter(|history| has(history, EventType::DriverAccepted));
        let not_withdrawn = made - count(EventType::CancelledByUser);
        let served = matched().filter(|history| !has(history, EventType::CancelledByUser)).count();
        let offers: u64 = matched().map(|history| u64::from(history.offer_seq)).sum();
        let accepted = matched().count();
        let share = |part: f64, whole: usize, of_none: f64| if whole == 0 { of_none } else { part / whole as f64 };
        Self {
            made,
            accepted,
            completed: histories.iter().filter(|history| history.status == DispatchStatus::Completed).count(),
            paid: count(EventType::PaymentCompleted),
            cancelled_by_user: count(EventType::CancelledByUser),
            cancelled_by_driver: count(EventType::CancelledByDriver),
            unmatched: count(EventType::CancelledBySystem),
            refused,
            unfinished: made - refused - histories.iter().filter(|history| is_terminal(history.status)).count(),
            served_share: share(served as f64, not_withdrawn, 1.0),
            offers_per_match: share(offers as f64, accepted, 0.0),
        }
    }
}

/// HTTP calls in total and by route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// All calls, including event streams and retries.
    pub calls: u64,
    /// Responses with a 5xx status.
    pub server_errors: u64,
    /// Calls that reached no server, for example while a worker restarts. They are not server errors.
    pub connection_errors: u64,
    /// Calls without a response in time.
    pub timeouts: u64,
    pub routes: BTreeMap<&'static str, RouteCalls>,
}

impl Http {
    fn new(routes: BTreeMap<&'static str, RouteCalls>) -> Self {
        let sum = |part: fn(&RouteCalls) -> u64| routes.values().map(part).sum();
        Self {
            calls: sum(|route| route.calls),
            server_errors: sum(|route| route.server_errors),
            connection_errors: sum(|route| route.connection_errors),
            timeouts: sum(|route| route.timeouts),
            routes,
        }
    }
}

/// The options, measurements and audit of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub seed: u64,
    pub drivers: u32,
    /// Average requests per second, as configured.
    pub rate: f64,
    /// Duration of the traffic, s.
    #[serde(serialize_with = "rounded")]
    pub traffic_seconds: f64,
    /// Time from the end of the traffic to the end of the last ride, s.
    #[serde(serialize_with = "rounded")]
    pub drain_seconds: f64,
    /// Whether the run was interrupted. Unfinished requests are not violations then.
    pub interrupted: bool,
    #[serde(flatten)]
    pub requests: Requests,
    /// Time from sending a request until a driver received the first offer, ms, by the simulator's clock.
    pub time_to_first_offer_ms: Percentiles,
    /// Time from sending a request until its user or driver knew of the acceptance, ms, by the simulator's clock.
    pub time_to_match_ms: Percentiles,
    /// Distance from the driver to the pickup when the driver accepted, m.
    pub pickup_distance_m: Percentiles,
    /// Mean of [`pickup_distance_m`](Self::pickup_distance_m).
    #[serde(serialize_with = "rounded")]
    pub pickup_distance_mean_m: f64,
    pub http: Http,
    /// Notifications received, by kind.
    pub notifications: BTreeMap<String, u64>,
    pub counters: Tally,
    /// Whether the auditor found no violation.
    pub clean: bool,
    pub violations: Vec<Violation>,
}

/// The input of a summary.
pub struct Material<'a> {
    /// Seed, drivers and rate of the run.
    pub city: (u64, u32, f64),
    /// Duration of the traffic and of the drain, s.
    pub seconds: (f64, f64),
    pub ending: Ending,
    /// Requests sent.
    pub made: usize,
    /// Requests that an outage refused.
    pub refused: usize,
    pub histories: &'a [History],
    pub book: &'a Book,
    pub violations: Vec<Violation>,
}

impl Summary {
    pub fn new(material: Material<'_>) -> Self {
        let measured = material.book.measured();
        let (seed, drivers, rate) = material.city;
        let distances = &measured.pickup_m;
        let mean = distances.iter().sum::<u64>() as f64 / distances.len().max(1) as f64;
        Self {
            seed,
            drivers,
            rate,
            traffic_seconds: material.seconds.0,
            drain_seconds: material.seconds.1,
            interrupted: material.ending == Ending::Interrupted,
            requests: Requests::new(material.histories, material.made, material.refused),
            time_to_first_offer_ms: Percentiles::from_samples(measured.first_offer_ms),
            time_to_match_ms: Percentiles::from_samples(measured.match_ms),
            pickup_distance_mean_m: mean,
            pickup_distance_m: Percentiles::from_samples(measured.pickup_m),
            http: Http::new(material.book.routes()),
            notifications: material.book.notifications(),
            counters: material.book.tallied(),
            clean: material.violations.is_empty(),
            violations: material.violations,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn rounded<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 1000.0).round() / 1000.0)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [self.traffic_rows(), self.measured_rows(), self.http_rows(), self.verdict_rows()];
        for (name, value) in rows.into_iter().flatten() {
            writeln!(f, "{name:<22}{value}")?;
        }
        Ok(())
    }
}

type Rows = Vec<(&'static str, String)>;

impl Summary {
    fn traffic_rows(&self) -> Rows {
        let requests = &self.requests;
        let city = format!(
            "{} drivers, {} requests/s for {:.0} s, drained in {:.0} s, seed {}",
            self.drivers, self.rate, self.traffic_seconds, self.drain_seconds, self.seed
        );
        let cancelled = format!("{} by users, {} by drivers", requests.cancelled_by_user, requests.cancelled_by_driver);
        vec![
            ("city", city),
            ("requests", requests.made.to_string()),
            ("  accepted", requests.accepted.to_string()),
            ("  completed", format!("{} ({} paid)", requests.completed, requests.paid)),
            ("  cancelled", cancelled),
            ("  unmatched", requests.unmatched.to_string()),
            ("  refused", requests.refused.to_string()),
            ("  unfinished", requests.unfinished.to_string()),
            ("served by a driver", format!("{:.1} %", requests.served_share * 100.0)),
        ]
    }

    fn measured_rows(&self) -> Rows {
        let pickup = format!("mean {:.0} m  p95 {} m", self.pickup_distance_mean_m, self.pickup_distance_m.p95);
        vec![
            ("offers per match", format!("{:.2}", self.requests.offers_per_match)),
            ("time to first offer", times(&self.time_to_first_offer_ms)),
            ("time to match", times(&self.time_to_match_ms)),
            ("pickup distance", pickup),
        ]
    }

    fn http_rows(&self) -> Rows {
        let http = &self.http;
        let calls = format!(
            "{}  5xx {}  connection errors {}  timeouts {}",
            http.calls, http.server_errors, http.connection_errors, http.timeouts
        );
        let refused = http.routes.iter().flat_map(|(route, counts)| {
            counts.refused.iter().map(move |(status, times)| ("  refused", format!("{times} x {status}  {route}")))
        });
        let counters = [
            ("stream reconnects", self.counters.stream_reconnects),
            ("offers while riding", self.counters.offers_while_riding),
            ("late answers", self.counters.late_answers),
            ("rides resumed", self.counters.rides_resumed),
            ("ping rounds skipped", self.counters.ping_rounds_skipped),
            ("positions dropped", self.counters.positions_dropped),
            ("unreadable events", self.counters.unreadable_events),
        ];
        std::iter::once(("http calls", calls))
            .chain(refused)
            .chain(std::iter::once(("notifications", by_kind(&self.notifications))))
            .chain(counters.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, count.to_string())))
            .collect()
    }

    fn verdict_rows(&self) -> Rows {
        let verdict = match (self.clean, self.interrupted) {
            (true, false) => "clean".to_owned(),
            (true, true) => "clean so far (interrupted)".to_owned(),
            (false, _) => format!("{} violations", self.violations.len()),
        };
        let mut rows = vec![("auditor", verdict)];
        rows.extend(self.violations.iter().take(VIOLATIONS_PRINTED).map(|found| ("  violation", found.to_string())));
        if self.violations.len() > VIOLATIONS_PRINTED {
            rows.push(("", format!("and {} more", self.violations.len() - VIOLATIONS_PRINTED)));
        }
        rows
    }
}

fn times(of: &Percentiles) -> String {
    if of.count == 0 {
        return "-".to_owned();
    }
    format!("p50 {} ms  p95 {} ms  p99 {} ms  ({} samples)", of.p50, of.p95, of.p99, of.count)
}

fn by_kind(notifications: &BTreeMap<String, u64>) -> String {
    let mut text = notifications.values().sum::<u64>().to_string();
    for (index, (kind, count)) in notifications.iter().enumerate() {
        let separator = if index == 0 { ": " } else { ", " };
        // Writing to a String cannot fail.
        _ = write!(text, "{separator}{count} {kind}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CallEnd;

    use EventType as E;
    use dispatch_http_types::NotificationKind;

    fn history(dispatch: &str, status: DispatchStatus, events: &[E]) -> History {
        History {
            dispatch: dispatch.to_owned(),
            driver: None,
            status,
            offer_seq: events.iter().filter(|event| **event == E::DriverAssigned).count().try_into().unwrap(),
            events: events.iter().map(|event| (*event, Some(0))).collect(),
        }
    }

    fn histories() -> Vec<History> {
        use DispatchStatus as S;
        let ride = [
            E::Created,
            E::DriverAssigned,
            E::DriverRejected,
            E::DriverAssigned,
            E::DriverAccepted,
            E::TripCompleted,
            E::PaymentCompleted,
        ];
        let dropped = [E::Created, E::DriverAssigned, E::DriverAccepted, E::CancelledByDriver];
        let withdrawn = [E::Created, E::DriverAssigned, E::DriverAccepted, E::CancelledByUser];
        vec![
            history("d1", S::Completed, &ride),
            history("d2", S::Cancelled, &dropped),
            history("d3", S::Cancelled, &withdrawn),
            history("d4", S::Cancelled, &[E::Created, E::CancelledByUser]),
            history("d5", S::Cancelled, &[E::Created, E::CancelledBySystem]),
            history("d6", S::Requested, &[E::Created]),
        ]
    }

    #[test]
    fn requests_are_counted_by_outcome() {
        let requests = Requests::new(&histories(), 7, 0);
        assert_eq!((requests.made, requests.accepted, requests.completed, requests.paid), (7, 3, 1, 1));
        assert_eq!((requests.cancelled_by_user, requests.cancelled_by_driver, requests.unmatched), (2, 1, 1));
        assert_eq!(requests.unfinished, 2, "one still open, one without a history");
        assert!((requests.served_share - 0.4).abs() < 1e-9, "2 of the 5 that their user did not cancel");
        assert!((requests.offers_per_match - 4.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn requests_that_an_outage_refused_are_neither_unfinished_nor_served() {
        let requests = Requests::new(&histories(), 8, 1);
        assert_eq!((requests.made, requests.unfinished, requests.refused), (8, 2, 1));
        assert!((requests.served_share - 2.0 / 6.0).abs() < 1e-9, "{}", requests.served_share);
    }

    fn summary(violations: Vec<Violation>) -> Summary {
        let book = Book::default();
        for (number, (offer, matched)) in [(130, 900), (150, 2_400), (410, 15_800)].into_iter().enumerate() {
            let dispatch = number.to_string();
            book.sent(&dispatch, 100);
            book.offered(&dispatch, offer);
            book.matched(&dispatch, matched);
            book.pickup_distance(&dispatch, 100 * (1 + u32::try_from(number).unwrap()));
        }
        for end in [CallEnd::Status(201), CallEnd::Status(409), CallEnd::Connection] {
            book.call("POST /v1/dispatches", end);
        }
        book.call("POST /v1/dispatches/{dispatchId}/response", CallEnd::Status(409));
        book.notification(NotificationKind::Offer);
        book.notification(NotificationKind::Offer);
        book.notification(NotificationKind::DispatchConfirmed);
        book.tally(|tally| tally.late_answers = 1);
        Summary::new(Material {
            city: (42, 300, 2.0),
            seconds: (60.0, 21.4),
            ending: Ending::Drained,
            made: 7,
            refused: 0,
            histories: &histories(),
            book: &book,
            violations,
        })
    }

    #[test]
    fn a_clean_run_is_summarized() {
        insta::assert_snapshot!(summary(Vec::new()));
        insta::assert_json_snapshot!(summary(Vec::new()));
    }

    #[test]
    fn violations_are_listed_up_to_a_limit() {
        let twice = |number: usize| Violation::AcceptedTwice { dispatch: format!("dispatch#{number}"), times: 2 };
        let text = summary((0..25).map(twice).collect()).to_string();
        let tail: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("auditor")).collect();
        assert_eq!(tail.len(), 22);
        insta::assert_snapshot!(tail[..3].join("\n"));
        assert!(tail[21].ends_with("and 5 more"), "{}", tail[21]);
    }
}
