//! Exit codes, errors and output of the commands.

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

/// Exit code of a command; see `dispatch-operator --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    Done,
    ChangesPending,
    NotReady,
    Failed,
    Usage,
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
            // 128 + SIGINT, as in shells.
            Exit::Interrupted => 130,
        })
    }
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// A manifest or secret is invalid.
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Reconcile(#[from] EngineError),
    #[error(transparent)]
    Destroy(#[from] DestroyError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("cannot write the result: {0}")]
    Write(String),
}

/// The AWS clients of one system, with the role that its manifest names.
pub async fn connect(system: &ValidatedSystem, global: &Global) -> Ports {
    let (region, aws) = (&system.spec.region, &system.spec.aws);
    Box::pin(AwsClients::connect(region, global.endpoint_url.as_deref(), aws)).await.ports()
}

/// Writes a result to stdout. A closed pipe is not an error.
pub fn put(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CommandError::Write(error.to_string())),
        _ => Ok(()),
    }
}

/// Writes a result in the requested format. Several YAML results form one stream of documents.
pub fn put_as<T: Serialize>(output: Output, value: &T, table: impl FnOnce() -> String) -> Result<(), CommandError> {
    match output {
        Output::Table => put(&table()),
        Output::Yaml => put(&document(DocumentFormat::Yaml, value)?),
        Output::Json => put(&document(DocumentFormat::Json, value)?),
    }
}

/// The results of a command, one for each system. A failure is reported with the system's name, and the other systems
/// are processed nevertheless.
pub struct Results {
    output: Output,
    /// In JSON, the results of several systems are one list.
    list: Option<Vec<serde_json::Value>>,
    exit: Exit,
}

impl Results {
    /// For a command on this many systems.
    pub fn new(output: Output, systems: usize) -> Self {
        let list = (output == Output::Json && systems > 1).then(Vec::new);
        Self { output, list, exit: Exit::Done }
    }

    /// Writes the result of a system, or keeps it for the list.
    pub fn put<T: Serialize>(&mut self, value: &T, table: impl FnOnce() -> String) -> Result<(), CommandError> {
        match &mut self.list {
            Some(list) => list.push(serde_json::to_value(value).map_err(|e| CommandError::Write(e.to_string()))?),
            None => put_as(self.output, value, table)?,
        }
        Ok(())
    }

    /// Records how a system ended. Fails if no later result could be written either.
    pub fn ended(&mut self, system: &ValidatedSystem, how: Result<Exit, CommandError>) -> Result<(), CommandError> {
        match how {
            Ok(exit) => self.exit = self.exit.max(exit),
            Err(error @ CommandError::Write(_)) => return Err(error),
            Err(error) => {
                eprintln!("error: {}/{}: {error}", system.namespace, system.name);
                self.exit = self.exit.max(Exit::Failed);
            }
        }
        Ok(())
    }

    /// Writes the list, if there is one, and returns the exit code of the worst system.
    pub fn finish(self) -> Result<Exit, CommandError> {
        if let Some(list) = &self.list {
            put(&document(DocumentFormat::Json, list)?)?;
        }
        Ok(self.exit)
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
