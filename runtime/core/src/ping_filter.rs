//! Whether what a phone says of its place can be believed.
//!
//! Each driver has a [`Track`]: the last place that was believed, and, while pings come that cannot follow from it, what is doubted.
//! A single wild fix costs nothing but itself. Two in a row hide the driver from searches until one fits again; three, until several
//! fit each other. Those may be somewhere else altogether: who really is elsewhere is believed then.
//!
//! Phones have clocks of their own, which are right, wrong, or set in between. A phone's time is held against another time of the same phone
//! and against nothing else: it puts a driver's pings in order and says how much time lies between two of them, which the time of their
//! arrival does not where a tunnel held them back. Who forges times as well can forge a whole smooth trace: this finds the careless.

use crate::geo::{Coordinate, Metres};
use crate::time::EpochMs;

/// Least accurate fix that is taken, m. Cell towers alone are worse, satellites in a street of high houses are better; the location
/// service of nammayatri draws the line at the same place.
pub const ACCURACY_MAX_M: f64 = 50.0;

/// Highest speed of a car with a driver who takes rides, m/s: 200 km/h, where no road of any city lets one drive.
pub const SPEED_MAX_M_PER_S: f64 = 200.0 / 3.6;

/// How far apart two fixes of a car that stands may be: each is off by [`ACCURACY_MAX_M`].
pub const APART_MAX_M: f64 = 2.0 * ACCURACY_MAX_M;

/// What the time between two fixes may be wrong by, ms: some phones give whole seconds.
pub const TIME_ERROR_MS: u64 = 1000;

/// Time without a believed ping after which a phone's time may go back, ms: its clock was set, or it is another phone. A ping that
/// was overtaken on its way is not so late.
pub const CLOCK_SET_AFTER_MS: u64 = 30_000;

/// Pings in a row that cannot be believed, after which a driver is hidden from searches.
pub const STRIKES_HIDDEN: u8 = 2;

/// The same, after which one ping that fits does not suffice any more.
pub const STRIKES_OUT: u8 = 3;

/// Pings in a row that fit each other, after which the last of them is believed wherever it is: more than a wild series of reflections has, and
/// at a ping each four seconds a driver who came out of an aeroplane waits 20 s.
pub const SEQUENCE_BELIEVED: u8 = 5;

/// A ping, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fix {
    /// Where.
    pub position: Coordinate,
    /// When it came, by the service's clock.
    pub at: EpochMs,
    /// When it was made, by the phone's own clock.
    pub phone_at: Option<EpochMs>,
}

/// What cannot be believed of late.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Doubt {
    /// The last of it.
    pub last: Fix,
    /// Pings in a row that were not believed, counted up to [`STRIKES_OUT`].
    pub strikes: u8,
    /// Pings that fit each other, the last included.
    pub sequence: u8,
}

/// What is known of a driver's way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Track {
    /// The last fix that was believed; `at` never goes back.
    pub believed: Fix,
    /// What came since and was not.
    pub doubt: Option<Doubt>,
}

/// What becomes of a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is believed.
    Take,
    /// A newer one is known.
    Outdated,
    /// Nobody gets there that fast.
    Implausible,
}

/// Whether a fix of this accuracy is worth taking; a device that does not say is trusted.
pub fn is_accurate(accuracy_m: Option<f64>) -> bool {
    accuracy_m.is_none_or(|metres| metres <= ACCURACY_MAX_M)
}

impl Track {
    /// A track that begins.
    pub fn from(believed: Fix) -> Self {
        Self { believed, doubt: None }
    }

    /// Whether the driver is kept out of searches.
    pub fn is_hidden(&self) -> bool {
        self.strikes() >= STRIKES_HIDDEN
    }

    /// The track after a ping, and what becomes of the ping.
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
        (Self { doubt: Some(Doubt { last: fix, strikes, sequence }), ..self }, Verdict::Implausible)
    }

    fn strikes(&self) -> u8 {
        self.doubt.map_or(0, |doubt| doubt.strikes)
    }
}

/// Whether a ping is older than the last that was believed: by the phone's clock, else by when they came.
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

    /// A place some metres from the middle of Seoul.
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
    fn a_wild_fix_costs_nothing_but_itself() {
        let mut track = Track::from(fix(0.0, 0));
        let judged = verdicts(&mut track, [fix(9000.0, 4000), fix(80.0, 8000)]);
        assert_eq!(judged, [Verdict::Implausible, Verdict::Take]);
        assert_eq!(track, Track::from(fix(80.0, 8000)));
    }

    #[test]
    fn a_jump_is_told_at_once_hides_with_the_second_ping_and_is_believed_with_the_fifth() {
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
    fn three_strikes_need_a_sequence_even_back_home() {
        let mut track = Track::from(fix(0.0, 0));
        verdicts(&mut track, [fix(90_000.0, 4000), fix(-90_000.0, 8000), fix(60_000.0, 12_000)]);
        let home = (4..9).map(|ping| fix(10.0, ping * 4000));
        let judged = verdicts(&mut track, home);
        assert_eq!(judged[..4], [Verdict::Implausible; 4]);
        assert_eq!((judged[4], track.is_hidden()), (Verdict::Take, false));
    }

    #[test]
    fn the_phones_time_orders_and_its_differences_count() {
        let mut track = Track::from(stamped(0.0, 0, 500_000));
        // Out of a tunnel come the pings of a minute at once, the last two overtaken on their way.
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
        // Its clock is set back: nothing is taken for half a minute, then it counts anew.
        let judged = verdicts(&mut track, [stamped(1400.0, 64_000, 1000), stamped(1500.0, 91_000, 28_000)]);
        assert_eq!(judged, [Verdict::Outdated, Verdict::Take]);
        assert_eq!(track.believed.phone_at, Some(EpochMs(28_000)));
    }

    #[test]
    fn the_services_clocks_may_differ_where_the_phone_gives_the_order() {
        let mut track = Track::from(stamped(0.0, 10_000, 1000));
        assert_eq!(verdicts(&mut track, [stamped(90.0, 9_000, 5000)]), [Verdict::Take]);
        assert_eq!(track.believed.at, EpochMs(10_000), "it never goes back");
        assert_eq!(verdicts(&mut track, [fix(90.0, 9_999)]), [Verdict::Outdated], "without, by when it came");
    }

    #[test]
    fn a_flight_a_night_and_a_lazy_phone_are_no_teleports() {
        let hour = 3_600_000;
        for next in [fix(400_000.0, 3 * hour), fix(30_000.0, 12 * hour), fix(3000.0, 60_000)] {
            assert_eq!(verdicts(&mut Track::from(fix(0.0, 0)), [next]), [Verdict::Take]);
        }
    }

    #[test]
    fn only_fixes_that_say_they_are_wide_are_left_out() {
        assert!(is_accurate(None) && is_accurate(Some(0.0)) && is_accurate(Some(50.0)));
        assert!(!is_accurate(Some(50.1)));
    }

    /// Any ping at all: near or far, in order or not, with a phone's time or without.
    fn anything() -> impl Strategy<Value = Fix> {
        let phone = proptest::option::of(0_i64..1_000_000);
        (-500_000.0..500_000.0, 0_i64..1_000_000, phone).prop_map(|(north_m, at, phone_at)| Fix {
            position: place(north_m, 0.0),
            at: EpochMs(at),
            phone_at: phone_at.map(EpochMs),
        })
    }

    proptest! {
        /// Up to 190 km/h, with fixes off by as much as they may be, in any rhythm.
        #[test]
        fn an_honest_drive_is_believed_whole(
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

        /// Whatever came before, a teleport is not taken, and hides its driver within two pings.
        #[test]
        fn a_teleport_is_flagged_within_two_pings(
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

        /// Whatever came before, who goes on sending pings that fit each other is believed with the fifth of them at last.
        #[test]
        fn a_believable_sequence_always_ends_doubt(
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

        /// Only believed places are known, time never goes back, and nobody is hidden for less than two strikes.
        #[test]
        fn a_track_is_what_was_believed_last(fixes in proptest::collection::vec(anything(), 1..60)) {
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
}
