//! `redis-server` as a child process of the test.

use std::path::{Path, PathBuf};
use std::process::Command;

use redis::aio::MultiplexedConnection;
use redis::{IntoConnectionInfo as _, TlsCertificates};

use crate::server::{Server, free_port};

/// A running, initially empty server without persistence, killed on drop.
pub struct RedisServer {
    server: Server,
    /// Of a server that accepts only TLS.
    authority: Option<PathBuf>,
}

/// Certificate and key of a server with TLS, and the certificate of the authority that signed it. All are PEM files.
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}

fn program() -> PathBuf {
    std::env::var_os("DISPATCH_REDIS_SERVER").map_or_else(|| "redis-server".into(), PathBuf::from)
}

fn command(port: u16, folder: &Path) -> Command {
    let mut command = Command::new(program());
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
    command.current_dir(folder);
    command
}

/// Whether the server program was built with TLS. One without does not know the option.
pub fn has_tls() -> bool {
    let started = Command::new(program()).args(["--port", "0", "--tls-port", "0"]).output();
    started.is_ok_and(|done| !String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).contains("Bad directive"))
}

impl RedisServer {
    /// Starts it on a free port and waits until it answers. The program is `DISPATCH_REDIS_SERVER`, or `redis-server`.
    pub async fn start() -> anyhow::Result<Self> {
        Ok(Self { server: Server::start(command, answers_ping).await?, authority: None })
    }

    /// Starts it with TLS as the only way to connect.
    pub async fn start_with_tls(files: &TlsFiles) -> anyhow::Result<Self> {
        let encrypted = |port: u16, folder: &Path| {
            let mut command = command(0, folder);
            command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
            command.arg("--tls-cert-file").arg(&files.certificate).arg("--tls-key-file").arg(&files.key);
            command.arg("--tls-ca-cert-file").arg(&files.authority);
            command
        };
        let server = Server::start(encrypted, accepts_connections).await?;
        Ok(Self { server, authority: Some(files.authority.clone()) })
    }

    /// Starts a node of a cluster without slots; returns it with the port of its bus.
    pub async fn start_in_cluster() -> anyhow::Result<(Self, u16)> {
        let bus = free_port()?;
        let clustered = |port: u16, folder: &Path| {
            let mut command = command(port, folder);
            command.args(["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()]);
            command
        };
        Ok((Self { server: Server::start(clustered, answers_ping).await?, authority: None }, bus))
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Restarts it on the same port, empty.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        self.server.revive(&command, &answers_ping).await
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Sends a command, given as words separated by spaces, over a connection of its own.
    pub async fn command(&self, words: &str) -> redis::RedisResult<redis::Value> {
        let mut connection = self.connection(None).await?;
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        command.arg(words.collect::<Vec<_>>()).query_async(&mut connection).await
    }

    /// A connection, with a password if the server has one. A server with TLS needs a certificate for 127.0.0.1.
    pub async fn connection(&self, password: Option<&str>) -> redis::RedisResult<MultiplexedConnection> {
        let mut info = self.url().into_connection_info()?;
        if let Some(password) = password {
            let settings = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(settings);
        }
        let client = match &self.authority {
            None => redis::Client::open(info)?,
            Some(authority) => {
                let root_cert = Some(std::fs::read(authority)?);
                redis::Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?
            }
        };
        client.get_multiplexed_async_connection().await
    }

    /// Address of the server, `redis://127.0.0.1:…`, or `rediss://` with TLS.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.server.port())
    }
}

async fn accepts_connections(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

async fn answers_ping(port: u16) -> bool {
    let Ok(client) = redis::Client::open(format!("redis://127.0.0.1:{port}")) else { return false };
    match client.get_multiplexed_async_connection().await {
        Ok(mut connection) => redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok(),
        Err(_) => false,
    }
}
