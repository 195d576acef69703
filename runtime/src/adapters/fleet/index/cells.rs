//! Cells that hold the numbers of drivers, and lower bounds for the distance of everything beyond a ring of cells.

use std::collections::HashMap;
use std::f64::consts::PI;

use ahash::RandomState;
use dispatch_core::geo::Coordinate;
use h3o::{CellIndex, LatLng, Resolution};

/// Metres per degree of latitude, with the earth's radius of `dispatch_core::geo`.
const METRES_OF_DEGREE: f64 = 6_372_797.560_856 * PI / 180.0;
/// Highest latitude at which a flat map is accurate enough to exclude drivers.
const FLAT_UP_TO: f64 = 70.0;
/// Relative error of the flat map. Up to 100 km and up to that latitude it is at most half the difference of latitude
/// (0.0157) times the tangent of the latitude (2.7), which is 2.2 %.
const FLAT_ERROR: f64 = 0.04;
/// Cells differ in size from place to place, but by less than this within the rings of one search (H3 documentation,
/// "Cell statistics": a factor of two over half the distance between two pentagons, about 3,000 km).
const ROWS_SHRINK: f64 = 0.93;
/// Distance of a cell's corners relative to the distance of its neighbours' centres: 0.577 in a regular hexagon, plus a
/// margin for distorted ones.
const CORNER: f64 = 0.66;

/// The position of a driver's number in a cell. Packed, because every driver of a city has two: 12 bytes instead of 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed(4))]
pub(super) struct Place {
    pub(super) cell: Option<CellIndex>,
    pub(super) slot: u32,
}

impl Place {
    pub(super) const NOWHERE: Self = Self { cell: None, slot: 0 };
}

/// All occupied cells of one size.
pub(super) struct Level {
    pub(super) resolution: Resolution,
    /// Rings per search.
    pub(super) rings: u32,
    cells: HashMap<CellIndex, Vec<u32>, RandomState>,
}

impl Level {
    pub(super) fn new(resolution: Resolution, rings: u32) -> Self {
        Self { resolution, rings, cells: HashMap::default() }
    }

    pub(super) fn drivers_in(&self, cell: CellIndex) -> &[u32] {
        self.cells.get(&cell).map_or(&[], Vec::as_slice)
    }

    /// Adds a number to a cell.
    pub(super) fn lay(&mut self, cell: CellIndex, number: u32) -> Place {
        let numbers = self.cells.entry(cell).or_default();
        numbers.push(number);
        Place { cell: Some(cell), slot: u32::try_from(numbers.len() - 1).unwrap_or(u32::MAX) }
    }

    /// Removes the number at a place. Returns the number that has moved to that place.
    pub(super) fn take(&mut self, place: Place) -> Option<u32> {
        let cell = place.cell?;
        let numbers = self.cells.get_mut(&cell)?;
        let slot = place.slot as usize;
        if slot < numbers.len() {
            numbers.swap_remove(slot);
        }
        let moved = numbers.get(slot).copied();
        if numbers.is_empty() {
            self.cells.remove(&cell);
        }
        moved
    }

    /// Changes the number at a place.
    pub(super) fn renumber(&mut self, place: Place, number: u32) {
        let cell = place.cell;
        let numbers = cell.and_then(|cell| self.cells.get_mut(&cell));
        if let Some(stored) = numbers.and_then(|numbers| numbers.get_mut(place.slot as usize)) {
            *stored = number;
        }
    }
}

/// A flat map around a place. It cheaply excludes most drivers that are too far away.
pub(super) struct FlatMap {
    center: Coordinate,
    /// Metres per degree of longitude at the centre. `None` where a flat map is too inaccurate.
    metres_of_degree: Option<f64>,
}

impl FlatMap {
    pub(super) fn around(center: Coordinate) -> Self {
        let flat = center.lat().abs() <= FLAT_UP_TO;
        Self { center, metres_of_degree: flat.then(|| METRES_OF_DEGREE * center.lat().to_radians().cos()) }
    }

    /// Whether a place is certainly farther than `limit_m`. Exact only up to 100 km; never true for a nearer place.
    pub(super) fn is_beyond(&self, place: Coordinate, limit_m: f64) -> bool {
        self.metres_of_degree.is_some_and(|metres_of_degree| {
            let east = degrees_between(place.lng(), self.center.lng()) * metres_of_degree;
            let north = (place.lat() - self.center.lat()) * METRES_OF_DEGREE;
            let limit_m = limit_m * (1.0 + FLAT_ERROR);
            east.mul_add(east, north * north) > limit_m * limit_m
        })
    }

    /// Metres east and north of the centre.
    fn offset(&self, place: LatLng) -> Option<(f64, f64)> {
        let east = degrees_between(place.lng(), self.center.lng()) * self.metres_of_degree?;
        Some((east, (place.lat() - self.center.lat()) * METRES_OF_DEGREE))
    }
}

/// Difference of two longitudes, the short way round.
fn degrees_between(a: f64, b: f64) -> f64 {
    let apart = a - b;
    if apart > 180.0 {
        apart - 360.0
    } else if apart < -180.0 {
        apart + 360.0
    } else {
        apart
    }
}

/// Lower bounds for the distance of the rings around a cell.
pub(super) struct RingBounds {
    /// Distance between two rows of cells.
    row_m: f64,
    /// How much nearer than its cell's centre a driver can be, because the pickup is not at the centre of its own cell.
    reach_m: f64,
}

impl RingBounds {
    /// The bounds for the cell at the map's centre. `None` near a pentagon or where the map is too inaccurate.
    pub(super) fn new(origin: CellIndex, map: &FlatMap) -> Option<Self> {
        let center = map.offset(LatLng::from(origin))?;
        let mut neighbours = [(0.0, 0.0); 6];
        for (neighbour, cell) in neighbours.iter_mut().zip(origin.grid_ring_fast(1)) {
            let (east, north) = map.offset(LatLng::from(cell?))?;
            *neighbour = (east - center.0, north - center.1);
        }
        let lengths = neighbours.iter().map(|(east, north)| east.hypot(*north));
        let widest = lengths.fold(0.0, f64::max);
        // The cells of a ring form a hexagon: its nearest points are on its sides.
        let sides = neighbours.iter().zip(neighbours.iter().cycle().skip(1));
        let row_m = sides.map(|(a, b)| distance_of_side(*a, *b)).fold(f64::INFINITY, f64::min);
        Some(Self { row_m: row_m * ROWS_SHRINK, reach_m: widest.mul_add(CORNER, center.0.hypot(center.1)) })
    }

    /// Shortest possible distance from the map's centre to anything beyond the ring, m.
    pub(super) fn nearest_beyond(&self, ring: u32) -> f64 {
        f64::from(ring + 1) * self.row_m - self.reach_m
    }
}

/// Distance from the origin to the line through two points.
fn distance_of_side(a: (f64, f64), b: (f64, f64)) -> f64 {
    let twice_the_area = (a.0 * b.1 - a.1 * b.0).abs();
    let length = (a.0 - b.0).hypot(a.1 - b.1);
    if length > 0.0 { twice_the_area / length } else { 0.0 }
}
