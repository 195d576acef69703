//! `dispatch-operator`: see `dispatch-operator --help`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use dispatch_operator::args::Cli;
use dispatch_operator::commands::output::Exit;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match EnvFilter::try_new(&cli.global.log) {
        Ok(filter) => {
            // Collected logs must not contain escape sequences.
            let colours = std::io::stderr().is_terminal();
            tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
        }
        Err(error) => {
            eprintln!("error: --log {:?}: {error}", cli.global.log);
            return Exit::Usage.into();
        }
    }
    cli.command.run(&cli.global).await.into()
}
