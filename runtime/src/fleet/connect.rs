//! Connections to Redis.

use std::time::Duration;

use dispatch_api::worker_config::CacheConfig;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, RedisError};
use thiserror::Error;

/// Response timeout. A healthy server answers in well under a millisecond, and a search must still have time for the
/// table if the cache is down.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_millis(800);

/// Connection timeout.
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(800);

/// Attempts per reconnection before waiting callers get an error. The next call starts another reconnection.
const RECONNECT_ATTEMPTS: usize = 1;

/// Why Redis cannot be used. Neither variant contains the address or the token.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The configured address cannot be parsed.
    #[error("cache.url cannot be used")]
    Url(#[source] RedisError),
    /// The environment variable of the AUTH token is not set.
    #[error("the environment variable {name} named by cache.authTokenEnv is not set")]
    Token { name: String },
}

/// Creates connections. Nothing connects before its first use, so a process starts while Redis is down.
#[derive(Clone)]
pub struct RedisConnector {
    client: Client,
}

impl RedisConnector {
    /// Reads the address from the configuration and the token from the environment variable that it names. `rediss://`
    /// verifies the server's certificate and host name.
    pub fn new(config: &CacheConfig) -> Result<Self, ConnectError> {
        let mut info: ConnectionInfo = config.url.as_str().into_connection_info().map_err(ConnectError::Url)?;
        if let Some(name) = &config.auth_token_env {
            let token = std::env::var(name).map_err(|_| ConnectError::Token { name: name.clone() })?;
            let settings = info.redis_settings().clone().set_password(token);
            info = info.set_redis_settings(settings);
        }
        Ok(Self { client: Client::open(info).map_err(ConnectError::Url)? })
    }

    /// A multiplexed connection that connects at its first use and reconnects when it breaks.
    pub(crate) fn manager(&self) -> Result<ConnectionManager, ConnectError> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(RECONNECT_ATTEMPTS)
            .set_connection_timeout(Some(CONNECTION_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        ConnectionManager::new_lazy_with_config(self.client.clone(), config).map_err(ConnectError::Url)
    }

    /// A separate connection for calls that block on the server for up to `wait`.
    pub(crate) async fn waiting(&self, wait: Duration) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTION_TIMEOUT))
            .set_response_timeout(Some(wait + RESPONSE_TIMEOUT));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A separate connection for one subscription.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<PubSub, RedisError> {
        let connect = async {
            let mut pubsub = self.client.get_async_pubsub().await?;
            pubsub.subscribe(channel).await?;
            Ok(pubsub)
        };
        tokio::time::timeout(CONNECTION_TIMEOUT, connect)
            .await
            .unwrap_or_else(|_| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection in time").into()))
    }
}
