//! `export`: export the table to the city's S3 bucket.

use std::time::Duration;

use clap::Args;

use crate::commands::load::load_manifests;
use crate::commands::options::{Global, Manifests, Output};
use crate::commands::output::{CommandError, Exit, connect, put_as};
use crate::commands::printer::Printer;
use crate::engine::export::{follow, start};
use crate::engine::settings::WaitPolicy;
use crate::render;

const EXAMPLES: &str = "\
Examples:
  dispatch-operator export -f examples/seoul.yaml           # start it; `status` shows its progress
  dispatch-operator export -f examples/seoul.yaml --wait    # wait until it has completed or failed

Format, extent and prefix come from spec.export. An export reads the continuous backups, not the table.";

/// An export takes minutes, that of a large table hours.
const PATIENCE: WaitPolicy =
    WaitPolicy { first: Duration::from_secs(1), longest: Duration::from_secs(10), total: Duration::from_hours(6) };

/// Arguments of `export`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ExportArgs {
    #[command(flatten)]
    manifests: Manifests,
    /// Wait until the export has completed or failed.
    #[arg(long)]
    wait: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub async fn run(args: ExportArgs, global: &Global) -> Result<Exit, CommandError> {
    let mut exit = Exit::Done;
    for system in load_manifests(&args.manifests)? {
        let ports = connect(&system, global).await;
        let mut printer = Printer::new();
        let mut status = start(&system, &ports, &mut printer).await?;
        if args.wait {
            status = follow(status, &ports, PATIENCE, &mut printer).await?;
            exit = exit.max(if status.state == "COMPLETED" { Exit::Done } else { Exit::Failed });
        }
        put_as(args.output, &status, || render::export(&status))?;
    }
    Ok(exit)
}
