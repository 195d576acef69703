//! `make bench`: measures the data plane against the specification's algorithm, in one run on one machine, and writes
//! BENCHMARKS.md with plots. Each module measures one part and returns a [`Section`]; [`report`] combines them.

mod city;
mod cost;
mod dispatch;
mod ingest;
mod machine;
mod model;
mod plot;
mod report;
mod search;
mod seoul;
mod stats;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use report::{Report, Section};

/// The extent of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Correctness only: small, with fixed service times, and no files written.
    Quick,
    /// Every part at a small size, to try the harness; the figures are meaningless.
    Trial,
    /// The figures of BENCHMARKS.md.
    Full,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Search for the nearest drivers: index, Redis, table.
    Search,
    /// Dispatching in a city in virtual time.
    City,
    /// Positions, in batches.
    Ingest,
    /// Dispatches end to end, on real processes.
    Dispatch,
}

/// Measure the data plane of Coactus Dispatch against the specification's algorithm.
#[derive(Debug, Parser)]
struct Args {
    /// Check correctness only, at a small size; write no files.
    #[arg(long)]
    quick: bool,
    /// Run every part at a small size and write the report to target/bench-trial.
    #[arg(long, conflicts_with = "quick")]
    trial: bool,
    /// Measure only these parts and write the report to target/bench-trial.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Print the memory of an index with this number of drivers, bytes. A run starts itself with this option.
    #[arg(long, hide = true)]
    fleet_memory: Option<u32>,
}

impl Args {
    fn size(&self) -> Size {
        match (self.quick, self.trial) {
            (true, _) => Size::Quick,
            (false, true) => Size::Trial,
            (false, false) => Size::Full,
        }
    }

    fn parts(&self) -> &[Part] {
        if self.only.is_empty() { Part::value_variants() } else { &self.only }
    }

    /// The folder of the report; `None` if only correctness is checked. A partial run never replaces BENCHMARKS.md.
    fn folder(&self) -> Option<PathBuf> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        match self.size() {
            Size::Quick => None,
            Size::Full if self.only.is_empty() => Some(root),
            Size::Full | Size::Trial => Some(root.join("target/bench-trial")),
        }
    }
}

/// Results of one part that the next one needs.
struct Known {
    costs: search::Costs,
}

async fn measure(part: Part, size: Size, known: &mut Known) -> anyhow::Result<Vec<Section>> {
    match part {
        Part::Search => {
            let (section, costs) = search::measure(size).await?;
            // A quick run must be equal on every machine.
            if size != Size::Quick {
                known.costs = costs;
            }
            Ok(vec![section])
        }
        Part::City => {
            let played = city::play(size, known.costs)?;
            let mut sections = vec![city::section(&played)?];
            sections.extend(city::main_one(&played).map(cost::section).transpose()?);
            Ok(sections)
        }
        Part::Ingest => Ok(vec![ingest::measure(size).await?]),
        Part::Dispatch => Ok(vec![dispatch::measure(size).await?]),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(drivers) = args.fleet_memory {
        println!("{}", search::resident_bytes_of_fleet(drivers)?);
        return Ok(());
    }
    let mut report = Report::new(machine::Machine::here());
    let mut known = Known { costs: search::Costs::ROUND };
    for part in args.parts() {
        eprintln!("measuring: {part:?}");
        let sections = measure(*part, args.size(), &mut known).await.with_context(|| format!("{part:?}"))?;
        report.sections.extend(sections);
    }
    if let Some(folder) = args.folder() {
        report.print();
        report.write(&folder)
    } else {
        println!("all checks of answers, arms and repetitions passed");
        Ok(())
    }
}
