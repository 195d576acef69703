//! `template`: print the CloudFormation template of a manifest. Makes no calls.

use clap::Args;

use crate::commands::load::{Refused, load_manifests};
use crate::commands::options::{DocumentFormat, Manifests, Output};
use crate::commands::output::{CommandError, Exit, Results};
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
    let systems = load_manifests(&args.manifests)?;
    let output = match args.output {
        DocumentFormat::Yaml => Output::Yaml,
        DocumentFormat::Json => Output::Json,
    };
    let mut results = Results::new(output, systems.len());
    for system in &systems {
        if let Some(errors) = &system.unfit {
            return Err(Refused(errors.to_string().lines().map(str::to_owned).collect()).into());
        }
        results.put(render(system).body(), String::new)?;
    }
    results.finish()
}
