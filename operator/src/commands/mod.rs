//! The commands: read manifests, call the engine, print. Results go to stdout, progress to stderr.

pub mod apply;
pub mod crd;
pub mod destroy;
pub mod export;
pub mod load;
pub mod local;
pub mod options;
pub mod output;
pub mod plan;
pub mod printer;
pub mod run;
pub mod status;
pub mod template;

use crate::args::Command;
use crate::commands::options::Global;
use crate::commands::output::{CommandError, Exit};

/// Runs a command and prints its error, if any.
pub async fn run(command: Command, global: &Global) -> Exit {
    let result = match command {
        Command::Crd(args) => crd::run(args),
        Command::Template(args) => template::run(&args),
        Command::Plan(args) => plan::run(args, global).await,
        Command::Apply(args) => apply::run(args, global).await,
        Command::Status(args) => status::run(args, global).await,
        Command::Destroy(args) => destroy::run(args, global).await,
        Command::Export(args) => export::run(args, global).await,
        Command::Run(args) => Box::pin(run::run(*args, global)).await,
        Command::Local(_) => Ok(local::run()),
    };
    match result {
        Ok(exit) => exit,
        Err(CommandError::Refused(refused)) => {
            eprintln!("{refused}");
            Exit::Usage
        }
        Err(error) => {
            eprintln!("error: {error}");
            Exit::Failed
        }
    }
}
