//! Writes to the cache once a second, so that a cache that refuses writes or a node that is no longer the primary is
//! noticed without any other call: a process may only publish, and publishing on a demoted node does not fail.

use std::sync::Arc;
use std::time::Duration;

use dispatch_core::time::EpochMs;
use redis::Script;
use tokio_util::sync::CancellationToken;

use crate::adapters::fleet::connect::RedisConnector;
use crate::adapters::fleet::connection::Connection;
use crate::adapters::fleet::error::{Class, Meaning};
use crate::adapters::fleet::keys::Keys;
use crate::ports::{Clock, PortError};
use crate::telemetry::metrics::Metrics;

/// Time between two probes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Writes as all other scripts do: a user without the right to scripts must not pass the probe. Keys: probe. Values: ms
/// it lives. Answers the server's time.
const WRITE: &str = "redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]); return redis.call('TIME')";
const LIVES_MS: u32 = 60_000;

const REACH: &str = "reaching the cache";

/// Probes the cache of one city for one process.
pub struct CacheProbe {
    connector: RedisConnector,
    connection: Connection,
    script: Script,
    key: String,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl CacheProbe {
    /// Connects with the first probe.
    pub fn new(connector: RedisConnector, city: &str, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let (connection, key) = (Connection::new(connector.clone()), Keys::new(city).probe());
        Self { connector, connection, script: Script::new(WRITE), key, clock, metrics }
    }

    /// Runs until `shutdown`.
    pub async fn run(&self, shutdown: &CancellationToken) {
        let pulse = self.metrics.pulse("the cache probe");
        loop {
            pulse.beat();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = async { self.probe().await; tokio::time::sleep(INTERVAL).await } => {}
            }
        }
    }

    /// Asks the cache once. A session that the server does not accept is a failure that stays: a wrong
    /// or missing token, or a user without rights.
    pub async fn reach(&self) -> Result<(), PortError> {
        let answered: Result<String, _> = redis::cmd("PING").query_async(&mut self.connection.clone()).await;
        answered.map(drop).map_err(|error| {
            let Meaning { class, code } = Meaning::new(&error);
            // The text of an answer of the server repeats its code.
            let words = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            let source = format!("{code}: {words}").into();
            match class {
                Class::Session | Class::Permanent => PortError::Failed { action: REACH, source },
                Class::Later | Class::WrongNode => PortError::Unavailable { action: REACH, source },
            }
        })
    }

    async fn probe(&self) {
        let asked = self.clock.now();
        let written: Result<(i64, i64), _> =
            self.script.key(&self.key).arg(LIVES_MS).invoke_async(&mut self.connection.clone()).await;
        let health = self.connector.health();
        match written {
            Ok((seconds, micros)) => {
                let server = EpochMs(seconds.saturating_mul(1000).saturating_add(micros / 1000));
                self.connector.clock_offset().measure(asked, server, self.clock.now());
                self.connector.is_accepted();
                if let Some(refused_for) = health.accepted() {
                    let refused_s = refused_for.as_secs();
                    tracing::info!(refused_s, "the cache accepts writes again; searches use it");
                }
                self.metrics.cache_writable(true);
            }
            Err(error) => {
                if health.refused() {
                    let reason = Meaning::new(&error).code;
                    tracing::warn!(reason, %error, "the cache accepts no writes; searches use the table until it does");
                }
                self.metrics.cache_writable(false);
            }
        }
    }
}
