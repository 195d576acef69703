//! Builds a process from its configuration, runs its roles, and shuts it down in order.

mod checks;
mod connect;
mod follow;
mod gate;
mod machine;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::worker_config::{WorkerConfig, WorkerConfigError};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::adapters::fleet::ConnectError;
use crate::adapters::messaging::Consumer;
use crate::adapters::store::DynamoStore;
use crate::args::ServeArgs;
use crate::auth::{Authenticator, KeysError};
use crate::city::{City, Settings};
use crate::engine::Engine;
use crate::http::listener::{Bounds, Setup, serve as serve_connections};
use crate::http::{
    Access, AdminState, Admission, AppState, HttpRole, Rates, Readiness, StreamPlaces, admin_router, router,
};
use crate::roles::{Algorithm, Answers, Deliveries, OfferTimeouts, Role, Roles, Sweeper};
use crate::stream::StreamConsumer;
use crate::telemetry::metrics::Metrics;
use connect::Connections;
use machine::{ADMIN_CONNECTIONS, Machine, ProcessBounds};

/// Time for work in progress at shutdown: an HTTP request may take this long, and Kubernetes gives a process 30 s.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Maximum connections that wait to be accepted; the kernel allows 4,096 by default. The 128 of the standard library
/// are full at once when many clients connect, and the kernel then ignores the others for seconds.
const BACKLOG: u32 = 4096;

/// Why a process does not start, or stops.
#[derive(Debug, Error)]
pub enum RunError {
    /// The configuration file cannot be read.
    #[error("cannot read {path}")]
    ReadConfig {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] WorkerConfigError),
    /// The city's time zone is unknown.
    #[error("the time zone {name:?} is unknown")]
    TimeZone { name: String },
    /// The Redis settings are invalid.
    #[error(transparent)]
    Redis(#[from] ConnectError),
    /// The configuration does not say who may call the HTTP API.
    #[error("the worker configuration has no auth, which every role except dispatch-algorithm requires")]
    NoAuth,
    /// The issuer's public keys cannot be used.
    #[error("cannot verify callers' tokens")]
    Keys(#[from] KeysError),
    /// The listener cannot be opened.
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// The signal handlers cannot be installed.
    #[error("cannot install signal handlers")]
    Signals(#[source] std::io::Error),
}

/// A running process.
struct Process {
    engine: Arc<Engine>,
    access: Option<Access>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

/// Runs until a signal, or until the parent exits if `exit_with_parent` is set.
pub async fn serve(args: ServeArgs) -> Result<(), RunError> {
    let config = read_config(&args.config).await?;
    let (settings, receiver) = watch::channel(Arc::new(Settings::from_config(&config.dispatch)?));
    let (stream_arn, followed_arn) = watch::channel(config.table.stream_arn.clone());
    let zone =
        jiff::tz::TimeZone::get(&config.timezone).map_err(|_| RunError::TimeZone { name: config.timezone.clone() })?;
    let city = City::new(&config.city, &config.currency, zone, receiver);
    let metrics = Arc::new(Metrics::new());
    let access = access(&config)?;
    if access.is_none() && args.role.0.iter().any(|role| role.http().is_some()) {
        return Err(RunError::NoAuth);
    }
    let mut connections = Connections::open(&config, &city, &metrics, followed_arn).await?;
    let gate = connections.gate(&args.role, access.as_ref());
    let engine = Arc::new(Engine::new(connections.ports.clone(), city, Arc::clone(&metrics)));

    let (readiness, readable) = watch::channel(Readiness::NotReady { waits_for: "starting".into() });
    let admin_end = CancellationToken::new();
    let admin = admin_router(AdminState { readiness: readable, metrics: Arc::clone(&metrics) });
    let admin_listener = listen(args.admin_listen)?;
    let bounds = Bounds { connections: ADMIN_CONNECTIONS, ..Bounds::default() };
    let setup = Setup { bounds, metrics, name: "admin" };
    let admin_server = tokio::spawn(serve_connections(admin_listener, admin, setup, admin_end.clone()));

    let mut process = Process { engine, access, tasks: JoinSet::new(), shutdown: CancellationToken::new() };
    let pulse = process.engine.metrics.pulse("the configuration watcher");
    let sinks = follow::ConfigSinks { settings, stream_arn, pulse };
    let follow = follow::follow(args.config.clone(), config, sinks, process.shutdown.clone());
    process.tasks.spawn(follow);
    let stop = shutdown_requested(args.exit_with_parent);
    tokio::pin!(stop);
    let early = tokio::select! {
        reason = &mut stop => Some(reason?),
        () = gate.open(&readiness) => None,
    };
    let reason = if let Some(reason) = early {
        reason
    } else {
        process.start_http(&args.role, args.listen, Arc::clone(&connections.answers))?;
        process.start_roles(&args.role, &mut connections);
        readiness.send_replace(Readiness::Ready);
        tracing::info!(roles = ?args.role.0, admin = %args.admin_listen, "ready");
        stop.await?
    };
    tracing::info!(reason, "shutting down");
    readiness.send_replace(Readiness::NotReady { waits_for: "draining".into() });
    tokio::time::sleep(Duration::from_secs(args.linger_seconds.into())).await;
    process.end().await;
    admin_end.cancel();
    // No client waits for requests in progress at the admin server.
    let _ = admin_server.await;
    tracing::info!("shut down");
    Ok(())
}

/// The access rules of the HTTP API; `None` if the configuration has no auth.
fn access(config: &WorkerConfig) -> Result<Option<Access>, KeysError> {
    let Some(auth) = &config.auth else { return Ok(None) };
    let authenticator = Arc::new(Authenticator::new(auth)?);
    Ok(Some(Access { authenticator, rates: Arc::new(Rates::new(&config.limits)) }))
}

async fn read_config(path: &Path) -> Result<WorkerConfig, RunError> {
    let read = tokio::fs::read_to_string(path).await;
    let text = read.map_err(|source| RunError::ReadConfig { path: path.to_owned(), source })?;
    Ok(WorkerConfig::read(&text)?)
}

fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restarted worker must not wait for the connections of its predecessor to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| RunError::Listen { address, source })
}

impl Process {
    fn start_http(&mut self, roles: &Roles, address: SocketAddr, answers: Arc<DynamoStore>) -> Result<(), RunError> {
        let http: BTreeSet<HttpRole> = roles.0.iter().filter_map(|role| role.http()).collect();
        if http.is_empty() {
            return Ok(());
        }
        let access = self.access.clone().ok_or(RunError::NoAuth)?;
        let machine = Machine::read();
        let ProcessBounds { listener: bounds, streams, in_flight } = machine.bounds();
        let share = |places| access.rates.address_share(places);
        let admission = Admission::new(in_flight).with_address_share(share(in_flight));
        let stream_places = StreamPlaces::new(streams, share(streams));
        let state = AppState::new(Arc::clone(&self.engine), access, answers, self.shutdown.clone());
        let state = AppState { admission, stream_places, ..state };
        let listener = listen(address)?;
        let Machine { memory, descriptors } = machine;
        let connections = bounds.connections;
        tracing::info!(%address, memory, descriptors, connections, streams, in_flight, "serving HTTP");
        let setup = Setup { bounds, metrics: Arc::clone(&self.engine.metrics), name: "http" };
        self.tasks.spawn(serve_connections(listener, router(state, &http), setup, self.shutdown.clone()));
        Ok(())
    }

    fn start_roles(&mut self, roles: &Roles, connections: &mut Connections) {
        let (probe, shutdown) = (Arc::clone(&connections.probe), self.shutdown.clone());
        self.tasks.spawn(async move { probe.run(&shutdown).await });
        let (clock, shutdown) = (Arc::clone(&connections.clock), self.shutdown.clone());
        let metrics = Arc::clone(&self.engine.metrics);
        self.tasks.spawn(async move { clock.watch(&metrics, &shutdown).await });
        if roles.0.contains(&Role::DispatchAlgorithm) {
            let stream = StreamConsumer::new(connections.stream.clone(), Arc::new(Algorithm(Arc::clone(&self.engine))));
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(async move { stream.run(&shutdown).await });
            if let Some(wakeups) = self.engine.local_wakeups() {
                let (engine, shutdown) = (Arc::clone(&self.engine), self.shutdown.clone());
                self.tasks.spawn(async move { wakeups.run(&engine, &shutdown).await });
            }
            let sweeper = Sweeper { engine: Arc::clone(&self.engine), now: Arc::clone(&connections.stream.gap) };
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(async move { sweeper.run(&shutdown).await });
            let (follower, shutdown) = (Arc::clone(&connections.follower), self.shutdown.clone());
            self.tasks.spawn(async move { follower.run(&shutdown).await });
            if let Some(timers) = connections.local_timers.take() {
                let (timeouts, shutdown) = (Arc::new(OfferTimeouts(Arc::clone(&self.engine))), self.shutdown.clone());
                let pulse = self.engine.metrics.pulse("the local timers");
                self.tasks.spawn(async move { timers.run(timeouts, pulse, &shutdown).await });
            }
            let timeouts = OfferTimeouts(Arc::clone(&self.engine));
            self.consume(connections.offers(), timeouts);
        }
        if roles.0.contains(&Role::DriverResponse) {
            let deliveries = Deliveries::new(Arc::clone(&self.engine), connections.has_platform);
            self.consume(connections.responses(), Answers(Arc::clone(&self.engine)));
            self.consume(connections.notifications(), deliveries);
            let (events, shutdown) = (Arc::clone(&connections.events), self.shutdown.clone());
            self.tasks.spawn(async move { events.run(&shutdown).await });
        }
    }

    fn consume(&mut self, consumer: Consumer, handler: impl crate::adapters::messaging::MessageHandler + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move { consumer.run(&handler, &shutdown).await });
    }

    /// Accepts no new work, and waits a limited time for work in progress.
    async fn end(mut self) {
        self.shutdown.cancel();
        let drained = async {
            self.engine.stop_batching();
            while self.tasks.join_next().await.is_some() {}
            self.engine.background_done().await;
        };
        if tokio::time::timeout(DRAIN_WITHIN, drained).await.is_err() {
            tracing::warn!("shut down with work in progress; the stream, timers and the sweeper will resume it");
        }
    }
}

/// Waits for SIGTERM, SIGINT or, if `with_parent` is set, the end of standard input; returns the reason.
async fn shutdown_requested(with_parent: bool) -> Result<&'static str, RunError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let parent_gone = CancellationToken::new();
    if with_parent {
        watch_stdin(parent_gone.clone());
    }
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = parent_gone.cancelled() => "the parent exited",
    })
}

/// Reads standard input to its end in a separate thread: a blocking read cannot be cancelled, and must not delay the
/// shutdown.
fn watch_stdin(gone: CancellationToken) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        gone.cancel();
    });
}
