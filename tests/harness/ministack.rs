//! `ministack`, an emulator of AWS, as a child of the test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// Longest time to wait for it to answer; it takes two to four seconds on a busy machine with two cores.
const START_WITHIN: Duration = Duration::from_mins(1);
/// Another process may take the free port before the child does; then another one is tried.
const PORTS_TRIED: usize = 3;
/// Region it answers for.
pub const REGION: &str = "ap-northeast-2";

/// A running emulator, empty, with its state in a directory of its own. Killed when dropped.
pub struct Ministack {
    child: Child,
    port: u16,
    _state: TempDir,
}

impl Ministack {
    /// Starts one on a free port and waits until it answers. The program is `DISPATCH_MINISTACK`, or the one of the
    /// workspace's virtual environment.
    pub async fn start() -> anyhow::Result<Self> {
        let mut last = None;
        for _ in 0..PORTS_TRIED {
            match Self::start_once().await {
                Ok(running) => return Ok(running),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("ministack was never started")))
    }

    /// Address of every service.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn start_once() -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let state = TempDir::new()?;
        let program = program();
        let child = Command::new(&program)
            .env("GATEWAY_PORT", port.to_string())
            .env("MINISTACK_REGION", REGION)
            .env("S3_DATA_DIR", state.path().join("s3"))
            .env("STATE_DIR", state.path().join("state"))
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        let mut running = Self { child, port, _state: state };
        running.until_healthy().await?;
        Ok(running)
    }

    async fn until_healthy(&mut self) -> anyhow::Result<()> {
        let health = format!("{}/_ministack/health", self.endpoint());
        let deadline = Instant::now() + START_WITHIN;
        loop {
            if reqwest::get(&health).await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("ministack ended with {status}");
            }
            if Instant::now() >= deadline {
                bail!("ministack did not answer within {START_WITHIN:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    std::env::var_os("DISPATCH_MINISTACK")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/ministack"), PathBuf::from)
}
