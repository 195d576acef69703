//! How commands end, fail and print.

use std::io::Write as _;
use std::process::ExitCode;

use dispatch_api::validate::ValidatedSystem;
use serde::Serialize;
use thiserror::Error;

use crate::cloud::aws::AwsClients;
use crate::cloud::ports::{PortError, Ports};
use crate::commands::load::Refused;
use crate::commands::options::{DocumentFormat, Global, Output};
use crate::engine::destroy::DestroyError;
use crate::engine::error::EngineError;
use crate::engine::export::ExportError;
use crate::kubernetes::RunError;

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
    Reconcile(#[from] EngineError),
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

/// Clients for one system, with the role its manifest names.
pub async fn connect(system: &ValidatedSystem, global: &Global) -> Ports {
    let (region, aws) = (&system.spec.region, &system.spec.aws);
    Box::pin(AwsClients::connect(region, global.endpoint_url.as_deref(), aws)).await.ports()
}

/// Writes a result to stdout. A reader that has gone away is no error.
pub fn put(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CommandError::Write(error.to_string())),
        _ => Ok(()),
    }
}

/// Writes a result in the form asked for; several YAML results are documents of one stream.
pub fn put_as<T: Serialize>(output: Output, value: &T, table: impl FnOnce() -> String) -> Result<(), CommandError> {
    match output {
        Output::Table => put(&table()),
        Output::Yaml => put(&document(DocumentFormat::Yaml, value)?),
        Output::Json => put(&document(DocumentFormat::Json, value)?),
    }
}

/// Renders a result as YAML or JSON.
pub fn document<T: Serialize>(format: DocumentFormat, value: &T) -> Result<String, CommandError> {
    match format {
        DocumentFormat::Yaml => serde_yaml::to_string(value)
            .map(|text| format!("---\n{text}"))
            .map_err(|e| CommandError::Write(e.to_string())),
        DocumentFormat::Json => {
            serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|e| CommandError::Write(e.to_string()))
        }
    }
}
