//! A city on this machine, started with `dispatch-local run`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use dispatch_dev_keys::{Claims, SIGNING_KEY, SigningKey};
use dispatch_runtime::ports::Clock as _;
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_tests::ministack::Ministack;
use dispatch_tests::recorder::Recorder;
use serde_json::Value;
use tokio::time::{Instant, sleep};

const MANIFEST: &str = "examples/seoul.yaml";
/// Longest time until a city is ready.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// Longest time until a city has ended after its traffic, with the rides in progress.
const ENDS_WITHIN: Duration = Duration::from_mins(4);
const TOKEN_LIFETIME: Duration = Duration::from_hours(1);
/// Clock ticks per second in `/proc` (`getconf CLK_TCK`): 100 on all supported platforms.
const TICKS_A_SECOND: f64 = 100.0;

/// The traffic of the simulator.
#[derive(Clone, Copy)]
pub(super) struct Traffic {
    pub drivers: u32,
    pub per_second: f64,
    pub seconds: u64,
}

pub(super) struct City {
    pub recorder: Recorder,
    pub emulator: Ministack,
    folder: tempfile::TempDir,
    local: Child,
    traffic: Option<Traffic>,
}

/// The worker process of a city.
pub(super) struct Worker {
    pid: u32,
    /// Base URL of the API.
    pub api: String,
    /// Base URL of health checks and metrics.
    pub admin: String,
}

/// The load that only answers has one driver for each user and frees none, so the last drivers are far from the last
/// users: it needs the default rings, which are wider than those of the example.
fn manifest_for(traffic: Option<&Traffic>, example: &str) -> String {
    let lines = example.lines().filter(|line| traffic.is_some() || !line.contains("searchRingsMeters"));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

impl City {
    /// Starts a city. Without traffic it runs until it is stopped.
    pub(super) async fn start(traffic: Option<Traffic>) -> anyhow::Result<Self> {
        let emulator = Ministack::start().await?;
        let recorder = Recorder::aws(&emulator.endpoint()).await?;
        let folder = tempfile::tempdir()?;
        let programs = std::env::current_exe()?.parent().context("this program has a folder")?.to_owned();
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut command = Command::new(programs.join("dispatch-local"));
        let manifest = folder.path().join("seoul.yaml");
        std::fs::write(&manifest, manifest_for(traffic.as_ref(), &std::fs::read_to_string(root.join(MANIFEST))?))?;
        command.arg("run").arg("--file").arg(&manifest).arg("--aws-endpoint").arg(recorder.endpoint());
        command.arg("--state-dir").arg(folder.path().join("state"));
        if let Some(Traffic { drivers, per_second, seconds }) = traffic {
            command.args(["--simulate", &format!("drivers={drivers},rate={per_second},seed=42")]);
            command.args(["--for", &format!("{seconds}s"), "--summary"]).arg(folder.path().join("summary.json"));
        }
        let log = std::fs::File::create(folder.path().join("local.log"))?;
        let local = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let local = local.context("dispatch-local is built beside this program")?;
        Ok(Self { recorder, emulator, folder, local, traffic })
    }

    /// Waits until the worker is ready.
    pub(super) async fn worker(&self) -> anyhow::Result<Worker> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(worker) = self.find_worker()
                && reqwest::get(format!("{}/readyz", worker.admin)).await.is_ok_and(|ready| ready.status().is_success())
            {
                return Ok(worker);
            }
            anyhow::ensure!(Instant::now() < deadline, "the worker is not ready: {}", self.log());
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn find_worker(&self) -> Option<Worker> {
        let pid = self.local.id();
        let children = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        let children = children.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let pids: Vec<u32> = children
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        pids.into_iter().find_map(|pid| {
            let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let arguments: Vec<&str> = arguments.split('\0').collect();
            let after = |name: &str| {
                let place = arguments.iter().position(|argument| *argument == name)?;
                arguments.get(place + 1).map(|address| format!("http://{address}"))
            };
            arguments.get(1).filter(|command| **command == "serve")?;
            Some(Worker { pid, api: after("--listen")?, admin: after("--admin-listen")? })
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("local.log")).unwrap_or_default()
    }

    /// A token for a user, a driver or operations.
    pub(super) fn token(&self, subject: &str, scope: &str) -> anyhow::Result<String> {
        let key = SigningKey::read(&self.folder.path().join("state/auth").join(SIGNING_KEY))?;
        Ok(key.token(&Claims { subject, scopes: &[scope], lifetime: TOKEN_LIFETIME }, SystemClock.now())?)
    }

    /// Stops a city that was started without traffic.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.local);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        self.ended(ENDS_WITHIN).await?;
        Ok(())
    }

    /// Waits for the end of the traffic; returns the summary.
    pub(super) async fn traffic(mut self) -> anyhow::Result<Value> {
        let seconds = self.traffic.map_or(0, |traffic| traffic.seconds);
        let status = self.ended(ENDS_WITHIN + Duration::from_secs(seconds)).await?;
        anyhow::ensure!(status.success(), "{status}: {}", self.log());
        let summary = std::fs::read_to_string(self.folder.path().join("summary.json"))?;
        Ok(serde_json::from_str(&summary)?)
    }

    async fn ended(&mut self, within: Duration) -> anyhow::Result<std::process::ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.local.try_wait()? {
                return Ok(status);
            }
            anyhow::ensure!(Instant::now() < deadline, "the city does not end: {}", self.log());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for City {
    fn drop(&mut self) {
        // Both fail only if it has already ended. Its children end with it.
        let _ = self.local.kill();
        let _ = self.local.wait();
    }
}

impl Worker {
    /// Process id, for a profiler.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// CPU time so far, user and system, ms.
    pub(super) fn cpu_ms(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name in brackets may contain spaces, so fields are counted from behind it; the state is the third.
        let behind = stat.rsplit_once(')').context("a name in brackets")?.1;
        let ticks = |field: usize| behind.split_whitespace().nth(field - 3).and_then(|text| text.parse::<f64>().ok());
        let (user, system) = (ticks(14).context("user time")?, ticks(15).context("system time")?);
        Ok((user + system) * 1000.0 / TICKS_A_SECOND)
    }
}
