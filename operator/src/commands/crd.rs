//! `crd`: the custom resource definition.

use clap::Args;
use dispatch_api::crd::{crd, crd_yaml};

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
    let text = match args.output {
        DocumentFormat::Yaml => crd_yaml().map_err(|error| CommandError::Write(error.to_string()))?,
        DocumentFormat::Json => document(DocumentFormat::Json, &crd())?,
    };
    put(&text)?;
    Ok(Exit::Done)
}
