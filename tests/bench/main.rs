//! `make bench`: measures the data plane against the seed's own algorithm, in one run on one machine, and writes BENCHMARKS.md with
//! plots. Each module measures one thing and gives a [`Section`]; [`report`] puts them together.

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
    /// A city in virtual time.
    City,
    /// Positions by batch.
    Ingest,
    /// A city end to end.
    Dispatch,
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

/// What one part hands on to the next.
struct Known {
    costs: search::Costs,
}

async fn measure(part: Part, size: Size, known: &mut Known) -> anyhow::Result<Vec<Section>> {
    match part {
        Part::Search => {
            let (section, costs) = search::measure(size).await?;
            // Where only correctness is checked, runs are to be equal on every machine.
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
        println!("every answer, every arm and every repetition was as it must be");
        Ok(())
    }
}
