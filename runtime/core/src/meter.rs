//! What a completed ride costs, and whether operations must review it.
//!
//! A driver can forge positions and the times of the phone, but not the times at which the service received the events
//! of the ride. The distance on a bill is therefore never longer than a car can drive between the pickup and the end by
//! the service's own clock. A ride whose positions are missing or not plausible, or whose metered fare is far above the
//! estimate, costs the estimate, and operations review it.

use crate::fare::FareTable;
use crate::geo::{Coordinate, Metres};
use crate::policy::RidePolicy;
use crate::route::{RoutePoint, length};
use crate::time::EpochMs;

/// Why operations must review a ride.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ReviewReason {
    /// The driver sent no positions during the ride.
    NoTrace,
    /// The positions of the ride have a gap as long as the time after which a ride counts as silent.
    TraceGap,
    /// The positions are farther apart than a car can drive in the duration of the ride.
    TooFast,
    /// The metered fare is above the allowed multiple of the estimate.
    FareAboveEstimate,
    /// Neither a position nor an event was received for a long time.
    NoSignOfLife,
}

impl ReviewReason {
    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::NoTrace, Self::TraceGap, Self::TooFast, Self::FareAboveEstimate, Self::NoSignOfLife];

    /// The reason with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The value in the table, in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoTrace => "NO_TRACE",
            Self::TraceGap => "TRACE_GAP",
            Self::TooFast => "TOO_FAST",
            Self::FareAboveEstimate => "FARE_ABOVE_ESTIMATE",
            Self::NoSignOfLife => "NO_SIGN_OF_LIFE",
        }
    }
}

/// Totals of a completed trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TripTotals {
    /// Fare, whole units of currency.
    pub fare: u32,
    /// Distance travelled, m.
    pub distance_m: u32,
    /// Duration, s.
    pub duration_s: u32,
}

/// A trip with its bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bill {
    /// What is billed.
    pub totals: TripTotals,
    /// The fare by the positions of the ride; `None` if they are not plausible.
    pub metered_fare: Option<u32>,
    /// Set if the estimate is billed instead of the metered fare.
    pub review: Option<ReviewReason>,
    /// Whether the ride ended farther from its destination than the city allows.
    pub is_far: bool,
}

impl From<TripTotals> for Bill {
    /// A bill by the meter, for a ride that ended at its destination.
    fn from(totals: TripTotals) -> Self {
        Self { totals, metered_fare: Some(totals.fare), review: None, is_far: false }
    }
}

/// A trip that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Trip<'a> {
    /// The positions since the passenger got on board, by arrival time.
    pub points: &'a [RoutePoint],
    /// When the service received the event of the pickup.
    pub started_at: EpochMs,
    /// When the service received the event of the end.
    pub ended_at: EpochMs,
    /// Where the passenger was picked up.
    pub pickup: Coordinate,
    /// `None` if the stored one is not a valid place.
    pub destination: Option<Coordinate>,
    /// Fare quoted to the user.
    pub estimated_fare: u32,
    /// Minute of the city's day at which the trip started.
    pub local_minute: u16,
}

impl Trip<'_> {
    /// Duration, s.
    pub fn duration_s(&self) -> u32 {
        u32::try_from(self.ended_at.since_ms(self.started_at) / 1000).unwrap_or(u32::MAX)
    }

    /// The bill by the meter if the positions are plausible, otherwise by the estimate.
    pub fn bill(&self, fares: &FareTable, rules: &RidePolicy) -> Bill {
        let duration_s = self.duration_s();
        let distance_m = match self.metered_distance_m(rules) {
            Ok(distance_m) => distance_m,
            Err(reason) => return self.estimate(fares, rules, reason),
        };
        let fare = fares.for_trip(distance_m, duration_s, self.local_minute).amount;
        let is_far = self.is_far(rules);
        let limit = u64::from(self.estimated_fare) * u64::from(rules.max_fare_percent);
        if u64::from(fare) * 100 > limit {
            let estimate = self.estimate(fares, rules, ReviewReason::FareAboveEstimate);
            return Bill { metered_fare: Some(fare), is_far, ..estimate };
        }
        Bill { totals: TripTotals { fare, distance_m, duration_s }, metered_fare: Some(fare), review: None, is_far }
    }

    /// The bill of a ride whose positions are not used.
    pub fn estimate(&self, fares: &FareTable, rules: &RidePolicy, reason: ReviewReason) -> Bill {
        let duration_s = self.duration_s();
        let straight = self.destination.map_or(Metres(0.0), |to| self.pickup.distance_to(to));
        let distance_m = fares.drive(straight).0.min(reach_m(rules, duration_s));
        let totals = TripTotals { fare: self.estimated_fare, distance_m, duration_s };
        Bill { totals, metered_fare: None, review: Some(reason), is_far: false }
    }

    /// The distance by the positions, m, if they are plausible.
    fn metered_distance_m(&self, rules: &RidePolicy) -> Result<u32, ReviewReason> {
        if self.points.len() < 2 {
            return Err(ReviewReason::NoTrace);
        }
        if self.longest_gap_ms() >= rules.silent_after_ms {
            return Err(ReviewReason::TraceGap);
        }
        let distance_m = length(self.points).rounded();
        if distance_m > reach_m(rules, self.duration_s()) {
            return Err(ReviewReason::TooFast);
        }
        Ok(distance_m)
    }

    /// The longest time without a position, ms.
    fn longest_gap_ms(&self) -> u64 {
        let times = self.points.iter().map(|point| point.at);
        let mut before = self.started_at;
        let gaps = times.chain([self.ended_at]).map(|at| {
            let gap = at.since_ms(before);
            before = at;
            gap
        });
        gaps.max().unwrap_or(0)
    }

    fn is_far(&self, rules: &RidePolicy) -> bool {
        let end = self.points.last().map(|point| point.position);
        let radius = Metres(rules.destination_radius_m.into());
        self.destination.zip(end).is_some_and(|(destination, end)| end.distance_to(destination) > radius)
    }
}

/// The longest distance that a car drives in `duration_s`, m.
pub fn reach_m(rules: &RidePolicy, duration_s: u32) -> u32 {
    let reach = u64::from(rules.max_speed_kmh) * u64::from(duration_s) * 1000 / 3600;
    u32::try_from(reach).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place north of the pickup.
    fn place(north_m: f64) -> Coordinate {
        Coordinate::new(37.5662 + north_m / 111_226.0, 126.9784).unwrap()
    }

    fn drive(step_m: f64, step_ms: i64, count: i64) -> Vec<RoutePoint> {
        let point = |n: i64| RoutePoint { position: place(step_m * n as f64), at: EpochMs(step_ms * n) };
        (0..=count).map(point).collect()
    }

    /// A trip of `points` to a destination, with the estimate of the way there.
    fn trip(points: &[RoutePoint], ended_ms: i64, destination_m: f64) -> Trip<'_> {
        let fares = FareTable::default();
        Trip {
            points,
            started_at: EpochMs(0),
            ended_at: EpochMs(ended_ms),
            pickup: place(0.0),
            destination: Some(place(destination_m)),
            estimated_fare: fares.estimate(place(0.0), place(destination_m), 720).amount,
            local_minute: 720,
        }
    }

    fn bill(trip: &Trip<'_>) -> Bill {
        trip.bill(&FareTable::default(), &RidePolicy::default())
    }

    #[test]
    fn an_honest_ride_costs_what_the_meter_shows() {
        // 10 m/s for ten minutes.
        let points = drive(100.0, 10_000, 60);
        let billed = bill(&trip(&points, 600_000, 5_900.0));
        assert!((5_990..6_010).contains(&billed.totals.distance_m), "{billed:?}");
        let fare = FareTable::default().for_trip(billed.totals.distance_m, 600, 720).amount;
        assert_eq!(billed, TripTotals { fare, distance_m: billed.totals.distance_m, duration_s: 600 }.into());
    }

    #[test]
    fn kilometres_within_seconds_cost_the_estimate() {
        let points: Vec<_> = (0..40)
            .map(|n| RoutePoint { position: place(f64::from(n % 2) * 44_000.0), at: EpochMs(i64::from(n) * 250) })
            .collect();
        let ride = trip(&points, 12_000, 600.0);
        let billed = bill(&ride);
        assert_eq!((billed.review, billed.metered_fare), (Some(ReviewReason::TooFast), None));
        assert_eq!((billed.totals.fare, billed.totals.distance_m), (ride.estimated_fare, 500), "150 km/h for 12 s");
    }

    #[test]
    fn the_bound_is_exact() {
        let rules = RidePolicy::default();
        assert_eq!((reach_m(&rules, 24), reach_m(&rules, 0), reach_m(&rules, u32::MAX)), (1000, 0, u32::MAX));
        for (distance_m, review) in [(999.4, None), (1000.6, Some(ReviewReason::TooFast))] {
            let points = drive(distance_m, 24_000, 1);
            assert_eq!(bill(&trip(&points, 24_999, distance_m)).review, review, "{distance_m} m in 24 s");
        }
    }

    #[test]
    fn a_fare_above_the_multiple_costs_the_estimate_and_keeps_the_metered_fare() {
        // 20 km with a destination next door.
        let points = drive(100.0, 10_000, 200);
        let ride = trip(&points, 2_000_000, 500.0);
        let billed = bill(&ride);
        assert_eq!(billed.review, Some(ReviewReason::FareAboveEstimate));
        assert_eq!(billed.totals.fare, ride.estimated_fare);
        assert!(billed.is_far && billed.metered_fare.is_some_and(|fare| fare > 3 * ride.estimated_fare), "{billed:?}");
        let exactly = Trip { estimated_fare: billed.metered_fare.unwrap() / 3, ..ride };
        let paid = bill(&exactly);
        assert_eq!(paid.review.is_none(), paid.metered_fare.unwrap() * 100 <= exactly.estimated_fare * 300);
    }

    #[test]
    fn a_trace_that_is_missing_costs_the_estimate() {
        let one = drive(0.0, 1000, 0);
        for points in [&[][..], &one] {
            let ride = trip(points, 60_000, 500.0);
            let billed = bill(&ride);
            assert_eq!((billed.review, billed.totals.fare), (Some(ReviewReason::NoTrace), ride.estimated_fare));
            assert_eq!(billed.totals.distance_m, 650, "as estimated");
        }
        let points = drive(10.0, 10_000, 6);
        let gap = |ended_ms| bill(&trip(&points, ended_ms, 500.0)).review;
        assert_eq!((gap(659_999), gap(660_000)), (None, Some(ReviewReason::TraceGap)));
    }

    #[test]
    fn an_end_far_from_the_destination_is_noticed() {
        let points = drive(100.0, 10_000, 30);
        for (destination_m, is_far) in [(3_900.0, false), (4_100.0, true), (2_100.0, false), (1_900.0, true)] {
            assert_eq!(bill(&trip(&points, 300_000, destination_m)).is_far, is_far, "{destination_m}");
        }
    }

    #[test]
    fn reasons_have_one_name() {
        let names: std::collections::BTreeSet<_> = ReviewReason::ALL.map(ReviewReason::as_str).into();
        assert_eq!(names.len(), ReviewReason::ALL.len());
        for reason in ReviewReason::ALL {
            assert_eq!(ReviewReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(ReviewReason::parse("LATE"), None);
    }
}
