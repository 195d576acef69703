//! What a run came to: the text people read and the JSON programs read.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use dispatch_core::dispatch::{DispatchStatus, EventType};
use serde::{Serialize, Serializer};

use crate::audit::{Ending, History, Violation, is_terminal};
use crate::metrics::{Book, Percentiles, RouteCalls, Tally};

/// Violations printed; the JSON has all of them.
const VIOLATIONS_PRINTED: usize = 20;

/// What became of the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// Requests made.
    #[serde(rename = "requests")]
    pub made: usize,
    /// Requests a driver accepted.
    pub accepted: usize,
    /// Rides that were driven to their end.
    pub completed: usize,
    /// Rides that were paid.
    pub paid: usize,
    /// Requests cancelled by their user.
    pub cancelled_by_user: usize,
    /// Rides cancelled by their driver.
    pub cancelled_by_driver: usize,
    /// Requests for which no driver was found: cancelled by the system.
    pub unmatched: usize,
    /// Requests that had not come to their end when the run did.
    pub unfinished: usize,
    /// Served share: of the requests that their own user did not cancel, those a driver accepted, 0 to 1. Without any such
    /// request it is 1.
    #[serde(serialize_with = "rounded")]
    pub served_share: f64,
    /// Offers made for each request that a driver accepted.
    #[serde(serialize_with = "rounded")]
    pub offers_per_match: f64,
}

impl Requests {
    /// Counts what histories say. `made` requests were made; those without a history are unfinished.
    pub fn of(histories: &[History], made: usize) -> Self {
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
            unfinished: made - histories.iter().filter(|history| is_terminal(history.status)).count(),
            served_share: share(served as f64, not_withdrawn, 1.0),
            offers_per_match: share(offers as f64, accepted, 0.0),
        }
    }
}

/// HTTP calls of all routes, and of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Calls made, event streams and repeated ones included.
    pub calls: u64,
    /// Answers 5xx.
    pub server_errors: u64,
    /// Calls that met no server, as while a worker is started again. They are no server errors.
    pub connection_errors: u64,
    /// Calls without an answer in time.
    pub timeouts: u64,
    /// By route.
    pub routes: BTreeMap<&'static str, RouteCalls>,
}

impl Http {
    fn of(routes: BTreeMap<&'static str, RouteCalls>) -> Self {
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

/// A run, and what it came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Seed of the city.
    pub seed: u64,
    /// Drivers on duty.
    pub drivers: u32,
    /// Requests a second asked for.
    pub rate: f64,
    /// Seconds in which requests were made.
    #[serde(serialize_with = "rounded")]
    pub traffic_seconds: f64,
    /// Seconds from the last request to the end of the last ride.
    #[serde(serialize_with = "rounded")]
    pub drain_seconds: f64,
    /// Whether the run was interrupted, so that unfinished requests are no fault.
    pub interrupted: bool,
    /// What became of the requests.
    #[serde(flatten)]
    pub requests: Requests,
    /// From a request's being sent to the first offer at a driver, ms, on the simulator's clock.
    pub time_to_first_offer_ms: Percentiles,
    /// From a request's being sent until user or driver knew of the acceptance, ms, on the simulator's clock.
    pub time_to_match_ms: Percentiles,
    /// From the driver to the pickup at the acceptance, m.
    pub pickup_distance_m: Percentiles,
    /// Mean of the same.
    #[serde(serialize_with = "rounded")]
    pub pickup_distance_mean_m: f64,
    /// HTTP calls.
    pub http: Http,
    /// Notifications received, by kind.
    pub notifications: BTreeMap<String, u64>,
    /// Other counters.
    pub counters: Tally,
    /// True where the auditor found nothing.
    pub clean: bool,
    /// What the auditor found.
    pub violations: Vec<Violation>,
}

/// What a summary is made of.
pub struct Material<'a> {
    /// Seed, drivers and rate of the run.
    pub city: (u64, u32, f64),
    /// Seconds of traffic and of draining.
    pub seconds: (f64, f64),
    /// How it ended.
    pub ending: Ending,
    /// Requests made.
    pub made: usize,
    /// What the service says of them.
    pub histories: &'a [History],
    /// What was counted.
    pub book: &'a Book,
    /// What the auditor found.
    pub violations: Vec<Violation>,
}

impl Summary {
    /// Puts it together.
    pub fn of(material: Material<'_>) -> Self {
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
            requests: Requests::of(material.histories, material.made),
            time_to_first_offer_ms: Percentiles::of(measured.first_offer_ms),
            time_to_match_ms: Percentiles::of(measured.match_ms),
            pickup_distance_mean_m: mean,
            pickup_distance_m: Percentiles::of(measured.pickup_m),
            http: Http::of(material.book.routes()),
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
    fn requests_are_counted_by_what_became_of_them() {
        let requests = Requests::of(&histories(), 7);
        assert_eq!((requests.made, requests.accepted, requests.completed, requests.paid), (7, 3, 1, 1));
        assert_eq!((requests.cancelled_by_user, requests.cancelled_by_driver, requests.unmatched), (2, 1, 1));
        assert_eq!(requests.unfinished, 2, "one still open, one of which nothing is known");
        assert!((requests.served_share - 0.4).abs() < 1e-9, "2 of the 5 that were not withdrawn");
        assert!((requests.offers_per_match - 4.0 / 3.0).abs() < 1e-9);
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
        Summary::of(Material {
            city: (42, 300, 2.0),
            seconds: (60.0, 21.4),
            ending: Ending::Drained,
            made: 7,
            histories: &histories(),
            book: &book,
            violations,
        })
    }

    #[test]
    fn a_clean_run_is_summed_up() {
        insta::assert_snapshot!(summary(Vec::new()));
        insta::assert_json_snapshot!(summary(Vec::new()));
    }

    #[test]
    fn violations_are_listed_up_to_a_bound() {
        let twice = |number: usize| Violation::AcceptedTwice { dispatch: format!("dispatch#{number}"), times: 2 };
        let text = summary((0..25).map(twice).collect()).to_string();
        let tail: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("auditor")).collect();
        assert_eq!(tail.len(), 22);
        insta::assert_snapshot!(tail[..3].join("\n"));
        assert!(tail[21].ends_with("and 5 more"), "{}", tail[21]);
    }
}
