//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::options::Global;
use crate::commands::output::{CommandError, Exit, report};
use crate::commands::{apply, crd, destroy, export, local, plan, run, status, template};
use crate::sanitize::terminal;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or nothing to do
  1  failure
  2  wrong usage or invalid manifest; no call was made to AWS
  3  changes are pending: `plan --exit-code` found changes, or `apply` waits for approval
  4  the system is not ready, or requires action; an apply of the plan would be blocked

Credentials come from the default AWS provider chain (environment, profile, SSO, web identity, container, instance).";

/// The operator of Coactus Dispatch: reconciles a `DispatchSystem` manifest into a city's AWS environment.
#[derive(Debug, Parser)]
#[command(name = "dispatch-operator", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the custom resource definition.
    Crd(crd::CrdArgs),
    /// Print the CloudFormation template of a manifest.
    Template(template::TemplateArgs),
    /// Show what `apply` would add, change, replace and remove.
    Plan(plan::PlanArgs),
    /// Create or update the environment to match the manifest.
    Apply(apply::ApplyArgs),
    /// Show the state of the environment without changing it.
    Status(status::StatusArgs),
    /// Delete the environment, subject to the manifest's deletionPolicy.
    Destroy(destroy::DestroyArgs),
    /// Export the table to the city's S3 bucket.
    Export(export::ExportArgs),
    /// Run the controller: reconcile the `DispatchSystem` objects of a cluster and run their workers.
    Run(Box<run::RunArgs>),
    /// Moved to `dispatch-local`, which runs a city on this machine.
    #[command(hide = true)]
    Local(local::LocalArgs),
}

impl Command {
    /// Runs a command and prints its error, if any. Ctrl-C ends it.
    pub async fn run(self, global: &Global) -> Exit {
        let begins = match &self {
            // It drains before it ends.
            Self::Run(_) => return self.carry_out(global).await,
            Self::Apply(_) | Self::Destroy(_) | Self::Export(_) => {
                "; AWS continues what has begun, run the command again to follow it"
            }
            _ => "",
        };
        tokio::select! {
            // First, so that it is set up before the command begins anything.
            biased;
            Ok(()) = tokio::signal::ctrl_c() => {
                eprintln!("interrupted{begins}");
                Exit::Interrupted
            }
            exit = self.carry_out(global) => exit,
        }
    }

    async fn carry_out(self, global: &Global) -> Exit {
        let result = match self {
            Self::Crd(args) => crd::run(args),
            Self::Template(args) => template::run(&args),
            Self::Plan(args) => plan::run(args, global).await,
            Self::Apply(args) => apply::run(args, global).await,
            Self::Status(args) => status::run(args, global).await,
            Self::Destroy(args) => destroy::run(args, global).await,
            Self::Export(args) => export::run(args, global).await,
            Self::Run(args) => Box::pin(run::run(*args, global)).await,
            Self::Local(_) => Ok(local::run()),
        };
        match result {
            Ok(exit) => exit,
            Err(CommandError::Refused(refused)) => {
                eprintln!("{}", terminal(&refused.to_string()));
                Exit::Usage
            }
            Err(error) => {
                report(&error.to_string());
                Exit::Failed
            }
        }
    }
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
