//! The nearest five of a fleet, by each way there is: the index in the process, Redis as the seed uses it, and the seed's list of
//! all active drivers in the table.

mod process;

use crate::Size;
use crate::report::{Goal, Section, Table};
use crate::seoul::Seoul;
use crate::stats::number;

/// Seed of every fleet and of every place searched from.
const SEED: u64 = 20_261_125;
/// Drivers wanted: the seed's `MAX_CANDIDATES`.
const WANTED: usize = 5;
/// How far a search goes, km: the seed's `maxDistance`.
const WITHIN_KM: f64 = 20.0;

/// Latencies of one kind of search in one fleet, microseconds.
#[derive(Debug, Clone, Copy)]
struct Latency {
    p50: f64,
    p99: f64,
    p999: f64,
}

impl Latency {
    fn of(mut micros: Vec<f64>) -> Self {
        let mut at = |share| crate::stats::quantile(&mut micros, share);
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

fn fleets(size: Size) -> &'static [u32] {
    match size {
        Size::Quick => &[1_000, 5_000],
        Size::Trial => &[1_000, 10_000],
        Size::Full => &[1_000, 10_000, 50_000, 200_000],
    }
}

/// Measures all of it.
pub fn section(size: Size) -> anyhow::Result<Section> {
    let seoul = Seoul::new()?;
    let mut table = Table::new("Nearest 5, microseconds", &["Drivers", "p50", "p99", "p99.9", "bytes a driver"]);
    let mut goals = Vec::new();
    for drivers in fleets(size) {
        let measured = process::measure(&seoul, *drivers, size)?;
        let latency = measured.latency;
        let cells = [f64::from(*drivers), latency.p50, latency.p99, latency.p999, measured.bytes_per_driver];
        table.row(cells.map(number));
        let limit = match drivers {
            50_000 => 50.0,
            200_000 => 200.0,
            _ => continue,
        };
        goals.push(Goal::at_most(format!("Nearest 5 of {drivers} in process, p99"), limit, latency.p99, "us"));
    }
    Ok(Section { title: "Search", tables: vec![table], goals, ..Section::default() })
}
