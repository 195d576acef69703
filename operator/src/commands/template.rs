//! `template`: print the CloudFormation template of a manifest. Makes no calls.

use clap::Args;

use crate::commands::load::load_manifests;
use crate::commands::options::{DocumentFormat, Manifests};
use crate::commands::output::{CommandError, Exit, document, put};
use crate::engine::plan::template::render;

const EXAMPLES: &str = "\
Examples:
  dispatch-operator template -f examples/seoul.yaml
  dispatch-operator template -f examples/seoul.yaml -o json > seoul.template.json && cfn-lint seoul.template.json";

/// Arguments of `template`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TemplateArgs {
    #[command(flatten)]
    manifests: Manifests,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: DocumentFormat,
}

pub fn run(args: &TemplateArgs) -> Result<Exit, CommandError> {
    for system in load_manifests(&args.manifests)? {
        put(&document(args.output, render(&system).body())?)?;
    }
    Ok(Exit::Done)
}
