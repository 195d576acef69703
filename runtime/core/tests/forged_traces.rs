//! No trace, however forged, is billed beyond what a car can drive in the time that the service measured.
//!
//! The attacker chooses every position and every time of the phone. The service chooses the arrival times. Positions
//! pass the ping filter first, as in the service. `DISPATCH_FORGED_TRACES` sets the number of traces, and
//! `DISPATCH_FORGED_SEED` the random seed.

#![cfg(test)]

use dispatch_core::fare::FareTable;
use dispatch_core::geo::Coordinate;
use dispatch_core::meter::{Bill, Trip, reach_m};
use dispatch_core::ping_filter::{Fix, Track, Verdict};
use dispatch_core::policy::RidePolicy;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// `SplitMix64`: a generator of property tests would take minutes for as many traces.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of at least `from` and less than `to`.
    fn within(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.next() % to.abs_diff(from)).unwrap()
    }

    fn up_to(&mut self, from: u32, to: u32) -> u32 {
        u32::try_from(self.within(from.into(), i64::from(to) + 1)).unwrap()
    }

    /// A distance in metres, small or large, in either direction.
    fn step_m(&mut self) -> f64 {
        let most = if self.next().is_multiple_of(2) { 500 } else { 60_000 };
        self.within(-most, most) as f64
    }
}

/// A forged ping: pause before it by the service's clock, pause by the phone's clock, step north and east, m.
struct ForgedPing {
    pause_ms: i64,
    phone_pause_ms: Option<i64>,
    north_m: f64,
    east_m: f64,
}

impl ForgedPing {
    /// Small steps and long ones, phones that are right, that run fast or backwards, and that have no clock.
    fn roll(dice: &mut Dice) -> Self {
        let pause_ms = if dice.next().is_multiple_of(2) { dice.within(1, 1000) } else { dice.within(1000, 20_000) };
        let phone_pause_ms = match dice.next() % 4 {
            0 => None,
            1 => Some(dice.within(1, 20_000)),
            2 => Some(dice.within(60_000, 7_200_000)),
            _ => Some(dice.within(-100_000, 0)),
        };
        Self { pause_ms, phone_pause_ms, north_m: dice.step_m(), east_m: dice.step_m() }
    }
}

fn place(north_m: f64, east_m: f64) -> Coordinate {
    let lat = (37.5662 + north_m / 111_226.0).clamp(-90.0, 90.0);
    let lng = (126.9784 + east_m / 88_160.0).clamp(-180.0, 180.0);
    Coordinate::new(lat, lng).unwrap()
}

/// The positions that the ping filter accepts, and the time of the last ping.
fn accepted(pings: &[ForgedPing], is_swinging: bool) -> (Vec<RoutePoint>, i64) {
    let (mut at, mut phone_at, mut north_m, mut east_m) = (0, 1_000_000, 0.0, 0.0);
    let mut track: Option<Track> = None;
    let mut points = Vec::new();
    for (number, ping) in pings.iter().enumerate() {
        at += ping.pause_ms;
        phone_at += ping.phone_pause_ms.unwrap_or(ping.pause_ms);
        let sign = if is_swinging && number % 2 == 1 { -1.0 } else { 1.0 };
        north_m += sign * ping.north_m;
        east_m += sign * ping.east_m;
        let stamped = ping.phone_pause_ms.map(|_| EpochMs(phone_at));
        let fix = Fix { position: place(north_m, east_m), at: EpochMs(at), phone_at: stamped };
        let (after, verdict) = track.map_or_else(|| (Track::from(fix), Verdict::Take), |before| before.after(fix));
        track = Some(after);
        if verdict == Verdict::Take {
            points.push(RoutePoint { position: fix.position, at: fix.at });
        }
    }
    (points, at)
}

/// Forges a trace and checks its bill; returns whether it was billed by the meter.
fn check_one(dice: &mut Dice) -> bool {
    let pings: Vec<ForgedPing> = (0..dice.within(0, 60)).map(|_| ForgedPing::roll(dice)).collect();
    let (points, last_at) = accepted(&pings, dice.next().is_multiple_of(2));
    let (pickup, destination) = (place(0.0, 0.0), place(dice.step_m(), dice.step_m()));
    let fares = FareTable::default();
    let rules = RidePolicy {
        max_speed_kmh: dice.up_to(30, 300),
        max_fare_percent: dice.up_to(100, 1000),
        ..RidePolicy::default()
    };
    let ended_at = EpochMs(last_at + dice.within(0, 60_000));
    let estimated_fare = fares.estimate(pickup, destination, 720).amount;
    let trip = Trip {
        points: &points,
        started_at: EpochMs(0),
        ended_at,
        pickup,
        destination: Some(destination),
        estimated_fare,
        local_minute: 720,
    };
    let bill = trip.bill(&fares, &rules);
    let Bill { totals, metered_fare, review, .. } = bill;

    let duration_s = u32::try_from(ended_at.0 / 1000).unwrap();
    assert_eq!(totals.duration_s, duration_s, "the service's own time");
    let driven = u64::from(totals.distance_m) * 3600;
    assert!(driven <= u64::from(rules.max_speed_kmh) * 1000 * u64::from(duration_s), "{bill:?} with {rules:?}");
    if review.is_some() {
        assert_eq!(totals.fare, estimated_fare, "a ride under review costs the estimate");
        return false;
    }
    assert_eq!(Some(totals.fare), metered_fare);
    assert!(totals.fare <= fares.for_trip(reach_m(&rules, duration_s), duration_s, 720).amount, "{bill:?}");
    assert!(u64::from(totals.fare) * 100 <= u64::from(estimated_fare) * u64::from(rules.max_fare_percent), "{bill:?}");
    true
}

#[test]
fn no_forged_trace_is_billed_beyond_the_bound() {
    let (traces, seed) = (number("DISPATCH_FORGED_TRACES", 100_000), number("DISPATCH_FORGED_SEED", 7));
    let mut dice = Dice(seed);
    let metered = (0..traces).filter(|_| check_one(&mut dice)).count();
    println!("seed {seed}: {traces} forged traces, {metered} billed by the meter, none beyond the bound");
    assert!(metered > 0, "some traces are plausible");
}
