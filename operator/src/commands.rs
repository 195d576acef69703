//! The commands of the command line: read manifests, call the engine, print. Results go to stdout, progress to stderr.

pub mod apply;
pub mod crd;
pub mod destroy;
pub mod export;
pub mod local;
pub mod plan;
pub mod run;
pub mod status;
pub mod template;

mod load;
mod printer;

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use thiserror::Error;

use dispatch_api::validate::ValidatedSystem;

use crate::args::{Command, DocumentFormat, Global, Output};
use crate::aws::AwsClients;
use crate::destroy::DestroyError;
use crate::export::ExportError;
use crate::kubernetes::RunError;
use crate::ports::{PortError, Ports};
use crate::reconcile::ReconcileError;

pub use load::{Refused, load_manifests, load_secrets};
pub use printer::Printer;

/// How a command ended; see `dispatch-operator --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// 0
    Done,
    /// 3
    ChangesPending,
    /// 4
    NotReady,
    /// 1
    Failed,
    /// 2
    Usage,
    /// 130
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::ChangesPending => 3,
            Exit::NotReady => 4,
            // 128 + SIGINT, as shells have it.
            Exit::Interrupted => 130,
        })
    }
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// A manifest or secret is refused: one line each.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The engine failed.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// A deletion failed.
    #[error(transparent)]
    Destroy(#[from] DestroyError),
    /// An export failed.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A call failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The controller ended.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The signals of the operating system cannot be heard.
    #[error("signals cannot be heard")]
    Signals(#[source] std::io::Error),
    /// A result could not be written down.
    #[error("could not write the result: {0}")]
    Write(String),
}

/// Runs a command and says how it ended.
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
        Command::Local(args) => Ok(local::run(*args).await),
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

/// Clients for one system, with the role its manifest names.
async fn connect(system: &ValidatedSystem, global: &Global) -> Ports {
    let (region, aws) = (&system.spec.region, &system.spec.aws);
    Box::pin(AwsClients::connect(region, global.endpoint_url.as_deref(), aws)).await.ports()
}

/// Writes a result to stdout. A reader that has gone away is no error.
fn put(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CommandError::Write(error.to_string())),
        _ => Ok(()),
    }
}

/// Writes a result in the form asked for; several YAML results are documents of one stream.
fn put_as<T: Serialize>(output: Output, value: &T, table: impl FnOnce() -> String) -> Result<(), CommandError> {
    match output {
        Output::Table => put(&table()),
        Output::Yaml => put(&document(DocumentFormat::Yaml, value)?),
        Output::Json => put(&document(DocumentFormat::Json, value)?),
    }
}

fn document<T: Serialize>(format: DocumentFormat, value: &T) -> Result<String, CommandError> {
    match format {
        DocumentFormat::Yaml => serde_yaml::to_string(value)
            .map(|text| format!("---\n{text}"))
            .map_err(|e| CommandError::Write(e.to_string())),
        DocumentFormat::Json => {
            serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|e| CommandError::Write(e.to_string()))
        }
    }
}
