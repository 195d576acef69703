//! `redis-server` as a child of the test.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// Longest time to wait for it to answer; it takes some milliseconds.
const START_WITHIN: Duration = Duration::from_secs(20);
/// Another process may take the free port before the child does; then another one is tried.
const PORTS_TRIED: usize = 3;

/// A running server, empty, that keeps nothing on disk. Killed when dropped.
pub struct RedisServer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl RedisServer {
    /// Starts one on a free port and waits until it answers. The program is `DISPATCH_REDIS_SERVER`, or `redis-server`.
    pub async fn start() -> anyhow::Result<Self> {
        let mut last = None;
        for _ in 0..PORTS_TRIED {
            match Self::start_once().await {
                Ok(running) => return Ok(running),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("redis-server was never started")))
    }

    /// Its address, `redis://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn start_once() -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = TempDir::new()?;
        let program = std::env::var_os("DISPATCH_REDIS_SERVER").map_or_else(|| "redis-server".into(), PathBuf::from);
        let child = Command::new(&program)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(port.to_string())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        let mut running = Self { child, port, _folder: folder };
        running.until_it_answers().await?;
        Ok(running)
    }

    async fn until_it_answers(&mut self) -> anyhow::Result<()> {
        let client = redis::Client::open(self.url())?;
        let deadline = Instant::now() + START_WITHIN;
        loop {
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await
                && redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("redis-server ended with {status}");
            }
            if Instant::now() >= deadline {
                bail!("redis-server did not answer within {START_WITHIN:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
