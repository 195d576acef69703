//! `spec.export.schedule`: the times of a schedule. Pure.
//!
//! A slot is a local time of the city that matches the expression. Each slot has exactly one instant: a local time that
//! a forward clock change skips occurs right after the change, and a local time that a backward change repeats occurs
//! the first time. So no slot is skipped or repeated; for schedules by the minute or hour, the repeated hour has no
//! slots.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// Number of fields of an expression.
const FIELDS: usize = 5;
/// Start of the search for a first slot. An expression without a match after it never matches.
const FIRST_LOOK: DateTime = DateTime::constant(2024, 1, 1, 0, 0, 0, 0);
/// Maximum number of slots to examine around an instant: a clock goes back by a day at most, which has this many
/// minutes.
const REPEATED_MAX: usize = 24 * 60 + 1;

/// A five-field cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

/// The slots around an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// The last slot at or before the instant.
    pub last: Timestamp,
    /// The first slot after it.
    pub next: Timestamp,
}

impl Schedule {
    /// Parses an expression; `None` if it is invalid or never matches (30 February).
    pub fn parse(text: &str, zone: TimeZone) -> Option<Self> {
        if text.split_whitespace().count() != FIELDS {
            return None;
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).ok()?;
        cron.find_next_occurrence(&FIRST_LOOK, true).ok()?;
        Some(Self { cron, zone })
    }

    /// The slots around `now`; `None` only at the limits of the calendar.
    pub fn around(&self, now: Timestamp) -> Option<Slots> {
        // The search is over local times, because croner does not handle clock changes.
        let mut wall = self.cron.find_previous_occurrence(&self.zone.to_datetime(now), true).ok()?;
        let mut last = self.moment(wall)?;
        // While the clock repeats an hour, later local times have already occurred.
        for _ in 0..REPEATED_MAX {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            let next = self.moment(wall)?;
            if next > now {
                return Some(Slots { last, next });
            }
            last = next;
        }
        None
    }

    /// An instant in local time, to the minute: `2024-05-02T04:00+09:00`.
    pub fn shown(&self, moment: Timestamp) -> String {
        moment.to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M%:z").to_string()
    }

    fn moment(&self, wall: DateTime) -> Option<Timestamp> {
        let found = self.zone.to_ambiguous_timestamp(wall);
        let skipped = matches!(found.offset(), AmbiguousOffset::Gap { .. });
        let moment = found.earlier().ok()?;
        if skipped { self.zone.following(moment).next().map(|forward| forward.timestamp()) } else { Some(moment) }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn schedule(text: &str, zone: &str) -> Schedule {
        Schedule::parse(text, TimeZone::get(zone).unwrap()).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The slots after an instant.
    fn after(schedule: &Schedule, moment: &str, count: usize) -> Vec<String> {
        let mut now = at(moment);
        let next = |_| {
            now = schedule.around(now).unwrap().next;
            schedule.shown(now)
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn a_slot_is_a_local_time() {
        let seoul = schedule("0 4 * * *", "Asia/Seoul");
        let slots = seoul.around(at("2024-05-02T03:00:00Z")).unwrap();
        assert_eq!(slots, Slots { last: at("2024-05-01T19:00:00Z"), next: at("2024-05-02T19:00:00Z") });
        assert_eq!(seoul.shown(slots.next), "2024-05-03T04:00+09:00");
        assert_eq!(seoul.around(slots.next).unwrap().last, slots.next, "a slot starts at its instant");
        assert_eq!(seoul.around(at("2024-05-02T18:59:59.999Z")).unwrap(), slots);
    }

    #[test]
    fn a_skipped_local_time_occurs_right_after_the_change() {
        // On 10 March 2024 the clock in New York went from 02:00 to 03:00.
        let daily = schedule("30 2 * * *", "America/New_York");
        let expected = ["2024-03-09T02:30-05:00", "2024-03-10T03:00-04:00", "2024-03-11T02:30-04:00"];
        assert_eq!(after(&daily, "2024-03-09T06:00:00Z", 3), expected);
        let twice = schedule("0 2,14 * * *", "America/New_York");
        let expected = ["2024-03-10T03:00-04:00", "2024-03-10T14:00-04:00"];
        assert_eq!(after(&twice, "2024-03-10T05:00:00Z", 2), expected);
        let quarters = schedule("*/15 * * * *", "America/New_York");
        let expected = ["2024-03-10T01:45-05:00", "2024-03-10T03:00-04:00", "2024-03-10T03:15-04:00"];
        assert_eq!(after(&quarters, "2024-03-10T06:30:00Z", 3), expected);
    }

    #[test]
    fn a_repeated_local_time_occurs_once() {
        // On 3 November 2024 the clock in New York went from 02:00 back to 01:00.
        let daily = schedule("30 1 * * *", "America/New_York");
        let expected = ["2024-11-02T01:30-04:00", "2024-11-03T01:30-04:00", "2024-11-04T01:30-05:00"];
        assert_eq!(after(&daily, "2024-11-02T04:00:00Z", 3), expected);
        let twice = schedule("0 1,13 * * *", "America/New_York");
        let expected = ["2024-11-03T01:00-04:00", "2024-11-03T13:00-05:00"];
        assert_eq!(after(&twice, "2024-11-03T04:00:00Z", 2), expected);
        // The second 01:10 of that night: the slot of 01:45 has passed.
        let quarters = schedule("45 * * * *", "America/New_York");
        let slots = quarters.around(at("2024-11-03T06:10:00Z")).unwrap();
        assert_eq!(quarters.shown(slots.last), "2024-11-03T01:45-04:00");
        assert_eq!(quarters.shown(slots.next), "2024-11-03T02:45-05:00");
    }

    #[test]
    fn an_invalid_expression_is_refused() {
        for text in ["0 4 * *", "0 0 4 * * *", "61 4 * * *", "0 4 30 2 *", "0 4 * * * 2030", "every day at four", ""] {
            assert!(Schedule::parse(text, TimeZone::UTC).is_none(), "{text}");
        }
        assert!(Schedule::parse("0 4 29 2 *", TimeZone::UTC).is_some(), "a leap day occurs");
    }

    proptest! {
        /// Slots partition time: there is no slot between a slot and the next one, for any instant.
        #[test]
        fn every_moment_lies_between_a_slot_and_the_next(
            seconds in 1_672_531_200_i64..1_893_456_000,
            zone in prop::sample::select(vec!["Asia/Seoul", "America/New_York", "Australia/Lord_Howe", "UTC"]),
            text in prop::sample::select(
                vec!["0 4 * * *", "30 2 * * *", "*/20 * * * *", "0 1-3 * * *", "15 2 * * 0", "0 0 1 * *"]
            ),
        ) {
            let schedule = schedule(text, zone);
            let now = Timestamp::from_second(seconds).unwrap();
            let Slots { last, next } = schedule.around(now).unwrap();
            prop_assert!(last <= now && now < next);
            prop_assert_eq!(schedule.around(last).unwrap(), Slots { last, next });
            let just_before = next - SignedDuration::from_nanos(1);
            prop_assert_eq!(schedule.around(just_before).unwrap(), Slots { last, next });
            prop_assert_eq!(schedule.around(next).unwrap().last, next);
        }

        /// Each calendar day has one slot of a daily schedule, also on days with a clock change.
        #[test]
        fn a_daily_schedule_has_one_slot_a_day(
            day in 0_i64..2500,
            hour in 0_i8..24,
            minute in 0_i8..60,
            zone in prop::sample::select(vec!["Asia/Seoul", "America/New_York", "Australia/Lord_Howe"]),
        ) {
            let schedule = schedule(&format!("{minute} {hour} * * *"), zone);
            let date = jiff::civil::date(2022, 1, 1) + SignedDuration::from_hours(24 * day);
            let zone = TimeZone::get(zone).unwrap();
            let midnight = date.to_zoned(zone.clone()).unwrap().timestamp();
            let slot = schedule.around(midnight - SignedDuration::from_nanos(1)).unwrap().next;
            prop_assert_eq!(zone.to_datetime(slot).date(), date);
            let following = schedule.around(slot).unwrap().next;
            prop_assert_eq!(zone.to_datetime(following).date(), date + SignedDuration::from_hours(24));
        }
    }
}
