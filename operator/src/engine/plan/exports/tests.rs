use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(text: &str, zone: &str) -> Schedule {
    Schedule::parse(text, TimeZone::get(zone).unwrap()).unwrap()
}

/// The progress of a schedule that was first observed at `since`.
fn progress(since: &str, handled: Option<&str>, covered: Option<&str>) -> ExportScheduleStatus {
    let time = |text: &str| Time(at(text));
    ExportScheduleStatus {
        schedule: "any".to_owned(),
        since: time(since),
        handled_until: handled.map(time),
        next_export_at: None,
        covered_until: covered.map(time),
        last_full_at: covered.map(time),
    }
}

/// Every day at 04:00 in Seoul, which is 19:00 UTC of the day before.
fn daily(wanted: ExportType, progress: &ExportScheduleStatus, last: Option<&ExportStatus>, now: &str) -> Due {
    let schedule = schedule("0 4 * * *", "Asia/Seoul");
    decide(&Facts { schedule: &schedule, wanted, retention_days: 365, progress, last, now: at(now) }).unwrap()
}

fn full(slot: &str) -> Due {
    Due::Now { slot: at(slot), extent: ExportExtent::Full }
}

fn period(slot: &str, from: &str, to: &str) -> Due {
    Due::Now { slot: at(slot), extent: ExportExtent::Incremental { from: at(from), to: at(to) } }
}

fn completed(slot: &str) -> ExportStatus {
    ExportStatus { state: COMPLETED.to_owned(), slot: Some(Time(at(slot))), ..ExportStatus::default() }
}

#[test]
fn a_new_schedule_exports_nothing_for_times_before_it_was_seen() {
    let new = progress("2024-05-01T19:00:00Z", None, None);
    assert_eq!(daily(ExportType::Full, &new, None, "2024-05-01T19:00:00Z"), Due::At(at("2024-05-02T19:00:00Z")));
    assert_eq!(daily(ExportType::Full, &new, None, "2024-05-02T19:00:00Z"), full("2024-05-02T19:00:00Z"));
}

#[test]
fn of_missed_times_only_the_last_is_caught_up_and_only_once() {
    let before = progress("2024-04-01T00:00:00Z", Some("2024-04-20T19:00:00Z"), None);
    assert_eq!(daily(ExportType::Full, &before, None, "2024-05-02T03:00:00Z"), full("2024-05-01T19:00:00Z"));
    let after = progress("2024-04-01T00:00:00Z", Some("2024-05-01T19:00:00Z"), None);
    let next = Due::At(at("2024-05-02T19:00:00Z"));
    assert_eq!(daily(ExportType::Full, &after, None, "2024-05-02T03:00:00Z"), next);
    assert_eq!(daily(ExportType::Full, &after, Some(&completed("2024-05-01T19:00:00Z")), "2024-05-02T03:00:00Z"), next);
}

#[test]
fn incremental_exports_start_with_a_full_one_and_are_contiguous() {
    let new = progress("2024-04-01T00:00:00Z", Some("2024-04-30T19:00:00Z"), None);
    assert_eq!(daily(ExportType::Incremental, &new, None, "2024-05-01T19:01:00Z"), full("2024-05-01T19:00:00Z"));
    // The full export has the export time 19:02.
    let mut chain = progress("2024-04-01T00:00:00Z", Some("2024-05-01T19:00:00Z"), Some("2024-05-01T19:02:00Z"));
    let last = completed("2024-05-01T19:00:00Z");
    let decide = |chain: &ExportScheduleStatus, now| daily(ExportType::Incremental, chain, Some(&last), now);
    assert_eq!(decide(&chain, "2024-05-01T19:20:00Z"), Due::At(at("2024-05-02T19:00:00Z")));
    let readable = Due::At(at("2024-05-02T19:05:00Z"));
    assert_eq!(decide(&chain, "2024-05-02T19:00:00Z"), readable, "the last changes cannot be exported yet");
    let first = period("2024-05-02T19:00:00Z", "2024-05-01T19:02:00Z", "2024-05-02T19:00:00Z");
    assert_eq!(decide(&chain, "2024-05-02T19:05:00Z"), first);
    assert_eq!(decide(&chain, "2024-05-02T23:00:00Z"), first, "a repeated decision is the same");
    chain.covered_until = Some(Time(at("2024-05-02T18:50:00Z")));
    assert_eq!(decide(&chain, "2024-05-02T19:05:00Z"), Due::At(at("2024-05-03T19:00:00Z")), "the period is too short");
}

#[test]
fn a_gap_of_days_is_closed_by_periods_of_a_day() {
    let mut chain = progress("2024-04-01T00:00:00Z", Some("2024-04-28T19:00:00Z"), Some("2024-04-28T19:00:00Z"));
    let mut last = completed("2024-04-28T19:00:00Z");
    let (slot, now) = ("2024-05-01T19:00:00Z", "2024-05-02T03:00:00Z");
    for day in ["2024-04-29T19:00:00Z", "2024-04-30T19:00:00Z", "2024-05-01T19:00:00Z"] {
        let from = chain.covered_until.as_ref().unwrap().0.to_string();
        assert_eq!(daily(ExportType::Incremental, &chain, Some(&last), now), period(slot, &from, day));
        (chain.handled_until, chain.covered_until) = (Some(Time(at(slot))), Some(Time(at(day))));
        last = completed(slot);
    }
    assert_eq!(daily(ExportType::Incremental, &chain, Some(&last), now), Due::At(at("2024-05-02T19:00:00Z")));
}

#[test]
fn a_failed_export_is_not_repeated_and_the_next_covers_what_it_would_have_covered() {
    let chain = progress("2024-04-01T00:00:00Z", Some("2024-05-01T19:00:00Z"), Some("2024-04-30T19:00:00Z"));
    let last = ExportStatus { state: FAILED.to_owned(), ..completed("2024-05-01T19:00:00Z") };
    let decide = |now| daily(ExportType::Incremental, &chain, Some(&last), now);
    assert_eq!(decide("2024-05-01T20:00:00Z"), Due::At(at("2024-05-02T19:00:00Z")));
    let (slot, from, to) = ("2024-05-02T19:00:00Z", "2024-04-30T19:00:00Z", "2024-05-01T19:00:00Z");
    assert_eq!(decide("2024-05-02T19:05:00Z"), period(slot, from, to), "a second period follows");
}

#[test]
fn the_base_of_incremental_exports_is_renewed_before_it_leaves_the_bucket() {
    let mut chain = progress("2023-01-01T00:00:00Z", Some("2024-04-30T19:00:00Z"), Some("2024-04-30T19:00:00Z"));
    chain.last_full_at = Some(Time(at("2023-10-31T19:00:00Z")));
    let decide = |chain: &ExportScheduleStatus| daily(ExportType::Incremental, chain, None, "2024-05-01T19:05:00Z");
    assert_eq!(decide(&chain), full("2024-05-01T19:00:00Z"), "183 of 365 days");
    chain.last_full_at = Some(Time(at("2023-11-01T19:00:00Z")));
    assert_ne!(decide(&chain), full("2024-05-01T19:00:00Z"));
    // Incremental exports cannot continue beyond the backups.
    chain.covered_until = Some(Time(at("2024-03-27T18:59:00Z")));
    assert_eq!(decide(&chain), full("2024-05-01T19:00:00Z"));
}

#[test]
fn a_changed_schedule_starts_over_and_keeps_what_is_covered() {
    let before = progress("2024-04-01T00:00:00Z", Some("2024-05-01T19:00:00Z"), Some("2024-05-01T19:00:00Z"));
    let now = at("2024-05-02T03:00:00.25Z");
    assert_eq!(seen("any", Some(&before), now), before);
    let changed = seen("0 5 * * *", Some(&before), now);
    assert_eq!((changed.since, changed.handled_until), (Time(at("2024-05-02T03:00:00Z")), None));
    assert_eq!(changed.covered_until, before.covered_until);
    assert_eq!(seen("any", None, now).covered_until, None);
}

#[test]
fn an_export_that_never_ends_or_is_gone_counts_as_failed() {
    let began = Some(Time(at("2024-05-01T19:00:00Z")));
    let running = ExportStatus { state: IN_PROGRESS.to_owned(), started_at: began, ..ExportStatus::default() };
    assert_eq!(given_up(&running, at("2024-05-03T18:00:00Z"), true), None);
    for (now, found) in [("2024-05-03T20:00:00Z", true), ("2024-05-01T19:01:00Z", false)] {
        assert_eq!(given_up(&running, at(now), found).unwrap().state, FAILED);
    }
}

#[test]
fn exports_are_late_after_two_slots() {
    let schedule = schedule("0 4 * * *", "Asia/Seoul");
    let mut chain = progress("2024-04-30T20:00:00Z", None, None);
    assert_eq!(deadline(&schedule, &chain), Some(at("2024-05-02T19:00:00Z")));
    chain.covered_until = Some(Time(at("2024-05-01T19:03:00Z")));
    assert_eq!(deadline(&schedule, &chain), Some(at("2024-05-03T19:00:00Z")));
}

/// Runs a schedule with an operator that reconciles at the given intervals, in minutes, and returns the exports.
fn run(schedule: &Schedule, wanted: ExportType, looks: &[i64]) -> Vec<(Timestamp, Timestamp, ExportExtent)> {
    let mut now = at("2024-02-20T00:00:00Z");
    let mut progress = seen("any", None, now);
    let mut last: Option<ExportStatus> = None;
    let mut made = Vec::new();
    for minutes in looks {
        now += SignedDuration::from_mins(*minutes);
        // Every export ends before the next reconcile.
        for _ in 0..100 {
            let facts = Facts { schedule, wanted, retention_days: 365, progress: &progress, last: last.as_ref(), now };
            let Some(Due::Now { slot, extent }) = decide(&facts) else { break };
            let (from, time) = match extent {
                ExportExtent::Full => (None, now),
                ExportExtent::Incremental { from, to } => (Some(from), to),
            };
            let export = Export {
                arn: "arn".to_owned(),
                state: COMPLETED.to_owned(),
                token: None,
                started: Some(now),
                ended: Some(now),
                from,
                time: Some(time),
                billed_bytes: None,
                item_count: None,
                manifest: None,
                failure: None,
            };
            let export = status_of(export, Some(slot));
            progress.handled_until = Some(Time(slot));
            cover(&mut progress, &export);
            last = Some(export);
            made.push((now, slot, extent));
        }
    }
    made
}

/// Includes a forward clock change: New York, 10 March.
#[test]
fn every_slot_is_exported_while_the_operator_runs() {
    for zone in ["Asia/Seoul", "America/New_York"] {
        for text in ["0 4 * * *", "30 2 * * *", "0 2,14 * * *"] {
            let schedule = schedule(text, zone);
            let made = run(&schedule, ExportType::Full, &vec![10; 6 * 24 * 25]);
            let mut slot = schedule.around(at("2024-02-20T00:00:00Z")).unwrap().next;
            for (_, exported, _) in &made {
                assert_eq!(*exported, slot);
                slot = schedule.around(slot).unwrap().next;
            }
            assert!(made.len() >= 24, "{zone} {text}");
        }
    }
}

proptest! {
    /// Whatever the operator misses, no slot is exported twice or early, and slots only increase.
    #[test]
    fn no_slot_is_exported_twice(
        looks in prop::collection::vec(1_i64..3000, 1..60),
        zone in prop::sample::select(vec!["Asia/Seoul", "America/New_York"]),
        text in prop::sample::select(vec!["0 4 * * *", "30 2 * * *", "30 1 * * *", "0 */6 * * *"]),
    ) {
        let schedule = schedule(text, zone);
        let made = run(&schedule, ExportType::Full, &looks);
        prop_assert!(made.windows(2).all(|pair| pair[0].1 < pair[1].1), "{made:?}");
        for (now, slot, _) in &made {
            prop_assert_eq!(schedule.around(*now).unwrap().last, *slot, "the latest one");
        }
    }

    /// Incremental exports cover all time since the first full one, within the bounds of DynamoDB.
    #[test]
    fn incremental_exports_leave_no_gap(
        looks in prop::collection::vec(1_i64..20_000, 1..40),
        zone in prop::sample::select(vec!["Asia/Seoul", "America/New_York"]),
        text in prop::sample::select(vec!["0 4 * * *", "0 */6 * * *", "0 0 * * 0", "*/10 * * * *"]),
    ) {
        let made = run(&schedule(text, zone), ExportType::Incremental, &looks);
        let (mut covered, mut base) = (None, None);
        let half_a_year = SignedDuration::from_hours(365 * 12);
        for (now, slot, extent) in made {
            match extent {
                ExportExtent::Full => {
                    let needed = base.is_none_or(|base| slot.duration_since(base) >= half_a_year)
                        || covered.is_none_or(|covered| slot.duration_since(covered) > RECOVERY_MAX);
                    prop_assert!(needed);
                    (covered, base) = (Some(now), Some(now));
                }
                ExportExtent::Incremental { from, to } => {
                    prop_assert_eq!(Some(from), covered);
                    let length = to.duration_since(from);
                    prop_assert!(length >= PERIOD_MIN && length <= PERIOD_MAX, "{length}");
                    prop_assert!(to + SETTLE <= now && to <= slot);
                    covered = Some(to);
                }
            }
        }
    }
}
