//! A real server as a child process of the test: started on a free port, awaited, killed on drop.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// Start timeout. The slowest server takes two to four seconds on a busy machine with two cores.
const START_WITHIN: Duration = Duration::from_mins(1);
/// Attempts with a new port: another process may take the free port before the child binds it.
const PORTS_TRIED: usize = 3;

/// A running server with its own temporary folder.
pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
    name: String,
}

impl Server {
    /// Starts the command that `command` returns for a port and an empty folder, and waits until `answers` returns
    /// true.
    pub(crate) async fn start<A, F>(command: impl Fn(u16, &Path) -> Command, answers: A) -> anyhow::Result<Self>
    where
        A: Fn(u16) -> F,
        F: Future<Output = bool>,
    {
        let mut last = None;
        for _ in 0..PORTS_TRIED {
            match Self::start_once(&command, &answers).await {
                Ok(running) => return Ok(running),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no server was ever started")))
    }

    /// Port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Kills the process.
    pub(crate) fn kill(&mut self) {
        // Both fail only if the process has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Restarts it on the same port and in the same folder, after [`Self::kill`].
    pub(crate) async fn revive<A, F>(
        &mut self,
        command: &impl Fn(u16, &Path) -> Command,
        answers: &A,
    ) -> anyhow::Result<()>
    where
        A: Fn(u16) -> F,
        F: Future<Output = bool>,
    {
        self.child = spawn(&mut command(self.port, self.folder.path()))?;
        self.until_it_answers(answers).await
    }

    async fn start_once<A, F>(command: impl Fn(u16, &Path) -> Command, answers: A) -> anyhow::Result<Self>
    where
        A: Fn(u16) -> F,
        F: Future<Output = bool>,
    {
        let port = free_port()?;
        let folder = TempDir::new()?;
        let mut command = command(port, folder.path());
        let name = command.get_program().to_string_lossy().into_owned();
        let mut running = Self { child: spawn(&mut command)?, port, folder, name };
        running.until_it_answers(&answers).await?;
        Ok(running)
    }

    async fn until_it_answers<A, F>(&mut self, answers: &A) -> anyhow::Result<()>
    where
        A: Fn(u16) -> F,
        F: Future<Output = bool>,
    {
        let deadline = Instant::now() + START_WITHIN;
        while !answers(self.port).await {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}", self.name);
            }
            if Instant::now() >= deadline {
                bail!("{} did not answer within {START_WITHIN:?}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Ok(())
    }
}

fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("could not start {}", command.get_program().display()))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free at the moment.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whether a GET request succeeds.
pub(crate) async fn answers_http(url: String) -> bool {
    reqwest::get(url).await.is_ok_and(|answer| answer.status().is_success())
}

/// The program that an environment variable names, or else the one in the workspace's virtual environment.
pub(crate) fn python_program(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin").join(name), PathBuf::from)
}

/// Another program of the Python environment that `program` belongs to. A link is followed: environments of pipx link
/// single programs into a folder on `PATH`.
pub(crate) fn python_sibling(program: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let real = program.canonicalize().with_context(|| format!("there is no {}", program.display()))?;
    Ok(real.with_file_name(name))
}
