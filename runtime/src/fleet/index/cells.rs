//! Cells with the numbers of the drivers in them, and how near whatever lies beyond a ring of cells can be.

use std::collections::HashMap;
use std::f64::consts::PI;

use ahash::RandomState;
use dispatch_core::geo::Coordinate;
use h3o::{CellIndex, LatLng, Resolution};

/// Metres of a degree of latitude, with the earth's radius of `dispatch_core::geo`.
const METRES_OF_DEGREE: f64 = 6_372_797.560_856 * PI / 180.0;
/// Latitude up to which a flat map is good enough to leave drivers out by.
const FLAT_UP_TO: f64 = 70.0;
/// What a flat map may be wrong by: up to 100 km, and up to that latitude, it is by at most half the difference of latitude (0.0157)
/// times the tangent of the latitude (2.7), which is 2.2 %.
const FLAT_ERROR: f64 = 0.04;
/// Cells differ in size from place to place, but by less than this within the rings of one search (H3 documentation, "Cell
/// statistics": a factor of two over half the distance between two pentagons, some 3,000 km).
const ROWS_SHRINK: f64 = 0.93;
/// Corner distance of a cell by the distance of its neighbours' centres: 0.577 in a regular hexagon, with room for bent ones.
const CORNER: f64 = 0.66;

/// Where a driver's number stands. Packed, because every driver of a city has two of them: 12 bytes instead of 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed(4))]
pub(super) struct Place {
    pub(super) cell: Option<CellIndex>,
    pub(super) slot: u32,
}

impl Place {
    pub(super) const NOWHERE: Self = Self { cell: None, slot: 0 };
}

/// All cells of one size that have drivers.
pub(super) struct Level {
    pub(super) resolution: Resolution,
    /// Rings a search looks at.
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

    /// Lays a number into a cell.
    pub(super) fn lay(&mut self, cell: CellIndex, number: u32) -> Place {
        let numbers = self.cells.entry(cell).or_default();
        numbers.push(number);
        Place { cell: Some(cell), slot: u32::try_from(numbers.len() - 1).unwrap_or(u32::MAX) }
    }

    /// Takes the number at a place out; gives the number that now stands there instead.
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

    /// The driver at a place has another number.
    pub(super) fn renumber(&mut self, place: Place, number: u32) {
        let cell = place.cell;
        let numbers = cell.and_then(|cell| self.cells.get_mut(&cell));
        if let Some(stored) = numbers.and_then(|numbers| numbers.get_mut(place.slot as usize)) {
            *stored = number;
        }
    }
}

/// A flat map around a place, which leaves out at little cost most drivers that are too far.
pub(super) struct Rough {
    center: Coordinate,
    /// Metres of a degree of longitude there; `None` where a flat map is too wrong.
    metres_of_degree: Option<f64>,
}

impl Rough {
    pub(super) fn around(center: Coordinate) -> Self {
        let flat = center.lat().abs() <= FLAT_UP_TO;
        Self { center, metres_of_degree: flat.then(|| METRES_OF_DEGREE * center.lat().to_radians().cos()) }
    }

    /// Whether a place is certainly further than this. It may be nearer than 100 km only where it says no.
    pub(super) fn is_beyond(&self, place: Coordinate, limit_m: f64) -> bool {
        self.metres_of_degree.is_some_and(|metres_of_degree| {
            let east = degrees_between(place.lng(), self.center.lng()) * metres_of_degree;
            let north = (place.lat() - self.center.lat()) * METRES_OF_DEGREE;
            let limit_m = limit_m * (1.0 + FLAT_ERROR);
            east.mul_add(east, north * north) > limit_m * limit_m
        })
    }

    /// East and north of the centre, m, on the flat map.
    fn offset(&self, place: LatLng) -> Option<(f64, f64)> {
        let east = degrees_between(place.lng(), self.center.lng()) * self.metres_of_degree?;
        Some((east, (place.lat() - self.center.lat()) * METRES_OF_DEGREE))
    }
}

/// Difference of two longitudes the short way round.
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

/// The rings around a cell.
pub(super) struct Around {
    /// Distance between two rows of cells.
    row_m: f64,
    /// How much nearer than its cell's centre a driver can be to a pickup that is not at its own cell's centre.
    reach_m: f64,
}

impl Around {
    /// Of the cell the map's centre is in; `None` where a pentagon is near, or the map is too wrong.
    pub(super) fn of(origin: CellIndex, map: &Rough) -> Option<Self> {
        let center = map.offset(LatLng::from(origin))?;
        let mut neighbours = [(0.0, 0.0); 6];
        for (neighbour, cell) in neighbours.iter_mut().zip(origin.grid_ring_fast(1)) {
            let (east, north) = map.offset(LatLng::from(cell?))?;
            *neighbour = (east - center.0, north - center.1);
        }
        let lengths = neighbours.iter().map(|(east, north)| east.hypot(*north));
        let widest = lengths.fold(0.0, f64::max);
        // The cells of a ring stand on the sides of a hexagon: the ring is nearest where a side is.
        let sides = neighbours.iter().zip(neighbours.iter().cycle().skip(1));
        let row_m = sides.map(|(a, b)| distance_of_side(*a, *b)).fold(f64::INFINITY, f64::min);
        Some(Self { row_m: row_m * ROWS_SHRINK, reach_m: widest.mul_add(CORNER, center.0.hypot(center.1)) })
    }

    /// How near to the map's centre anything beyond the ring can be, m.
    pub(super) fn nearest_beyond(&self, ring: u32) -> f64 {
        f64::from(ring + 1) * self.row_m - self.reach_m
    }
}

/// Distance of the origin to the line through two points.
fn distance_of_side(a: (f64, f64), b: (f64, f64)) -> f64 {
    let twice_the_area = (a.0 * b.1 - a.1 * b.0).abs();
    let length = (a.0 - b.0).hypot(a.1 - b.1);
    if length > 0.0 { twice_the_area / length } else { 0.0 }
}
