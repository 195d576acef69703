//! `dispatch-operator run` as a child process of the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::ministack::REGION;
use crate::server::{answers_http, free_port};

/// Start timeout. The operator takes half a second on an idle machine.
const START_WITHIN: Duration = Duration::from_mins(1);
/// Polling interval.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Start parameters of an operator.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Name of this replica and of its log.
    pub name: &'a str,
    /// User and address of the API server.
    pub kubeconfig: &'a Path,
    /// Endpoint of all AWS services.
    pub aws: &'a str,
    /// Folder of the log.
    pub folder: &'a Path,
    /// Additional arguments of `run`.
    pub args: &'a [&'a str],
}

/// A running operator, killed on drop.
pub struct OperatorProcess {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl OperatorProcess {
    /// Starts the program of this build and waits until it is ready: it watches objects, or waits for the lease.
    pub async fn start(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let mut running = Self::spawn(setup)?;
        let deadline = Instant::now() + START_WITHIN;
        while !answers_http(format!("http://127.0.0.1:{}/readyz", running.port)).await {
            if let Some(status) = running.child.try_wait()? {
                bail!("the operator ended with {status}: {}", running.log()?);
            }
            if Instant::now() >= deadline {
                bail!("the operator was not ready within {START_WITHIN:?}: {}", running.log()?);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(running)
    }

    /// Starts it without waiting.
    pub fn spawn(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let program = program()?;
        let port = free_port()?;
        let log = setup.folder.join(format!("{}.log", setup.name));
        // All starts under one name append to one log.
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let child = Command::new(&program)
            .args(["--log", "dispatch_operator=debug", "--endpoint-url", setup.aws, "run", "--pod-name", setup.name])
            .args(["--metrics-addr", &format!("127.0.0.1:{port}")])
            .args(setup.args)
            .env("KUBECONFIG", setup.kubeconfig)
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("POD_NAMESPACE")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        Ok(Self { child, port, log })
    }

    /// The log so far.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        Ok(reqwest::get(format!("http://127.0.0.1:{}/metrics", self.port)).await?.error_for_status()?.text().await?)
    }

    /// Sum of all series whose line starts with `name`, such as a metric name with its first labels.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.metrics().await?;
        let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
        Ok(values.filter_map(|value| value.parse::<f64>().ok()).sum())
    }

    /// A size from `/proc/<pid>/status` such as `VmHWM`, KiB.
    pub fn memory(&self, size: &str) -> anyhow::Result<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(size)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no such size in /proc/<pid>/status")?;
        Ok(kib.parse()?)
    }

    /// CPU time used so far.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        // The first number is the CPU time of one thread, ns, so sum over all threads.
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id()))?;
        let mut sum = Duration::ZERO;
        for thread in threads {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let nanoseconds = text.split_whitespace().next().context("a number")?;
            sum += Duration::from_nanos(nanoseconds.parse()?);
        }
        Ok(sum)
    }

    /// Sends SIGTERM, as the kubelet does, and does not wait.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Stops the process with SIGSTOP, as if its node hangs.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Continues the process with SIGCONT.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process has an id")?;
        Ok(kill_process(id, signal)?)
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until the process has exited.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("the operator did not end within {within:?}: {}", self.log()?);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for OperatorProcess {
    fn drop(&mut self) {
        // Both fail only if the process has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program next to the folder of the running test: `target/debug/dispatch-operator`.
fn program() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("a test is in a folder of the target folder")?;
    let program = folder.join("dispatch-operator");
    if !program.exists() {
        bail!("{} is not built; run `make build`", program.display());
    }
    Ok(program)
}
