//! `dispatch-runtime explain`: reads ranking records from log lines, prints them as tables, and replays every order.
//!
//! The runtime writes one record for each search, under the log target [`TARGET`]. An order that does not follow from
//! its own record was not produced by the rules of this program.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dispatch_core::ids::{DriverId, IdError};
use dispatch_core::ranking::{Entrant, Exploration, Nearness, Ranking, TimeSource, replay};
use serde::Deserialize;
use thiserror::Error;

use crate::engine::ranking_record::{RankingRecord, TARGET};

/// Arguments of `explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExplainArgs {
    /// Log file; standard input if omitted or `-`
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Show only rankings of this dispatch, for example dispatch#00001
    #[arg(long, value_name = "ID")]
    pub dispatch: Option<String>,
}

/// Longest line that is read, bytes; a record of fifty candidates takes a twentieth.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Why the log could not be explained.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// The lines cannot be read, or the tables cannot be written.
    #[error("cannot read the log lines or write the tables")]
    Io(#[from] std::io::Error),
}

/// Why a record is invalid.
#[derive(Debug, Error)]
enum RecordError {
    #[error("the record cannot be read")]
    Shape(#[from] serde_json::Error),
    #[error("the record has a version that this program does not know")]
    Version,
    #[error("the record contains an invalid driver id")]
    Driver(#[from] IdError),
}

/// Number of records found, and how many of them are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Number of records found.
    pub found: usize,
    /// Number of records that cannot be read, or whose order does not follow from them.
    pub wrong: usize,
}

/// Explains a file or standard input. The exit code is 0 if there is at least one record and every order follows from
/// its record.
pub fn run(args: &ExplainArgs) -> Result<ExitCode, ExplainError> {
    let mut out = std::io::stdout().lock();
    let only = args.dispatch.as_deref();
    let tally = match args.file.as_deref().filter(|file| *file != Path::new("-")) {
        Some(file) => explain(BufReader::new(File::open(file)?), &mut out, only)?,
        None => explain(std::io::stdin().lock(), &mut out, only)?,
    };
    writeln!(out, "{} rankings, {} wrong", tally.found, tally.wrong)?;
    Ok(if tally.found > 0 && tally.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Explains the records in these lines, or those of one dispatch. Other lines are skipped.
pub fn explain(mut lines: impl BufRead, out: &mut impl Write, only: Option<&str>) -> Result<Tally, ExplainError> {
    let (mut tally, mut line) = (Tally::default(), Vec::new());
    loop {
        line.clear();
        if lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(tally);
        }
        let Some(Line { dispatch, record }) = Line::parse(&line) else { continue };
        if only.is_some_and(|only| only != dispatch) {
            continue;
        }
        tally.found += 1;
        match read(&record) {
            Ok((record, ranking)) => tally.wrong += usize::from(!show(&record, &ranking, out)?),
            Err(error) => {
                tally.wrong += 1;
                writeln!(out, "{}  {error}\n", dispatch.escape_debug())?;
            }
        }
    }
}

/// A log line with a record.
#[derive(Deserialize)]
struct Line {
    dispatch: String,
    record: String,
}

impl Line {
    /// Parses a line of either log format.
    fn parse(line: &[u8]) -> Option<Self> {
        Self::from_json(line).or_else(|| Self::from_text(std::str::from_utf8(line).ok()?))
    }

    fn from_json(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head {
            target: String,
        }
        let head: Head = serde_json::from_slice(line).ok()?;
        (head.target == TARGET).then(|| serde_json::from_slice(line).ok()).flatten()
    }

    /// `… dispatch::ranking: ranked dispatch=dispatch#00001 record={…}`
    fn from_text(line: &str) -> Option<Self> {
        let (_, fields) = line.split_once(&format!("{TARGET}: ranked dispatch="))?;
        let (dispatch, record) = fields.trim_end().split_once(" record=")?;
        Some(Self { dispatch: dispatch.to_owned(), record: record.to_owned() })
    }
}

fn read(record: &str) -> Result<(RankingRecord, Ranking), RecordError> {
    let record: RankingRecord = serde_json::from_str(record)?;
    if !record.is_known() {
        return Err(RecordError::Version);
    }
    let ranking = record.ranking()?;
    Ok((record, ranking))
}

/// Prints one ranking; returns whether its order follows from the record.
fn show(record: &RankingRecord, ranking: &Ranking, out: &mut impl Write) -> std::io::Result<bool> {
    let by = match ranking.nearness {
        Nearness::Exact => "exact distance".to_owned(),
        Nearness::Distance { width_m } => format!("distance in buckets of {width_m} m"),
        Nearness::Time { width_s } => format!("driving time in buckets of {width_s} s"),
    };
    let exploration = match ranking.exploration {
        Exploration::Exploit => "",
        Exploration::Explore => ", exploring",
    };
    let RankingRecord { dispatch, at, rules, .. } = record;
    let (dispatch, at, rules) = (dispatch.escape_debug(), at.escape_debug(), rules.escape_debug());
    writeln!(out, "{dispatch}  {at}  rules {rules}  by {by}{exploration}")?;
    for (place, entrant) in ranking.order.iter().enumerate() {
        writeln!(out, "{:>4}  {}", place + 1, row(entrant))?;
    }
    writeln!(out, "      {} eligible; {}", ranking.eligible, left_out(ranking))?;
    let (order, replayed): (Vec<_>, _) =
        (ranking.order.iter().map(|entrant| entrant.driver_id.clone()).collect(), replay(ranking));
    if replayed == order {
        writeln!(out, "      replay: same order\n")?;
        return Ok(true);
    }
    let names: Vec<&str> = replayed.iter().map(DriverId::as_str).collect();
    writeln!(out, "      WRONG: replay gives the order {}\n", names.join(", "))?;
    Ok(false)
}

fn row(entrant: &Entrant) -> String {
    let time = entrant.time.map_or_else(String::new, |time| {
        let from = match time.source {
            TimeSource::Router => "",
            TimeSource::StraightLine => " by straight line",
        };
        format!("  {} s{from}", time.seconds)
    });
    let rate = entrant.acceptance.rate_per_mille();
    let automatic = if entrant.auto_accept { "autoAccept" } else { "manual    " };
    format!(
        "{:<14} {:>6} m{time}  bucket {:<3} {automatic}  acceptance {}.{} % ({} of {})  idle {} s",
        entrant.driver_id.as_str(),
        entrant.distance.rounded(),
        entrant.bucket,
        rate / 10,
        rate % 10,
        entrant.acceptance.accepted,
        entrant.acceptance.offered,
        entrant.idle_ms / 1000
    )
}

fn left_out(ranking: &Ranking) -> String {
    let left_out = &ranking.left_out;
    let counts = [
        (left_out.not_active, "not active"),
        (left_out.stale, "stale position"),
        (left_out.already_asked, "already asked"),
        (left_out.resting, "held or cooling down"),
        (left_out.too_far, "too far for the driver"),
        (left_out.fare_too_low, "fare too low for the driver"),
    ];
    let reasons: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, reason)| format!("{count} {reason}")).collect();
    if reasons.is_empty() { "none excluded".to_owned() } else { format!("excluded: {}", reasons.join(", ")) }
}
