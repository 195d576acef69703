//! The drivers and requests of a run, drawn from the random seed before anything is sent.

use dispatch_core::person::RideType;
use dispatch_http_types::{DriverPreferences, VehicleInfo};

use crate::args::Args;
use crate::map::{Place, Town};
use crate::random::{Actor, Dice, millis};

/// Maximum requests of one run: the auditor needs the history of each, about 300 bytes.
pub const REQUESTS_MAX: u32 = 100_000;

/// Time after which a user who cancels while waiting does so, seconds: median of a log-normal distribution.
const PATIENCE_S: f64 = 3.0;

/// Manufacturers that are common in Seoul.
const MANUFACTURERS: [&str; 4] = ["현대", "기아", "르노", "KG모빌리티"];

/// Preferred districts of drivers.
const REGIONS: [&str; 5] = ["강남구", "마포구", "중구", "영등포구", "종로구"];

/// The profile and start of a driver.
#[derive(Debug, Clone, PartialEq)]
pub struct DriverPlan {
    /// From 0.
    pub number: u32,
    /// Id without its prefix.
    pub suffix: String,
    /// A fictitious phone number.
    pub phone: String,
    pub vehicle: VehicleInfo,
    pub preferences: DriverPreferences,
    /// Where the driver starts.
    pub home: Place,
}

/// What a user does after the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Takes the ride.
    Ride,
    /// Cancels some time after the request.
    CancelWaiting { after_ms: u64 },
    /// Cancels some time after a driver accepted.
    CancelAccepted { after_ms: u64 },
}

/// A request of the schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestPlan {
    /// From 0.
    pub number: u32,
    /// Time after the start of the traffic, ms.
    pub at_ms: u64,
    pub pickup: Place,
    pub destination: Place,
    pub intent: Intent,
}

/// The id of a simulated driver without its prefix.
pub fn driver_suffix(number: u32) -> String {
    format!("sim-{number:05}")
}

/// The driver with a number.
pub fn driver(args: &Args, number: u32) -> DriverPlan {
    let mut dice = Dice::for_actor(args.seed, Actor::DriverProfile(number));
    let home = Town::around(args.city_center).somewhere(&mut dice);
    let manufacturer = dice.pick(&MANUFACTURERS).copied().unwrap_or_default().to_owned();
    let preferred = dice.pick(&REGIONS).copied().unwrap_or_default().to_owned();
    DriverPlan {
        number,
        suffix: driver_suffix(number),
        phone: format!("010{number:08}"),
        vehicle: VehicleInfo {
            manufacturer,
            license_plate: format!("서울{:02}바{:04}", number / 10_000 + 31, number % 10_000),
        },
        preferences: DriverPreferences {
            default_ride_type: Some(RideType::Standard),
            preferred_regions: vec![preferred],
            max_distance: dice.between(3.0..20.0).round(),
            auto_accept: dice.chance(args.auto_accept_share),
            // Up to one and a half times the base fare of a standard taxi, so that some drivers do not take short
            // rides.
            minimum_fare: u32::try_from(millis(dice.between(0.0..7.0))).unwrap_or(0) / 100 * 100,
        },
        home,
    }
}

/// The requests in the order of their arrival, until the traffic ends.
pub fn requests(args: &Args) -> impl Iterator<Item = RequestPlan> + Send + 'static {
    let args = args.clone();
    let mut arrivals = Dice::for_actor(args.seed, Actor::Arrivals);
    let mut at = 0.0;
    let traffic_ms = args.traffic.map_or(u64::MAX, |length| millis(length.as_secs_f64()));
    (0..REQUESTS_MAX).map_while(move |number| {
        at += arrivals.exponential(1.0 / args.rate);
        let at_ms = millis(at);
        (at_ms < traffic_ms).then(|| request(&args, number, at_ms))
    })
}

fn request(args: &Args, number: u32, at_ms: u64) -> RequestPlan {
    let town = Town::around(args.city_center);
    let mut dice = Dice::for_actor(args.seed, Actor::Request(number));
    let pickup = town.somewhere(&mut dice);
    let destination = town.elsewhere(&pickup, &mut dice);
    let cancels = dice.chance(args.cancel_share);
    let waits = dice.chance(0.5);
    let after_ms = millis(dice.log_normal(PATIENCE_S, 0.6));
    let intent = match (cancels, waits) {
        (false, _) => Intent::Ride,
        (true, true) => Intent::CancelWaiting { after_ms },
        // Short enough to cancel before the driver arrives.
        (true, false) => Intent::CancelAccepted { after_ms: after_ms / 4 },
    };
    RequestPlan { number, at_ms, pickup, destination, intent }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &str) -> Args {
        let line = format!("simulate --api http://127.0.0.1:1 --signing-key key.json --for 60s {words}");
        Cli::parse_from(line.split_whitespace()).args
    }

    fn city(args: &Args) -> (Vec<DriverPlan>, Vec<RequestPlan>) {
        ((0..args.drivers).map(|number| driver(args, number)).collect(), requests(args).collect())
    }

    #[test]
    fn equal_seeds_give_equal_cities() {
        assert_eq!(city(&args("--seed 7")), city(&args("--seed 7")));
        assert_ne!(city(&args("--seed 7")).0, city(&args("--seed 8")).0);
        assert_ne!(city(&args("--seed 7")).1, city(&args("--seed 8")).1);
    }

    #[test]
    fn more_drivers_change_neither_the_others_nor_the_requests() {
        let (few, many) = (city(&args("--drivers 10")), city(&args("--drivers 20")));
        assert_eq!(few.0[..], many.0[..10]);
        assert_eq!(few.1, many.1);
    }

    #[test]
    fn requests_arrive_at_the_rate_until_the_traffic_ends() {
        let requests: Vec<_> = requests(&args("--rate 20")).collect();
        assert!((1_100..1_300).contains(&requests.len()), "{}", requests.len());
        assert!(requests.is_sorted_by_key(|request| request.at_ms));
        assert!(requests.iter().all(|request| request.at_ms < 60_000));
        let cancel = requests.iter().filter(|request| request.intent != Intent::Ride).count();
        assert!((25..80).contains(&cancel), "{cancel}");
    }

    #[test]
    fn drivers_are_valid_for_the_api() {
        for plan in city(&args("--auto-accept-share 0.5")).0 {
            assert_eq!(plan.phone.len(), 11);
            assert!((3.0..=20.0).contains(&plan.preferences.max_distance));
            assert!(plan.preferences.minimum_fare <= 7_000);
        }
    }
}
