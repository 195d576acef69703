//! `export`: export the table to the city's S3 bucket.

use std::time::Duration;

use clap::Args;
use dispatch_api::validate::ValidatedSystem;

use crate::commands::load::load_manifests;
use crate::commands::options::{Global, Manifests, Output};
use crate::commands::output::{CommandError, Exit, Results, connect};
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
    let systems = load_manifests(&args.manifests)?;
    let mut results = Results::new(args.output, systems.len()).from_endpoint(global);
    for system in &systems {
        let exit = one(system, global, args.wait, &mut results).await;
        results.ended(system, exit)?;
    }
    results.finish()
}

async fn one(
    system: &ValidatedSystem,
    global: &Global,
    wait: bool,
    results: &mut Results,
) -> Result<Exit, CommandError> {
    let ports = connect(system, global).await;
    let mut printer = Printer::new();
    let mut status = start(system, &ports, &mut printer).await?;
    if wait {
        status = follow(status, &ports, PATIENCE, &mut printer).await?;
    }
    results.put(&status, || render::export(&status))?;
    Ok(if wait && status.state != "COMPLETED" { Exit::Failed } else { Exit::Done })
}
