//! Why a command failed.

use std::io;
use std::path::PathBuf;

use dispatch_dev_keys::SigningError;
use dispatch_operator::commands::load::Refused;
use dispatch_operator::engine::error::EngineError;
use thiserror::Error;

use crate::health::ProbeTimeout;
use crate::manifest::ManifestRefusal;
use crate::programs::binaries::BinaryError;
use crate::state_dir::StateError;
use crate::tcp_ports::TcpPortError;

/// Why a command failed. Each text says what to do, or who reported the failure.
#[derive(Debug, Error)]
pub enum LocalError {
    /// The manifest cannot be read. Nothing was started.
    #[error("cannot read the manifest {0}")]
    ReadManifest(PathBuf, #[source] io::Error),
    /// The manifest is invalid. Nothing was started.
    #[error("the manifest {0} is invalid:\n{1}")]
    Manifest(PathBuf, ManifestRefusal),
    /// A secret cannot be read. Nothing was started.
    #[error("cannot read a secret:\n{0}")]
    Secrets(Refused),
    /// A program that the run needs is not installed.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A port cannot be used.
    #[error(transparent)]
    Port(#[from] TcpPortError),
    /// The operating system refused something; the text completes "cannot …".
    #[error("cannot {0}")]
    Machine(&'static str, #[source] io::Error),
    /// A signing key cannot be made or used.
    #[error("cannot use the signing key")]
    Key(#[from] SigningError),
    /// The HTTP client could not be created.
    #[error("cannot create an HTTP client")]
    HttpClient(#[source] reqwest::Error),
    /// An endpoint did not answer. The second part is the end of its log on lines of its own, or empty.
    #[error("{0}{1}")]
    NoAnswer(ProbeTimeout, String),
    /// The emulator ended, and its data with it: how, and the end of its log.
    #[error("ministack exited with {0}. The emulated AWS is lost with all its data, so this run ends{1}")]
    EmulatorLost(String, String),
    /// A program could not be started.
    #[error("cannot start {0}")]
    StartFailed(&'static str, #[source] io::Error),
    /// The engine failed.
    #[error("cannot provision the system")]
    Reconcile(#[from] EngineError),
    /// The engine ended without an error, but the system did not become ready.
    #[error("the system is not ready: {0}")]
    NotReady(String),
    /// The simulator failed, or found a violation.
    #[error("the simulation failed: {0}")]
    Simulation(String),
    /// A signal arrived before the run had done what it was asked for.
    #[error("interrupted before {0}")]
    Interrupted(&'static str),
    /// The summary cannot be written.
    #[error("cannot write the summary to {0}")]
    WriteSummary(PathBuf, #[source] io::Error),
    /// A result cannot be printed.
    #[error("cannot write to stdout")]
    Print(#[source] io::Error),
}

/// Maps an I/O error; `action` completes "cannot …".
pub(crate) fn machine_error(action: &'static str) -> impl Fn(io::Error) -> LocalError {
    move |source| LocalError::Machine(action, source)
}

/// An error and its causes on one line. A cause with several lines keeps them.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}
