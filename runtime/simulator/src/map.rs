//! The map of the city: where people are, where they go, and where a car is on its way.

use dispatch_core::geo::Coordinate;

use crate::random::{Dice, millis};

/// Seoul City Hall, around which the districts are placed.
const CITY_HALL: (f64, f64) = (37.5663, 126.9779);

/// Length of one degree of latitude, m.
const DEGREE_M: f64 = 111_226.0;

/// Standard deviation of people around the centre of a neighbourhood, m.
const SPREAD_M: f64 = 350.0;

/// Standard deviation of a cruising driver's leg in each direction, m.
const CRUISE_M: f64 = 600.0;

/// Speed of a cruising driver, m/s: 25 km/h.
const CRUISE_SPEED: f64 = 7.0;

/// Speed of a driver on a ride by the phone's clock, m/s: 60 km/h. Rides of a run take seconds, so during a ride the
/// phone's clock runs faster than the run's clock. Otherwise the service would discard the positions as implausible.
const RIDE_SPEED: f64 = 17.0;

/// A neighbourhood with its address.
#[derive(Debug, PartialEq)]
struct Neighbourhood {
    lat: f64,
    lng: f64,
    address: &'static str,
}

const fn at(lat: f64, lng: f64, address: &'static str) -> Neighbourhood {
    Neighbourhood { lat, lng, address }
}

/// The five districts, each with its share of all people in per cent.
const DISTRICTS: [(u32, [Neighbourhood; 3]); 5] = [
    (
        30,
        [
            at(37.5006, 127.0364, "서울시 강남구 역삼동"),
            at(37.5110, 127.0215, "서울시 강남구 논현동"),
            at(37.5088, 127.0631, "서울시 강남구 삼성동"),
        ],
    ),
    (
        20,
        [
            at(37.5550, 126.9220, "서울시 마포구 서교동"),
            at(37.5440, 126.9516, "서울시 마포구 공덕동"),
            at(37.5791, 126.8898, "서울시 마포구 상암동"),
        ],
    ),
    (
        20,
        [
            at(37.5636, 126.9850, "서울시 중구 명동"),
            at(37.5663, 126.9910, "서울시 중구 을지로"),
            at(37.5547, 126.9707, "서울시 중구 봉래동"),
        ],
    ),
    (
        15,
        [
            at(37.5219, 126.9245, "서울시 영등포구 여의도동"),
            at(37.5343, 126.9025, "서울시 영등포구 당산동"),
            at(37.5157, 126.9075, "서울시 영등포구 영등포동"),
        ],
    ),
    (
        15,
        [
            at(37.5702, 126.9830, "서울시 종로구 종로"),
            at(37.5743, 126.9850, "서울시 종로구 인사동"),
            at(37.5822, 127.0019, "서울시 종로구 혜화동"),
        ],
    ),
];

/// A position with its address.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    pub position: Coordinate,
    pub address: &'static str,
}

/// The map of Seoul, or the same districts around another centre.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Town {
    center: Coordinate,
}

impl Town {
    pub fn around(center: Coordinate) -> Self {
        Self { center }
    }

    /// A random place, distributed like people.
    pub fn somewhere(&self, dice: &mut Dice) -> Place {
        let mut rest = dice.between(0.0..100.0);
        let mut district = &DISTRICTS[0].1;
        for (share, neighbourhoods) in &DISTRICTS {
            district = neighbourhoods;
            rest -= f64::from(*share);
            if rest < 0.0 {
                break;
            }
        }
        let spot = dice.pick(district).unwrap_or(&district[0]);
        let north = (spot.lat - CITY_HALL.0) * DEGREE_M + dice.normal() * SPREAD_M;
        let east = (spot.lng - CITY_HALL.1) * degree_east_m(CITY_HALL.0) + dice.normal() * SPREAD_M;
        Place { position: moved(self.center, north, east), address: spot.address }
    }

    /// A random place in another neighbourhood than `from`.
    pub fn elsewhere(&self, from: &Place, dice: &mut Dice) -> Place {
        loop {
            let place = self.somewhere(dice);
            if place.address != from.address {
                return place;
            }
        }
    }
}

/// The position some metres north and east of `from`, or `from` itself if that would be beyond a pole or the date line.
fn moved(from: Coordinate, north_m: f64, east_m: f64) -> Coordinate {
    let lat = from.lat() + north_m / DEGREE_M;
    let lng = from.lng() + east_m / degree_east_m(from.lat());
    Coordinate::new(lat, lng).unwrap_or(from)
}

/// Length of one degree of longitude, m. It has a lower limit, because near a pole the town would reach around the
/// earth.
fn degree_east_m(lat: f64) -> f64 {
    DEGREE_M * lat.to_radians().cos().max(0.01)
}

/// A car on a leg from one place to another, or at its end. Its position is calculated from the time.
#[derive(Debug, Clone)]
pub struct Car {
    from: Coordinate,
    to: Coordinate,
    /// Departure and arrival, ms of the run.
    departs: u64,
    arrives: u64,
    /// How far the phone's clock is ahead at the start of the leg, and how much it gains on the leg, ms.
    gained: u64,
    gains: u64,
    /// Whether it starts another leg at the end of this one.
    cruises: bool,
    dice: Dice,
}

impl Car {
    /// A free car at a place.
    pub fn at(place: Coordinate, dice: Dice) -> Self {
        Self { from: place, to: place, departs: 0, arrives: 0, gained: 0, gains: 0, cruises: true, dice }
    }

    /// The position at `now`, ms of the run.
    pub fn position(&self, now: u64) -> Coordinate {
        if now >= self.arrives {
            return self.to;
        }
        let part = self.part(now);
        let lat = self.from.lat() + (self.to.lat() - self.from.lat()) * part;
        let lng = self.from.lng() + (self.to.lng() - self.from.lng()) * part;
        Coordinate::new(lat, lng).unwrap_or(self.to)
    }

    /// The time of the driver's phone, ms. By this clock the car never exceeds a realistic speed.
    pub fn phone_time(&self, now: u64) -> u64 {
        now + self.gained + millis(self.gains as f64 / 1000.0 * self.part(now))
    }

    /// The share of the leg that is completed, 0 to 1.
    fn part(&self, now: u64) -> f64 {
        if now >= self.arrives {
            return 1.0;
        }
        now.saturating_sub(self.departs) as f64 / (self.arrives - self.departs) as f64
    }

    /// The position at `now`. A free car at the end of its leg starts another one.
    pub fn roam(&mut self, now: u64) -> Coordinate {
        if self.cruises && now >= self.arrives {
            let (north, east) = (self.dice.normal() * CRUISE_M, self.dice.normal() * CRUISE_M);
            let to = moved(self.to, north, east);
            let seconds = self.to.distance_to(to).0 / CRUISE_SPEED;
            self.depart(to, now, now + millis(seconds).max(1_000));
        }
        self.position(now)
    }

    /// Drives to a place on a ride, arriving at `arrives`.
    pub fn drive(&mut self, to: Coordinate, now: u64, arrives: u64) {
        self.cruises = false;
        self.depart(to, now, arrives);
    }

    /// Stops on a ride.
    pub fn stop(&mut self, now: u64) {
        self.drive(self.position(now), now, now);
    }

    /// Ends the ride and cruises again.
    pub fn release(&mut self) {
        self.cruises = true;
    }

    fn depart(&mut self, to: Coordinate, now: u64, arrives: u64) {
        self.gained = self.phone_time(now) - now;
        self.from = self.position(now);
        let needs = millis(self.from.distance_to(to).0 / RIDE_SPEED);
        self.gains = needs.saturating_sub(arrives.saturating_sub(now));
        self.to = to;
        self.departs = now;
        self.arrives = arrives.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Actor;

    fn place(lat: f64, lng: f64) -> Coordinate {
        Coordinate::new(lat, lng).unwrap()
    }

    #[test]
    fn shares_add_up_to_a_hundred() {
        assert_eq!(DISTRICTS.iter().map(|(share, _)| share).sum::<u32>(), 100);
    }

    #[test]
    fn places_are_in_town_and_destinations_in_another_neighbourhood() {
        let city_hall = place(CITY_HALL.0, CITY_HALL.1);
        let town = Town::around(city_hall);
        let mut dice = Dice::for_actor(1, Actor::Arrivals);
        for _ in 0..1_000 {
            let from = town.somewhere(&mut dice);
            let to = town.elsewhere(&from, &mut dice);
            assert!(from.position.distance_to(city_hall).0 < 15_000.0);
            assert_ne!(from.address, to.address);
        }
    }

    #[test]
    fn the_town_moves_with_its_centre() {
        let busan = place(35.1796, 129.0756);
        let somewhere = Town::around(busan).somewhere(&mut Dice::for_actor(1, Actor::Arrivals));
        assert!(somewhere.position.distance_to(busan).0 < 15_000.0);
    }

    #[test]
    fn by_its_phones_clock_a_car_has_a_realistic_speed() {
        let mut car = Car::at(place(37.5, 127.0), Dice::for_actor(1, Actor::Cruise(0)));
        car.drive(place(37.6, 127.0), 1_000, 2_000);
        let (mut last, mut phone) = (car.position(1_000), car.phone_time(1_000));
        for now in [1_200, 1_800, 2_500, 3_000] {
            if now == 1_800 {
                car.drive(place(37.5, 127.0), now, 2_100);
            }
            let (here, then) = (car.position(now), car.phone_time(now));
            let speed = last.distance_to(here).0 / ((then - phone) as f64 / 1000.0);
            assert!(then > phone && speed < RIDE_SPEED + 0.5, "{speed}");
            (last, phone) = (here, then);
        }
        let resting = car.phone_time(60_000) - car.phone_time(50_000);
        assert_eq!(resting, 10_000);
    }

    #[test]
    fn the_position_of_a_car_follows_from_the_time() {
        let mut car = Car::at(place(37.5, 127.0), Dice::for_actor(1, Actor::Cruise(0)));
        car.drive(place(37.6, 127.0), 1_000, 2_000);
        assert_eq!(car.position(1_000), place(37.5, 127.0));
        assert!((car.position(1_500).lat() - 37.55).abs() < 1e-9);
        assert_eq!(car.position(9_000), place(37.6, 127.0));
        assert_eq!(car.roam(9_000), place(37.6, 127.0), "a car on a ride waits");
        car.release();
        car.roam(10_000);
        let gone = car.roam(11_000).distance_to(place(37.6, 127.0)).0;
        assert!(gone > 0.1 && gone < 2.0 * CRUISE_SPEED, "{gone}");
        let here = car.position(12_000);
        car.stop(12_000);
        assert_eq!(car.position(99_000), here);
    }
}
