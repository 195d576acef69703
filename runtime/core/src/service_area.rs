//! The area that a city serves: polygons with holes, as GeoJSON has them (RFC 7946).
//!
//! The edges of a ring are straight lines of longitude and latitude. A position on an edge belongs to the area, also on
//! the edge of a hole. A ring cannot cross the antimeridian: such an area has a polygon on each side of it, which end
//! at 180 and -180 degrees, and both belong to the area.

use std::fmt;

use thiserror::Error;

use crate::geo::Coordinate;

/// Maximum positions of an area: with 20 bytes each they take 40 KB of the manifest and of the workers' configuration,
/// and a check takes some 10 µs. Outlines of cities with a deviation of 20 m have a few hundred.
pub const POSITIONS_MAX: usize = 2000;

/// Fewest positions of a ring: a triangle, closed.
const RING_POSITIONS_MIN: usize = 4;

/// Largest distance from an edge, in degrees, at which a position is on it: 0.1 mm, the error of the arithmetic.
const ON_EDGE_DEG: f64 = 1e-9;

/// Largest difference between the longitude of a place and that of its time zone, in degrees, that is taken for normal.
/// In the far west of Argentina it is 28.
const ZONE_DIFFERENCE_MAX: f64 = 30.0;

/// Rings of a polygon as `[longitude, latitude]`: the outline, then holes.
pub type Rings = Vec<Vec<Vec<f64>>>;

/// A position in the area's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub polygon: usize,
    pub ring: Option<usize>,
    pub position: Option<usize>,
}

impl Place {
    /// The indexes below the polygon, `[ring][position]`.
    pub fn in_polygon(&self) -> String {
        match (self.ring, self.position) {
            (Some(ring), Some(position)) => format!("[{ring}][{position}]"),
            (Some(ring), None) => format!("[{ring}]"),
            (None, _) => String::new(),
        }
    }
}

impl fmt::Display for Place {
    /// The indexes below the list of polygons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]{}", self.polygon, self.in_polygon())
    }
}

/// Why a description is no area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AreaError {
    /// There is no polygon.
    #[error("has no polygon")]
    Empty,
    /// There are too many positions.
    #[error("has {number} positions, at most {POSITIONS_MAX} are allowed; simplify the outline")]
    TooLarge { number: usize },
    /// A polygon, a ring or a position is invalid.
    #[error("{at} {problem}")]
    Invalid { at: Place, problem: RingProblem },
}

/// What is wrong with a part of an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RingProblem {
    #[error("must have a ring, the outline")]
    NoRing,
    #[error("a ring must have at least {RING_POSITIONS_MIN} positions, of which the last repeats the first")]
    Short,
    #[error("the last position of a ring must repeat the first")]
    Open,
    #[error("a ring must enclose an area")]
    Flat,
    #[error("a position is [longitude, latitude] in degrees, -180 to 180 and -90 to 90")]
    NoPosition,
    #[error("a position is [longitude, latitude] in degrees; this one has the latitude first")]
    Swapped,
    #[error(
        "must not be more than 180 degrees east or west of the position before it; cut an area that crosses the \
         antimeridian into two polygons, which end at 180 and -180"
    )]
    Antimeridian,
}

/// A position of a ring: longitude and latitude in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    lng: f64,
    lat: f64,
}

/// A closed ring.
#[derive(Debug, Clone, PartialEq)]
struct Ring(Vec<Point>);

/// Where a position is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Inside,
    Edge,
    Outside,
}

/// A polygon.
#[derive(Debug, Clone, PartialEq)]
struct Polygon {
    outline: Ring,
    holes: Vec<Ring>,
}

/// A valid area.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceArea {
    polygons: Vec<Polygon>,
}

impl ServiceArea {
    /// Checks the `coordinates` of a GeoJSON `MultiPolygon`, without altitudes.
    pub fn from_polygons(polygons: &[Rings]) -> Result<Self, AreaError> {
        if polygons.is_empty() {
            return Err(AreaError::Empty);
        }
        let number = polygons.iter().flatten().map(Vec::len).sum();
        if number > POSITIONS_MAX {
            return Err(AreaError::TooLarge { number });
        }
        let polygons = polygons.iter().enumerate().map(|(polygon, rings)| {
            let mut valid = rings.iter().enumerate().map(|(ring, positions)| {
                Ring::new(positions).map_err(|(position, problem)| {
                    let at = Place { polygon, ring: Some(ring), position };
                    AreaError::Invalid { at, problem }
                })
            });
            let none =
                AreaError::Invalid { at: Place { polygon, ring: None, position: None }, problem: RingProblem::NoRing };
            let outline = valid.next().ok_or(none)??;
            Ok(Polygon { outline, holes: valid.collect::<Result<_, AreaError>>()? })
        });
        Ok(Self { polygons: polygons.collect::<Result<_, AreaError>>()? })
    }

    /// The area as [`ServiceArea::from_polygons`] reads it.
    pub fn polygons(&self) -> Vec<Rings> {
        let ring = |ring: &Ring| ring.0.iter().map(|point| vec![point.lng, point.lat]).collect();
        let rings = |polygon: &Polygon| std::iter::once(&polygon.outline).chain(&polygon.holes).map(ring).collect();
        self.polygons.iter().map(rings).collect()
    }

    /// Whether a place is in the area.
    pub fn contains(&self, place: Coordinate) -> bool {
        let point = Point { lng: place.lng(), lat: place.lat() };
        // The antimeridian has two longitudes.
        let other = (point.lng.abs() >= 180.0).then_some(Point { lng: -point.lng, ..point });
        let points = std::iter::once(point).chain(other);
        points.into_iter().any(|point| self.polygons.iter().any(|polygon| polygon.contains(point)))
    }

    /// Whether the area makes sense only with latitude and longitude exchanged: it is far from the longitude of the
    /// city's time zone, and would be near it.
    pub fn looks_swapped(&self, zone_lng: f64) -> bool {
        let near = |lng: f64| (lng - zone_lng + 540.0).rem_euclid(360.0) - 180.0;
        let swapped =
            |point: &Point| near(point.lng).abs() > ZONE_DIFFERENCE_MAX && near(point.lat).abs() <= ZONE_DIFFERENCE_MAX;
        self.polygons.iter().flat_map(|polygon| &polygon.outline.0).all(swapped)
    }
}

impl Polygon {
    fn contains(&self, point: Point) -> bool {
        self.outline.side_of(point) != Side::Outside
            && self.holes.iter().all(|hole| hole.side_of(point) != Side::Inside)
    }
}

impl Ring {
    /// Fails with the index of the position, if there is a single one, and the problem.
    fn new(positions: &[Vec<f64>]) -> Result<Self, (Option<usize>, RingProblem)> {
        let points = positions
            .iter()
            .enumerate()
            .map(|(index, position)| Point::new(position).map_err(|problem| (Some(index), problem)));
        let points = points.collect::<Result<Vec<Point>, _>>()?;
        let (Some(first), Some(last), RING_POSITIONS_MIN..) = (points.first(), points.last(), points.len()) else {
            return Err((None, RingProblem::Short));
        };
        if first != last {
            return Err((Some(points.len() - 1), RingProblem::Open));
        }
        let far = |pair: &[Point]| (pair[1].lng - pair[0].lng).abs() > 180.0;
        if let Some(before) = points.windows(2).position(far) {
            return Err((Some(before + 1), RingProblem::Antimeridian));
        }
        let ring = Self(points);
        if ring.is_flat() { Err((None, RingProblem::Flat)) } else { Ok(ring) }
    }

    /// Whether all positions are on one line.
    fn is_flat(&self) -> bool {
        let (first, rest) = (self.0[0], &self.0[1..]);
        let distance = |point: &Point| (point.lng - first.lng).hypot(point.lat - first.lat);
        let Some(farthest) = rest.iter().max_by(|a, b| distance(a).total_cmp(&distance(b))) else { return true };
        rest.iter().all(|point| point.distance_to_edge(first, *farthest) <= ON_EDGE_DEG)
    }

    /// Where a point is: inside if a ray to the east crosses an odd number of edges.
    fn side_of(&self, point: Point) -> Side {
        let mut inside = false;
        for edge in self.0.windows(2) {
            let (a, b) = (edge[0], edge[1]);
            if point.distance_to_edge(a, b) <= ON_EDGE_DEG {
                return Side::Edge;
            }
            if (a.lat > point.lat) != (b.lat > point.lat) {
                let crossing = (b.lng - a.lng) * ((point.lat - a.lat) / (b.lat - a.lat)) + a.lng;
                inside ^= point.lng < crossing;
            }
        }
        if inside { Side::Inside } else { Side::Outside }
    }
}

impl Point {
    fn new(position: &[f64]) -> Result<Self, RingProblem> {
        let (lng, lat) = match position {
            [lng, lat] => (*lng, *lat),
            _ => return Err(RingProblem::NoPosition),
        };
        let valid = |lng: f64, lat: f64| Coordinate::new(lat, lng).is_ok();
        match (valid(lng, lat), valid(lat, lng)) {
            (true, _) => Ok(Self { lng, lat }),
            (false, true) => Err(RingProblem::Swapped),
            (false, false) => Err(RingProblem::NoPosition),
        }
    }

    /// Distance to the nearest point of an edge, degrees.
    fn distance_to_edge(self, a: Self, b: Self) -> f64 {
        let (dx, dy) = (b.lng - a.lng, b.lat - a.lat);
        let (px, py) = (self.lng - a.lng, self.lat - a.lat);
        let length_squared = dx * dx + dy * dy;
        let along = if length_squared > 0.0 { ((px * dx + py * dy) / length_squared).clamp(0.0, 1.0) } else { 0.0 };
        (px - along * dx).hypot(py - along * dy)
    }
}

#[cfg(test)]
mod tests;
