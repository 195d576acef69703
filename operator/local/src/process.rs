//! Child processes: started in a process group of their own, supervised, and ended in order.
//!
//! The group of their own keeps a Ctrl-C typed at the terminal from the children: the operator ends them in its order.

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

use crate::guard::Guard;

/// Which child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// The AWS emulator.
    Ministack,
    /// `redis-server`.
    Redis,
    /// `dispatch-runtime serve`.
    Runtime,
    /// `dispatch-runtime simulate`.
    Simulator,
}

impl Program {
    /// Name people see, and base name of its log file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ministack => "ministack",
            Self::Redis => "redis-server",
            Self::Runtime => "runtime",
            Self::Simulator => "simulator",
        }
    }
}

/// How a child is started and ended.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// Which child it is.
    pub program: Program,
    /// The executable.
    pub executable: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables set on top of the operator's own.
    pub env: Vec<(&'static str, String)>,
    /// Variables of the operator's own that it must not see.
    pub without_env: Vec<&'static str>,
    /// File its output is appended to.
    pub log: PathBuf,
    /// What happens when it ends by itself.
    pub on_exit: OnExit,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// What happens when a child ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// It is reported and not started again.
    Report,
    /// It is reported and started again after a pause.
    Restart(Backoff),
}

/// Pause before a restart: doubled with each early death, bounded, and back to the first after a stable life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Pause after the first death.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// A life of this length makes the next death a first one again.
    pub stable_after: Duration,
}

impl Backoff {
    /// For the children of a local run: a crash in mid-traffic costs a fifth of a second, a crash loop one start in 5 s.
    pub const LOCAL: Self = Self {
        first: Duration::from_millis(200),
        longest: Duration::from_secs(5),
        stable_after: Duration::from_secs(30),
    };

    /// The pause before the next start and the new number of deaths in a row.
    pub fn after_death(self, deaths_in_a_row: u32, lived: Duration) -> (Duration, u32) {
        let deaths = if lived >= self.stable_after { 1 } else { deaths_in_a_row.saturating_add(1) };
        let factor = 1_u32.checked_shl(deaths - 1).unwrap_or(u32::MAX);
        (self.first.saturating_mul(factor).min(self.longest), deaths)
    }
}

/// What supervision reports.
#[derive(Debug)]
pub enum ProcessEvent {
    /// A child was started.
    Started {
        /// Which.
        program: Program,
        /// Its process id.
        pid: u32,
    },
    /// A child ended without having been told to.
    Died {
        /// Which.
        program: Program,
        /// How.
        status: ExitStatus,
        /// Pause before it is started again; absent when it is not.
        restart_in: Option<Duration>,
    },
    /// A child could not be started.
    NotStarted {
        /// Which.
        program: Program,
        /// Why.
        source: io::Error,
        /// Pause before the next try; absent when there is none.
        restart_in: Option<Duration>,
    },
}

/// Events queued for the session at most; the supervisors wait when it is full, which delays restarts and loses nothing.
pub const EVENT_CAPACITY: usize = 64;

#[derive(Clone, Copy, Debug)]
enum Order {
    Restart,
    Stop,
    Kill,
}

/// A supervised child. Dropping it kills the child.
#[derive(Debug)]
pub struct Supervised {
    program: Program,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts supervision; the child's start is reported as an event.
    pub fn start(spec: ProcessSpec, guard: Arc<Guard>, events: mpsc::Sender<ProcessEvent>) -> Self {
        let (orders, inbox) = mpsc::channel(4);
        let program = spec.program;
        let task = tokio::spawn(Supervisor { spec, guard, events, inbox, deaths: 0 }.run());
        Self { program, orders, task }
    }

    /// Which child it is.
    pub fn program(&self) -> Program {
        self.program
    }

    /// Ends the child gracefully and starts it again at once. Says whether the order was taken: a child that is not
    /// restarted any more takes none.
    pub async fn restart(&self) -> bool {
        self.orders.send(Order::Restart).await.is_ok()
    }

    /// Tells the child to end: SIGTERM, then SIGKILL after its grace. Returns when it has ended.
    pub async fn stop(&mut self) {
        self.end(Order::Stop).await;
    }

    /// Ends the child with SIGKILL.
    pub async fn kill(&mut self) {
        self.end(Order::Kill).await;
    }

    async fn end(&mut self, order: Order) {
        // A supervisor that has already returned has no child.
        if self.orders.send(order).await.is_ok() && !self.task.is_finished() {
            let _ = (&mut self.task).await;
        }
    }
}

struct Supervisor {
    spec: ProcessSpec,
    guard: Arc<Guard>,
    events: mpsc::Sender<ProcessEvent>,
    inbox: mpsc::Receiver<Order>,
    deaths: u32,
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            let begun = Instant::now();
            let outcome = self.live().await;
            let restart_in = match self.spec.on_exit {
                OnExit::Report => None,
                OnExit::Restart(backoff) => {
                    let (pause, deaths) = backoff.after_death(self.deaths, begun.elapsed());
                    self.deaths = deaths;
                    Some(pause)
                }
            };
            let program = self.spec.program;
            let event = match outcome {
                Ok(Life::Ordered(Order::Restart)) => {
                    self.deaths = 0;
                    continue;
                }
                Ok(Life::Ordered(Order::Stop | Order::Kill)) => return,
                Ok(Life::Died(status)) => ProcessEvent::Died { program, status, restart_in },
                Err(source) => ProcessEvent::NotStarted { program, source, restart_in },
            };
            // Nobody listens any more when the session is ending: it still stops this task by an order.
            let _ = self.events.send(event).await;
            let Some(pause) = restart_in else { return };
            tokio::select! {
                () = sleep(pause) => {}
                order = self.inbox.recv() => match order {
                    Some(Order::Restart) => self.deaths = 0,
                    Some(Order::Stop | Order::Kill) | None => return,
                },
            }
        }
    }

    /// One life of the child, from its start to its end.
    async fn live(&mut self) -> io::Result<Life> {
        let mut child = spawn(&self.spec)?;
        let Some(pid) = child.id() else {
            return Ok(Life::Died(child.wait().await?));
        };
        if let Err(error) = self.guard.add(pid) {
            end_group(pid, Signal::KILL);
            child.wait().await?;
            return Err(error);
        }
        let _ = self.events.send(ProcessEvent::Started { program: self.spec.program, pid }).await;
        let life = tokio::select! {
            status = child.wait() => Life::Died(status?),
            order = self.inbox.recv() => {
                let order = order.unwrap_or(Order::Kill);
                self.end(&mut child, pid, order).await?;
                Life::Ordered(order)
            }
        };
        // What the child itself may have started ends with it.
        end_group(pid, Signal::KILL);
        self.guard.forget(pid)?;
        Ok(life)
    }

    async fn end(&mut self, child: &mut Child, pid: u32, order: Order) -> io::Result<()> {
        if !matches!(order, Order::Kill) {
            end_group(pid, Signal::TERM);
            tokio::select! {
                ended = timeout(self.spec.grace, child.wait()) => if let Ok(status) = ended {
                    status?;
                    return Ok(());
                },
                // A second order while the first is carried out is an impatient one.
                _ = self.inbox.recv() => {}
            }
        }
        end_group(pid, Signal::KILL);
        child.wait().await.map(drop)
    }
}

enum Life {
    Died(ExitStatus),
    Ordered(Order),
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

/// Signals a whole process group. A group that is gone already is what every caller wants.
fn end_group(pid: u32, signal: Signal) {
    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, signal);
    }
}

/// How a process ended, in words.
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustix::process::{kill_process, test_kill_process};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn spec(dir: &Path, script: &str, on_exit: OnExit) -> ProcessSpec {
        ProcessSpec {
            program: Program::Runtime,
            executable: PathBuf::from("sh"),
            args: vec!["-c".into(), script.into()],
            env: vec![("GREETING", "hello".to_owned())],
            without_env: Vec::new(),
            log: dir.join("child.log"),
            on_exit,
            grace: PATIENCE,
        }
    }

    fn pid(raw: u32) -> Pid {
        Pid::from_raw(i32::try_from(raw).unwrap()).unwrap()
    }

    fn lives(raw: u32) -> bool {
        test_kill_process(pid(raw)).is_ok()
    }

    async fn wait_for_pid(path: &Path) -> u32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(text) = std::fs::read_to_string(path)
                && let Ok(pid) = text.trim().parse()
            {
                return pid;
            }
            assert!(Instant::now() < deadline, "{} never came", path.display());
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn wait_until_gone(raw: u32) {
        let deadline = Instant::now() + PATIENCE;
        while lives(raw) {
            assert!(Instant::now() < deadline, "process {raw} still lives");
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn started(events: &mut mpsc::Receiver<ProcessEvent>) -> u32 {
        match timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            ProcessEvent::Started { pid, .. } => pid,
            other => panic!("expected a start, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_killed_child_is_started_again_after_the_first_pause() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Arc::new(Guard::start().unwrap());
        let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
        let restart = OnExit::Restart(Backoff::LOCAL);
        let mut child = Supervised::start(spec(dir.path(), "exec sleep 600", restart), guard, sender);
        let first = started(&mut events).await;
        kill_process(pid(first), Signal::KILL).unwrap();
        match timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            ProcessEvent::Died { status, restart_in, .. } => {
                assert_eq!(describe(status), "signal 9");
                assert_eq!(restart_in, Some(Duration::from_millis(200)));
            }
            other => panic!("expected a death, got {other:?}"),
        }
        let second = started(&mut events).await;
        assert_ne!(first, second);
        child.stop().await;
        assert!(!lives(second));
    }

    #[tokio::test]
    async fn a_stopped_child_takes_what_it_started_along() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Arc::new(Guard::start().unwrap());
        let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
        let inner = dir.path().join("inner.pid");
        let script = format!("sleep 600 & echo $! > {}; wait", inner.display());
        let mut child = Supervised::start(spec(dir.path(), &script, OnExit::Report), guard, sender);
        let outer = started(&mut events).await;
        let inner = wait_for_pid(&inner).await;
        child.stop().await;
        assert!(!lives(outer));
        wait_until_gone(inner).await;
    }

    #[tokio::test]
    async fn a_child_that_ignores_sigterm_is_killed_after_its_grace() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Arc::new(Guard::start().unwrap());
        let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
        let ready = dir.path().join("ready.pid");
        let script = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1; done", ready.display());
        let mut spec = spec(dir.path(), &script, OnExit::Report);
        spec.grace = Duration::from_millis(100);
        let mut child = Supervised::start(spec, guard, sender);
        let outer = started(&mut events).await;
        wait_for_pid(&ready).await;
        child.stop().await;
        assert!(!lives(outer));
    }

    #[tokio::test]
    async fn an_impatient_second_order_cuts_the_grace_short() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Arc::new(Guard::start().unwrap());
        let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
        let ready = dir.path().join("ready.pid");
        let script = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1; done", ready.display());
        let mut spec = spec(dir.path(), &script, OnExit::Report);
        spec.grace = Duration::from_hours(1);
        let mut child = Supervised::start(spec, guard, sender);
        let outer = started(&mut events).await;
        wait_for_pid(&ready).await;
        // The first order is given up in the middle, as a second Ctrl-C does.
        let _ = timeout(Duration::from_millis(50), child.stop()).await;
        timeout(PATIENCE, child.kill()).await.unwrap();
        assert!(!lives(outer));
    }

    #[tokio::test]
    async fn an_ordered_restart_is_no_death() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Arc::new(Guard::start().unwrap());
        let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
        let restart = OnExit::Restart(Backoff::LOCAL);
        let mut child = Supervised::start(spec(dir.path(), "exec sleep 600", restart), guard, sender);
        let first = started(&mut events).await;
        assert!(child.restart().await);
        let second = started(&mut events).await;
        assert_ne!(first, second);
        assert!(!lives(first));
        child.stop().await;
    }

    #[tokio::test]
    async fn a_child_that_is_only_reported_leaves_its_exit_code_and_its_output() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Arc::new(Guard::start().unwrap());
        let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
        let mut child = Supervised::start(spec(dir.path(), "echo $GREETING; exit 3", OnExit::Report), guard, sender);
        started(&mut events).await;
        match timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            ProcessEvent::Died { status, restart_in: None, .. } => assert_eq!(describe(status), "exit code 3"),
            other => panic!("expected a death, got {other:?}"),
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("child.log")).unwrap(), "hello\n");
        child.stop().await;
        assert!(!child.restart().await);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Arc::new(Guard::start().unwrap());
        let (sender, mut events) = mpsc::channel(EVENT_CAPACITY);
        let mut spec = spec(dir.path(), "", OnExit::Report);
        spec.executable = dir.path().join("nothing-here");
        let _child = Supervised::start(spec, guard, sender);
        match timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            ProcessEvent::NotStarted { source, .. } => assert_eq!(source.kind(), io::ErrorKind::NotFound),
            other => panic!("expected a failed start, got {other:?}"),
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_a_stable_life_begins_anew() {
        let mut deaths = 0;
        let pauses: Vec<u128> = (0..8)
            .map(|_| {
                let (pause, now) = Backoff::LOCAL.after_death(deaths, Duration::from_secs(1));
                deaths = now;
                pause.as_millis()
            })
            .collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(Backoff::LOCAL.after_death(40, Duration::from_secs(1)).0, Duration::from_secs(5));
        assert_eq!(Backoff::LOCAL.after_death(8, Duration::from_secs(31)), (Duration::from_millis(200), 1));
    }
}
