//! A city on one machine.
//!
//! `dispatch-local run` starts an emulated AWS endpoint and Redis as child processes, reconciles the manifest with the
//! operator's engine as `dispatch-operator apply` does, and starts the runtime with the worker configuration that the
//! engine rendered. It reconciles again when the manifest changes. No child process outlives the run, however it ends:
//! see `process::reaper`.
//!
//! Decisions are pure and have modules of their own (restart pauses, what an edit means for the workers, how the view
//! is drawn); `process` and `session` carry them out.
//!
//! A second run reuses the signing key and the place of the state folder. The emulated AWS starts empty unless
//! `--keep-state` is given: the emulator writes its state only at an orderly exit, so after a crash the kept state is
//! older than what people saw. A new one takes about a second, and a simulated city is reproducible only from the same
//! start.

mod apps;
mod args;
mod endpoints;
mod env_file;
mod error;
mod health;
mod manifest;
mod metrics_scrape;
mod process;
mod programs;
mod session;
mod signals;
mod state_dir;
mod summary;
mod tcp_ports;
mod terminal;
mod worker_config;

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dispatch_api::validate::ValidatedSystem;
use dispatch_dev_keys::{KeysArgs, TokenArgs};
use dispatch_operator::commands::load::load_secrets;

pub use self::args::RunArgs;
use self::error::machine_error;
pub use self::error::{LocalError, with_causes};
use self::manifest::CacheSource;
use self::process::reaper::Reaper;
use self::programs::binaries::{self, Binaries};
use self::session::{Session, SessionConfig};
use self::signals::StopSignals;
use self::state_dir::{Persistence, StateDir};
use self::summary::{Summary, seconds};
use self::tcp_ports::{PortRequest, TcpPorts};

/// Ports used if they are free: HTTP API, health and metrics, Redis, the apps. The emulator has no well-known port.
const HTTP_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9090;
const REDIS_PORT: u16 = 6379;
const APPS_PORT: u16 = 8000;

/// Runs a city until it has done what it was asked for, or a signal stops it. When this returns, every child process
/// has ended.
pub async fn run(args: RunArgs) -> Result<(), LocalError> {
    let started = Instant::now();
    let mut stop = StopSignals::new()?;
    let system = read_manifest(&args.file, &args.cache())?;
    let config = prepare(&args, &system)?;
    let reaper = Arc::new(Reaper::start().map_err(machine_error("start the reaper process (`sh`)"))?);
    let mut session = Session::new(config, system, Arc::clone(&reaper), started)?;
    let outcome = tokio::select! {
        outcome = session.run() => outcome,
        () = stop.recv() => session.interrupted(),
    };
    tokio::select! {
        () = session.stop() => {}
        () = stop.recv_again() => session.kill().await,
    }
    let outcome = write_summary(&args, session.into_summary(), outcome, started);
    if let Some(reaper) = Arc::into_inner(reaper) {
        // No process group is left to end; waiting removes the reaper from the process table.
        let finished = tokio::task::spawn_blocking(|| reaper.finish()).await;
        let finished = finished.map_err(io::Error::other).and_then(|finished| finished);
        finished.map_err(machine_error("end the reaper process"))?;
    }
    outcome
}

/// Makes the keys of a folder, unless they exist, and prints what workers and callers need of them.
pub fn print_keys(args: &KeysArgs) -> Result<(), LocalError> {
    let access = dispatch_dev_keys::make(&args.dir)?;
    let json = serde_json::to_string_pretty(&access).map_err(|error| LocalError::Print(error.into()))?;
    writeln!(io::stdout(), "{json}").map_err(LocalError::Print)
}

/// Prints a token.
pub fn print_token(args: &TokenArgs) -> Result<(), LocalError> {
    writeln!(io::stdout(), "{}", args.token()?).map_err(LocalError::Print)
}

fn write_summary(
    args: &RunArgs,
    mut summary: Summary,
    outcome: Result<(), LocalError>,
    started: Instant,
) -> Result<(), LocalError> {
    summary.success = outcome.is_ok();
    summary.failure = outcome.as_ref().err().map(|error| with_causes(error));
    summary.seconds.ended = Some(seconds(started.elapsed()));
    let Some(path) = &args.summary else { return outcome };
    let written = summary.write(path).map_err(|error| LocalError::WriteSummary(path.clone(), error));
    outcome.and(written)
}

fn read_manifest(path: &Path, cache: &CacheSource) -> Result<ValidatedSystem, LocalError> {
    let text = manifest::read_text(path).map_err(|error| LocalError::ReadManifest(path.to_owned(), error))?;
    manifest::parse(&text, cache).map_err(|refusal| LocalError::Manifest(path.to_owned(), refusal))
}

/// Everything that can fail before a process starts.
fn prepare(args: &RunArgs, system: &ValidatedSystem) -> Result<SessionConfig, LocalError> {
    let secrets = load_secrets(&args.secrets.secrets).map_err(LocalError::Secrets)?;
    let binaries = Binaries {
        runtime: binaries::runtime(args.runtime_bin.as_deref())?,
        simulator: args.simulate.map(|_| binaries::simulator(args.simulator_bin.as_deref())).transpose()?,
        emulator: args.aws_endpoint.is_none().then(|| binaries::emulator(args.ministack.as_deref())).transpose()?,
        redis: args.redis.is_none().then(|| binaries::redis_server(args.redis_server.as_deref())).transpose()?,
    };
    let root = args.state_dir.clone().unwrap_or_else(|| Path::new(".local").join(&system.spec.city));
    let persistence = if args.keep_state { Persistence::EmulatorState } else { Persistence::None };
    let state = StateDir::open(&root, persistence)?;
    let ports = TcpPorts::choose([
        PortRequest::Preferred(HTTP_PORT),
        PortRequest::Preferred(ADMIN_PORT),
        args.aws_port.map_or(PortRequest::Any, PortRequest::Exact),
        PortRequest::Preferred(REDIS_PORT),
        PortRequest::Preferred(APPS_PORT),
    ])?;
    let access = dispatch_dev_keys::make(&state.keys())?;
    Ok(SessionConfig { args: args.clone(), secrets, binaries, state, persistence, ports, access })
}
