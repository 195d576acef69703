//! Fares, in whole units of the city's currency (won in the specification).

use thiserror::Error;

use crate::geo::{Coordinate, Metres};

/// Minutes of a day; local times of day are `0..MINUTES_PER_DAY`.
pub const MINUTES_PER_DAY: u16 = 1440;

/// Why a fare table is invalid. The text names the field as in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FareError {
    /// A number outside its bounds.
    #[error("fare.{field} is {value}, allowed is {min} to {max}")]
    OutOfRange {
        /// Field of `spec.dispatch.fare`.
        field: &'static str,
        /// The invalid value.
        value: u32,
        /// Smallest value allowed.
        min: u32,
        /// Largest value allowed.
        max: u32,
    },
}

/// A surcharge for rides that start at a certain time of day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NightSurcharge {
    /// First local minute of the day.
    pub from_minute: u16,
    /// Local minute of the day at which it ends; a value earlier than `from_minute` means the next day.
    pub to_minute: u16,
    /// Surcharge, per cent.
    pub percent: u32,
}

impl NightSurcharge {
    fn covers(&self, minute: u16) -> bool {
        if self.from_minute <= self.to_minute {
            (self.from_minute..self.to_minute).contains(&minute)
        } else {
            minute >= self.from_minute || minute < self.to_minute
        }
    }
}

/// The fare table of a city.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FareTable {
    /// Fare for the base distance.
    pub base: u32,
    /// Distance that the base fare covers, m.
    pub base_distance_m: u32,
    /// Fare for each distance step started.
    pub per_distance: u32,
    /// Length of a distance step, m.
    pub per_distance_m: u32,
    /// Fare for each full time step.
    pub per_time: u32,
    /// Length of a time step, s.
    pub per_time_s: u32,
    /// Night surcharges; if several cover the start of the ride, the largest applies.
    pub night_surcharges: Vec<NightSurcharge>,
    /// Road distance in per cent of the straight-line distance.
    pub road_factor_percent: u32,
    /// Average speed for estimates, km/h.
    pub average_speed_kmh: u32,
    /// Fares are rounded up to a multiple of this.
    pub round_to: u32,
}

/// Fare, distance and duration of a ride, estimated or travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fare {
    /// Whole units of currency.
    pub amount: u32,
    /// Distance, m.
    pub distance_m: u32,
    /// Duration, s.
    pub duration_s: u32,
}

impl Default for FareTable {
    /// Seoul's standard taxi fares of 2023, the default for a manifest without a fare table.
    fn default() -> Self {
        Self {
            base: 4800,
            base_distance_m: 1600,
            per_distance: 100,
            per_distance_m: 131,
            per_time: 100,
            per_time_s: 30,
            night_surcharges: vec![
                NightSurcharge { from_minute: 22 * 60, to_minute: 4 * 60, percent: 20 },
                NightSurcharge { from_minute: 23 * 60, to_minute: 2 * 60, percent: 40 },
            ],
            road_factor_percent: 130,
            average_speed_kmh: 25,
            round_to: 100,
        }
    }
}

impl FareTable {
    /// Validates every bound.
    pub fn checked(self) -> Result<Self, FareError> {
        let within = |field, value: u32, min: u32, max: u32| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(FareError::OutOfRange { field, value, min, max }) }
        };
        within("base", self.base, 0, 10_000_000)?;
        within("baseDistanceMeters", self.base_distance_m, 0, 1_000_000)?;
        within("perDistance", self.per_distance, 0, 1_000_000)?;
        within("perDistanceMeters", self.per_distance_m, 1, 1_000_000)?;
        within("perTime", self.per_time, 0, 1_000_000)?;
        within("perTimeSeconds", self.per_time_s, 1, 86_400)?;
        within("roadFactorPercent", self.road_factor_percent, 100, 300)?;
        within("averageSpeedKmh", self.average_speed_kmh, 1, 200)?;
        within("roundTo", self.round_to, 1, 1_000_000)?;
        let count = u32::try_from(self.night_surcharges.len()).unwrap_or(u32::MAX);
        within("nightSurcharges (number)", count, 0, 4)?;
        for night in &self.night_surcharges {
            within("nightSurcharges.from (minute)", night.from_minute.into(), 0, u32::from(MINUTES_PER_DAY) - 1)?;
            within("nightSurcharges.to (minute)", night.to_minute.into(), 0, u32::from(MINUTES_PER_DAY) - 1)?;
            within("nightSurcharges.percent", night.percent, 1, 200)?;
        }
        Ok(self)
    }

    /// Estimates a ride: the straight line scaled by the road factor, at the city's average speed.
    pub fn estimate(&self, pickup: Coordinate, destination: Coordinate, local_minute: u16) -> Fare {
        let (road_m, seconds) = self.drive(pickup.distance_to(destination));
        self.for_trip(road_m, seconds, local_minute)
    }

    /// Road distance (m) and driving time (s) for a straight line, by the city's road factor and average speed.
    pub fn drive(&self, straight: Metres) -> (u32, u32) {
        let road_m = Metres(straight.0 * f64::from(self.road_factor_percent) / 100.0).rounded();
        let metres_per_hour = u64::from(self.average_speed_kmh) * 1000;
        let seconds = u64::from(road_m) * 3600 / metres_per_hour.max(1);
        (road_m, u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// Fare of a ride of `distance_m` and `duration_s` that started at `local_minute` of the city's day.
    pub fn for_trip(&self, distance_m: u32, duration_s: u32, local_minute: u16) -> Fare {
        let extra_m = distance_m.saturating_sub(self.base_distance_m);
        let distance_steps = u64::from(extra_m.div_ceil(self.per_distance_m.max(1)));
        let time_steps = u64::from(duration_s / self.per_time_s.max(1));
        let plain = u64::from(self.base)
            + distance_steps * u64::from(self.per_distance)
            + time_steps * u64::from(self.per_time);
        let covering = self.night_surcharges.iter().filter(|night| night.covers(local_minute));
        let percent = u64::from(covering.map(|night| night.percent).max().unwrap_or(0));
        let with_night = plain + (plain * percent).div_ceil(100);
        let rounded = with_night.next_multiple_of(u64::from(self.round_to.max(1)));
        Fare { amount: u32::try_from(rounded).unwrap_or(u32::MAX), distance_m, duration_s }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_base_covers_the_base_distance() {
        assert_eq!(FareTable::default().for_trip(1600, 0, 720).amount, 4800);
        assert_eq!(FareTable::default().for_trip(1601, 0, 720).amount, 4900);
        assert_eq!(FareTable::default().for_trip(1600, 60, 720).amount, 5000);
    }

    #[test]
    fn the_larger_surcharge_applies_and_wraps_over_midnight() {
        for (minute, amount) in
            [(21 * 60 + 59, 4800), (22 * 60, 5800), (23 * 60, 6800), (119, 6800), (120, 5800), (240, 4800)]
        {
            assert_eq!(FareTable::default().for_trip(1600, 0, minute).amount, amount, "minute {minute}");
        }
    }

    #[test]
    fn a_table_that_would_divide_by_zero_is_rejected() {
        let broken = FareTable { per_time_s: 0, ..FareTable::default() };
        assert!(matches!(broken.checked(), Err(FareError::OutOfRange { field: "perTimeSeconds", value: 0, .. })));
    }

    /// Whole numbers that tell every field apart.
    fn odd() -> FareTable {
        FareTable {
            base: 3700,
            base_distance_m: 1300,
            per_distance: 130,
            per_distance_m: 170,
            per_time: 70,
            per_time_s: 40,
            night_surcharges: vec![NightSurcharge { from_minute: 360, to_minute: 540, percent: 15 }],
            road_factor_percent: 150,
            average_speed_kmh: 30,
            round_to: 10,
        }
    }

    /// The fare counted step by step, as a taxi meter does.
    fn metered(table: &FareTable, distance_m: u32, duration_s: u32, percent: u32) -> u64 {
        let mut fare = u64::from(table.base);
        let mut covered = u64::from(table.base_distance_m);
        while covered < u64::from(distance_m) {
            covered += u64::from(table.per_distance_m);
            fare += u64::from(table.per_distance);
        }
        let mut driven = u64::from(table.per_time_s);
        while driven <= u64::from(duration_s) {
            driven += u64::from(table.per_time_s);
            fare += u64::from(table.per_time);
        }
        let hundredths = fare * u64::from(100 + percent);
        let mut whole = hundredths / 100;
        if whole * 100 < hundredths {
            whole += 1;
        }
        while !whole.is_multiple_of(u64::from(table.round_to)) {
            whole += 1;
        }
        whole
    }

    proptest! {
        #[test]
        fn a_fare_is_what_a_meter_counts(
            base in 0..10_000_u32,
            (base_distance_m, per_distance, per_distance_m) in (0..3000_u32, 0..500_u32, 50..400_u32),
            (per_time, per_time_s) in (0..300_u32, 10..120_u32),
            (percent, round_to) in (1..100_u32, 1..300_u32),
            (distance_m, duration_s, is_night) in (0..40_000_u32, 0..7200_u32, any::<bool>()),
        ) {
            let night_surcharges = vec![NightSurcharge { from_minute: 0, to_minute: 60, percent }];
            let table = FareTable {
                base, base_distance_m, per_distance, per_distance_m, per_time, per_time_s, night_surcharges, round_to,
                ..FareTable::default()
            };
            let fare = table.for_trip(distance_m, duration_s, if is_night { 30 } else { 90 });
            let metered = metered(&table, distance_m, duration_s, if is_night { percent } else { 0 });
            prop_assert_eq!(u64::from(fare.amount), metered);
            prop_assert_eq!((fare.distance_m, fare.duration_s), (distance_m, duration_s));
        }

        /// A longer or slower ride never costs less.
        #[test]
        fn a_fare_grows_with_distance_and_time(
            (distance_m, more_m) in (0..100_000_u32, 0..10_000_u32),
            (duration_s, more_s) in (0..20_000_u32, 0..10_000_u32),
            minute in 0..MINUTES_PER_DAY,
        ) {
            let table = FareTable::default();
            let (short, long) =
                (table.for_trip(distance_m, duration_s, minute), table.for_trip(distance_m + more_m, duration_s + more_s, minute));
            prop_assert!(short.amount <= long.amount);
        }
    }

    #[test]
    fn a_drive_is_the_straight_line_by_the_road_factor_at_the_average_speed() {
        // 1.3 m of road for each metre; 25 km/h are 1 km in 144 s.
        assert_eq!(FareTable::default().drive(Metres(1000.0)), (1300, 187));
        assert_eq!(FareTable::default().drive(Metres(0.0)), (0, 0));
        // 1.5 m of road for each metre; 30 km/h are 1 km in 120 s.
        assert_eq!(odd().drive(Metres(2500.0)), (3750, 450));
        assert_eq!(odd().drive(Metres(7.0)), (11, 1), "10.5 m are rounded");
    }

    #[test]
    fn an_estimate_is_the_fare_of_the_drive() {
        // A tenth of a degree of latitude is 11,123 m: 16,684 m of road in 2,002 s, so 91 steps of distance and 50 of
        // time.
        let (from, to) = (Coordinate::new(37.5, 127.0).unwrap(), Coordinate::new(37.6, 127.0).unwrap());
        let estimate = odd().estimate(from, to, 0);
        assert_eq!(estimate, Fare { amount: 19_030, distance_m: 16_684, duration_s: 2002 });
        // 15 % more in the morning: 21,884.5, rounded up to tens.
        assert_eq!(odd().estimate(from, to, 400).amount, 21_890);
    }

    #[test]
    fn a_surcharge_covers_its_first_minute_and_not_its_last() {
        let amount = |minute| odd().for_trip(0, 0, minute).amount;
        assert_eq!((amount(359), amount(360), amount(539), amount(540)), (3700, 4260, 4260, 3700));
    }

    #[test]
    fn every_bound_of_a_fare_table_is_closed() {
        type Change = fn(&mut FareTable, u32);
        let surcharge = |percent| NightSurcharge { from_minute: 0, to_minute: 1, percent };
        let fields: [(&str, u32, u32, Change); 9] = [
            ("base", 0, 10_000_000, |table, value| table.base = value),
            ("baseDistanceMeters", 0, 1_000_000, |table, value| table.base_distance_m = value),
            ("perDistance", 0, 1_000_000, |table, value| table.per_distance = value),
            ("perDistanceMeters", 1, 1_000_000, |table, value| table.per_distance_m = value),
            ("perTime", 0, 1_000_000, |table, value| table.per_time = value),
            ("perTimeSeconds", 1, 86_400, |table, value| table.per_time_s = value),
            ("roadFactorPercent", 100, 300, |table, value| table.road_factor_percent = value),
            ("averageSpeedKmh", 1, 200, |table, value| table.average_speed_kmh = value),
            ("roundTo", 1, 1_000_000, |table, value| table.round_to = value),
        ];
        for (field, min, max, change) in fields {
            let checked = |value: u32| {
                let mut table = odd();
                change(&mut table, value);
                table.clone().checked().map(|same| assert_eq!(same, table))
            };
            assert_eq!((checked(min), checked(max)), (Ok(()), Ok(())), "{field}");
            for value in min.checked_sub(1).into_iter().chain([max + 1]) {
                assert_eq!(checked(value), Err(FareError::OutOfRange { field, value, min, max }));
            }
        }
        for (percent, fits) in [(0, false), (1, true), (200, true), (201, false)] {
            let table = FareTable { night_surcharges: vec![surcharge(percent)], ..odd() };
            assert_eq!(table.checked().is_ok(), fits, "{percent} %");
        }
        for (count, fits) in [(0, true), (4, true), (5, false)] {
            let table = FareTable { night_surcharges: vec![surcharge(10); count], ..odd() };
            assert_eq!(table.checked().is_ok(), fits, "{count} surcharges");
        }
        for (minute, fits) in [(1439, true), (1440, false)] {
            for night in [
                NightSurcharge { from_minute: minute, ..surcharge(10) },
                NightSurcharge { to_minute: minute, ..surcharge(10) },
            ] {
                assert_eq!(FareTable { night_surcharges: vec![night], ..odd() }.checked().is_ok(), fits, "{minute}");
            }
        }
    }
}
