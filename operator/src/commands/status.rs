//! `status`: show the state of the environment.

use clap::Args;
use dispatch_api::validate::ValidatedSystem;

use crate::commands::load::load_manifests;
use crate::commands::options::{Global, Manifests, Output};
use crate::commands::output::{CommandError, Exit, Results, connect};
use crate::engine::export;
use crate::engine::reconcile::inspect;
use crate::engine::settings::Settings;
use crate::render;

const EXAMPLES: &str = "\
Examples:
  dispatch-operator status -f examples/seoul.yaml
  dispatch-operator status -f examples/seoul.yaml -o json | jq -r .outputs.offersQueueUrl

Exits with code 4 while the system is not ready.";

/// Arguments of `status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    #[command(flatten)]
    manifests: Manifests,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub async fn run(args: StatusArgs, global: &Global) -> Result<Exit, CommandError> {
    let systems = load_manifests(&args.manifests)?;
    let mut results = Results::new(args.output, systems.len()).from_endpoint(global);
    for system in &systems {
        let exit = one(system, global, &mut results).await;
        results.ended(system, exit)?;
    }
    results.finish()
}

async fn one(system: &ValidatedSystem, global: &Global, results: &mut Results) -> Result<Exit, CommandError> {
    let ports = connect(system, global).await;
    let mut seen = inspect(system, &ports, &Settings::default()).await?;
    let resources = match &seen.status.stack_arn {
        Some(arn) => ports.stacks.resources(arn).await?,
        None => Vec::new(),
    };
    seen.status.last_export = export::last(system, &ports).await?;
    results.put(&seen.status, || render::status(system, &seen.status, &resources))?;
    Ok(if seen.is_ready() { Exit::Done } else { Exit::NotReady })
}
