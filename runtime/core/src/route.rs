//! The travelled route of a trip.

use crate::geo::{Coordinate, Metres};
use crate::time::EpochMs;

/// Most points stored in the `route` array of a dispatch: about 79 bytes each, so 16 KB of the 400 KB an item may have.
pub const ROUTE_POINTS_MAX: usize = 200;

/// Most points the simplification considers: two hours with a ping every four seconds.
const THINNED_POINTS_MAX: usize = 1800;

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
}
