//! `dispatch-operator local`: a whole city on this machine.
//!
//! An emulated AWS endpoint and Redis run as supervised children, the engine reconciles the manifest as `apply` does, and the
//! runtime runs as a child with the worker configuration the engine wrote. Edits of the manifest are followed. No process
//! outlives the run, however it ends (see [`guard`]).
//!
//! The decisions are pure and live in their own modules (restart pauses, what an edit asks of the workers, how the view
//! looks); [`process`] and [`session`] do the rest.
//!
//! What a second run reuses: the build, the virtual environment and the state folder's place. The emulated AWS starts empty
//! unless `--keep-state` is given, because the emulator writes its state only when it ends in order, so after a crash a kept
//! one is older than what people saw; a fresh one takes about a second, and a simulated city is reproducible only from the
//! same beginning.

mod access;
mod apps;
mod children;
mod display;
mod engine;
mod follow;
pub mod guard;
mod health;
mod locate;
mod manifest;
mod narrate;
mod options;
mod ports;
pub mod process;
mod programs;
pub mod session;
mod state;
mod summary;
mod traffic;
mod view;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use clap::Args;
use dispatch_api::validate::ValidatedSystem;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::health::NotInTime;
use self::locate::LocateError;
use self::manifest::{Cache, RefusedManifest};
use self::options::Simulation;
use self::ports::Ports;
use self::session::{Plan, Session};
use self::state::{Keep, StateDir, StateError};
use self::summary::{Summary, seconds};
use dispatch_operator::commands::load::{Refused, load_secrets};
use dispatch_operator::commands::options::SecretFiles;
use dispatch_operator::engine::error::EngineError;

/// Ports people know, used when they are free: HTTP API, health and metrics, AWS, Redis, the apps.
const PREFERRED_PORTS: [u16; 5] = [8080, 9090, 4566, 6379, 8000];

/// Signals within this time of the first mean the same.
const ONE_WISH: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  # Start Seoul and stay until Ctrl-C; edits of the file are planned and applied while it runs.
  dispatch-operator local -f examples/seoul.yaml

  # Start it, play a minute of traffic, print and keep the summary, stop.
  dispatch-operator local -f examples/seoul.yaml --simulate drivers=300,rate=2 --for 60s --summary summary.json

  # Use a running AWS endpoint and a running Redis instead of starting any.
  dispatch-operator local -f examples/seoul.yaml --aws-endpoint http://127.0.0.1:4566 --redis redis://127.0.0.1:6379

Exit codes:
  0    the system became ready, and the simulation, if any, ended with a clean verdict
  1    something failed; the last lines say what
  2    wrong usage or invalid manifest; nothing was started
  4    the system did not become ready
  130  interrupted before the system was ready or the simulation had ended";

/// Run a whole city on this machine: emulated AWS, Redis, the engine, the workers and, if wanted, simulated traffic.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LocalArgs {
    /// Manifest of one system.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Use this AWS endpoint instead of starting an emulator. Credentials come from the usual places; for a loopback address
    /// without any, the emulators' "test" is used. (--endpoint-url does not count here.)
    #[arg(long, value_name = "URL", value_parser = aws_url)]
    pub aws_endpoint: Option<String>,
    /// Use this Redis (redis://host:port or rediss://host:port) instead of starting one. The stack
    /// then has no ElastiCache, as if the manifest named it in `spec.cache.external`.
    #[arg(long, value_name = "URL", value_parser = redis_url)]
    pub redis: Option<String>,
    /// The emulator. Default: .venv/bin/ministack here or in a folder above, then PATH.
    #[arg(long, value_name = "PROGRAM", env = "DISPATCH_MINISTACK", hide_env_values = true)]
    pub ministack: Option<PathBuf>,
    /// The Redis server. Default: redis-server on PATH.
    #[arg(long, value_name = "PROGRAM", env = "DISPATCH_REDIS_SERVER", hide_env_values = true)]
    pub redis_server: Option<PathBuf>,
    /// The runtime. Default: dispatch-runtime beside this program, then PATH.
    #[arg(long, value_name = "PROGRAM", env = "DISPATCH_RUNTIME", hide_env_values = true)]
    pub runtime_bin: Option<PathBuf>,
    /// The secrets the manifest names.
    #[command(flatten)]
    pub secrets: SecretFiles,
    /// Folder of logs, worker configuration and emulator data. Default: .local/CITY.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Keep the emulated AWS between runs. Without it each run starts with an empty one.
    #[arg(long, conflicts_with = "aws_endpoint")]
    pub keep_state: bool,
    /// Play traffic with so many drivers and requests a second: `drivers=300,rate=2`, with a seed `drivers=300,rate=2,seed=7`.
    #[arg(long, value_name = "TRAFFIC")]
    pub simulate: Option<Simulation>,
    /// End the run after this time of traffic (90s, 5m, 1h). Without it the run stays until Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = options::duration)]
    pub length: Option<Duration>,
    /// Write a summary of the run to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

impl LocalArgs {
    fn cache(&self) -> Cache {
        self.redis.clone().map_or(Cache::Started, Cache::Given)
    }
}

/// Why a run failed. Each text says what to do or whose word it is.
#[derive(Debug, Error)]
pub enum LocalError {
    /// The manifest file cannot be read.
    #[error("cannot read the manifest {path}")]
    ReadManifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The manifest is refused; nothing was started.
    #[error("the manifest {path} is refused:\n{refused}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        refused: RefusedManifest,
    },
    /// A secret cannot be read; nothing was started.
    #[error("a secret cannot be read:\n{0}")]
    Secrets(Refused),
    /// A program is missing.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// This machine refuses something.
    #[error("cannot {action}")]
    Machine {
        /// What.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There are no keys for the apps of this run.
    #[error("cannot make the keys of this run")]
    Access(#[from] access::AccessError),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    HttpClient(#[source] reqwest::Error),
    /// Something did not answer; with the end of its log where it is a child.
    #[error("{what}{log}")]
    NotInTime {
        /// What.
        what: NotInTime,
        /// End of its log, on lines of its own.
        log: String,
    },
    /// The emulator ended; what it held is gone.
    #[error("ministack ended with {how}; the emulated AWS and everything in it is gone, so this run ends{log}")]
    EmulatorLost {
        /// How.
        how: String,
        /// End of its log.
        log: String,
    },
    /// A program could not be started.
    #[error("cannot start {program}")]
    NotStarted {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The engine could not do its work.
    #[error("cannot provision the system")]
    Reconcile(#[from] EngineError),
    /// The system did not become ready.
    #[error("the system is not ready: {0}")]
    NotReady(String),
    /// The simulation did not end well.
    #[error("the simulation failed: {0}")]
    Simulation(String),
    /// Interrupted before the run had done what it was asked for.
    #[error("interrupted before {0}")]
    Interrupted(&'static str),
    /// The summary cannot be written.
    #[error("cannot write the summary to {path}")]
    WriteSummary {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// An error with its causes, on one line each only where they have several.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}

/// Runs the city until it is told to stop or has done what it was asked for. Every child has ended when this returns.
pub async fn run(args: LocalArgs) -> Result<(), LocalError> {
    let begun = Instant::now();
    let mut stop = StopSignals::listen()?;
    let system = read_manifest(&args.file, &args.cache())?;
    let plan = prepare(&args, &system).await?;
    let guard = guard::Guard::start().map_err(machine("start the guard process (`sh`)"))?;
    let guard = Arc::new(guard);
    let mut session = Session::new(plan, system, Arc::clone(&guard), begun)?;
    let outcome = tokio::select! {
        outcome = session.drive() => outcome,
        () = stop.next() => session.interrupted(),
    };
    tokio::select! {
        () = session.stop() => {}
        () = stop.impatient() => session.kill().await,
    }
    let outcome = conclude(&args, session.into_summary(), outcome, begun);
    if let Some(guard) = Arc::into_inner(guard) {
        // It has nothing left to end; waiting for it takes it from the process table.
        let finished = tokio::task::spawn_blocking(|| guard.finish()).await;
        finished.map_err(io::Error::other).and_then(|ended| ended).map_err(machine("end the guard process"))?;
    }
    outcome
}

fn conclude(
    args: &LocalArgs,
    mut summary: Summary,
    outcome: Result<(), LocalError>,
    begun: Instant,
) -> Result<(), LocalError> {
    summary.success = outcome.is_ok();
    summary.failure = outcome.as_ref().err().map(|error| with_causes(error));
    summary.seconds.ended = Some(seconds(begun.elapsed()));
    match &args.summary {
        Some(path) => {
            let written = write_summary(path, &summary);
            outcome.and(written)
        }
        None => outcome,
    }
}

fn write_summary(path: &Path, summary: &Summary) -> Result<(), LocalError> {
    let write = || {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut json = serde_json::to_vec_pretty(summary)?;
        json.push(b'\n');
        worker::write_atomically(path, &json)
    };
    write().map_err(|source| LocalError::WriteSummary { path: path.to_owned(), source })
}

fn read_manifest(path: &Path, cache: &Cache) -> Result<ValidatedSystem, LocalError> {
    let text = follow::read(path).map_err(|source| LocalError::ReadManifest { path: path.to_owned(), source })?;
    manifest::read(&text, cache).map_err(|refused| LocalError::Manifest { path: path.to_owned(), refused })
}

/// Everything that can fail before anything is started.
async fn prepare(args: &LocalArgs, system: &ValidatedSystem) -> Result<Plan, LocalError> {
    let secrets = load_secrets(&args.secrets.secrets).map_err(LocalError::Secrets)?;
    let runtime = locate::runtime(args.runtime_bin.as_deref())?;
    let ministack = args.aws_endpoint.is_none().then(|| locate::ministack(args.ministack.as_deref())).transpose()?;
    let redis = args.redis.is_none().then(|| locate::redis_server(args.redis_server.as_deref())).transpose()?;
    let root = args.state_dir.clone().unwrap_or_else(|| Path::new(".local").join(&system.spec.city));
    let keep = if args.keep_state { Keep::EmulatorState } else { Keep::Nothing };
    let state = StateDir::open(&root, keep)?;
    let ports = Ports::choose(PREFERRED_PORTS).map_err(machine("find free ports on 127.0.0.1"))?;
    let access = access::make(&runtime, &state.keys()).await?;
    Ok(Plan { args: args.clone(), secrets, runtime, ministack, redis, state, keep, ports, access })
}

fn machine(action: &'static str) -> impl Fn(io::Error) -> LocalError {
    move |source| LocalError::Machine { action, source }
}

/// Signals that end a run. SIGHUP is one: the terminal is gone.
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn listen() -> Result<Self, LocalError> {
        let listen = |kind| signal(kind).map_err(machine("listen for signals"));
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    /// A person who asks again. Signals close together are one wish: `make` hands on what the whole process group has had.
    async fn impatient(&mut self) {
        let asked = Instant::now();
        while asked.elapsed() < ONE_WISH {
            self.next().await;
        }
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// An `http` or `https` address without credentials, without a slash at its end.
fn aws_url(text: &str) -> Result<String, String> {
    let refused = || "an address like http://127.0.0.1:4566 is allowed".to_owned();
    let url = reqwest::Url::parse(text).map_err(|_| refused())?;
    let plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if plain && url.has_host() { Ok(text.trim_end_matches('/').to_owned()) } else { Err(refused()) }
}

/// A `redis` or `rediss` address without credentials, with its port.
fn redis_url(text: &str) -> Result<String, String> {
    let refused = || "an address like redis://127.0.0.1:6379, without user name and password, is allowed".to_owned();
    let url = reqwest::Url::parse(text).map_err(|_| refused())?;
    let plain = matches!(url.scheme(), "redis" | "rediss") && url.username().is_empty() && url.password().is_none();
    match url.host_str() {
        Some(host) if plain => Ok(format!("{}://{host}:{}", url.scheme(), url.port().unwrap_or(6379))),
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        local: LocalArgs,
    }

    #[test]
    fn addresses_are_checked_before_anything_starts() {
        assert_eq!(aws_url("http://localhost:4566/").as_deref(), Ok("http://localhost:4566"));
        assert_eq!(redis_url("redis://cache").as_deref(), Ok("redis://cache:6379"));
        assert_eq!(redis_url("rediss://cache:6380").as_deref(), Ok("rediss://cache:6380"));
        for wrong in ["localhost:4566", "ftp://x", "http://", "http://a:b@x"] {
            assert!(aws_url(wrong).is_err(), "{wrong}");
        }
        for wrong in ["cache:6379", "http://cache", "redis://:secret@cache:6379", "redis://"] {
            let error = redis_url(wrong).unwrap_err();
            assert!(!error.contains("secret"), "{wrong}");
        }
    }

    #[test]
    fn options_that_exclude_each_other_are_refused() {
        let refused = Cli::try_parse_from([
            "local",
            "-f",
            "seoul.yaml",
            "--aws-endpoint",
            "http://127.0.0.1:4566",
            "--keep-state",
        ]);
        assert!(refused.is_err());
        let args = Cli::try_parse_from(["local", "-f", "s.yaml", "--simulate", "drivers=3,rate=1", "--for", "60s"]);
        assert_eq!(args.unwrap().local.length, Some(Duration::from_mins(1)));
    }

    #[tokio::test]
    async fn a_wrong_manifest_starts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("wrong.yaml");
        fs::write(&file, "kind: Dispatchsystem\n").unwrap();
        let state = dir.path().join("state");
        let cli = Cli::try_parse_from(["local", "-f", file.to_str().unwrap(), "--state-dir", state.to_str().unwrap()]);
        let error = Box::pin(run(cli.unwrap().local)).await.unwrap_err();
        assert!(matches!(error, LocalError::Manifest { .. }), "{error}");
        assert!(!state.exists());
    }
}
