//! The free drivers of a city by place, in the memory of one process. Pure: time and places are given, nothing is awaited.
//!
//! Drivers lie in H3 cells (<https://h3geo.org>) of two sizes. A search looks at the cells around the pickup ring by ring and stops
//! when no cell further out can hold anybody nearer than those it has: first in fine cells, which hold few drivers each even where
//! it is crowded, then, where it is empty, in coarse ones. The answer is exact: a test holds it to a look at every driver.

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

use cells::{Around, Level, Place, Rough};

/// Fine cells: edge some 200 m. Where 50,000 drivers crowd into five hot spots, one has some hundred of them.
const FINE: Resolution = Resolution::Nine;
/// Coarse cells: edge some 1.4 km, so that 20 km are ten rings.
const COARSE: Resolution = Resolution::Seven;
/// Rings looked at of either size: 217 fine cells within some 2.4 km, and more coarse ones than the widest search of 100 km takes.
const RINGS: [u32; 2] = [8, 64];
/// Drivers up to which a look at each of them costs no more than a look at the cells.
const FEW: usize = 128;
/// Drivers of one city at most, five times those of the largest fleet the benchmarks try; some 200 MB.
const DRIVERS_MAX: usize = 1_000_000;

/// What is known of a driver.
#[derive(Clone, PartialEq)]
pub struct LiveDriver {
    /// Only `ACTIVE` drivers are found.
    pub status: PersonStatus,
    /// Where, by the last ping.
    pub position: Coordinate,
    /// When that ping came.
    pub seen_at: EpochMs,
    /// Since when free.
    pub idle_since: EpochMs,
    /// How far the driver goes.
    pub max_distance: Metres,
    /// The least the driver drives for.
    pub minimum_fare: u32,
    /// Whether the driver takes every offer.
    pub auto_accept: bool,
    /// Answers in the acceptance window.
    pub acceptance: AcceptanceCounts,
    /// Until when an offer holds the driver.
    pub held_until: EpochMs,
    /// Until when the driver cools down.
    pub rests_until: EpochMs,
}

impl LiveDriver {
    /// As ranking takes it.
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
    /// Where the driver's number stands in the cells of each level.
    places: [Place; 2],
}

/// What a search wants.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// Around where.
    pub center: Coordinate,
    /// How far out at most.
    pub within: Metres,
    /// How many.
    pub enough: usize,
}

/// A driver found.
pub struct Found<'a> {
    /// How far away.
    pub distance: Metres,
    /// Who.
    pub id: &'a DriverId,
    /// What is known.
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
    /// Drivers known, free or not.
    pub fn len(&self) -> usize {
        self.drivers.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.drivers.is_empty()
    }

    /// What is known of a driver.
    pub fn get(&self, id: &DriverId) -> Option<&LiveDriver> {
        self.drivers.get(id).map(|entry| &entry.driver)
    }

    /// Takes over what is known of a driver; false where there is no room for another one.
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

    /// Changes what is known of a driver; false where nothing is.
    pub fn change(&mut self, id: &DriverId, change: impl FnOnce(&mut LiveDriver)) -> bool {
        let Some((number, _, entry)) = self.drivers.get_full_mut(id) else { return false };
        change(&mut entry.driver);
        self.settle(number);
        true
    }

    /// A ping; an older one than the last is dropped. False where the driver is not known.
    pub fn ping(&mut self, id: &DriverId, position: Coordinate, at: EpochMs) -> bool {
        self.change(id, |driver| {
            if driver.seen_at <= at {
                (driver.position, driver.seen_at) = (position, at);
            }
        })
    }

    /// Forgets a driver.
    pub fn remove(&mut self, id: &DriverId) {
        let Some(number) = self.drivers.get_index_of(id) else { return };
        for level in 0..self.levels.len() {
            self.take_out(number, level);
        }
        self.drivers.swap_remove_index(number);
        // The last driver has got the number that became free.
        if let Some((_, moved)) = self.drivers.get_index(number) {
            for (level, place) in self.levels.iter_mut().zip(moved.places) {
                level.renumber(place, small(number));
            }
        }
    }

    /// The nearest drivers that are `ACTIVE` and that `keep` wants, nearest first; equal distances by id.
    pub fn nearest(&self, wanted: Wanted, keep: impl Fn(&LiveDriver) -> bool) -> Vec<Found<'_>> {
        let mut search =
            Search { index: self, keep, rough: Rough::around(wanted.center), wanted, best: BinaryHeap::new() };
        if wanted.enough > 0 && (self.drivers.len() <= FEW || !search.by_cells()) {
            search.look_at_all();
        }
        search.result()
    }

    /// Brings a driver's number to the cells where the driver now is, or out of all where the driver is not free.
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

/// [`DRIVERS_MAX`] fits.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn point(at: Coordinate) -> Option<LatLng> {
    LatLng::new(at.lat(), at.lng()).ok()
}

/// One of the best so far; the worst of them is the greatest.
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
    rough: Rough,
    wanted: Wanted,
    best: BinaryHeap<Candidate>,
}

impl<'a, K: Fn(&LiveDriver) -> bool> Search<'a, K> {
    /// Whether the cells gave the whole answer.
    fn by_cells(&mut self) -> bool {
        let index = self.index;
        index.levels.iter().any(|level| {
            self.best.clear();
            self.ring_by_ring(level).is_some_and(|whole| whole)
        })
    }

    /// Looks at a level's cells; says whether the answer is whole, and nothing where a pentagon bends the rings.
    fn ring_by_ring(&mut self, level: &Level) -> Option<bool> {
        let origin = point(self.wanted.center)?.to_cell(level.resolution);
        let around = Around::of(origin, &self.rough)?;
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

    /// Who is not nearer than this does not matter.
    fn limit_m(&self) -> f64 {
        let worst = self.best.peek().filter(|_| self.best.len() >= self.wanted.enough);
        worst.map_or(self.wanted.within.0, |worst| worst.distance_m)
    }

    fn consider(&mut self, number: u32) {
        let Some((_, Entry { driver, .. })) = self.index.drivers.get_index(number as usize) else { return };
        let limit_m = self.limit_m();
        if driver.status != PersonStatus::Active
            || self.rough.is_beyond(driver.position, limit_m)
            || !(self.keep)(driver)
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

    fn result(self) -> Vec<Found<'a>> {
        let drivers = &self.index.drivers;
        let mut found: Vec<Found<'a>> = self
            .best
            .into_iter()
            .filter_map(|candidate| {
                let (id, entry) = drivers.get_index(candidate.number as usize)?;
                Some(Found { distance: Metres(candidate.distance_m), id, driver: &entry.driver })
            })
            .collect();
        found.sort_by(|a, b| a.distance.0.total_cmp(&b.distance.0).then_with(|| a.id.cmp(b.id)));
        found
    }
}
