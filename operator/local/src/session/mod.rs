//! One run, from the first child to the last: what happens is taken in here, one thing after another, and shown.

mod changes;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dispatch_api::validate::ValidatedSystem;
use reqwest::Client;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::access;
use crate::apps::{self, Apps};
use crate::children::Children;
use crate::display::Display;
use crate::engine::Engine;
use crate::follow::{Follow, Look};
use crate::guard::Guard;
use crate::health::{self, NotInTime};
use crate::ports::Ports;
use crate::process::{ProcessEvent, Program, describe};
use crate::programs::{self, Emulator, Identity};
use crate::state::{Keep, StateDir};
use crate::summary::{Milestones, Summary, read_simulation, seconds};
use crate::traffic::{Counts, Traffic};
use crate::view::{Endpoints, RuntimeState, SystemState, View};
use crate::{LocalArgs, LocalError};
use dispatch_api::worker_config::{LocalAccess, WorkerConfig};
use dispatch_operator::engine::secrets::Secrets;

/// The emulator is a Python program: its first start on a slow disk takes seconds.
const EMULATOR_READY: Duration = Duration::from_mins(1);

/// Redis starts in milliseconds.
const REDIS_READY: Duration = Duration::from_secs(15);

/// Time a simulation may take beyond its traffic: its last rides have to end.
const SIMULATION_DRAIN: Duration = Duration::from_mins(5);

/// The view is redrawn, the workers are asked and the manifest is looked at this often.
const TICK: Duration = Duration::from_secs(1);

/// Pause before an edit that failed for a passing reason is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// What a run needs, all checked.
pub struct Plan {
    /// The command line.
    pub args: LocalArgs,
    /// The secrets the manifest names.
    pub secrets: Secrets,
    /// The runtime program.
    pub runtime: PathBuf,
    /// The emulator, when it is to be started.
    pub ministack: Option<PathBuf>,
    /// The Redis server, when it is to be started.
    pub redis: Option<PathBuf>,
    /// The state folder.
    pub state: StateDir,
    /// Whether the emulator keeps its state.
    pub keep: Keep,
    /// HTTP API, admin, AWS, Redis, apps.
    pub ports: Ports<5>,
    /// By what the workers know callers, and tokens to try.
    pub access: LocalAccess,
}

/// What the runtime's admin port said at one look.
#[derive(Debug)]
struct Reading {
    ready: bool,
    counts: Option<Counts>,
}

/// A run.
pub struct Session {
    plan: Plan,
    system: ValidatedSystem,
    begun: Instant,
    client: Client,
    display: Display<io::Stdout>,
    view: View,
    identity: Identity,
    children: Children,
    events: mpsc::Receiver<ProcessEvent>,
    readings: (mpsc::Sender<Reading>, mpsc::Receiver<Reading>),
    watcher: Option<JoinHandle<()>>,
    in_force: Option<WorkerConfig>,
    simulation_ended: Option<ExitStatus>,
    /// Serves the apps while it is held.
    apps: Option<AbortOnDropHandle<()>>,
    milestones: Milestones,
}

impl Session {
    /// Prepares a run; starts nothing yet.
    pub fn new(plan: Plan, system: ValidatedSystem, guard: Arc<Guard>, begun: Instant) -> Result<Self, LocalError> {
        let own = |port: u16| format!("http://127.0.0.1:{port}");
        let [http, admin, aws, redis, apps] = plan.ports.numbers;
        let endpoints = Endpoints {
            http: own(http),
            apps: own(apps),
            admin: own(admin),
            aws: plan.args.aws_endpoint.clone().unwrap_or_else(|| own(aws)),
            region: system.spec.region.clone(),
            redis: plan.args.redis.clone().unwrap_or_else(|| format!("redis://127.0.0.1:{redis}")),
        };
        let is_set = |name: &str| std::env::var_os(name).is_some();
        let identity = Identity::choose(plan.ministack.is_some(), &endpoints.aws, is_set);
        let view = View {
            system: format!("{}/{}", system.namespace, system.name),
            state: SystemState::Reconciling("starting".to_owned()),
            stack: None,
            endpoints,
            emulated: identity == Identity::Emulated,
            runtime: RuntimeState::default(),
            traffic: Traffic::default(),
            manifest: plan.args.file.display().to_string(),
            manifest_error: None,
            simulation: None,
        };
        let (children, events) = Children::new(guard);
        Ok(Self {
            client: health::client().map_err(LocalError::HttpClient)?,
            display: Display::stdout(),
            children,
            events,
            readings: mpsc::channel(1),
            watcher: None,
            in_force: None,
            simulation_ended: None,
            apps: None,
            milestones: Milestones::default(),
            plan,
            system,
            begun,
            view,
            identity,
        })
    }

    /// The whole run up to its end by itself. Dropping this future, for a signal, is safe: children belong to the session.
    pub async fn drive(&mut self) -> Result<(), LocalError> {
        self.start_foundations().await?;
        self.milestones.provisioning = Some(seconds(self.begun.elapsed()));
        let (region, auth) = (&self.system.spec.region, &self.plan.access.auth);
        let mut engine = Engine::connect(region, &self.view.endpoints, self.identity, auth).await;
        engine.give(self.plan.secrets.clone());
        let mut follow = Follow::new(&self.plan.args.file);
        // The text the run began with is no edit.
        let first = follow.look();
        let provision = self.reconcile(&mut engine, &self.system.clone()).await??;
        self.milestones.stack_complete = Some(seconds(self.begun.elapsed()));
        self.take_over(provision).await?;
        if self.view.state != SystemState::Ready {
            return Err(LocalError::NotReady(self.view.state.line()));
        }
        self.milestones.workers_ready = Some(seconds(self.begun.elapsed()));
        self.apps = Some(self.serve_apps().await?);
        self.display.show(&self.view, self.begun.elapsed());
        self.display.welcome(&self.view);
        let Plan { access, runtime, state, .. } = &self.plan;
        self.display.say(&access::words(access, runtime, &state.signing_key()).join("\n"));
        self.start_simulation();
        if let Look::Changed(text) = first {
            // It was edited while the system was being made.
            self.edit(&mut engine, &text).await?;
        }
        self.serve(&mut engine, &mut follow).await
    }

    async fn serve_apps(&self) -> Result<AbortOnDropHandle<()>, LocalError> {
        let [.., port] = self.plan.ports.numbers;
        let apps = Apps {
            port,
            api: self.view.endpoints.http.clone(),
            runtime: self.plan.runtime.clone(),
            signing_key: self.plan.state.signing_key(),
            client: apps::client().map_err(LocalError::HttpClient)?,
        };
        let failed = |source| LocalError::Machine { action: "serve the apps on 127.0.0.1", source };
        apps::serve(apps).await.map_err(failed)
    }

    /// Redis and the AWS endpoint, started or given.
    async fn start_foundations(&mut self) -> Result<(), LocalError> {
        let [_, _, aws_port, redis_port, _] = self.plan.ports.numbers;
        if let Some(program) = self.plan.redis.clone() {
            self.children.start(programs::redis(program, redis_port, &self.plan.state));
        }
        if let Some(executable) = self.plan.ministack.clone() {
            let emulator = Emulator {
                executable,
                port: aws_port,
                region: &self.system.spec.region,
                account: self.system.spec.aws.account_id.as_deref(),
                redis_port: self.plan.redis.is_some().then_some(redis_port),
                keep: self.plan.keep,
            };
            let spec = programs::ministack(&emulator, &self.plan.state);
            self.children.start(spec);
        }
        let (client, aws) = (self.client.clone(), self.view.endpoints.aws.clone());
        let own = self.plan.ministack.is_some();
        let what = format!("the AWS endpoint {aws}");
        let health_page = format!("{aws}/_ministack/health");
        let answers = health::wait_for(&what, EMULATOR_READY, || async {
            if own { health::serves(&client, &health_page).await } else { health::speaks_http(&client, &aws).await }
        });
        self.view.state = SystemState::Reconciling("waiting for the AWS endpoint".to_owned());
        let answered = self.during(answers).await?;
        self.check(answered, Program::Ministack)?;
        let redis = self.view.endpoints.redis.clone();
        let address = redis.split_once("://").map_or(redis.as_str(), |(_, address)| address);
        let what = format!("Redis at {address}");
        let answered = self.during(health::wait_for(&what, REDIS_READY, || health::redis_answers(address))).await?;
        self.check(answered, Program::Redis)
    }

    fn check(&self, answered: Result<(), NotInTime>, program: Program) -> Result<(), LocalError> {
        answered.map_err(|what| LocalError::NotInTime { what, log: self.log_tail(program) })
    }

    fn log_tail(&self, program: Program) -> String {
        match self.plan.state.log_tail(program) {
            tail if tail.is_empty() => String::new(),
            tail => format!("; the end of {}:\n{tail}", self.plan.state.log(program).display()),
        }
    }

    fn start_simulation(&mut self) {
        let Some(simulation) = self.plan.args.simulate else { return };
        let (program, api) = (self.plan.runtime.clone(), self.view.endpoints.http.clone());
        let spec = programs::simulator(program, &simulation, self.plan.args.length, &api, &self.plan.state);
        self.view.simulation =
            Some(format!("{} drivers, {} requests/s, seed {}", simulation.drivers, simulation.rate, simulation.seed));
        self.children.start(spec);
    }

    /// Serves until the traffic has ended, or for ever.
    async fn serve(&mut self, engine: &mut Engine, follow: &mut Follow) -> Result<(), LocalError> {
        let length = self.plan.args.length;
        let simulated = self.plan.args.simulate.is_some();
        let end =
            length.map(|length| Instant::now() + length + if simulated { SIMULATION_DRAIN } else { Duration::ZERO });
        let mut look_again = self.next_drift_look();
        loop {
            if simulated && length.is_some() && self.simulation_ended.is_some() {
                return self.verdict();
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return if simulated {
                    Err(LocalError::Simulation("it did not end in time".to_owned()))
                } else {
                    Ok(())
                };
            }
            match follow.look() {
                Look::Changed(text) => {
                    self.edit(engine, &text).await?;
                    look_again = self.next_drift_look();
                }
                Look::Unreadable(error) => {
                    self.display.say(&format!("cannot read {}: {error}; it stays in force", self.view.manifest));
                }
                Look::Same if look_again.is_some_and(|at| Instant::now() >= at) => {
                    let system = self.system.clone();
                    self.apply(engine, &system).await?;
                    look_again = self.next_drift_look();
                }
                Look::Same => {}
            }
            self.during(sleep(TICK)).await?;
        }
    }

    fn next_drift_look(&self) -> Option<Instant> {
        let stalled = matches!(self.view.state, SystemState::Stalled(_));
        let interval = Duration::from_secs(u64::from(self.system.spec.drift_interval_seconds));
        match (stalled, interval.is_zero()) {
            (true, _) => Some(Instant::now() + RETRY_PAUSE),
            (false, true) => None,
            (false, false) => Some(Instant::now() + interval),
        }
    }

    /// Does `work` and meanwhile takes in what happens to the children. Fails when something happens that ends the run.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, LocalError> {
        let mut work = pin!(work);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                Some(event) = self.events.recv() => self.happened(event)?,
                Some(reading) = self.readings.1.recv() => self.read(&reading),
                _ = tick.tick() => self.display.show(&self.view, self.begun.elapsed()),
            }
        }
    }

    fn read(&mut self, reading: &Reading) {
        self.view.runtime.ready = reading.ready;
        if let Some(counts) = reading.counts {
            self.view.traffic.observe(counts, self.begun.elapsed());
        }
    }

    fn happened(&mut self, event: ProcessEvent) -> Result<(), LocalError> {
        if let ProcessEvent::Died { program, restart_in: None, .. } = &event {
            self.children.forget(*program);
        }
        match event {
            ProcessEvent::Started { program: Program::Runtime, pid } => {
                self.view.runtime.pid = Some(pid);
                self.view.runtime.ready = false;
            }
            ProcessEvent::Started { .. } => {}
            ProcessEvent::Died { program: Program::Ministack, status, .. } => {
                return Err(LocalError::EmulatorLost { how: describe(status), log: self.log_tail(Program::Ministack) });
            }
            ProcessEvent::Died { program: Program::Simulator, status, .. } => {
                self.view.simulation = None;
                self.simulation_ended = Some(status);
                if self.plan.args.length.is_none() {
                    self.display.say(&format!(
                        "the simulator ended with {}; its output is in {}",
                        describe(status),
                        self.plan.state.log(Program::Simulator).display()
                    ));
                }
            }
            ProcessEvent::Died { program, status, restart_in } => {
                if program == Program::Runtime {
                    self.view.runtime =
                        RuntimeState { pid: None, ready: false, restarts: self.view.runtime.restarts + 1 };
                }
                let again = restart_in
                    .map_or_else(String::new, |pause| format!("; it is started again in {:.1} s", pause.as_secs_f64()));
                self.display.say(&format!("{} ended with {}{again}", program.name(), describe(status)));
            }
            ProcessEvent::NotStarted { program, source, restart_in: None } => {
                return Err(LocalError::NotStarted { program: program.name(), source });
            }
            ProcessEvent::NotStarted { program, source, restart_in: Some(_) } => {
                self.display.say(&format!("{} cannot be started: {source}; it is tried again", program.name()));
            }
        }
        Ok(())
    }

    fn verdict(&self) -> Result<(), LocalError> {
        match self.simulation_ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(LocalError::Simulation(format!("the simulator ended with {}", describe(status)))),
            None => Err(LocalError::Interrupted("the simulation had ended")),
        }
    }

    /// What a signal means for the outcome: the normal end of a run without one of its own, else an interruption.
    pub fn interrupted(&self) -> Result<(), LocalError> {
        if self.milestones.workers_ready.is_none() {
            return Err(LocalError::Interrupted("the system was ready"));
        }
        match (self.plan.args.length, self.plan.args.simulate, self.simulation_ended) {
            (Some(_), Some(_), _) | (None, Some(_), Some(_)) => self.verdict(),
            (Some(_), None, _) => Err(LocalError::Interrupted("its time was over")),
            (None, _, _) => Ok(()),
        }
    }

    /// Ends the children in order: those who use the others first.
    pub async fn stop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.abort();
        }
        while let Some(program) = self.children.next_to_stop() {
            self.view.state = SystemState::Stopping(program.name().to_owned());
            self.display.show(&self.view, self.begun.elapsed());
            self.children.stop(program).await;
        }
        self.display.finish();
        let elapsed = self.begun.elapsed().as_secs();
        self.display.say(&format!("{}  stopped after {elapsed} s; {}", self.view.system, self.view.traffic.line()));
    }

    /// Ends what still runs at once.
    pub async fn kill(&mut self) {
        self.children.kill().await;
        self.display.finish();
    }

    /// The run in numbers, and the simulator's own words on the terminal.
    pub fn into_summary(mut self) -> Summary {
        if self.plan.args.simulate.is_some()
            && let Ok(words) = std::fs::read_to_string(self.plan.state.log(Program::Simulator))
            && !words.is_empty()
        {
            self.display.say(words.trim_end());
        }
        Summary {
            system: self.view.system,
            seconds: self.milestones,
            stack_status: self.view.stack.map(|(_, status)| status),
            runtime_restarts: self.view.runtime.restarts,
            traffic: self.view.traffic.totals(),
            simulation: read_simulation(&self.plan.state.simulation()),
            ..Summary::default()
        }
    }
}
