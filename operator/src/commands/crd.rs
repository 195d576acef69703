//! `crd`: the custom resource definition.

use clap::Args;

use crate::commands::options::DocumentFormat;
use crate::commands::output::{CommandError, Exit, document, put};

const EXAMPLES: &str = "\
Examples:
  dispatch-operator crd | kubectl apply --server-side -f -";

/// Arguments of `crd`.
#[derive(Args, Clone, Copy, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CrdArgs {
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: DocumentFormat,
}

pub fn run(args: CrdArgs) -> Result<Exit, CommandError> {
    put(&document(args.output, &dispatch_api::crd::crd())?)?;
    Ok(Exit::Done)
}
