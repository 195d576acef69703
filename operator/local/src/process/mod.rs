//! Child processes: each in a process group of its own, supervised, and ended in order.
//!
//! Because of the process groups, a Ctrl-C in the terminal reaches only this program, which ends the children in its
//! order.

pub(crate) mod children;
pub(crate) mod reaper;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use self::reaper::Reaper;

/// A program of a run. A program is greater than those it uses, and ends before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    Emulator,
    Redis,
    Runtime,
    Simulator,
}

impl Program {
    /// Name in messages, and base name of the log file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Emulator => "ministack",
            Self::Redis => "redis-server",
            Self::Runtime => "runtime",
            Self::Simulator => "simulator",
        }
    }
}

/// How a process is started and ended.
#[derive(Clone, Debug)]
pub(crate) struct ProcessSpec {
    pub(crate) program: Program,
    pub(crate) executable: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Environment variables in addition to those of this program.
    pub(crate) env: Vec<(&'static str, String)>,
    /// Variables of this program that the process does not inherit.
    pub(crate) without_env: Vec<&'static str>,
    /// File to which its output is appended.
    pub(crate) log: PathBuf,
    pub(crate) restart: RestartPolicy,
    /// Time between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
}

/// What happens when a process exits unexpectedly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    /// The exit is reported.
    Never,
    /// The exit is reported, and the process restarts after a pause.
    Always(RestartBackoff),
}

/// Pause before a restart: it doubles with each early exit up to a limit, and starts over after a stable life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestartBackoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    /// After a life of this length the next exit counts as the first.
    pub(crate) stable_after: Duration,
}

impl RestartBackoff {
    /// For local runs: a single crash costs a fifth of a second, a crash loop one start in 5 s.
    pub(crate) const LOCAL: Self = Self {
        first: Duration::from_millis(200),
        longest: Duration::from_secs(5),
        stable_after: Duration::from_secs(30),
    };

    /// The pause before the next start, and the new number of consecutive exits.
    pub(crate) fn after_exit(self, consecutive_exits: u32, lived: Duration) -> (Duration, u32) {
        let exits = if lived >= self.stable_after { 1 } else { consecutive_exits.saturating_add(1) };
        let factor = 1_u32.checked_shl(exits - 1).unwrap_or(u32::MAX);
        (self.first.saturating_mul(factor).min(self.longest), exits)
    }
}

/// What supervision reports. `restart_in` is the pause before the next start, absent if there is none.
#[derive(Debug)]
pub(crate) enum ProcessEvent {
    Started {
        program: Program,
        pid: u32,
    },
    /// A process exited unexpectedly.
    Exited {
        program: Program,
        status: ExitStatus,
        restart_in: Option<Duration>,
    },
    StartFailed {
        program: Program,
        source: io::Error,
        restart_in: Option<Duration>,
    },
}

/// Most events queued for the session. If the queue is full, the supervisors wait, which delays restarts and loses no
/// event.
pub(crate) const EVENT_CAPACITY: usize = 64;

#[derive(Clone, Copy, Debug)]
enum ProcessCommand {
    Restart,
    Stop,
    Kill,
}

/// A supervised process. Dropping the handle kills the process.
#[derive(Debug)]
pub(crate) struct ProcessHandle {
    program: Program,
    commands: mpsc::Sender<ProcessCommand>,
    task: JoinHandle<()>,
}

impl ProcessHandle {
    /// Starts the process and its supervision; the result of the start is reported as an event.
    pub(crate) fn start(spec: ProcessSpec, reaper: Arc<Reaper>, events: mpsc::Sender<ProcessEvent>) -> Self {
        let (commands, inbox) = mpsc::channel(4);
        let program = spec.program;
        let task = tokio::spawn(Supervisor { spec, reaper, events, inbox, consecutive_exits: 0 }.run());
        Self { program, commands, task }
    }

    pub(crate) fn program(&self) -> Program {
        self.program
    }

    /// Ends the process gracefully and starts it again at once. Returns false if the process is no longer supervised.
    pub(crate) async fn restart(&self) -> bool {
        self.commands.send(ProcessCommand::Restart).await.is_ok()
    }

    /// Ends the process with SIGTERM, and with SIGKILL after its grace. Returns when it has ended.
    pub(crate) async fn stop(&mut self) {
        self.end(ProcessCommand::Stop).await;
    }

    /// Ends the process with SIGKILL. Returns when it has ended.
    pub(crate) async fn kill(&mut self) {
        self.end(ProcessCommand::Kill).await;
    }

    async fn end(&mut self, command: ProcessCommand) {
        // A supervisor that has returned has no process.
        if self.commands.send(command).await.is_ok() && !self.task.is_finished() {
            let _ = (&mut self.task).await;
        }
    }
}

struct Supervisor {
    spec: ProcessSpec,
    reaper: Arc<Reaper>,
    events: mpsc::Sender<ProcessEvent>,
    inbox: mpsc::Receiver<ProcessCommand>,
    consecutive_exits: u32,
}

/// How a process came to its end.
enum ProcessEnd {
    Exit(ExitStatus),
    Command(ProcessCommand),
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            let started = Instant::now();
            let end = self.run_once().await;
            let restart_in = match self.spec.restart {
                RestartPolicy::Never => None,
                RestartPolicy::Always(backoff) => {
                    let (pause, exits) = backoff.after_exit(self.consecutive_exits, started.elapsed());
                    self.consecutive_exits = exits;
                    Some(pause)
                }
            };
            let program = self.spec.program;
            let event = match end {
                Ok(ProcessEnd::Command(ProcessCommand::Restart)) => {
                    self.consecutive_exits = 0;
                    continue;
                }
                Ok(ProcessEnd::Command(ProcessCommand::Stop | ProcessCommand::Kill)) => return,
                Ok(ProcessEnd::Exit(status)) => ProcessEvent::Exited { program, status, restart_in },
                Err(source) => ProcessEvent::StartFailed { program, source, restart_in },
            };
            // While the session ends, nothing receives events; it stops this task by a command.
            let _ = self.events.send(event).await;
            let Some(pause) = restart_in else { return };
            tokio::select! {
                () = sleep(pause) => {}
                command = self.inbox.recv() => match command {
                    Some(ProcessCommand::Restart) => self.consecutive_exits = 0,
                    Some(ProcessCommand::Stop | ProcessCommand::Kill) | None => return,
                },
            }
        }
    }

    async fn run_once(&mut self) -> io::Result<ProcessEnd> {
        let mut child = spawn(&self.spec)?;
        let Some(pid) = child.id() else {
            return Ok(ProcessEnd::Exit(child.wait().await?));
        };
        if let Err(error) = self.reaper.add(pid) {
            signal_group(pid, Signal::KILL);
            child.wait().await?;
            return Err(error);
        }
        let _ = self.events.send(ProcessEvent::Started { program: self.spec.program, pid }).await;
        let end = tokio::select! {
            status = child.wait() => ProcessEnd::Exit(status?),
            command = self.inbox.recv() => {
                let command = command.unwrap_or(ProcessCommand::Kill);
                self.end(&mut child, pid, command).await?;
                ProcessEnd::Command(command)
            }
        };
        // The process may have started others.
        signal_group(pid, Signal::KILL);
        self.reaper.remove(pid)?;
        Ok(end)
    }

    async fn end(&mut self, child: &mut Child, pid: u32, command: ProcessCommand) -> io::Result<()> {
        if !matches!(command, ProcessCommand::Kill) {
            signal_group(pid, Signal::TERM);
            tokio::select! {
                ended = timeout(self.spec.grace, child.wait()) => if let Ok(status) = ended {
                    status?;
                    return Ok(());
                },
                // A second command during the grace ends it.
                _ = self.inbox.recv() => {}
            }
        }
        signal_group(pid, Signal::KILL);
        child.wait().await.map(drop)
    }
}

fn spawn(spec: &ProcessSpec) -> io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(&spec.log)?;
    let mut command = Command::new(&spec.executable);
    for name in &spec.without_env {
        command.env_remove(name);
    }
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Signals a process group. That the group has already ended is no error.
fn signal_group(pid: u32, signal: Signal) {
    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}

/// `exit code 1` or `signal 9`.
pub(crate) fn describe_exit(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}
