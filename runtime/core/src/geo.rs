//! Coordinates and distances.

use thiserror::Error;

/// Mean earth radius, m. Redis' GEO commands use the same value, so both sides of a search agree to the metre.
pub const EARTH_RADIUS_M: f64 = 6_372_797.560_856;

/// Why two numbers are not a valid coordinate.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CoordinateError {
    /// Latitude outside -90 to 90, or not finite.
    #[error("lat must be a number from -90 to 90")]
    Latitude,
    /// Longitude outside -180 to 180, or not finite.
    #[error("lng must be a number from -180 to 180")]
    Longitude,
}

/// A position on earth, in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coordinate {
    lat: f64,
    lng: f64,
}

impl Coordinate {
    /// Checks the ranges; NaN and infinities are rejected.
    pub fn new(lat: f64, lng: f64) -> Result<Self, CoordinateError> {
        if !(-90.0..=90.0).contains(&lat) {
            return Err(CoordinateError::Latitude);
        }
        if !(-180.0..=180.0).contains(&lng) {
            return Err(CoordinateError::Longitude);
        }
        Ok(Self { lat, lng })
    }

    /// Latitude in degrees.
    pub fn lat(self) -> f64 {
        self.lat
    }

    /// Longitude in degrees.
    pub fn lng(self) -> f64 {
        self.lng
    }

    /// Great-circle distance (haversine).
    pub fn distance_to(self, other: Self) -> Metres {
        let (lat1, lat2) = (self.lat.to_radians(), other.lat.to_radians());
        let half_lat = ((lat2 - lat1) / 2.0).sin();
        let half_lng = ((other.lng - self.lng).to_radians() / 2.0).sin();
        let a = half_lat.mul_add(half_lat, lat1.cos() * lat2.cos() * half_lng * half_lng);
        Metres(2.0 * EARTH_RADIUS_M * a.clamp(0.0, 1.0).sqrt().asin())
    }
}

/// A distance in metres, never negative.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Metres(pub f64);

impl Metres {
    /// Converts kilometres. `maxDistance` of spec §6 is in kilometres, everything else in metres.
    pub fn from_km(km: f64) -> Self {
        Self(km * 1000.0)
    }

    /// Whole metres, rounded: the form stored in items.
    pub fn rounded(self) -> u32 {
        // The clamp makes the conversion exact; half the earth's circumference is 20,020,000 m.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of u32")]
        let whole = self.0.round().clamp(0.0, f64::from(u32::MAX)) as u32;
        whole
    }
}

/// The district of a Korean address: the first word that ends in 구, else in 군, else in 시 (`서울시 중구 명동` is in `중구`). GSI1
/// sorts drivers by it (`REGION#강남구#…` in spec §6). An address without a district is in region `-`.
pub fn region_of_address(address: &str) -> &str {
    let ending =
        |suffix: char| address.split_whitespace().find(|word| word.ends_with(suffix) && word.chars().count() > 1);
    ending('구').or_else(|| ending('군')).or_else(|| ending('시')).unwrap_or("-")
}

/// A place with its address, as users and drivers state it. Without `Debug`: it may be someone's home.
#[derive(Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Location {
    /// Degrees.
    pub lat: f64,
    /// Degrees.
    pub lng: f64,
    #[cfg_attr(feature = "serde", serde(default))]
    pub address: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_distance_of_the_specifications_example_is_right() {
        // Myeong-dong to Jongno on a flat map: 757 m north and 141 m west give 770 m.
        let pickup = Coordinate { lat: 37.5662, lng: 126.9784 };
        let destination = Coordinate { lat: 37.5730, lng: 126.9768 };
        assert!((pickup.distance_to(destination).0 - 769.0).abs() < 2.0, "{:?}", pickup.distance_to(destination));
        assert_eq!(pickup.distance_to(pickup).rounded(), 0);
    }

    #[test]
    fn ranges_are_closed_and_nan_is_rejected() {
        assert!(Coordinate::new(90.0, -180.0).is_ok());
        assert_eq!(Coordinate::new(f64::NAN, 0.0), Err(CoordinateError::Latitude));
        assert_eq!(Coordinate::new(0.0, 180.1), Err(CoordinateError::Longitude));
        assert_eq!(Coordinate::new(0.0, f64::INFINITY), Err(CoordinateError::Longitude));
    }

    #[test]
    fn region_is_the_district() {
        assert_eq!(region_of_address("서울시 중구 명동"), "중구");
        assert_eq!(region_of_address("서울특별시 강남구 테헤란로 1"), "강남구");
        assert_eq!(region_of_address("부산광역시 기장군 정관읍"), "기장군");
        assert_eq!(region_of_address("세종특별자치시 한누리대로"), "세종특별자치시");
        assert_eq!(region_of_address("somewhere"), "-");
    }

    /// The angle between two directions by the dot product of their unit vectors: another way than the haversine.
    fn by_vectors(a: Coordinate, b: Coordinate) -> f64 {
        let unit = |at: Coordinate| {
            let (lat, lng) = (at.lat().to_radians(), at.lng().to_radians());
            [lat.cos() * lng.cos(), lat.cos() * lng.sin(), lat.sin()]
        };
        let dot: f64 = unit(a).iter().zip(unit(b)).map(|(a, b)| a * b).sum();
        dot.clamp(-1.0, 1.0).acos() * EARTH_RADIUS_M
    }

    proptest! {
        #[test]
        fn distances_are_those_of_the_angle_between_two_directions(
            (lat1, lng1) in (-90.0..=90.0, -180.0..=180.0),
            (lat2, lng2) in (-90.0..=90.0, -180.0..=180.0),
        ) {
            let (a, b) = (Coordinate::new(lat1, lng1).unwrap(), Coordinate::new(lat2, lng2).unwrap());
            let distance = a.distance_to(b).0;
            // The arc cosine is inexact near 0 and 180 degrees.
            prop_assert!((distance - by_vectors(a, b)).abs() < 1.0, "{} instead of {}", distance, by_vectors(a, b));
            prop_assert!((distance - b.distance_to(a).0).abs() < 1e-6, "the way back is as long");
        }
    }

    #[test]
    fn a_coordinate_is_what_it_was_made_of() {
        let at = Coordinate::new(37.5, -127.25).unwrap();
        assert_eq!((at.lat(), at.lng()), (37.5, -127.25));
        assert_eq!(Coordinate::new(90.1, 0.0), Err(CoordinateError::Latitude));
        assert_eq!(Coordinate::new(-90.1, 0.0), Err(CoordinateError::Latitude));
        assert_eq!(Coordinate::new(0.0, -180.1), Err(CoordinateError::Longitude));
        assert!(Coordinate::new(-90.0, 180.0).is_ok());
    }

    #[test]
    fn kilometres_become_metres_and_metres_are_rounded() {
        assert_eq!(Metres::from_km(2.5), Metres(2500.0));
        let rounded = [0.0, 0.49, 0.5, 1.49, 2500.5, -3.0, 1e12].map(|metres| Metres(metres).rounded());
        assert_eq!(rounded, [0, 0, 1, 1, 2501, 0, u32::MAX]);
    }

    #[test]
    fn a_suffix_alone_is_no_district() {
        assert_eq!(region_of_address("구 시 중구"), "중구");
        assert_eq!(region_of_address("구 군 시"), "-");
        assert_eq!(region_of_address("경기도 수원시 팔달구"), "팔달구");
        assert_eq!(region_of_address("수원시 기장군"), "기장군", "a county before a city");
        assert_eq!(region_of_address(""), "-");
    }
}
