//! Processes of the program under test, with their configuration and output.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dispatch_tests::support::until;
use rustix::process::{Pid, Signal, kill_process};

use crate::leaks;

/// Time-out for the last metrics of a process: a paused one does not answer.
const LAST_METRICS_WITHIN: Duration = Duration::from_secs(1);

/// The program under test, built by `make build`.
pub(crate) fn runtime() -> PathBuf {
    program("dispatch-runtime")
}

/// The simulator, built by `make build`.
pub(crate) fn simulator() -> PathBuf {
    program("dispatch-simulator")
}

fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("this program has a path");
    tests.parent().and_then(Path::parent).expect("target/debug/deps").join(name)
}

/// A port that is free at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A number from the environment, with which a campaign sets durations and seeds.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// The configuration and output of the processes of one city. When dropped, it searches their output for secrets.
pub(crate) struct Surroundings {
    /// Contains `worker.json`, a log for each name, and the last metrics of each process.
    pub folder: tempfile::TempDir,
    /// Endpoint of all AWS services.
    pub aws: String,
    /// Endpoint of DynamoDB Streams, if it is another one.
    pub streams: Option<String>,
}

impl Surroundings {
    /// Writes the configuration of the processes.
    pub(crate) fn new(config: &str, aws: String, streams: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("worker.json"), config).unwrap();
        Self { folder, aws, streams }
    }

    /// Searches the output of the processes for secrets. The last metrics of a process exist after its end.
    pub(crate) fn search(&self) {
        leaks::assert_no_secrets_in(self.folder.path());
    }

    /// Starts a process and waits until it is ready. Processes of one name write to one log.
    pub(crate) async fn start(&self, name: &str, roles: &str, listen: u16) -> Process {
        self.start_after("", name, roles, listen).await
    }

    /// Like [`Self::start`], after commands of a shell that change the surroundings of the process.
    pub(crate) async fn start_after(&self, commands: &str, name: &str, roles: &str, listen: u16) -> Process {
        let process = self.spawn(commands, name, roles, listen);
        until(&format!("{name} to be ready"), async || (process.admin("readyz").await == Some(200)).then_some(()))
            .await;
        process
    }

    /// Starts a process without waiting for it.
    pub(crate) fn spawn(&self, commands: &str, name: &str, roles: &str, listen: u16) -> Process {
        let admin = free_port();
        let log = self.folder.path().join(format!("{name}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let streams = self.streams.as_ref().unwrap_or(&self.aws);
        let child = Command::new("sh")
            .args(["-ec", &format!("{commands}\nexec \"$0\" \"$@\"")])
            .arg(runtime())
            .args(["serve", "--exit-with-parent", "--role", roles, "--config"])
            .arg(self.folder.path().join("worker.json"))
            .args(["--listen", &format!("127.0.0.1:{listen}"), "--admin-listen", &format!("127.0.0.1:{admin}")])
            .env("HOSTNAME", name)
            .env("AWS_ENDPOINT_URL", &self.aws)
            .env("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", streams)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("dispatch-runtime is built");
        Process { name: name.to_owned(), child, admin, folder: self.folder.path().to_owned() }
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        // A second panic would hide the failure of the test.
        if !std::thread::panicking() {
            self.search();
        }
    }
}

/// A running process, killed when dropped.
pub(crate) struct Process {
    pub name: String,
    pub child: Child,
    admin: u16,
    folder: PathBuf,
}

impl Process {
    /// Sends a signal. Before one that ends the process, saves its metrics.
    pub(crate) fn signal(&self, signal: Signal) {
        if signal == Signal::KILL || signal == Signal::TERM {
            self.save_metrics();
        }
        kill_process(Pid::from_child(&self.child), signal).expect("the process exists");
    }

    /// Ends the process at once, like the loss of its machine.
    pub(crate) fn kill(&mut self) {
        self.save_metrics();
        self.child.kill().expect("the process exists");
        self.child.wait().expect("the process ends");
    }

    /// The status of `livez` or `readyz`; `None` without an answer.
    pub(crate) async fn admin(&self, path: &str) -> Option<u16> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}/{path}", self.admin)).await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    /// Status and body of `readyz`; `None` without an answer.
    pub(crate) async fn readiness(&self) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}/readyz", self.admin)).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// Resident memory, KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process exists");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// All metrics.
    pub(crate) async fn metrics(&self) -> String {
        reqwest::get(format!("http://127.0.0.1:{}/metrics", self.admin)).await.unwrap().text().await.unwrap()
    }

    /// Saves the metrics in the folder of the process and, in a campaign, in the folder `DISPATCH_COUNTERS`.
    fn save_metrics(&self) {
        let Ok(metrics) = self.metrics_blocking() else { return };
        let name = format!("{}-{}.metrics", self.name, self.child.id());
        let campaign = std::env::var("DISPATCH_COUNTERS").ok().map(PathBuf::from);
        for folder in [Some(self.folder.clone()), campaign].into_iter().flatten() {
            std::fs::write(folder.join(&name), &metrics).unwrap();
        }
    }

    /// All metrics, read without async, because `drop` needs them as well.
    fn metrics_blocking(&self) -> std::io::Result<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.admin));
        let mut stream = TcpStream::connect_timeout(&address, LAST_METRICS_WITHIN)?;
        stream.set_read_timeout(Some(LAST_METRICS_WITHIN))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
    }

    /// The metric whose line begins with `line`; 0 if there is none.
    pub(crate) async fn metric(&self, line: &str) -> u64 {
        let text = self.metrics().await;
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.map_or(0, |value| value.trim().parse().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.save_metrics();
        }
        // Both fail only if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
