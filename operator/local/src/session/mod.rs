//! One run, from its first process to its last. All events are handled here, one after another.

mod changes;
mod events;
mod provision;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dispatch_api::validate::ValidatedSystem;
use dispatch_api::worker_config::{LocalAccess, WorkerConfig};
use dispatch_operator::engine::secrets::Secrets;
use reqwest::Client;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use self::events::WorkerSample;
use self::provision::Provisioner;
use crate::apps::{self, Apps};
use crate::args::RunArgs;
use crate::endpoints::{AwsIdentity, Endpoints};
use crate::env_file::EnvFile;
use crate::error::{LocalError, machine_error};
use crate::health::{self, ProbeTimeout};
use crate::manifest::watcher::{ManifestChange, ManifestWatcher};
use crate::metrics_scrape::TrafficTotals;
use crate::process::children::Children;
use crate::process::reaper::Reaper;
use crate::process::{ProcessEvent, Program, describe_exit};
use crate::programs;
use crate::programs::binaries::Binaries;
use crate::programs::emulator::{self, EmulatorSettings};
use crate::state_dir::{Persistence, StateDir};
use crate::summary::{Milestones, Summary, read_simulation, seconds};
use crate::tcp_ports::TcpPorts;
use crate::terminal::display::Display;
use crate::terminal::view::{RuntimeState, SystemState, View, token_lines};

/// The emulator is a Python program: its first start from a slow disk takes seconds.
const EMULATOR_READY: Duration = Duration::from_mins(1);

/// Redis starts in milliseconds.
const REDIS_READY: Duration = Duration::from_secs(15);

/// Time that a simulation may take after its traffic: the last rides have to end.
const SIMULATION_DRAIN: Duration = Duration::from_mins(5);

/// Interval at which the view is redrawn, the workers are probed and the manifest is read.
const TICK: Duration = Duration::from_secs(1);

/// Pause before the next attempt at a system that is not ready.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// What a run needs, checked.
pub(crate) struct SessionConfig {
    pub(crate) args: RunArgs,
    /// The secrets that the manifest names.
    pub(crate) secrets: Secrets,
    pub(crate) binaries: Binaries,
    pub(crate) state: StateDir,
    pub(crate) persistence: Persistence,
    /// HTTP API, admin, AWS, Redis, apps.
    pub(crate) ports: TcpPorts<5>,
    /// How the workers authenticate callers, and sample tokens.
    pub(crate) access: LocalAccess,
}

/// A run.
pub(crate) struct Session {
    config: SessionConfig,
    /// The system in effect.
    system: ValidatedSystem,
    started: Instant,
    client: Client,
    display: Display<io::Stdout>,
    view: View,
    identity: AwsIdentity,
    children: Children,
    events: mpsc::Receiver<ProcessEvent>,
    samples: (mpsc::Sender<WorkerSample>, mpsc::Receiver<WorkerSample>),
    /// Probes the workers.
    probe: Option<JoinHandle<()>>,
    /// The configuration that the workers have.
    worker_config: Option<WorkerConfig>,
    simulator_exit: Option<ExitStatus>,
    /// Serves the apps until it is dropped.
    apps: Option<AbortOnDropHandle<()>>,
    milestones: Milestones,
}

impl Session {
    /// Prepares a run without starting anything.
    pub(crate) fn new(
        config: SessionConfig,
        system: ValidatedSystem,
        reaper: Arc<Reaper>,
        started: Instant,
    ) -> Result<Self, LocalError> {
        let local = |port: u16| format!("http://127.0.0.1:{port}");
        let [http, admin, aws, redis, apps] = config.ports.numbers;
        let endpoints = Endpoints {
            http: local(http),
            apps: local(apps),
            admin: local(admin),
            aws: config.args.aws_endpoint.clone().unwrap_or_else(|| local(aws)),
            region: system.spec.region.clone(),
            redis: config.args.redis.clone().unwrap_or_else(|| format!("redis://127.0.0.1:{redis}")),
        };
        let is_set = |name: &str| std::env::var_os(name).is_some();
        let identity = AwsIdentity::for_endpoint(config.binaries.emulator.is_some(), &endpoints.aws, is_set);
        let view = View {
            system: format!("{}/{}", system.namespace, system.name),
            state: SystemState::Reconciling("starting".to_owned()),
            stack: None,
            endpoints,
            emulated: identity == AwsIdentity::Emulated,
            env_file: config.state.env_file().display().to_string(),
            runtime: RuntimeState::default(),
            traffic: TrafficTotals::default(),
            manifest: config.args.file.display().to_string(),
            manifest_error: None,
            simulation: None,
        };
        let (children, events) = Children::new(reaper);
        Ok(Self {
            client: health::client().map_err(LocalError::HttpClient)?,
            display: Display::stdout(),
            children,
            events,
            samples: mpsc::channel(1),
            probe: None,
            worker_config: None,
            simulator_exit: None,
            apps: None,
            milestones: Milestones::default(),
            config,
            system,
            started,
            view,
            identity,
        })
    }

    /// The run until it ends without a signal. Dropping this future is safe: the processes belong to the session.
    pub(crate) async fn run(&mut self) -> Result<(), LocalError> {
        self.start_backends().await?;
        self.milestones.provisioning = Some(seconds(self.started.elapsed()));
        let (endpoints, access) = (&self.view.endpoints, &self.config.access);
        let secrets = self.config.secrets.clone();
        let mut provisioner = Provisioner::connect(endpoints, self.identity, &access.auth, secrets).await;
        let mut watcher = ManifestWatcher::new(&self.config.args.file);
        // The first poll returns the text that the run started with, unless it was edited since.
        let first = watcher.poll();
        let outcome = self.reconcile(&mut provisioner, &self.system.clone()).await??;
        self.milestones.stack_complete = Some(seconds(self.started.elapsed()));
        self.adopt(outcome).await?;
        if self.view.state != SystemState::Ready {
            return Err(LocalError::NotReady(self.view.state.line()));
        }
        self.milestones.workers_ready = Some(seconds(self.started.elapsed()));
        self.apps = Some(self.serve_apps().await?);
        self.display.show(&self.view, self.started.elapsed());
        self.display.print_help(&self.view);
        let SessionConfig { access, state, .. } = &self.config;
        if self.system.spec.export.schedule.is_some() {
            let (env, manifest) = (state.env_file(), &self.view.manifest);
            self.display.print(&format!(
                "note: spec.export.schedule runs in a cluster only; to export now, run `. {} && dispatch-operator export \
                 -f {manifest}`",
                env.display()
            ));
        }
        self.display.print(&token_lines(&access.tokens, &state.signing_key()).join("\n"));
        self.start_simulation();
        if let ManifestChange::Edited(text) = first {
            // It may have been edited while the system was created.
            self.edit(&mut provisioner, &text).await?;
        }
        self.serve(&mut provisioner, &mut watcher).await
    }

    async fn serve_apps(&self) -> Result<AbortOnDropHandle<()>, LocalError> {
        let [.., port] = self.config.ports.numbers;
        let client = apps::client().map_err(LocalError::HttpClient)?;
        let apps = Apps::new(port, self.view.endpoints.http.clone(), self.config.state.signing_key(), client);
        apps::serve(apps).await.map_err(machine_error("serve the apps on 127.0.0.1"))
    }

    /// Starts Redis and the AWS emulator, unless running ones are used, and waits until both answer.
    async fn start_backends(&mut self) -> Result<(), LocalError> {
        let [_, _, aws_port, redis_port, _] = self.config.ports.numbers;
        let state = &self.config.state;
        if let Some(program) = self.config.binaries.redis.clone() {
            self.children.start(programs::redis(program, redis_port, state));
        }
        if let Some(executable) = self.config.binaries.emulator.clone() {
            emulator::install(state).map_err(machine_error("write the emulator into the state folder"))?;
            let settings = EmulatorSettings {
                executable,
                port: aws_port,
                region: &self.system.spec.region,
                account: self.system.spec.aws.account_id.as_deref(),
                redis_port: self.config.binaries.redis.is_some().then_some(redis_port),
                persistence: self.config.persistence,
            };
            self.children.start(emulator::emulator(&settings, state));
        }
        let env_file = EnvFile {
            endpoints: &self.view.endpoints,
            emulated: self.view.emulated,
            signing_key: &state.signing_key(),
        };
        env_file.write(&state.env_file()).map_err(machine_error("write the addresses into the state folder"))?;
        self.wait_for_backends().await
    }

    async fn wait_for_backends(&mut self) -> Result<(), LocalError> {
        let (client, aws) = (self.client.clone(), self.view.endpoints.aws.clone());
        let started_here = self.config.binaries.emulator.is_some();
        let what = format!("the AWS endpoint {aws}");
        let health_page = format!("{aws}/_ministack/health");
        let answers = health::wait_for(&what, EMULATOR_READY, || async {
            if started_here {
                health::is_success(&client, &health_page).await
            } else {
                health::is_http(&client, &aws).await
            }
        });
        self.view.state = SystemState::Reconciling("waiting for the AWS endpoint".to_owned());
        let answered = self.supervise(answers).await?;
        self.check(answered, Program::Emulator)?;
        let redis = self.view.endpoints.redis.clone();
        let address = redis.split_once("://").map_or(redis.as_str(), |(_, address)| address);
        let what = format!("Redis at {address}");
        let answered = self.supervise(health::wait_for(&what, REDIS_READY, || health::is_redis(address))).await?;
        self.check(answered, Program::Redis)
    }

    fn check(&self, answered: Result<(), ProbeTimeout>, program: Program) -> Result<(), LocalError> {
        answered.map_err(|timeout| LocalError::NoAnswer(timeout, self.log_tail(program)))
    }

    fn log_tail(&self, program: Program) -> String {
        match self.config.state.log_tail(program) {
            tail if tail.is_empty() => String::new(),
            tail => format!("; end of {}:\n{tail}", self.config.state.log(program).display()),
        }
    }

    fn start_simulation(&mut self) {
        let SessionConfig { args, binaries, state, .. } = &self.config;
        let (Some(simulation), Some(program)) = (args.simulate, binaries.simulator.clone()) else { return };
        let spec = programs::simulator(program, &simulation, args.length, &self.view.endpoints.http, state);
        self.view.simulation =
            Some(format!("{} drivers, {} requests/s, seed {}", simulation.drivers, simulation.rate, simulation.seed));
        self.children.start(spec);
    }

    /// Applies edits and corrects drift until the traffic has ended, or without end.
    async fn serve(&mut self, provisioner: &mut Provisioner, watcher: &mut ManifestWatcher) -> Result<(), LocalError> {
        let length = self.config.args.length;
        let simulated = self.config.args.simulate.is_some();
        let end =
            length.map(|length| Instant::now() + length + if simulated { SIMULATION_DRAIN } else { Duration::ZERO });
        let mut next_reconcile = self.next_reconcile();
        loop {
            if simulated && length.is_some() && self.simulator_exit.is_some() {
                return self.verdict();
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return if simulated {
                    Err(LocalError::Simulation("it did not end in time".to_owned()))
                } else {
                    Ok(())
                };
            }
            match watcher.poll() {
                ManifestChange::Edited(text) => {
                    self.edit(provisioner, &text).await?;
                    next_reconcile = self.next_reconcile();
                }
                ManifestChange::Unreadable(error) => {
                    let manifest = &self.view.manifest;
                    self.display.print(&format!("cannot read {manifest}: {error}; the last version stays in effect"));
                }
                ManifestChange::None if next_reconcile.is_some_and(|at| Instant::now() >= at) => {
                    let system = self.system.clone();
                    self.apply(provisioner, &system).await?;
                    next_reconcile = self.next_reconcile();
                }
                ManifestChange::None => {}
            }
            self.supervise(sleep(TICK)).await?;
        }
    }

    /// When to reconcile without an edit: soon if the system is stalled, else to detect drift.
    fn next_reconcile(&self) -> Option<Instant> {
        let stalled = matches!(self.view.state, SystemState::Stalled(_));
        let interval = Duration::from_secs(u64::from(self.system.spec.drift_interval_seconds));
        match (stalled, interval.is_zero()) {
            (true, _) => Some(Instant::now() + RETRY_PAUSE),
            (false, true) => None,
            (false, false) => Some(Instant::now() + interval),
        }
    }

    /// Does `work`, and handles events of processes and workers meanwhile. Fails if one of them ends the run.
    async fn supervise<T>(&mut self, work: impl Future<Output = T>) -> Result<T, LocalError> {
        let mut work = pin!(work);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                result = &mut work => return Ok(result),
                Some(event) = self.events.recv() => self.on_process_event(event)?,
                Some(sample) = self.samples.1.recv() => self.on_worker_sample(&sample),
                _ = tick.tick() => self.display.show(&self.view, self.started.elapsed()),
            }
        }
    }

    fn verdict(&self) -> Result<(), LocalError> {
        match self.simulator_exit {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(LocalError::Simulation(format!("the simulator exited with {}", describe_exit(status)))),
            None => Err(LocalError::Interrupted("the simulation had ended")),
        }
    }

    /// The outcome of a run that a signal ends. Only a run without an end of its own ends well.
    pub(crate) fn interrupted(&self) -> Result<(), LocalError> {
        if self.milestones.workers_ready.is_none() {
            return Err(LocalError::Interrupted("the system was ready"));
        }
        match (self.config.args.length, self.config.args.simulate, self.simulator_exit) {
            (Some(_), Some(_), _) | (None, Some(_), Some(_)) => self.verdict(),
            (Some(_), None, _) => Err(LocalError::Interrupted("its time was over")),
            (None, _, _) => Ok(()),
        }
    }

    /// Ends the processes gracefully: a program ends before those it uses.
    pub(crate) async fn stop(&mut self) {
        if let Some(probe) = self.probe.take() {
            probe.abort();
        }
        while let Some(program) = self.children.next_to_stop() {
            self.view.state = SystemState::Stopping(program.name().to_owned());
            self.display.show(&self.view, self.started.elapsed());
            self.children.stop(program).await;
        }
        self.display.finish();
        let elapsed = self.started.elapsed().as_secs();
        self.display.print(&format!("{}  stopped after {elapsed} s; {}", self.view.system, self.view.traffic.line()));
    }

    /// Ends the processes at once.
    pub(crate) async fn kill(&mut self) {
        self.children.kill().await;
        self.display.finish();
    }

    /// Prints the simulator's report and returns the summary.
    pub(crate) fn into_summary(mut self) -> Summary {
        if self.config.args.simulate.is_some()
            && let Ok(report) = std::fs::read_to_string(self.config.state.log(Program::Simulator))
            && !report.is_empty()
        {
            self.display.print(report.trim_end());
        }
        Summary {
            system: self.view.system,
            seconds: self.milestones,
            stack_status: self.view.stack.map(|(_, status)| status),
            runtime_restarts: self.view.runtime.restarts,
            traffic: self.view.traffic.totals(),
            simulation: read_simulation(&self.config.state.simulation()),
            ..Summary::default()
        }
    }
}
