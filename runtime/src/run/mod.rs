//! Builds a process from its configuration, runs its roles, and ends it in order.

mod connect;
mod follow;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use dispatch_api::worker_config::{WorkerConfig, WorkerConfigError};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::ServeArgs;
use crate::auth::{Authenticator, KeysError};
use crate::city::{City, Settings};
use crate::engine::Engine;
use crate::fleet::ConnectError;
use crate::http::listener::{Bounds, serve as serve_connections};
use crate::http::{Access, AdminState, AppState, HttpRole, Rates, Readiness, admin_router, router};
use crate::messaging::Consumer;
use crate::ports::IdempotencyStore;
use crate::roles::{Algorithm, Answers, Deliveries, OfferTimeouts, Role, Roles, Sweeper};
use crate::stream::StreamConsumer;
use crate::telemetry::metrics::Metrics;
use connect::Connections;

/// Time for what is in flight at the end: an HTTP request may take this long, and Kubernetes gives a process 30 s.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Why a process does not start, or ends.
#[derive(Debug, Error)]
pub enum RunError {
    /// The configuration file cannot be read.
    #[error("{path} cannot be read")]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] WorkerConfigError),
    /// The city's time zone is unknown.
    #[error("the time zone {name:?} is unknown")]
    TimeZone {
        /// What was given.
        name: String,
    },
    /// Redis is configured wrongly.
    #[error(transparent)]
    Redis(#[from] ConnectError),
    /// Nobody says who may call the HTTP API.
    #[error(
        "the worker configuration has no auth, so nobody could be let in; only the role dispatch-algorithm runs without"
    )]
    NoAuth,
    /// The public keys of the issuer cannot be used.
    #[error("the callers' tokens cannot be checked")]
    Keys(#[from] KeysError),
    /// An address cannot be listened on.
    #[error("{address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The signals of the operating system cannot be heard.
    #[error("signals cannot be heard")]
    Signals(#[source] std::io::Error),
}

/// A process while it runs.
struct Process {
    engine: Arc<Engine>,
    access: Option<Access>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

/// Runs until a signal, or until the parent is gone where that was asked for.
pub async fn serve(args: ServeArgs) -> Result<(), RunError> {
    let config = read_config(&args.config).await?;
    let (settings, receiver) = watch::channel(Arc::new(Settings::of(&config.dispatch)?));
    let (stream_arn, followed_arn) = watch::channel(config.table.stream_arn.clone());
    let zone =
        jiff::tz::TimeZone::get(&config.timezone).map_err(|_| RunError::TimeZone { name: config.timezone.clone() })?;
    let city = City::new(&config.city, &config.currency, zone, receiver);
    let metrics = Arc::new(Metrics::new());
    let access = access(&config)?;
    let mut connections = Connections::open(&config, &city, &metrics, followed_arn).await?;
    let engine = Arc::new(Engine::new(connections.ports.clone(), city, Arc::clone(&metrics)));

    let (readiness, readable) = watch::channel(Readiness::NotReady { waits_for: "starting" });
    let admin_end = CancellationToken::new();
    let admin = admin_router(AdminState { readiness: readable, metrics });
    let admin_listener = listen(args.admin_listen).await?;
    let admin_server = tokio::spawn(serve_admin(admin_listener, admin, admin_end.clone()));

    let mut process = Process { engine, access, tasks: JoinSet::new(), shutdown: CancellationToken::new() };
    process.start_http(&args.role, args.listen, Arc::clone(&connections.answers)).await?;
    process.start_roles(&args.role, &mut connections);
    let pulse = process.engine.metrics.pulse("the follower of the configuration");
    let taken_over = follow::TakenOver { settings, stream_arn, pulse };
    let follow = follow::follow(args.config.clone(), config, taken_over, process.shutdown.clone());
    process.tasks.spawn(follow);
    readiness.send_replace(Readiness::Ready);
    tracing::info!(roles = ?args.role.0, admin = %args.admin_listen, "ready");

    let reason = until_asked_to_end(args.exit_with_parent).await?;
    tracing::info!(reason, "ending");
    readiness.send_replace(Readiness::NotReady { waits_for: "draining" });
    tokio::time::sleep(Duration::from_secs(args.linger_seconds.into())).await;
    process.end().await;
    admin_end.cancel();
    // The admin server has nothing in flight that anybody waits for.
    let _ = admin_server.await;
    tracing::info!("ended");
    Ok(())
}

/// Who may call; `None` where nobody is named.
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

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })
}

/// Serves the admin listener, which nothing outside the cluster reaches.
async fn serve_admin(listener: TcpListener, router: Router, end: CancellationToken) {
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned()).await {
        tracing::error!(%error, "the admin server broke");
    }
}

impl Process {
    async fn start_http(
        &mut self,
        roles: &Roles,
        address: SocketAddr,
        answers: Arc<dyn IdempotencyStore>,
    ) -> Result<(), RunError> {
        let http: BTreeSet<HttpRole> = roles.0.iter().filter_map(|role| role.http()).collect();
        if http.is_empty() {
            return Ok(());
        }
        let access = self.access.clone().ok_or(RunError::NoAuth)?;
        let listener = listen(address).await?;
        let routes = router(AppState::new(Arc::clone(&self.engine), access, answers, self.shutdown.clone()), &http);
        tracing::info!(%address, "serving HTTP");
        self.tasks.spawn(serve_connections(listener, routes, Bounds::default(), self.shutdown.clone()));
        Ok(())
    }

    fn start_roles(&mut self, roles: &Roles, connections: &mut Connections) {
        if roles.0.contains(&Role::DispatchAlgorithm) {
            let stream = StreamConsumer::new(connections.stream.clone(), Arc::new(Algorithm(Arc::clone(&self.engine))));
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(async move { stream.run(&shutdown).await });
            if let Some(nudges) = self.engine.nudges() {
                let (engine, shutdown) = (Arc::clone(&self.engine), self.shutdown.clone());
                self.tasks.spawn(async move { nudges.run(&engine, &shutdown).await });
            }
            let sweeper = Sweeper { engine: Arc::clone(&self.engine), now: Arc::clone(&connections.stream.gap) };
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(async move { sweeper.run(&shutdown).await });
            let (follower, shutdown) = (Arc::clone(&connections.follower), self.shutdown.clone());
            self.tasks.spawn(async move { follower.run(&shutdown).await });
            if let Some(timers) = connections.local_timers.take() {
                let (timeouts, shutdown) = (Arc::new(OfferTimeouts(Arc::clone(&self.engine))), self.shutdown.clone());
                let pulse = self.engine.metrics.pulse("the timers of the process");
                self.tasks.spawn(async move { timers.run(timeouts, pulse, &shutdown).await });
            }
            let timeouts = OfferTimeouts(Arc::clone(&self.engine));
            self.consume(connections.offers(), timeouts);
        }
        if roles.0.contains(&Role::DriverResponse) {
            let deliveries = Deliveries { engine: Arc::clone(&self.engine), has_platform: connections.has_platform };
            self.consume(connections.responses(), Answers(Arc::clone(&self.engine)));
            self.consume(connections.notifications(), deliveries);
            let (events, shutdown) = (Arc::clone(&connections.events), self.shutdown.clone());
            self.tasks.spawn(async move { events.run(&shutdown).await });
        }
    }

    fn consume(&mut self, consumer: Consumer, handler: impl crate::messaging::MessageHandler + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move { consumer.run(&handler, &shutdown).await });
    }

    /// Nothing new is taken in; what is in flight gets its time.
    async fn end(mut self) {
        self.shutdown.cancel();
        let drained = async {
            self.engine.stop_gathering();
            while self.tasks.join_next().await.is_some() {}
            self.engine.aside_done().await;
        };
        if tokio::time::timeout(DRAIN_WITHIN, drained).await.is_err() {
            tracing::warn!("ended with work in flight; streams, timers and the sweeper take it up again");
        }
    }
}

/// Waits for SIGTERM, SIGINT or, where asked for, the end of standard input; says which it was.
async fn until_asked_to_end(with_parent: bool) -> Result<&'static str, RunError> {
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
        () = parent_gone.cancelled() => "the parent is gone",
    })
}

/// Reads standard input to its end on a thread of its own: a blocking read cannot be cancelled, and must not keep the process.
fn watch_stdin(gone: CancellationToken) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        gone.cancel();
    });
}
