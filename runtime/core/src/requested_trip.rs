//! Which trips users can request.

use crate::geo::Coordinate;
use crate::service_area::ServiceArea;

/// Distance within which pickup and destination are the same place, m: the error of a phone's position in the open.
pub const SAME_PLACE_M: f64 = 10.0;

/// One end of a trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Pickup,
    Destination,
}

/// Why a trip cannot be requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TripRefusal {
    /// An end is outside the area that the city serves.
    OutsideServiceArea(End),
    /// The trip is longer than this, m.
    TooLong { longest_m: u32 },
    /// Pickup and destination are the same place.
    SamePlace,
}

impl TripRefusal {
    /// The name in metrics and in the `type` of problems.
    pub fn name(self) -> &'static str {
        match self {
            Self::OutsideServiceArea(_) => "outside-service-area",
            Self::TooLong { .. } => "trip-too-long",
            Self::SamePlace => "same-place",
        }
    }
}

/// Checks a trip: both ends in the service area, if there is one, not the same place, and at most `longest_m` apart in
/// a straight line.
pub fn check_trip(
    (pickup, destination): (Coordinate, Coordinate),
    longest_m: u32,
    area: Option<&ServiceArea>,
) -> Result<(), TripRefusal> {
    if let Some(area) = area {
        let ends = [(End::Pickup, pickup), (End::Destination, destination)];
        if let Some((end, _)) = ends.into_iter().find(|(_, place)| !area.contains(*place)) {
            return Err(TripRefusal::OutsideServiceArea(end));
        }
    }
    let distance = pickup.distance_to(destination).0;
    if distance <= SAME_PLACE_M {
        Err(TripRefusal::SamePlace)
    } else if distance > f64::from(longest_m) {
        Err(TripRefusal::TooLong { longest_m })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lat: f64, lng: f64) -> Coordinate {
        Coordinate::new(lat, lng).unwrap()
    }

    /// A place this far to the north, m.
    fn north(from: Coordinate, metres: f64) -> Coordinate {
        at(from.lat() + (metres / crate::geo::EARTH_RADIUS_M).to_degrees(), from.lng())
    }

    #[test]
    fn pickup_and_destination_are_different_places_and_not_too_far_apart() {
        let from = at(37.5662, 126.9784);
        let checked = |metres| check_trip((from, north(from, metres)), 5000, None);
        assert_eq!(checked(0.0), Err(TripRefusal::SamePlace));
        assert_eq!(checked(9.9), Err(TripRefusal::SamePlace));
        assert_eq!(checked(10.1), Ok(()));
        assert_eq!(checked(4999.9), Ok(()));
        assert_eq!(checked(5000.1), Err(TripRefusal::TooLong { longest_m: 5000 }));
    }

    #[test]
    fn both_ends_must_be_in_the_area() {
        let ring = vec![vec![126.0, 37.0], vec![127.0, 37.0], vec![127.0, 38.0], vec![126.0, 38.0], vec![126.0, 37.0]];
        let area = ServiceArea::from_polygons(&[vec![ring]]).unwrap();
        let checked = |from, to| check_trip((from, to), 1_000_000, Some(&area));
        let (inside, other, outside) = (at(37.5, 126.5), at(37.6, 126.6), at(38.5, 126.5));
        assert_eq!(checked(inside, other), Ok(()));
        assert_eq!(checked(outside, inside), Err(TripRefusal::OutsideServiceArea(End::Pickup)));
        assert_eq!(checked(inside, outside), Err(TripRefusal::OutsideServiceArea(End::Destination)));
        assert_eq!(checked(outside, outside), Err(TripRefusal::OutsideServiceArea(End::Pickup)));
        assert_eq!(check_trip((outside, at(38.6, 126.5)), 1_000_000, None), Ok(()), "without an area, anywhere");
    }
}
