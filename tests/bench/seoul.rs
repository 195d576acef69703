//! Positions of drivers and riders in a simulated Seoul: six in ten are in the five hot spots of the simulator's map,
//! the others anywhere in the city.

use std::f64::consts::TAU;

use dispatch_core::candidate::AcceptanceCounts;
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_core::ids::DriverId;
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;
use dispatch_runtime::adapters::fleet::index::{DriverIndex, LiveDriver};
use dispatch_simulator::map::Town;
use dispatch_simulator::random::{Actor, Dice};

/// City Hall.
const CENTER: (f64, f64) = (37.5663, 126.9779);
/// Share of people in the five hot spots.
const IN_HOT_SPOTS: f64 = 0.6;
/// Maximum distance of the others from City Hall, m: a disc of 616 km2, as large as the city.
const RADIUS_M: f64 = 14_000.0;
/// Metres of one degree of latitude.
const DEGREE_M: f64 = 111_226.0;

pub(crate) struct Seoul(Town);

impl Seoul {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Town::around(Coordinate::new(CENTER.0, CENTER.1)?)))
    }

    /// Draws the position of a person.
    pub(crate) fn somewhere(&self, dice: &mut Dice) -> Coordinate {
        if dice.chance(IN_HOT_SPOTS) {
            return self.0.somewhere(dice).position;
        }
        let (angle, away) = (dice.between(0.0..TAU), RADIUS_M * dice.unit().sqrt());
        moved_from_city_hall(away * angle.sin(), away * angle.cos()).unwrap_or_else(|| self.0.somewhere(dice).position)
    }

    /// The first position of a driver.
    pub(crate) fn home(&self, seed: u64, driver: u32) -> Coordinate {
        self.somewhere(&mut Dice::for_actor(seed, Actor::DriverProfile(driver)))
    }

    /// An index with free drivers at their first positions.
    pub(crate) fn fleet(&self, seed: u64, drivers: u32) -> anyhow::Result<DriverIndex> {
        let mut index = DriverIndex::default();
        for number in 0..drivers {
            index.put(driver_id(number)?, free_driver(self.home(seed, number)));
        }
        Ok(index)
    }
}

fn moved_from_city_hall(north_m: f64, east_m: f64) -> Option<Coordinate> {
    let degree_east_m = DEGREE_M * CENTER.0.to_radians().cos();
    Coordinate::new(CENTER.0 + north_m / DEGREE_M, CENTER.1 + east_m / degree_east_m).ok()
}

/// The id of a driver, in the form of spec §6.
pub(crate) fn driver_id(number: u32) -> anyhow::Result<DriverId> {
    Ok(DriverId::parse(format!("driver#{number:06}"))?)
}

/// A free driver with the specification's `maxDistance` and without a minimum fare.
pub(crate) fn free_driver(position: Coordinate) -> LiveDriver {
    LiveDriver {
        status: PersonStatus::Active,
        position,
        seen_at: EpochMs(0),
        idle_since: EpochMs(0),
        max_distance: Metres::from_km(20.0),
        minimum_fare: 0,
        auto_accept: false,
        acceptance: AcceptanceCounts::default(),
        held_until: EpochMs(0),
        rests_until: EpochMs(0),
    }
}
