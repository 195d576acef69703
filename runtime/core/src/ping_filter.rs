//! Decides whether the position reported by a phone is plausible.
//!
//! Each driver has a [`Track`]: the last accepted position and, while pings arrive that cannot follow from it, the
//! doubtful ones. A single outlier has no further effect. Two in a row hide the driver from searches until one ping
//! fits again. After three in a row, several consecutive pings must fit each other. They may be at any other place, so
//! that a driver who really moved is accepted.
//!
//! Phone clocks may be right, wrong, or adjusted in between. A phone's time is compared only with other times of the
//! same phone. It orders a driver's pings and gives the time between two of them, which the arrival time does not if
//! pings were delayed in a tunnel. A driver who also forges times can forge a smooth track; this filter detects only
//! careless forgery.

use crate::geo::{Coordinate, Metres};
use crate::time::EpochMs;

/// Largest accuracy radius that is accepted, m. Positions from cell towers alone are worse, and satellite positions in
/// a street of tall buildings are better. The location service of nammayatri uses the same limit.
pub const ACCURACY_MAX_M: f64 = 50.0;

/// Highest plausible speed of a car, m/s: 200 km/h, more than any city road allows.
pub const SPEED_MAX_M_PER_S: f64 = 200.0 / 3.6;

/// Largest distance between two fixes of a standing car, m: each may be off by [`ACCURACY_MAX_M`].
pub const APART_MAX_M: f64 = 2.0 * ACCURACY_MAX_M;

/// Largest error of the time between two fixes, ms: some phones report whole seconds.
pub const TIME_ERROR_MS: u64 = 1000;

/// Time without an accepted ping after which a phone's time may go back, ms: the clock was adjusted, or the phone was
/// replaced. A ping that was overtaken in transit is not that late.
pub const CLOCK_SET_AFTER_MS: u64 = 30_000;

/// Consecutive implausible pings after which a driver is hidden from searches.
pub const STRIKES_HIDDEN: u8 = 2;

/// Consecutive implausible pings after which a single fitting ping is no longer sufficient.
pub const STRIKES_OUT: u8 = 3;

/// Consecutive pings that fit each other after which the last one is accepted wherever it is. A series of signal
/// reflections is shorter. With a ping every four seconds, a driver who leaves an aeroplane waits 20 s.
pub const SEQUENCE_BELIEVED: u8 = 5;

/// The relevant part of a ping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fix {
    pub position: Coordinate,
    /// Arrival time by the service's clock.
    pub at: EpochMs,
    /// Time of the fix by the phone's clock.
    pub phone_at: Option<EpochMs>,
}

/// The implausible pings since the last accepted one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rejection {
    /// The latest implausible ping.
    pub last: Fix,
    /// Consecutive implausible pings, counted up to [`STRIKES_OUT`].
    pub strikes: u8,
    /// Consecutive pings that fit each other, including the last.
    pub sequence: u8,
}

/// The state of the filter for one driver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Track {
    /// The last accepted fix; `at` never goes back.
    pub believed: Fix,
    /// The implausible pings since then.
    pub doubt: Option<Rejection>,
}

/// The decision about a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The ping is accepted.
    Take,
    /// A newer ping is known.
    Outdated,
    /// The position cannot be reached that fast.
    Implausible,
}

/// Whether a fix of this accuracy is accepted; a device that reports no accuracy is trusted.
pub fn is_accurate(accuracy_m: Option<f64>) -> bool {
    accuracy_m.is_none_or(|metres| metres <= ACCURACY_MAX_M)
}

impl Track {
    /// A track that starts with an accepted fix.
    pub fn from(believed: Fix) -> Self {
        Self { believed, doubt: None }
    }

    /// Whether the driver is hidden from searches.
    pub fn is_hidden(&self) -> bool {
        self.strikes() >= STRIKES_HIDDEN
    }

    /// The track after a ping, and the decision about the ping.
    #[must_use]
    pub fn after(self, fix: Fix) -> (Self, Verdict) {
        if is_before(&fix, &self.believed) {
            return (self, Verdict::Outdated);
        }
        let sequence = self.doubt.filter(|doubt| follows(&fix, &doubt.last)).map_or(1, |doubt| doubt.sequence + 1);
        let fits = self.strikes() < STRIKES_OUT && follows(&fix, &self.believed);
        if fits || sequence >= SEQUENCE_BELIEVED {
            let at = fix.at.max(self.believed.at);
            return (Self::from(Fix { at, ..fix }), Verdict::Take);
        }
        let strikes = (self.strikes() + 1).min(STRIKES_OUT);
        (Self { doubt: Some(Rejection { last: fix, strikes, sequence }), ..self }, Verdict::Implausible)
    }

    fn strikes(&self) -> u8 {
        self.doubt.map_or(0, |doubt| doubt.strikes)
    }
}

/// Whether a ping is older than the last accepted one: by the phone's clock, otherwise by arrival time.
fn is_before(fix: &Fix, believed: &Fix) -> bool {
    match (fix.phone_at, believed.phone_at) {
        (Some(made), Some(before)) => made < before && fix.at.since_ms(believed.at) < CLOCK_SET_AFTER_MS,
        _ => fix.at < believed.at,
    }
}

/// Whether a car can get from one fix to the next.
fn follows(fix: &Fix, before: &Fix) -> bool {
    let seconds = (ms_between(before, fix) + TIME_ERROR_MS) as f64 / 1000.0;
    before.position.distance_to(fix.position) <= Metres(APART_MAX_M + SPEED_MAX_M_PER_S * seconds)
}

fn ms_between(before: &Fix, fix: &Fix) -> u64 {
    match (before.phone_at, fix.phone_at) {
        (Some(before), Some(made)) if made >= before => made.since_ms(before),
        _ => fix.at.since_ms(before.at),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A place at an offset in metres from the centre of Seoul.
    fn place(north_m: f64, east_m: f64) -> Coordinate {
        Coordinate::new(37.5662 + north_m / 111_226.0, 126.9784 + east_m / 88_160.0).unwrap()
    }

    fn fix(north_m: f64, at: i64) -> Fix {
        Fix { position: place(north_m, 0.0), at: EpochMs(at), phone_at: None }
    }

    fn stamped(north_m: f64, at: i64, phone_at: i64) -> Fix {
        Fix { phone_at: Some(EpochMs(phone_at)), ..fix(north_m, at) }
    }

    fn verdicts(track: &mut Track, fixes: impl IntoIterator<Item = Fix>) -> Vec<Verdict> {
        let judged = fixes.into_iter().map(|fix| {
            let (after, verdict) = track.after(fix);
            *track = after;
            verdict
        });
        judged.collect()
    }

    #[test]
    fn a_single_outlier_has_no_further_effect() {
        let mut track = Track::from(fix(0.0, 0));
        let judged = verdicts(&mut track, [fix(9000.0, 4000), fix(80.0, 8000)]);
        assert_eq!(judged, [Verdict::Implausible, Verdict::Take]);
        assert_eq!(track, Track::from(fix(80.0, 8000)));
    }

    #[test]
    fn a_jump_is_rejected_hides_at_the_second_ping_and_is_accepted_at_the_fifth() {
        let mut track = Track::from(fix(0.0, 0));
        let mut hidden = Vec::new();
        let mut judged = Vec::new();
        for ping in 1..=5 {
            judged.extend(verdicts(&mut track, [fix(300_000.0 + 20.0 * f64::from(ping), i64::from(ping) * 4000)]));
            hidden.push(track.is_hidden());
        }
        assert_eq!(judged[..4], [Verdict::Implausible; 4]);
        assert_eq!(judged[4], Verdict::Take);
        assert_eq!(hidden, [false, true, true, true, false]);
    }

    #[test]
    fn after_three_strikes_even_the_old_place_needs_a_sequence() {
        let mut track = Track::from(fix(0.0, 0));
        verdicts(&mut track, [fix(90_000.0, 4000), fix(-90_000.0, 8000), fix(60_000.0, 12_000)]);
        let home = (4..9).map(|ping| fix(10.0, ping * 4000));
        let judged = verdicts(&mut track, home);
        assert_eq!(judged[..4], [Verdict::Implausible; 4]);
        assert_eq!((judged[4], track.is_hidden()), (Verdict::Take, false));
    }

    #[test]
    fn the_phones_time_orders_pings_and_measures_the_time_between_them() {
        let mut track = Track::from(stamped(0.0, 0, 500_000));
        // After a tunnel the pings of a minute arrive at once, the last two overtaken in transit.
        let judged = verdicts(
            &mut track,
            [
                stamped(700.0, 60_000, 530_000),
                stamped(1400.0, 60_000, 560_000),
                stamped(1000.0, 60_001, 540_000),
                stamped(1400.0, 60_002, 560_000),
            ],
        );
        assert_eq!(judged, [Verdict::Take, Verdict::Take, Verdict::Outdated, Verdict::Take]);
        assert_eq!(track.believed.at, EpochMs(60_002));
        // The phone's clock is set back: nothing is accepted for half a minute, then the new time is used.
        let judged = verdicts(&mut track, [stamped(1400.0, 64_000, 1000), stamped(1500.0, 91_000, 28_000)]);
        assert_eq!(judged, [Verdict::Outdated, Verdict::Take]);
        assert_eq!(track.believed.phone_at, Some(EpochMs(28_000)));
    }

    #[test]
    fn service_clocks_may_differ_if_the_phone_gives_the_order() {
        let mut track = Track::from(stamped(0.0, 10_000, 1000));
        assert_eq!(verdicts(&mut track, [stamped(90.0, 9_000, 5000)]), [Verdict::Take]);
        assert_eq!(track.believed.at, EpochMs(10_000), "it never goes back");
        assert_eq!(
            verdicts(&mut track, [fix(90.0, 9_999)]),
            [Verdict::Outdated],
            "without a phone time, by arrival time"
        );
    }

    #[test]
    fn a_flight_a_night_and_a_slow_phone_are_plausible() {
        let hour = 3_600_000;
        for next in [fix(400_000.0, 3 * hour), fix(30_000.0, 12 * hour), fix(3000.0, 60_000)] {
            assert_eq!(verdicts(&mut Track::from(fix(0.0, 0)), [next]), [Verdict::Take]);
        }
    }

    #[test]
    fn only_fixes_reported_as_inaccurate_are_dropped() {
        assert!(is_accurate(None) && is_accurate(Some(0.0)) && is_accurate(Some(50.0)));
        assert!(!is_accurate(Some(50.1)));
    }

    /// Any ping: near or far, in order or not, with a phone's time or without.
    fn anything() -> impl Strategy<Value = Fix> {
        let phone = proptest::option::of(0_i64..1_000_000);
        (-500_000.0..500_000.0, 0_i64..1_000_000, phone).prop_map(|(north_m, at, phone_at)| Fix {
            position: place(north_m, 0.0),
            at: EpochMs(at),
            phone_at: phone_at.map(EpochMs),
        })
    }

    proptest! {
        /// Up to 190 km/h, with fixes off by as much as allowed, at any interval.
        #[test]
        fn an_honest_drive_is_accepted_completely(
            legs in proptest::collection::vec((50_i64..20_000, 0.0..52.0, -35.0..35.0, -35.0..35.0), 1..60),
            is_stamped in any::<bool>(),
        ) {
            let start = Fix { phone_at: is_stamped.then_some(EpochMs(77)), ..fix(0.0, 0) };
            let mut track = Track::from(start);
            let (mut at, mut north_m) = (0, 0.0);
            for (ms, speed, north_error, east_error) in legs {
                at += ms;
                north_m += speed * ms as f64 / 1000.0;
                let position = place(north_m + north_error, east_error);
                let phone_at = is_stamped.then_some(EpochMs(at + 77));
                let (after, verdict) = track.after(Fix { position, at: EpochMs(at), phone_at });
                prop_assert_eq!(verdict, Verdict::Take);
                track = after;
            }
        }

        /// After any history, a jump is rejected and hides its driver within two pings.
        #[test]
        fn a_jump_hides_the_driver_within_two_pings(
            before in proptest::collection::vec(anything(), 0..30),
            far_m in 600_000.0..2_000_000.0,
        ) {
            let mut track = Track::from(fix(0.0, 0));
            verdicts(&mut track, before);
            let at = track.believed.at.0;
            let jump = |ms: i64| fix(far_m, at + ms);
            prop_assert_eq!(verdicts(&mut track, [jump(4000), jump(8000)]), [Verdict::Implausible; 2]);
            prop_assert!(track.is_hidden());
        }

        /// After any history, a driver whose pings fit each other is accepted at the fifth one at the latest.
        #[test]
        fn a_plausible_sequence_always_ends_the_doubt(
            before in proptest::collection::vec(anything(), 0..30),
            where_m in -2_000_000.0..2_000_000.0,
            is_stamped in any::<bool>(),
        ) {
            let mut track = Track::from(fix(0.0, 0));
            verdicts(&mut track, before);
            let fixes = (1..=5_i64).map(|ping| Fix {
                phone_at: is_stamped.then_some(EpochMs(1_000_000 + ping * 4000)),
                ..fix(where_m + 30.0 * ping as f64, 1_000_000 + ping * 4000)
            });
            let judged = verdicts(&mut track, fixes);
            prop_assert_eq!(judged[4], Verdict::Take);
            prop_assert!(track.doubt.is_none());
        }

        /// Only accepted positions are kept, time never goes back, and no driver is hidden after fewer than two
        /// strikes.
        #[test]
        fn a_track_is_the_last_accepted_position(fixes in proptest::collection::vec(anything(), 1..60)) {
            let mut track = Track::from(fix(0.0, 0));
            let (mut last, mut strikes) = (track.believed.position, 0);
            for ping in fixes {
                let (after, verdict) = track.after(ping);
                match verdict {
                    Verdict::Take => (last, strikes) = (ping.position, 0),
                    Verdict::Implausible => strikes += 1,
                    Verdict::Outdated => prop_assert_eq!(after, track),
                }
                prop_assert_eq!(after.believed.position, last);
                prop_assert!(after.believed.at >= track.believed.at);
                prop_assert_eq!(after.is_hidden(), strikes >= 2);
                track = after;
            }
        }
    }

    #[test]
    fn the_farthest_plausible_position_is_a_car_at_200_kilometres_an_hour() {
        // 100 m for the errors of both fixes, and 55.56 m/s for 10 s and the second a phone's time may be off.
        let limit_m = 100.0 + 11.0 * 1000.0 / 18.0;
        let judge = |north_m: f64, at: i64| Track::from(fix(0.0, 0)).after(fix(north_m, at)).1;
        // The scale of `place` is exact to a tenth of a per cent.
        assert_eq!(judge(limit_m - 1.0, 10_000), Verdict::Take);
        assert_eq!(judge(limit_m + 2.0, 10_000), Verdict::Implausible);
        assert_eq!((judge(154.0, 0), judge(157.0, 0)), (Verdict::Take, Verdict::Implausible));
    }

    #[test]
    fn a_phones_time_may_go_back_after_exactly_half_a_minute() {
        let judge = |at: i64| Track::from(stamped(0.0, 0, 500_000)).after(stamped(0.0, at, 499_999)).1;
        assert_eq!((judge(29_999), judge(30_000)), (Verdict::Outdated, Verdict::Take));
        let same = Track::from(stamped(0.0, 0, 500_000)).after(stamped(0.0, 1_000, 500_000)).1;
        assert_eq!(same, Verdict::Take, "an equal time is not older");
        let (before, equal) = (fix(0.0, 999), fix(0.0, 1_000));
        let judge = |next: Fix| Track::from(fix(0.0, 1_000)).after(next).1;
        assert_eq!((judge(before), judge(equal)), (Verdict::Outdated, Verdict::Take));
    }

    #[test]
    fn after_a_phones_clock_was_set_back_the_arrival_times_count() {
        // 2 km in a minute by arrival; the phone says that no time has passed.
        let judge = |phone_at: i64| Track::from(stamped(0.0, 0, 900_000)).after(stamped(2000.0, 60_000, phone_at)).1;
        assert_eq!(judge(1_000), Verdict::Take);
        assert_eq!(judge(900_000), Verdict::Implausible);
    }
}
