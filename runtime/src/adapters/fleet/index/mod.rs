//! The drivers of a city by position, in the memory of one process. Pure: the caller passes time and positions, and
//! nothing is awaited.
//!
//! Drivers are sorted into H3 cells (<https://h3geo.org>) of two sizes. A search visits the cells around the pickup
//! ring by ring and stops when no farther cell can hold a nearer driver than those found. It starts with fine cells,
//! which hold few drivers even in a crowd, and uses coarse cells where drivers are sparse. The result is exact: a test
//! compares it with a scan of every driver.

mod cells;
#[cfg(test)]
mod tests;

use std::collections::BinaryHeap;

use ahash::RandomState;
use dispatch_core::candidate::{AcceptanceCounts, DriverSnapshot};
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_core::ids::DriverId;
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;
use h3o::{LatLng, Resolution};
use indexmap::IndexMap;

use cells::{FlatMap, Level, Place, RingBounds};

/// Fine cells: edge about 200 m. With 50,000 drivers in five hot spots, a cell holds about a hundred of them.
const FINE: Resolution = Resolution::Nine;
/// Coarse cells: edge about 1.4 km, so that 20 km are ten rings.
const COARSE: Resolution = Resolution::Seven;
/// Rings per size: 217 fine cells within about 2.4 km, and more coarse ones than the widest search (100 km) needs.
const RINGS: [u32; 2] = [8, 64];
/// Up to this number of drivers a full scan is as cheap as a search by cells.
const FEW: usize = 128;
/// Most drivers of one city: five times the largest fleet of the benchmarks, about 200 MB.
const DRIVERS_MAX: usize = 1_000_000;

/// What the index holds about a driver.
#[derive(Clone, PartialEq)]
pub struct LiveDriver {
    /// Only `ACTIVE` drivers are found.
    pub status: PersonStatus,
    pub position: Coordinate,
    /// Time of the last ping.
    pub seen_at: EpochMs,
    /// When the driver became free.
    pub idle_since: EpochMs,
    /// Farthest pickup.
    pub max_distance: Metres,
    /// Lowest fare estimate the driver is offered.
    pub minimum_fare: u32,
    pub auto_accept: bool,
    /// Offers and acceptances in the acceptance window.
    pub acceptance: AcceptanceCounts,
    /// End of the current reservation.
    pub held_until: EpochMs,
    /// End of the cooldown.
    pub rests_until: EpochMs,
}

impl LiveDriver {
    /// The input of ranking.
    pub fn snapshot(&self, id: &DriverId, now: EpochMs) -> DriverSnapshot {
        DriverSnapshot {
            id: id.clone(),
            availability: self.status,
            position: self.position,
            seen_at: self.seen_at,
            idle_since: self.idle_since,
            max_distance: self.max_distance,
            minimum_fare: self.minimum_fare,
            auto_accept: self.auto_accept,
            acceptance: self.acceptance,
            resting: self.held_until > now || self.rests_until > now,
        }
    }
}

struct Entry {
    driver: LiveDriver,
    /// The driver's place in the cells of each level.
    places: [Place; 2],
}

/// A search for the nearest drivers.
#[derive(Clone, Copy)]
pub struct NearestQuery {
    pub center: Coordinate,
    /// Search radius.
    pub within: Metres,
    /// Most drivers to return.
    pub enough: usize,
}

/// A search result.
pub struct Neighbor<'a> {
    pub distance: Metres,
    pub id: &'a DriverId,
    pub driver: &'a LiveDriver,
}

/// The drivers of one city.
pub struct DriverIndex {
    drivers: IndexMap<DriverId, Entry, RandomState>,
    levels: [Level; 2],
}

impl Default for DriverIndex {
    fn default() -> Self {
        Self { drivers: IndexMap::default(), levels: [Level::new(FINE, RINGS[0]), Level::new(COARSE, RINGS[1])] }
    }
}

impl DriverIndex {
    /// Number of drivers, free or not.
    pub fn len(&self) -> usize {
        self.drivers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.drivers.is_empty()
    }

    pub fn get(&self, id: &DriverId) -> Option<&LiveDriver> {
        self.drivers.get(id).map(|entry| &entry.driver)
    }

    /// Adds or replaces a driver. False if the index is full.
    pub fn put(&mut self, id: DriverId, driver: LiveDriver) -> bool {
        if let Some((number, _, entry)) = self.drivers.get_full_mut(&id) {
            entry.driver = driver;
            self.settle(number);
        } else if self.drivers.len() < DRIVERS_MAX {
            let (number, _) = self.drivers.insert_full(id, Entry { driver, places: [Place::NOWHERE; 2] });
            self.settle(number);
        } else {
            return false;
        }
        true
    }

    /// Changes a driver. False if the driver is unknown.
    pub fn change(&mut self, id: &DriverId, change: impl FnOnce(&mut LiveDriver)) -> bool {
        let Some((number, _, entry)) = self.drivers.get_full_mut(id) else { return false };
        change(&mut entry.driver);
        self.settle(number);
        true
    }

    /// Applies a ping, unless it is older than the last one. False if the driver is unknown.
    pub fn ping(&mut self, id: &DriverId, position: Coordinate, at: EpochMs) -> bool {
        self.change(id, |driver| {
            if driver.seen_at <= at {
                (driver.position, driver.seen_at) = (position, at);
            }
        })
    }

    pub fn remove(&mut self, id: &DriverId) {
        let Some(number) = self.drivers.get_index_of(id) else { return };
        for level in 0..self.levels.len() {
            self.take_out(number, level);
        }
        self.drivers.swap_remove_index(number);
        // `swap_remove_index` has given this number to the last driver.
        if let Some((_, moved)) = self.drivers.get_index(number) {
            for (level, place) in self.levels.iter_mut().zip(moved.places) {
                level.renumber(place, small(number));
            }
        }
    }

    /// The nearest drivers that are `ACTIVE` and that `keep` accepts, nearest first; ties by id.
    pub fn nearest(&self, wanted: NearestQuery, keep: impl Fn(&LiveDriver) -> bool) -> Vec<Neighbor<'_>> {
        let mut search =
            Search { index: self, keep, map: FlatMap::around(wanted.center), wanted, best: BinaryHeap::new() };
        if wanted.enough > 0 && (self.drivers.len() <= FEW || !search.by_cells()) {
            search.look_at_all();
        }
        search.result()
    }

    /// Moves a driver's number to the cells of its position, or removes it from all cells if the driver is not free.
    fn settle(&mut self, number: usize) {
        let Some((_, Entry { driver, places })) = self.drivers.get_index(number) else { return };
        let at = (driver.status == PersonStatus::Active).then_some(driver.position).and_then(point);
        let fine = at.map(|at| at.to_cell(FINE));
        if { places[0].cell } == fine {
            return;
        }
        let cells = [fine, at.map(|at| at.to_cell(COARSE))];
        for (level, cell) in cells.into_iter().enumerate() {
            let Some((_, entry)) = self.drivers.get_index(number) else { return };
            if { entry.places[level].cell } == cell {
                continue;
            }
            self.take_out(number, level);
            if let (Some(cell), Some((_, entry))) = (cell, self.drivers.get_index_mut(number)) {
                entry.places[level] = self.levels[level].lay(cell, small(number));
            }
        }
    }

    fn take_out(&mut self, number: usize, level: usize) {
        let Some((_, entry)) = self.drivers.get_index_mut(number) else { return };
        let place = std::mem::replace(&mut entry.places[level], Place::NOWHERE);
        let moved = self.levels[level].take(place);
        if let Some((_, moved)) = moved.and_then(|moved| self.drivers.get_index_mut(moved as usize)) {
            moved.places[level].slot = place.slot;
        }
    }
}

/// The number as `u32`, into which [`DRIVERS_MAX`] fits.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn point(at: Coordinate) -> Option<LatLng> {
    LatLng::new(at.lat(), at.lng()).ok()
}

/// One of the best drivers so far; the farthest is the greatest.
#[derive(PartialEq)]
struct Candidate {
    distance_m: f64,
    number: u32,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.distance_m.total_cmp(&other.distance_m).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Search<'a, K> {
    index: &'a DriverIndex,
    keep: K,
    map: FlatMap,
    wanted: NearestQuery,
    best: BinaryHeap<Candidate>,
}

impl<'a, K: Fn(&LiveDriver) -> bool> Search<'a, K> {
    /// Searches by cells. False if the result may be incomplete.
    fn by_cells(&mut self) -> bool {
        let index = self.index;
        index.levels.iter().any(|level| {
            self.best.clear();
            self.ring_by_ring(level).is_some_and(|whole| whole)
        })
    }

    /// Searches the cells of one level. Returns whether the result is complete; `None` where a pentagon distorts the
    /// rings.
    fn ring_by_ring(&mut self, level: &Level) -> Option<bool> {
        let origin = point(self.wanted.center)?.to_cell(level.resolution);
        let around = RingBounds::new(origin, &self.map)?;
        for ring in 0..=level.rings {
            for cell in origin.grid_ring_fast(ring) {
                for number in level.drivers_in(cell?) {
                    self.consider(*number);
                }
            }
            if around.nearest_beyond(ring) >= self.limit_m() {
                return Some(true);
            }
        }
        Some(false)
    }

    fn look_at_all(&mut self) {
        self.best.clear();
        for number in 0..self.index.drivers.len() {
            self.consider(small(number));
        }
    }

    /// Drivers farther than this cannot be in the result.
    fn limit_m(&self) -> f64 {
        let worst = self.best.peek().filter(|_| self.best.len() >= self.wanted.enough);
        worst.map_or(self.wanted.within.0, |worst| worst.distance_m)
    }

    fn consider(&mut self, number: u32) {
        let Some((_, Entry { driver, .. })) = self.index.drivers.get_index(number as usize) else { return };
        let limit_m = self.limit_m();
        if driver.status != PersonStatus::Active || self.map.is_beyond(driver.position, limit_m) || !(self.keep)(driver)
        {
            return;
        }
        let distance_m = self.wanted.center.distance_to(driver.position).0;
        if distance_m > limit_m {
            return;
        }
        self.best.push(Candidate { distance_m, number });
        if self.best.len() > self.wanted.enough {
            self.best.pop();
        }
    }

    fn result(self) -> Vec<Neighbor<'a>> {
        let drivers = &self.index.drivers;
        let mut found: Vec<Neighbor<'a>> = self
            .best
            .into_iter()
            .filter_map(|candidate| {
                let (id, entry) = drivers.get_index(candidate.number as usize)?;
                Some(Neighbor { distance: Metres(candidate.distance_m), id, driver: &entry.driver })
            })
            .collect();
        found.sort_by(|a, b| a.distance.0.total_cmp(&b.distance.0).then_with(|| a.id.cmp(b.id)));
        found
    }
}
