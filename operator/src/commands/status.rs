//! `status`: show the state of the environment.

use clap::Args;

use crate::commands::load::load_manifests;
use crate::commands::options::{Global, Manifests, Output};
use crate::commands::output::{CommandError, Exit, connect, put_as};
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
    let mut exit = Exit::Done;
    for system in load_manifests(&args.manifests)? {
        let ports = connect(&system, global).await;
        let mut seen = inspect(&system, &ports, &Settings::default()).await?;
        let resources = match &seen.status.stack_arn {
            Some(arn) => ports.stacks.resources(arn).await?,
            None => Vec::new(),
        };
        seen.status.last_export = export::last(&system, &ports).await?;
        put_as(args.output, &seen.status, || render::status(&system, &seen.status, &resources))?;
        if !seen.is_ready() {
            exit = Exit::NotReady;
        }
    }
    Ok(exit)
}
