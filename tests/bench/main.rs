//! `make bench`: measures the data plane against the seed's own algorithm, in one run on one machine, and writes BENCHMARKS.md with
//! plots. Each module measures one thing and gives a [`Section`]; [`report`] puts them together.

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

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Correctness only: small, with fixed service times, nothing is written.
    Quick,
    /// Every part in small, to try the harness: its figures say nothing.
    Trial,
    /// What BENCHMARKS.md shows.
    Full,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nearest drivers: index, Redis, table.
    Search,
}

/// Measures the data plane of Coactus Dispatch against the seed's own algorithm.
#[derive(Debug, Parser)]
struct Args {
    /// Check correctness only, in small; nothing is written.
    #[arg(long)]
    quick: bool,
    /// Try every part in small, and write what a run writes into target/bench-trial.
    #[arg(long, conflicts_with = "quick")]
    trial: bool,
    /// Measure these parts only; their report goes into target/bench-trial.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Print the memory an index of this many drivers takes, bytes; a run calls itself for it.
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

    /// Where the report goes; nowhere where only correctness is checked. A run that is not whole never replaces the whole one.
    fn folder(&self) -> Option<PathBuf> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        match self.size() {
            Size::Quick => None,
            Size::Full if self.only.is_empty() => Some(root),
            Size::Full | Size::Trial => Some(root.join("target/bench-trial")),
        }
    }
}

async fn measure(part: Part, size: Size) -> anyhow::Result<Vec<Section>> {
    match part {
        Part::Search => Ok(vec![search::measure(size).await?.0]),
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
    for part in args.parts() {
        eprintln!("measuring: {part:?}");
        let sections = measure(*part, args.size()).await.with_context(|| format!("{part:?}"))?;
        report.sections.extend(sections);
    }
    report.print();
    if let Some(folder) = args.folder() {
        report.write(&folder)?;
    }
    Ok(())
}
