//! The travelled route of a trip.

use crate::geo::{Coordinate, Metres};
use crate::time::EpochMs;

/// Most points stored in the `route` array of a dispatch: about 79 bytes each, so 16 KB of the 400 KB an item may have.
pub const ROUTE_POINTS_MAX: usize = 200;

/// Most points the simplification considers: two hours with a ping every four seconds.
const THINNED_POINTS_MAX: usize = 1800;

/// A stored entry of the `route` of a dispatch. Without `Debug`, as every place of a person.
#[derive(Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct RouteEntry {
    /// Degrees.
    pub lat: f64,
    /// Degrees.
    pub lng: f64,
    /// Local time of the city, ISO 8601 with its offset.
    pub timestamp: String,
    /// Metres from the previous entry; absent in the export example of the specification.
    #[cfg_attr(
        feature = "serde",
        serde(default, deserialize_with = "crate::number::whole_or_none", skip_serializing_if = "Option::is_none")
    )]
    pub distance_from_previous: Option<u32>,
}

/// One ping of a trip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoutePoint {
    pub position: Coordinate,
    /// Arrival time by the service's clock.
    pub at: EpochMs,
}

/// Length of a route.
pub fn length(points: &[RoutePoint]) -> Metres {
    Metres(points.windows(2).map(|pair| pair[0].position.distance_to(pair[1].position).0).sum())
}

/// Reduces the route to at most `max` points: the first, the last, and those that matter most to its shape
/// (Visvalingam: the point whose triangle with its neighbours is smallest is removed first).
pub fn simplify(points: &[RoutePoint], max: usize) -> Vec<RoutePoint> {
    // Each removal examines every triangle, so a very long trip is first thinned evenly to bound the work.
    let stride = points.len().div_ceil(THINNED_POINTS_MAX).max(1);
    let mut kept: Vec<RoutePoint> = points.iter().step_by(stride).copied().collect();
    if let (Some(last), Some(kept_last)) = (points.last(), kept.last_mut()) {
        *kept_last = *last;
    }
    while kept.len() > max.max(2) {
        let smallest = (1..kept.len() - 1)
            .map(|i| (i, triangle_area(kept[i - 1].position, kept[i].position, kept[i + 1].position)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b));
        match smallest {
            Some((index, _)) => kept.remove(index),
            None => break,
        };
    }
    kept
}

/// Area of a small triangle in square degrees, with the longitude scaled to the latitude: sufficient to compare
/// triangles of one trip.
fn triangle_area(a: Coordinate, b: Coordinate, c: Coordinate) -> f64 {
    let scale = b.lat().to_radians().cos();
    let (ax, ay) = (a.lng() * scale, a.lat());
    let (bx, by) = (b.lng() * scale, b.lat());
    let (cx, cy) = (c.lng() * scale, c.lat());
    ((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)).abs() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(count: u32) -> Vec<RoutePoint> {
        (0..count)
            .filter_map(|i| {
                let position = Coordinate::new(37.5 + f64::from(i) * 0.0001, 127.0).ok()?;
                Some(RoutePoint { position, at: EpochMs(i64::from(i) * 4000) })
            })
            .collect()
    }

    #[test]
    fn ends_and_the_sharpest_corner_survive() {
        let mut points = line(500);
        points[250].position = Coordinate::new(37.525, 127.01).unwrap();
        let simple = simplify(&points, 10);
        assert_eq!(simple.len(), 10);
        assert_eq!((simple[0], simple[9]), (points[0], points[499]));
        assert!(simple.contains(&points[250]));
    }

    #[test]
    fn a_route_of_days_is_still_bounded() {
        let points = line(40_000);
        let simple = simplify(&points, ROUTE_POINTS_MAX);
        assert_eq!(simple.len(), ROUTE_POINTS_MAX);
        assert_eq!(simple.last(), points.last());
        assert_eq!(simplify(&[], 5), vec![]);
        assert!((length(&points[..2]).0 - 11.1).abs() < 0.1);
    }

    fn point(lat: f64, lng: f64) -> RoutePoint {
        RoutePoint { position: Coordinate::new(lat, lng).unwrap(), at: EpochMs(0) }
    }

    #[test]
    fn a_length_is_the_sum_of_its_legs() {
        let (a, b, c) = (point(37.5, 127.0), point(37.51, 127.0), point(37.51, 127.01));
        let legs = a.position.distance_to(b.position).0 + b.position.distance_to(c.position).0;
        assert!((length(&[a, b, c]).0 - legs).abs() < 1e-9);
        // A hundredth of a degree of latitude, and of longitude at 37.51 degrees.
        assert!((legs - 1112.3 - 882.3).abs() < 1.0, "{legs}");
        assert_eq!((length(&[]), length(&[a])), (Metres(0.0), Metres(0.0)));
    }

    #[test]
    fn an_area_is_that_of_the_shoelace_formula_at_the_middles_latitude() {
        let shoelace = |points: [(f64, f64); 3], scale: f64| {
            let [(ay, ax), (by, bx), (cy, cx)] = points;
            (ax * (by - cy) + bx * (cy - ay) + cx * (ay - by)).abs() * scale / 2.0
        };
        // The cosine of 60 degrees is a half, that of 0 is one.
        for (points, scale) in [
            ([(1.0, 2.0), (0.0, 7.0), (11.0, 5.0)], 1.0),
            ([(61.0, 20.0), (60.0, 27.0), (71.0, 23.0)], 0.5),
            ([(-3.0, -9.0), (60.0, 4.0), (2.0, 11.0)], 0.5),
        ] {
            let [a, b, c] = points.map(|(lat, lng)| point(lat, lng).position);
            let area = triangle_area(a, b, c);
            assert!((area - shoelace(points, scale)).abs() < 1e-9, "{area}, {}", shoelace(points, scale));
        }
    }

    #[test]
    fn the_flattest_corner_is_removed_first() {
        // Corners of growing sharpness on the way north.
        let offsets = [0.0, 0.004, 0.0, 0.001, 0.0, 0.002, 0.0];
        let points: Vec<RoutePoint> =
            offsets.iter().enumerate().map(|(n, east)| point(37.5 + 0.01 * n as f64, 127.0 + east)).collect();
        assert_eq!(simplify(&points, 7), points, "nothing is removed that fits");
        let six = simplify(&points, 6);
        assert_eq!(six, [&points[..3], &points[4..]].concat(), "the corner at 1/1000 degree");
        let shortest = simplify(&points, 0);
        assert_eq!(shortest, [points[0], points[6]], "both ends stay");
    }
}
