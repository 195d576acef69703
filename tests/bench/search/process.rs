//! The index in the process.

use std::time::Instant;

use anyhow::ensure;
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_runtime::fleet::index::{DriverIndex, Wanted};
use dispatch_runtime::simulate::random::{Actor, Dice};

use super::{Latency, SEED, WANTED, WITHIN_KM};
use crate::Size;
use crate::seoul::{Seoul, driver_id};

/// What was measured of one fleet.
pub struct Measured {
    pub latency: Latency,
    pub bytes_per_driver: f64,
}

/// Places searched from.
pub fn places(seoul: &Seoul, count: u32) -> Vec<Coordinate> {
    (0..count).map(|number| seoul.somewhere(&mut Dice::of(SEED, Actor::Request(number)))).collect()
}

/// Fills an index, holds it to a look at every driver, and measures it.
pub fn measure(seoul: &Seoul, drivers: u32, size: Size) -> anyhow::Result<Measured> {
    let (queries, checked) = match size {
        Size::Quick => (200, 200),
        Size::Trial => (2_000, 50),
        Size::Full => (100_000, 200),
    };
    let before = resident_bytes();
    let index = seoul.fleet(SEED, drivers)?;
    let bytes_per_driver = (resident_bytes() - before) / f64::from(drivers);
    let places = places(seoul, queries);
    let homes: Vec<Coordinate> = (0..drivers).map(|driver| seoul.home(SEED, driver)).collect();
    for place in places.iter().take(checked) {
        holds(&index, &homes, *place)?;
    }
    let mut micros = Vec::with_capacity(places.len());
    // The first searches warm the caches and are not counted.
    for place in places.iter().take(checked).chain(&places) {
        let begun = Instant::now();
        let found = index.nearest(wanted(*place), |_| true).len();
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
        ensure!(found == WANTED, "{found} drivers found");
    }
    micros.drain(..checked);
    Ok(Measured { latency: Latency::of(micros), bytes_per_driver })
}

fn wanted(center: Coordinate) -> Wanted {
    Wanted { center, within: Metres::from_km(WITHIN_KM), enough: WANTED }
}

/// The nearest by a look at every driver, as numbers.
pub fn nearest_of_all(homes: &[Coordinate], place: Coordinate) -> Vec<u32> {
    let mut all: Vec<(f64, u32)> =
        (0..).zip(homes).map(|(number, home)| (place.distance_to(*home).0, number)).collect();
    let at = WANTED.min(all.len() - 1);
    all.select_nth_unstable_by(at, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.truncate(WANTED);
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.into_iter().map(|(_, number)| number).collect()
}

fn holds(index: &DriverIndex, homes: &[Coordinate], place: Coordinate) -> anyhow::Result<()> {
    let found: Vec<_> = index.nearest(wanted(place), |_| true).into_iter().map(|found| found.id.clone()).collect();
    let truth = nearest_of_all(homes, place).into_iter().map(driver_id).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(found == truth, "the index found {found:?}, a look at every driver {truth:?}");
    Ok(())
}

/// Memory of this process that is in use, by the kernel's books.
fn resident_bytes() -> f64 {
    /// Bytes of a page, as on every machine this runs on.
    const PAGE: f64 = 4096.0;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).map_or(f64::NAN, |pages| pages * PAGE)
}
