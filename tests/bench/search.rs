//! Searches for the nearest five drivers: in the index of the process, in Redis, and as in the specification in the
//! list of all active drivers in the table.

mod canned;
mod process;
mod redis;
mod table;

use crate::Size;
use crate::model::{PAGE_MS, PARTITION_READ_UNITS};
use crate::plot::{Lines, Series};
use crate::report::{Goal, Plot, Section, Table};
use crate::seoul::Seoul;
use crate::stats::{number, quantile};

pub(crate) use process::resident_bytes_of_fleet;

/// Seed of the fleets and of the places of the searches.
const SEED: u64 = 20_261_125;
/// Results of a search: the specification's `MAX_CANDIDATES`.
const WANTED: usize = 5;
/// Radius of a search, km: the specification's `maxDistance`.
const WITHIN_KM: f64 = 20.0;
/// Fleet size of the goals.
const GOALS_AT: u32 = 50_000;

/// Latencies of one kind of search in one fleet, microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    p50: f64,
    p99: f64,
    p999: f64,
    searches: usize,
}

impl Latency {
    fn of(mut micros: Vec<f64>) -> Self {
        let mut at = |share| quantile(&mut micros, share);
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), searches: micros.len() }
    }

    fn later_by(self, us: f64) -> Self {
        Self { p50: self.p50 + us, p99: self.p99 + us, p999: self.p999 + us, ..self }
    }

    fn cells(self) -> [String; 3] {
        // With fewer searches the quantile would be the slowest one.
        let p999 = if self.searches >= 1_000 { number(self.p999) } else { "-".to_owned() };
        [number(self.p50), number(self.p99), p999]
    }
}

/// The measurements of one fleet.
struct Fleet {
    drivers: u32,
    process: process::Measured,
    redis: redis::Measured,
    table: table::Measured,
}

impl Fleet {
    /// All ways of searching, slowest first.
    fn ways(&self) -> Vec<(&'static str, Latency)> {
        let mut ways = Vec::from([
            ("A: table, 4 ms a page", self.table.with_pages),
            ("A: table, pages at once", self.table.at_once),
            ("B: Redis, all within 20 km", self.redis.flat_20km),
            ("Redis, nearest 5 in 5 km", self.redis.flat_5km),
            ("Ours, index behind: Redis rings", self.redis.rings),
            ("Ours: index in the process", self.process.latency),
        ]);
        if let Some(emulator) = self.table.emulator {
            ways.insert(0, ("A: table, emulator", emulator));
        }
        ways
    }
}

/// Costs of a search per active driver, measured here for the city in virtual time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costs {
    /// Time of the Redis thread in a search of 20 km, microseconds.
    pub redis_us: f64,
    /// Time to read, filter and sort an item of the specification's list, microseconds.
    pub scan_us: f64,
    /// Read units of an item of the specification's list.
    pub read_units: f64,
}

impl Costs {
    /// Fixed figures for quick runs, so that equal seeds give equal runs on every machine.
    pub(crate) const ROUND: Self = Self { redis_us: 0.5, scan_us: 5.0, read_units: 0.064 };
}

fn fleets(size: Size) -> &'static [u32] {
    match size {
        Size::Quick => &[1_000, 5_000],
        Size::Trial => &[1_000, 10_000],
        Size::Full => &[1_000, 10_000, 50_000, 200_000],
    }
}

pub(crate) async fn measure(size: Size) -> anyhow::Result<(Section, Costs)> {
    let seoul = Seoul::new()?;
    let mut measured = Vec::new();
    for drivers in fleets(size) {
        eprintln!("  {drivers} drivers");
        let process = process::measure(&seoul, *drivers, size)?;
        let places = process::places(&seoul, 20_000);
        let redis = redis::measure(&seoul, *drivers, &places, size).await?;
        let table = table::measure(&seoul, *drivers, &places, size).await?;
        measured.push(Fleet { drivers: *drivers, process, redis, table });
    }
    let goals_at = measured.iter().find(|fleet| fleet.drivers == GOALS_AT).or_else(|| measured.last());
    let costs = goals_at.map_or(Costs::ROUND, |fleet| Costs {
        redis_us: fleet.redis.flat_20km_server_us / f64::from(fleet.drivers),
        scan_us: fleet.table.at_once.p50 / f64::from(fleet.drivers),
        read_units: fleet.table.units / f64::from(fleet.drivers),
    });
    let section = Section {
        title: "Search: the nearest five drivers",
        text: text(&measured),
        tables: vec![latencies(&measured), ratios(&measured), prices(&measured)],
        plots: vec![plot(&measured)?],
        goals: goals(&measured),
    };
    Ok((section, costs))
}

fn text(measured: &[Fleet]) -> Vec<String> {
    let bytes = measured.first().map_or(0, |fleet| fleet.table.item_bytes);
    vec![
        "Six in ten drivers are in the five hot spots of the simulated Seoul, the others anywhere within 14 km of City \
         Hall. Searches start at places drawn in the same way. For every way of searching, a sample of the results is \
         compared with a scan of all drivers in this run (Redis within 2 m, because it rounds positions)."
            .to_owned(),
        "**Ours** is `DriverIndex::nearest` of the runtime. **B** is `GEOSEARCH … BYRADIUS 20 km ASC` on a real \
         `redis-server` over TCP. The client reads all rows, because the specification's `maxDistance` is 20 km."
            .to_owned(),
        format!(
            "**A** is the specification's search: it reads every page of `DRIVER#ACTIVE` in GSI1, filters, sorts, and \
             keeps five. Measured are the AWS SDK with its HTTP and JSON, the decoding of every item ({bytes} bytes by \
             DynamoDB's rule), and core's filter and sort in the specification's literal order, against a table that \
             answers each page of 1 MB at once from memory (*pages at once*: no real table is as fast). Modelled is \
             the time of a page: {PAGE_MS} ms, added for each page in turn, because each page needs the key at which \
             the previous one ended. The emulator's figures are shown where it can hold the fleet; they say more about \
             the emulator than about the algorithm."
        ),
    ]
}

fn latencies(measured: &[Fleet]) -> Table {
    let head = ["Way", "Drivers", "p50, us", "p99, us", "p99.9, us", "Searches"];
    let mut table = Table::new("Latency of one search", &head);
    for fleet in measured {
        for (way, latency) in fleet.ways() {
            let [p50, p99, p999] = latency.cells();
            let searches = latency.searches.to_string();
            table.row([way.to_owned(), number(fleet.drivers.into()), p50, p99, p999, searches]);
        }
    }
    table
}

fn ratios(measured: &[Fleet]) -> Table {
    let head = ["Drivers", "B p50", "B p99", "A at once p50", "A at once p99", "A with pages p50", "A with pages p99"];
    let mut table = Table::new("Speed-up of the index over the baselines (ratio of latencies)", &head);
    for fleet in measured {
        let ours = fleet.process.latency;
        let mut row = vec![number(fleet.drivers.into())];
        for other in [fleet.redis.flat_20km, fleet.table.at_once, fleet.table.with_pages] {
            row.extend([number(other.p50 / ours.p50), number(other.p99 / ours.p99)]);
        }
        table.row(row);
    }
    table
}

fn prices(measured: &[Fleet]) -> Table {
    let head =
        ["Drivers", "Bytes in process", "A: pages", "A: read units", "A: searches/s", "B: server ms", "B: searches/s"];
    let mut table = Table::new(
        "Memory of the index per driver; costs of one search of the baselines, and searches per second of one index \
         partition or one Redis thread",
        &head,
    );
    for fleet in measured {
        let server_ms = fleet.redis.flat_20km_server_us / 1000.0;
        table.row([
            number(fleet.drivers.into()),
            number(fleet.process.bytes_per_driver),
            fleet.table.pages.to_string(),
            number(fleet.table.units),
            number(PARTITION_READ_UNITS / fleet.table.units),
            number(server_ms),
            number(1000.0 / server_ms),
        ]);
    }
    table
}

fn goals(measured: &[Fleet]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (drivers, limit) in [(GOALS_AT, 50.0), (200_000, 200.0)] {
        let Some(fleet) = measured.iter().find(|fleet| fleet.drivers == drivers) else { continue };
        let what = format!("Nearest 5 of {} in process, p99", number(drivers.into()));
        goals.push(Goal::at_most(what, limit, fleet.process.latency.p99, "us"));
        if drivers == GOALS_AT {
            let ours = fleet.process.latency;
            let ratio = |other: Latency| other.p50 / ours.p50;
            goals.push(Goal::at_least("Speed-up over B, p50", 20.0, ratio(fleet.redis.flat_20km), "times"));
            goals.push(Goal::at_least("Speed-up over A, p50", 1_000.0, ratio(fleet.table.with_pages), "times"));
            let bytes = fleet.process.bytes_per_driver;
            goals.push(Goal::at_most("Memory of the index per driver", 200.0, bytes, "bytes"));
        }
    }
    goals
}

fn plot(measured: &[Fleet]) -> anyhow::Result<Plot> {
    let names = measured.last().map(Fleet::ways).unwrap_or_default().into_iter().map(|(name, _)| name);
    let series = names.map(|name| {
        let point = |fleet: &Fleet| {
            let way = fleet.ways().into_iter().find(|(other, _)| *other == name);
            way.map(|(_, latency)| (f64::from(fleet.drivers), latency.p99))
        };
        Series { name: name.to_owned(), points: measured.iter().filter_map(point).collect() }
    });
    let lines = Lines {
        title: "Search for the nearest five drivers, 99th percentile",
        x: "drivers in the city",
        y: "microseconds",
        series: series.collect(),
    };
    Ok(Plot { file: "search.svg", alt: "Search latency by fleet size".to_owned(), svg: lines.svg()? })
}
