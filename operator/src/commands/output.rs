//! Exit codes, errors and output of the commands.

use std::io::Write as _;
use std::process::ExitCode;

use dispatch_api::validate::ValidatedSystem;
use serde::Serialize;
use thiserror::Error;

use crate::cloud::aws::AwsClients;
use crate::cloud::ports::{PortError, PortErrorKind, Ports};
use crate::commands::load::Refused;
use crate::commands::options::{DocumentFormat, Global, Output};
use crate::engine::destroy::DestroyError;
use crate::engine::error::EngineError;
use crate::engine::export::ExportError;
use crate::kubernetes::RunError;
use crate::sanitize::{terminal, terminal_json};

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

/// Writes an error to stderr. It may repeat names and values that others chose, so it steers no terminal.
pub fn report(error: &str) {
    eprintln!("error: {}", terminal(error));
}

/// Where a call went that AWS did not answer; `None` for another error. The address distinguishes a wrong endpoint or
/// proxy from an outage.
fn destination(error: &CommandError, endpoint: Option<&str>, region: &str) -> Option<String> {
    let (CommandError::Port(error)
    | CommandError::Reconcile(EngineError::Port(error))
    | CommandError::Destroy(DestroyError::Port(error) | DestroyError::Reconcile(EngineError::Port(error)))
    | CommandError::Export(ExportError::Port(error) | ExportError::Reconcile(EngineError::Port(error)))) = error
    else {
        return None;
    };
    let place = endpoint.map_or_else(
        || format!("the AWS endpoints of {region}"),
        |url| format!("{url} (--endpoint-url or AWS_ENDPOINT_URL)"),
    );
    (error.kind == PortErrorKind::Unavailable).then(|| format!("; the call went to {place}"))
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
        Output::Table => put(&terminal(&table())),
        Output::Yaml => put(&document(DocumentFormat::Yaml, value)?),
        Output::Json => put(&terminal_json(&document(DocumentFormat::Json, value)?)),
    }
}

/// The results of a command, one for each system. A failure is reported with the system's name, and the other systems
/// are processed nevertheless.
pub struct Results {
    output: Output,
    /// In JSON, the results of several systems are one list.
    list: Option<Vec<serde_json::Value>>,
    /// Endpoint of all calls, instead of the AWS endpoints.
    endpoint: Option<String>,
    exit: Exit,
}

impl Results {
    /// For a command on this many systems.
    pub fn new(output: Output, systems: usize) -> Self {
        let list = (output == Output::Json && systems > 1).then(Vec::new);
        Self { output, list, endpoint: None, exit: Exit::Done }
    }

    /// Results of calls to this endpoint.
    #[must_use]
    pub fn from_endpoint(mut self, global: &Global) -> Self {
        self.endpoint.clone_from(&global.endpoint_url);
        self
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
                report(&self.failure(system, &error));
                self.exit = self.exit.max(Exit::Failed);
            }
        }
        Ok(())
    }

    /// The text of a failure, with the system and, for a call without an answer, where it went.
    pub fn failure(&self, system: &ValidatedSystem, error: &CommandError) -> String {
        let went = destination(error, self.endpoint.as_deref(), &system.spec.region).unwrap_or_default();
        format!("{}/{}: {error}{went}", system.namespace, system.name)
    }

    /// Writes the list, if there is one, and returns the exit code of the worst system.
    pub fn finish(self) -> Result<Exit, CommandError> {
        if let Some(list) = &self.list {
            put(&terminal_json(&document(DocumentFormat::Json, list)?))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::system;

    #[test]
    fn a_failure_names_the_system_and_where_a_call_without_an_answer_went() {
        let error = |kind| CommandError::Port(PortError::new("describe the stack", kind, "Connection refused"));
        let results = Results::new(Output::Table, 1);
        let text = results.failure(&system(), &error(PortErrorKind::Unavailable));
        let expected = "default/seoul: cannot describe the stack: Connection refused; the call went to the AWS endpoints \
                        of ap-northeast-2";
        assert_eq!(text, expected);
        let global = Global { endpoint_url: Some("http://127.0.0.1:4566".to_owned()), log: String::new() };
        let results = results.from_endpoint(&global);
        let text = results.failure(&system(), &error(PortErrorKind::Unavailable));
        assert!(text.ends_with("went to http://127.0.0.1:4566 (--endpoint-url or AWS_ENDPOINT_URL)"), "{text}");
        assert!(!results.failure(&system(), &error(PortErrorKind::Denied)).contains("went to"));
    }
}
