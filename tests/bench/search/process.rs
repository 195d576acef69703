//! Searches in the driver index of the process.

use std::process::Command;
use std::time::Instant;

use anyhow::ensure;
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_runtime::adapters::fleet::index::{DriverIndex, NearestQuery};
use dispatch_simulator::random::{Actor, Dice};

use super::{Latency, SEED, WANTED, WITHIN_KM};
use crate::Size;
use crate::seoul::{Seoul, driver_id};

/// The measurements of one fleet.
pub(super) struct Measured {
    pub latency: Latency,
    pub bytes_per_driver: f64,
}

/// Draws the places of the searches.
pub(super) fn places(seoul: &Seoul, count: u32) -> Vec<Coordinate> {
    (0..count).map(|number| seoul.somewhere(&mut Dice::for_actor(SEED, Actor::Request(number)))).collect()
}

/// Fills an index, compares its results with a scan of all drivers, and measures it.
pub(super) fn measure(seoul: &Seoul, drivers: u32, size: Size) -> anyhow::Result<Measured> {
    let (queries, checked) = match size {
        Size::Quick => (200, 200),
        Size::Trial => (2_000, 50),
        Size::Full => (100_000, 500),
    };
    let bytes_per_driver = bytes_per_driver(drivers)?;
    let index = seoul.fleet(SEED, drivers)?;
    let places = places(seoul, queries);
    let homes: Vec<Coordinate> = (0..drivers).map(|driver| seoul.home(SEED, driver)).collect();
    for place in places.iter().take(checked) {
        holds(&index, &homes, *place)?;
    }
    let mut micros = Vec::with_capacity(places.len() + checked);
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

fn wanted(center: Coordinate) -> NearestQuery {
    NearestQuery { center, within: Metres::from_km(WITHIN_KM), enough: WANTED }
}

/// The numbers of the nearest drivers, by a scan of all drivers.
pub(super) fn nearest_of_all(homes: &[Coordinate], place: Coordinate) -> Vec<u32> {
    let mut all: Vec<(f64, u32)> =
        (0..).zip(homes).map(|(number, home)| (place.distance_to(*home).0, number)).collect();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.into_iter().take(WANTED).map(|(_, number)| number).collect()
}

fn holds(index: &DriverIndex, homes: &[Coordinate], place: Coordinate) -> anyhow::Result<()> {
    let found: Vec<_> = index.nearest(wanted(place), |_| true).into_iter().map(|found| found.id.clone()).collect();
    let truth = nearest_of_all(homes, place).into_iter().map(driver_id).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(found == truth, "the index found {found:?}, a scan of all drivers {truth:?}");
    Ok(())
}

/// Resident memory per driver, bytes. Measured in a new process, because this one would reuse memory of earlier fleets.
fn bytes_per_driver(drivers: u32) -> anyhow::Result<f64> {
    let output = Command::new(std::env::current_exe()?).args(["--fleet-memory", &drivers.to_string()]).output()?;
    ensure!(output.status.success(), "the process that measures the memory failed");
    let bytes: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(bytes / f64::from(drivers))
}

/// Drivers of a first, small index, with which some 1.6 MB of the program's own pages become resident.
const FIRST: u32 = 100;

/// Resident memory of an index, bytes. Correct only if the process has not made a larger one before.
pub(crate) fn resident_bytes_of_fleet(drivers: u32) -> anyhow::Result<f64> {
    let seoul = Seoul::new()?;
    let first = seoul.fleet(SEED, FIRST)?;
    let before = resident_bytes()?;
    let index = seoul.fleet(SEED, drivers)?;
    let after = resident_bytes()?;
    ensure!(index.len() == drivers as usize && first.len() == FIRST as usize, "an index is incomplete");
    Ok(after - before)
}

fn resident_bytes() -> anyhow::Result<f64> {
    /// Size of a page on every supported machine, bytes.
    const PAGE: f64 = 4096.0;
    let text = std::fs::read_to_string("/proc/self/statm")?;
    Ok(text.split_whitespace().nth(1).unwrap_or_default().parse::<f64>()? * PAGE)
}
