//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::options::Global;
use crate::commands::{apply, crd, destroy, export, local, plan, run, status, template};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or nothing to do
  1  something failed
  2  wrong usage or invalid manifest; nothing was asked of AWS
  3  changes are pending: `plan --exit-code` found some, or `apply` waits for an approval
  4  the system is not ready, or cannot become ready without a person

Credentials are found the way every AWS tool finds them (environment, profile, SSO, web identity, instance).";

/// The control plane of Coactus Dispatch: turns a `DispatchSystem` manifest into a city's whole AWS environment.
#[derive(Debug, Parser)]
#[command(name = "dispatch-operator", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Settings of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the custom resource definition.
    Crd(crd::CrdArgs),
    /// Print the CloudFormation template of a manifest.
    Template(template::TemplateArgs),
    /// Show what `apply` would add, change, replace and remove.
    Plan(plan::PlanArgs),
    /// Bring the environment to what the manifest says.
    Apply(apply::ApplyArgs),
    /// Show how the environment stands; changes nothing.
    Status(status::StatusArgs),
    /// Take the environment down, as far as the manifest's deletionPolicy says.
    Destroy(destroy::DestroyArgs),
    /// Export the table to the city's bucket.
    Export(export::ExportArgs),
    /// Watch the `DispatchSystem` objects of a cluster and do for each what `apply` does, plus its workers.
    Run(Box<run::RunArgs>),
    /// Moved: a city on this machine is run by `dispatch-local`.
    #[command(hide = true)]
    Local(local::LocalArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_of_every_command() {
        let mut all = String::new();
        let mut cli = Cli::command().term_width(100);
        cli.build();
        all.push_str(&cli.render_long_help().to_string());
        for command in cli.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let (name, help) = (command.get_name().to_owned(), command.render_long_help());
            all.extend(["\n===== ", name.as_str(), "\n", help.to_string().as_str()]);
        }
        insta::assert_snapshot!(all);
    }
}
