//! `dispatch-local`: see `dispatch-local --help`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dispatch_local::{LocalArgs, LocalError, with_causes};
use dispatch_operator::commands::output::Exit;
use tracing_subscriber::EnvFilter;

/// A whole city on this machine, for development and demonstrations: emulated AWS, Redis, the operator's engine, the runtime and
/// simulated traffic.
#[derive(Debug, Parser)]
#[command(name = "dispatch-local", version)]
struct Cli {
    /// What is logged to stderr, for example `info` or `dispatch_local=debug`.
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
    /// Start the city of a manifest and keep it running until Ctrl-C or for the given time.
    Run(Box<LocalArgs>),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match EnvFilter::try_new(&cli.log) {
        Ok(filter) => {
            // Colours are for terminals; a log that is collected holds text alone.
            let colours = std::io::stderr().is_terminal();
            tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
        }
        Err(error) => {
            eprintln!("error: --log {:?}: {error}", cli.log);
            return Exit::Usage.into();
        }
    }
    let Command::Run(args) = cli.command;
    // The future holds the whole session.
    match Box::pin(dispatch_local::run(*args)).await {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            exit(&error)
        }
    }
    .into()
}

fn exit(error: &LocalError) -> Exit {
    match error {
        LocalError::ReadManifest { .. } | LocalError::Manifest { .. } | LocalError::Secrets(_) => Exit::Usage,
        LocalError::NotReady(_) => Exit::NotReady,
        LocalError::Interrupted(_) => Exit::Interrupted,
        _ => Exit::Failed,
    }
}
