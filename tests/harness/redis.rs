//! `redis-server` as a child process of the test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::Server;

/// A running, initially empty server without persistence, killed on drop.
pub struct RedisServer(Server);

fn command(port: u16, folder: &Path) -> Command {
    let program = std::env::var_os("DISPATCH_REDIS_SERVER").map_or_else(|| "redis-server".into(), PathBuf::from);
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
    command.current_dir(folder);
    command
}

impl RedisServer {
    /// Starts it on a free port and waits until it answers. The program is `DISPATCH_REDIS_SERVER`, or `redis-server`.
    pub async fn start() -> anyhow::Result<Self> {
        Ok(Self(Server::start(command, answers_ping).await?))
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Restarts it on the same port, empty.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        self.0.revive(&command, &answers_ping).await
    }

    /// Address of the server, `redis://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.0.port())
    }
}

async fn answers_ping(port: u16) -> bool {
    let Ok(client) = redis::Client::open(format!("redis://127.0.0.1:{port}")) else { return false };
    match client.get_multiplexed_async_connection().await {
        Ok(mut connection) => redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok(),
        Err(_) => false,
    }
}
