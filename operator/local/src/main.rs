//! `dispatch-local`: see `dispatch-local --help`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dispatch_dev_keys::{KeysArgs, TokenArgs};
use dispatch_local::{LocalError, RunArgs, with_causes};
use dispatch_operator::commands::output::Exit;
use dispatch_operator::sanitize::terminal;
use tracing_subscriber::EnvFilter;

/// A city on this machine, for development and demonstrations.
#[derive(Debug, Parser)]
#[command(name = "dispatch-local", version)]
struct Cli {
    /// Filter for the log on stderr, for example `info` or `dispatch_local=debug`.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "DISPATCH_LOG",
        hide_env_values = true,
        default_value = "warn"
    )]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the city of a manifest: emulated AWS, Redis, the operator's engine, the workers, two demo apps and, on
    /// request, simulated traffic.
    Run(Box<RunArgs>),
    /// Make the signing key of a folder, unless it exists, and print the workers' authentication settings and sample
    /// tokens as JSON.
    Keys(KeysArgs),
    /// Print an access token for the API of a local city.
    Token(TokenArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match EnvFilter::try_new(&cli.log) {
        Ok(filter) => {
            let colours = std::io::stderr().is_terminal();
            tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
        }
        Err(error) => {
            eprintln!("error: --log {:?}: {error}", cli.log);
            return Exit::Usage.into();
        }
    }
    let result = match cli.command {
        // The future of a run is large.
        Command::Run(args) => Box::pin(dispatch_local::run(*args)).await,
        Command::Keys(args) => dispatch_local::print_keys(&args),
        Command::Token(args) => dispatch_local::print_token(&args),
    };
    match result {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("error: {}", terminal(&with_causes(&error)));
            exit_for(&error)
        }
    }
    .into()
}

fn exit_for(error: &LocalError) -> Exit {
    match error {
        LocalError::ReadManifest(..) | LocalError::Manifest(..) | LocalError::Secrets(_) => Exit::Usage,
        LocalError::NotReady(_) => Exit::NotReady,
        LocalError::Interrupted(_) => Exit::Interrupted,
        _ => Exit::Failed,
    }
}
