//! Connections to Redis.
//!
//! All connections of a process belong to one generation. An error that no retry on the same connection can cure (the
//! node is no longer the primary, the token is no longer accepted) ends the generation: commands, publisher,
//! subscription and feed then connect again by name, with the current token. A demoted node would otherwise keep its
//! connections for as long as it lives, and the publisher's would not even fail.
//!
//! A node of a cluster that does not have the city's slot names the one that has it. All keys of a city share one slot,
//! and events reach every node of a cluster, so a worker connects to that node and needs no other.

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::worker_config::CacheConfig;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::adapters::fleet::error::{Class, Meaning};
use crate::adapters::fleet::health::Health;
use crate::adapters::fleet::keys::kind_of_key;
use crate::adapters::fleet::server_clock::ClockOffset;
use crate::telemetry::metrics::Metrics;

/// Response timeout. A healthy server answers in well under a millisecond, and a search must still have time for the
/// table if the cache is down.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_millis(800);

/// Connection timeout.
pub(super) const CONNECTION_TIMEOUT: Duration = Duration::from_millis(800);

/// Shortest and longest time between two ends of a generation. A node that refuses every call ends one generation after
/// another, and the name leads to the next primary a few seconds after a failover at the earliest.
const GENERATION_MIN: Duration = Duration::from_millis(500);
const GENERATION_MAX: Duration = Duration::from_secs(5);

/// Appended to the name of the token's environment variable, it names the variable with the path of a file that holds
/// the token. Unlike a variable, a mounted Secret changes while the process runs.
const FILE_SUFFIX: &str = "_FILE";

/// Why Redis cannot be used. No variant contains the address or the token.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The configured address cannot be parsed.
    #[error("cache.url cannot be used")]
    Url(#[source] RedisError),
    /// The AUTH token is in neither place.
    #[error("neither the environment variable {name} named by cache.authTokenEnv nor {name}_FILE is set")]
    Token { name: String },
}

/// Where the AUTH token is read from, each time a connection is made.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// An environment variable.
    Variable(String),
    /// A file, whose final newline is ignored.
    File(PathBuf),
}

impl TokenSource {
    /// The file named by the environment variable `{name}_FILE`, or else the variable itself.
    fn from_environment(name: &str) -> Result<Self, ConnectError> {
        match std::env::var_os(format!("{name}{FILE_SUFFIX}")) {
            Some(path) => Ok(Self::File(path.into())),
            None if std::env::var(name).is_ok() => Ok(Self::Variable(name.to_owned())),
            None => Err(ConnectError::Token { name: name.to_owned() }),
        }
    }

    /// An unreadable token is an I/O error: a mounted Secret can be replaced at this moment.
    fn read(&self) -> Result<String, RedisError> {
        match self {
            Self::Variable(name) => std::env::var(name).map_err(|_| {
                std::io::Error::new(std::io::ErrorKind::NotFound, "the token's variable is not set").into()
            }),
            Self::File(path) => Ok(std::fs::read_to_string(path)?.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }
}

/// Host and port of `host:port`, as a cluster writes them.
fn node_of(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

/// The address of a node of the same cluster.
fn node_address(known: &ConnectionAddr, host: &str, port: u16) -> ConnectionAddr {
    let host_or = |known: &str| if host.is_empty() { known.to_owned() } else { host.to_owned() };
    match known {
        ConnectionAddr::Tcp(known, _) => ConnectionAddr::Tcp(host_or(known), port),
        ConnectionAddr::TcpTls { host: known, insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: host_or(known), port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        other => other.clone(),
    }
}

/// Creates connections. Nothing connects before its first use, so a process starts while Redis is down.
#[derive(Clone)]
pub struct RedisConnector {
    shared: Arc<Shared>,
    metrics: Option<Arc<Metrics>>,
}

struct Shared {
    /// The address, without a token.
    info: ConnectionInfo,
    token: Option<TokenSource>,
    /// The node of a cluster to connect to instead; its host is empty if it is the same.
    moved_to: Mutex<Option<(String, u16)>>,
    generation: watch::Sender<u64>,
    ends: Mutex<GenerationEnds>,
    health: Health,
    offset: Arc<ClockOffset>,
}

/// The last end of a generation, and the time until the next one may end.
struct GenerationEnds {
    last: Option<Instant>,
    pause: Duration,
}

impl Default for GenerationEnds {
    fn default() -> Self {
        Self { last: None, pause: GENERATION_MIN }
    }
}

impl RedisConnector {
    /// Reads the address from the configuration and the token from where the configured environment variable says.
    /// `rediss://` verifies the server's certificate and host name.
    pub fn new(config: &CacheConfig) -> Result<Self, ConnectError> {
        let token = config.auth_token_env.as_deref().map(TokenSource::from_environment).transpose()?;
        Self::with_token(&config.url, token)
    }

    /// Connects to `url` with the token of a source.
    pub fn with_token(url: &str, token: Option<TokenSource>) -> Result<Self, ConnectError> {
        let info = url.into_connection_info().map_err(ConnectError::Url)?;
        // Also finds out whether TLS can be used at all.
        Client::open(info.clone()).map_err(ConnectError::Url)?;
        let (generation, _) = watch::channel(0);
        let shared = Shared {
            info,
            token,
            moved_to: Mutex::default(),
            generation,
            ends: Mutex::default(),
            health: Health::default(),
            offset: Arc::default(),
        };
        Ok(Self { shared: Arc::new(shared), metrics: None })
    }

    /// Counts refusals and reconnections in `metrics`.
    #[must_use]
    pub fn counting(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// A separate connection for calls that block on the server for up to `wait`.
    pub(crate) async fn waiting(&self, wait: Duration) -> Result<MultiplexedConnection, RedisError> {
        let generation = self.generation();
        let connected = self.connect(wait + RESPONSE_TIMEOUT).await;
        connected.inspect_err(|error| self.judge(generation, error))
    }

    pub(super) async fn connect(&self, response_timeout: Duration) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTION_TIMEOUT))
            .set_response_timeout(Some(response_timeout));
        self.client()?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A separate connection for one subscription.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<PubSub, RedisError> {
        let generation = self.generation();
        let connect = async {
            let mut pubsub = self.client()?.get_async_pubsub().await?;
            pubsub.subscribe(channel).await?;
            Ok(pubsub)
        };
        tokio::time::timeout(CONNECTION_TIMEOUT, connect)
            .await
            .unwrap_or_else(|_| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection in time").into()))
            .inspect_err(|error| self.judge(generation, error))
    }

    fn client(&self) -> Result<Client, RedisError> {
        let mut info = self.shared.info.clone();
        if let Some((host, port)) = self.shared.moved_to.lock().clone() {
            let address = node_address(info.addr(), &host, port);
            info = info.set_addr(address);
        }
        if let Some(token) = &self.shared.token {
            let settings = info.redis_settings().clone().set_password(token.read()?);
            info = info.set_redis_settings(settings);
        }
        Client::open(info)
    }

    /// The number of the current generation. Connections of another one must be dropped.
    pub(crate) fn generation(&self) -> u64 {
        *self.shared.generation.borrow()
    }

    /// Follows the number of the current generation.
    pub(crate) fn generations(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    pub(super) fn clock_offset(&self) -> &Arc<ClockOffset> {
        &self.shared.offset
    }

    pub(super) fn health(&self) -> &Health {
        &self.shared.health
    }

    /// Counts an error of a connection of `generation`, and ends that generation if the error requires it.
    pub(crate) fn judge(&self, generation: u64, error: &RedisError) {
        let Meaning { class, code } = Meaning::new(error);
        if let Some(metrics) = self.metrics.as_ref().filter(|_| !error.is_io_error()) {
            metrics.cache_refusal(code);
        }
        if generation == self.generation() && class != Class::Permanent {
            // Any other trouble leads back to the name.
            let node = error.redirect_node().filter(|_| code == "MOVED").and_then(|(address, _)| node_of(address));
            if node.is_some() || class == Class::WrongNode || error.is_io_error() {
                *self.shared.moved_to.lock() = node;
            }
        }
        if matches!(class, Class::WrongNode | Class::Session) {
            self.end_generation(generation, code);
        }
    }

    /// Counts the keys, separated by commas, that a script has repaired, and names each in the log once per period.
    pub(super) fn note_repairs(&self, keys: &str) {
        let Some(metrics) = &self.metrics else { return };
        for key in keys.split(',') {
            if let Some(kind) = kind_of_key(key) {
                metrics.cache_repaired(kind, key);
            }
        }
    }

    /// Drops all connections of a generation, unless that was done already or is too early.
    pub(super) fn end_generation(&self, generation: u64, reason: &'static str) {
        let mut ends = self.shared.ends.lock();
        let is_early = ends.last.is_some_and(|last| last.elapsed() < ends.pause);
        if is_early || generation != self.generation() {
            return;
        }
        if ends.pause == GENERATION_MIN {
            tracing::warn!(reason, "the cache refuses calls; all connections to it are replaced");
        }
        *ends = GenerationEnds { last: Some(Instant::now()), pause: (ends.pause * 2).min(GENERATION_MAX) };
        drop(ends);
        self.shared.generation.send_modify(|generation| *generation += 1);
        if let Some(metrics) = &self.metrics {
            metrics.cache_reconnected(reason);
        }
    }

    /// Records that the cache accepts writes: the next generation may end early again.
    pub(super) fn is_accepted(&self) {
        self.shared.ends.lock().pause = GENERATION_MIN;
    }
}
