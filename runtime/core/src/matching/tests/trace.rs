//! A small city that serves the same requests twice: one by one, and in windows of two seconds.

use std::collections::BTreeSet;

use crate::candidate::{AcceptanceCounts, DriverSnapshot, Search};
use crate::geo::{Coordinate, Metres};
use crate::ids::{DispatchId, DriverId};
use crate::matching::{LIST_MAX, Plan, Request, edges, offer_order, plan};
use crate::person::PersonStatus;
use crate::policy::DispatchPolicy;
use crate::ranking::rank;
use crate::time::EpochMs;

/// Reproducible random numbers (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end)).unwrap_or(0)
    }
}

const WINDOW_MS: u64 = 2_000;
const WINDOWS: u64 = 1_200;
const RIDE_MS: u64 = 300_000;
/// Driving time for one metre, at 25 km/h.
const MS_PER_METRE: f64 = 144.0;
/// Time after which a rider gives up: the default search budget.
const PATIENCE_MS: u64 = 60_000;

#[derive(Clone)]
struct Ride {
    id: DispatchId,
    at: EpochMs,
    pickup: Coordinate,
    destination: Coordinate,
}

/// A place in a city of about 10 km; half of all places are at one of three hot spots.
fn place(random: &mut Random) -> Coordinate {
    let spot = [(25, 25), (60, 70), (75, 30)].get(random.below(6) as usize).copied();
    let mut along = |spot: Option<u32>| match spot {
        Some(middle) => f64::from(middle * 10 + random.below(100)) / 1000.0,
        None => f64::from(random.below(1000)) / 1000.0,
    };
    let (x, y) = (along(spot.map(|spot| spot.0)), along(spot.map(|spot| spot.1)));
    Coordinate::new(37.5 + x * 0.09, 126.9 + y * 0.113).unwrap()
}

fn rides(per_window_percent: u32, random: &mut Random) -> Vec<Ride> {
    let mut rides = Vec::new();
    for window in 0..WINDOWS {
        let whole = per_window_percent / 100 + u32::from(random.below(100) < per_window_percent % 100);
        // Zero to twice the mean, so that some windows are crowded.
        for _ in 0..random.below(2 * whole + 1) {
            let at = EpochMs::default().plus_ms(window * WINDOW_MS + u64::from(random.below(2_000)));
            let id = DispatchId::from_suffix(&format!("{:05}", rides.len())).unwrap();
            rides.push(Ride { id, at, pickup: place(random), destination: place(random) });
        }
    }
    rides.sort_by_key(|ride| ride.at);
    rides
}

fn drivers(count: u32, random: &mut Random) -> Vec<DriverSnapshot> {
    let one = |number| DriverSnapshot {
        id: DriverId::from_suffix(&format!("{number:05}")).unwrap(),
        availability: PersonStatus::Active,
        position: place(random),
        seen_at: EpochMs::default(),
        idle_since: EpochMs::default(),
        max_distance: Metres::from_km(20.0),
        minimum_fare: 0,
        auto_accept: false,
        acceptance: AcceptanceCounts { offered: random.below(20), accepted: random.below(20) },
        resting: false,
    };
    (0..count).map(one).collect()
}

/// The result of a trace.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    asked: usize,
    served: usize,
    pickup_m: f64,
    /// Time from the request to the match, of the served requests.
    waits_ms: Vec<u64>,
}

impl Outcome {
    fn pickup_mean_m(&self) -> f64 {
        self.pickup_m / self.served as f64
    }

    fn print(&self, what: &str) {
        let mut waits = self.waits_ms.clone();
        waits.sort_unstable();
        println!(
            "{what}: {} of {} served, pickup {:.0} m, time to match p50 {} ms p95 {} ms",
            self.served,
            self.asked,
            self.pickup_mean_m(),
            waits[waits.len() / 2],
            waits[waits.len() * 95 / 100],
        );
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    OneByOne,
    InWindows,
}

struct City {
    policy: DispatchPolicy,
    drivers: Vec<DriverSnapshot>,
    free_at: Vec<EpochMs>,
    outcome: Outcome,
}

impl City {
    fn serve(mut self, rides: &[Ride], mode: Mode) -> Outcome {
        self.outcome.asked = rides.len();
        let mut open: Vec<Ride> = Vec::new();
        let mut coming = rides.iter().peekable();
        for window in 1..=WINDOWS {
            let end = EpochMs::default().plus_ms(window * WINDOW_MS);
            let mut came = Vec::new();
            while let Some(ride) = coming.next_if(|ride| ride.at < end) {
                came.push(ride.clone());
            }
            open.retain(|ride| end.since_ms(ride.at) <= PATIENCE_MS);
            if mode == Mode::OneByOne {
                // New requests are searched at once. Unserved ones are searched again at the end of each window, in a
                // fixed order.
                came.retain(|ride| !self.one_by_one(ride, ride.at));
                open.retain(|ride| !self.one_by_one(ride, end));
                open.extend(came);
            } else {
                open.extend(came);
                open = self.window(open, end);
            }
        }
        self.outcome
    }

    fn ranked(&self, ride: &Ride, now: EpochMs, most: u8) -> Vec<crate::candidate::Candidate> {
        let search = Search { pickup: ride.pickup, estimated_fare: 10_000, asked: Vec::new() };
        let policy = DispatchPolicy { max_candidates: most, ..self.policy.clone() };
        rank(&self.drivers, &search, &policy, now)
    }

    fn refresh(&mut self, now: EpochMs) {
        for (driver, free_at) in self.drivers.iter_mut().zip(&self.free_at) {
            driver.availability = if *free_at <= now { PersonStatus::Active } else { PersonStatus::Dispatched };
            driver.seen_at = now;
        }
    }

    fn one_by_one(&mut self, ride: &Ride, now: EpochMs) -> bool {
        self.refresh(now);
        let Some(best) = self.ranked(ride, now, 1).pop() else { return false };
        self.take(ride, &best.driver_id, now);
        true
    }

    /// Returns the unserved requests.
    fn window(&mut self, open: Vec<Ride>, now: EpochMs) -> Vec<Ride> {
        self.refresh(now);
        let mut lists: Vec<_> = open.iter().map(|ride| self.ranked(ride, now, LIST_MAX)).collect();
        let listed: Vec<usize> = (0..open.len()).filter(|ride| !lists[*ride].is_empty()).collect();
        let request = |ride: &usize| Request {
            id: open[*ride].id.clone(),
            waited_ms: now.since_ms(open[*ride].at),
            edges: edges(&lists[*ride], &self.drivers, &self.policy, now),
        };
        let requests: Vec<Request> = listed.iter().map(request).collect();
        if let Plan::Assigned(assigned) = plan(&requests) {
            let taken: BTreeSet<&DriverId> = assigned.iter().flatten().collect();
            for (ride, assigned) in listed.iter().zip(&assigned) {
                lists[*ride] = offer_order(std::mem::take(&mut lists[*ride]), assigned.as_ref(), &taken, 5);
            }
        }
        let mut gone = BTreeSet::new();
        let mut left = Vec::new();
        for (ride, list) in open.into_iter().zip(lists) {
            match list.into_iter().find(|candidate| !gone.contains(&candidate.driver_id)) {
                Some(candidate) => {
                    self.take(&ride, &candidate.driver_id, now);
                    gone.insert(candidate.driver_id);
                }
                None => left.push(ride),
            }
        }
        left
    }

    fn take(&mut self, ride: &Ride, driver: &DriverId, now: EpochMs) {
        let number = self.drivers.iter().position(|known| known.id == *driver).unwrap();
        let taken = &mut self.drivers[number];
        let pickup = taken.position.distance_to(ride.pickup).0;
        let ms = (pickup + ride.pickup.distance_to(ride.destination).0) * MS_PER_METRE;
        let free_at = now.plus_ms(RIDE_MS + u64::from(Metres(ms).rounded()));
        (taken.position, taken.idle_since) = (ride.destination, free_at);
        self.free_at[number] = free_at;
        self.outcome.served += 1;
        self.outcome.pickup_m += pickup;
        self.outcome.waits_ms.push(now.since_ms(ride.at));
    }
}

/// The same traffic, one by one and in windows.
fn both(drivers_count: u32, per_window_percent: u32, seed: u64) -> [Outcome; 2] {
    [Mode::OneByOne, Mode::InWindows].map(|mode| {
        let mut random = Random(seed);
        let rides = rides(per_window_percent, &mut random);
        let drivers = drivers(drivers_count, &mut random);
        let free_at = vec![EpochMs::default(); drivers.len()];
        let city = City { policy: DispatchPolicy::default(), drivers, free_at, outcome: Outcome::default() };
        city.serve(&rides, mode)
    })
}

#[test]
fn windows_shorten_pickups_when_drivers_are_scarce_and_cost_little_when_they_are_plentiful() {
    for (what, drivers, per_window, scarce) in [
        ("scarce", 150, 100, true),
        ("too few", 350, 100, true),
        ("just enough", 500, 100, true),
        ("plenty", 900, 100, false),
    ] {
        for seed in [1, 2] {
            let [one_by_one, windows] = both(drivers, per_window, seed);
            one_by_one.print(&format!("{what}, seed {seed}, one by one"));
            windows.print(&format!("{what}, seed {seed}, windows   "));
            if scarce {
                assert!(windows.served >= one_by_one.served, "{what} {seed}");
                assert!(windows.pickup_mean_m() < one_by_one.pickup_mean_m(), "{what} {seed}");
            } else {
                assert_eq!(windows.served, windows.asked, "{what} {seed}");
            }
            assert!(windows.pickup_mean_m() <= one_by_one.pickup_mean_m() * 1.05, "{what} {seed}");
        }
    }
}
