//! The report of a run, printed and written as BENCHMARKS.md with its plots.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::machine::Machine;
use crate::stats::number;

/// The folder of the plots, below that of the report.
const PLOTS: &str = "docs/bench";

#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub title: String,
    /// Column names.
    pub head: Vec<String>,
    /// The rows, each as wide as the head.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        Self { title: title.into(), head: head.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    /// Appends a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("**{}**\n\n", self.title);
        text += &line(&self.head);
        // The first column is a name, left-aligned; the others are figures, right-aligned.
        let rules: Vec<String> = (0..self.head.len()).map(|i| if i == 0 { "---" } else { "---:" }.to_owned()).collect();
        text += &line(&rules);
        for row in &self.rows {
            text += &line(row);
        }
        text
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Plot {
    /// File name.
    pub file: &'static str,
    /// Alternative text.
    pub alt: String,
    pub svg: String,
}

/// A target of the project, and the measured value.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    what: String,
    target: String,
    got: String,
    met: bool,
}

impl Goal {
    /// A value that should be at most `limit`, both in `unit`.
    pub(crate) fn at_most(what: impl Into<String>, limit: f64, got: f64, unit: &str) -> Self {
        let text = |value| format!("{} {unit}", number(value)).trim_end().to_owned();
        Self { what: what.into(), target: format!("<= {}", text(limit)), got: text(got), met: got <= limit }
    }

    /// A value that should be at least `limit`, both in `unit`.
    pub(crate) fn at_least(what: impl Into<String>, limit: f64, got: f64, unit: &str) -> Self {
        let text = |value| format!("{} {unit}", number(value)).trim_end().to_owned();
        Self { what: what.into(), target: format!(">= {}", text(limit)), got: text(got), met: got >= limit }
    }
}

/// The report of one measurement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Section {
    /// The heading.
    pub title: &'static str,
    /// Paragraphs on the method and on how to read the figures.
    pub text: Vec<String>,
    pub tables: Vec<Table>,
    pub plots: Vec<Plot>,
    pub goals: Vec<Goal>,
}

impl Section {
    fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.title);
        for paragraph in &self.text {
            // Writing to a string cannot fail.
            let _ = write!(text, "{paragraph}\n\n");
        }
        for plot in &self.plots {
            let _ = write!(text, "![{}]({PLOTS}/{})\n\n", plot.alt, plot.file);
        }
        for table in &self.tables {
            let _ = writeln!(text, "{}", table.markdown());
        }
        text
    }
}

/// The report of a run.
pub(crate) struct Report {
    machine: Machine,
    pub sections: Vec<Section>,
}

impl Report {
    /// A report without sections.
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, sections: Vec::new() }
    }

    fn goals(&self) -> Table {
        let mut table = Table::new("Goals", &["What", "Goal", "Measured", "Outcome"]);
        for goal in self.sections.iter().flat_map(|section| &section.goals) {
            let outcome = if goal.met { "met" } else { "**not met**" };
            table.row([goal.what.clone(), goal.target.clone(), goal.got.clone(), outcome.to_owned()]);
        }
        table
    }

    fn markdown(&self) -> String {
        let mut text = String::from(
            "# Benchmarks\n\nWritten by `make bench`, which needs no setup and takes less than 20 minutes on two \
             cores. `make bench-quick` runs the same programs at a small size and checks them for correctness only. \
             Every ratio compares two figures of this run. A and B are the algorithm of the \
             [specification](docs/specification.md#8-dispatch-algorithm), *ours* is that of this program.\n\n",
        );
        let mut machine = Table::new("This run", &["", ""]);
        for (name, value) in &self.machine.facts {
            machine.row([(*name).to_owned(), value.clone()]);
        }
        text += &machine.markdown().replace("---:", "---");
        text += "\n";
        text += &self.goals().markdown().replace("---:", "---");
        text += "\n";
        for section in &self.sections {
            text += &section.markdown();
        }
        format!("{}\n", text.trim_end())
    }

    pub(crate) fn print(&self) {
        println!("{}", self.markdown());
    }

    /// Writes BENCHMARKS.md and the plots to a folder.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let plots = folder.join(PLOTS);
        std::fs::create_dir_all(&plots).with_context(|| format!("{}", plots.display()))?;
        for plot in self.sections.iter().flat_map(|section| &section.plots) {
            std::fs::write(plots.join(plot.file), &plot.svg)?;
        }
        std::fs::write(folder.join("BENCHMARKS.md"), self.markdown())?;
        eprintln!("written: {}", folder.join("BENCHMARKS.md").display());
        Ok(())
    }
}
