//! Changes of the system while it runs: reconcile, bring the workers along, follow edits.

use std::pin::pin;
use std::time::{Duration, Instant};

use dispatch_api::validate::ValidatedSystem;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::engine::{Engine, Provision};
use crate::health::{self, NotInTime};
use crate::manifest;
use crate::narrate::{self, StackProgress};
use crate::process::Program;
use crate::programs::{self, RuntimePorts};
use crate::session::{Reading, Session, TICK};
use crate::traffic::Counts;
use crate::view::{RuntimeState, SystemState};
use crate::worker::{self, WorkerChange, worker_change};
use crate::{LocalError, machine};
use dispatch_operator::engine::error::EngineError;
use dispatch_operator::engine::progress;

/// The runtime connects to everything before it says it is ready.
const RUNTIME_READY: Duration = Duration::from_mins(1);

/// Progress events queued at most; what does not fit is not shown.
const PROGRESS_CAPACITY: usize = 512;

impl Session {
    /// One reconcile, with its progress shown.
    pub(super) async fn reconcile(
        &mut self,
        engine: &mut Engine,
        system: &ValidatedSystem,
    ) -> Result<Result<Provision, EngineError>, LocalError> {
        let (sender, mut inbox) = mpsc::channel(PROGRESS_CAPACITY);
        let mut work = pin!(engine.reconcile(system, move |event| {
            // A full queue loses a line of the view and nothing else.
            let _ = sender.try_send(event);
        }));
        let mut stack = StackProgress::default();
        loop {
            let told = self
                .during(async {
                    tokio::select! {
                        biased;
                        Some(event) = inbox.recv() => Err(event),
                        done = &mut work => Ok(done),
                    }
                })
                .await?;
            match told {
                Ok(done) => return Ok(done),
                Err(event) => self.tell(event, &mut stack),
            }
        }
    }

    fn tell(&mut self, event: progress::Event, stack: &mut StackProgress) {
        match event {
            progress::Event::Step(step) | progress::Event::Rollback(step) => {
                self.view.state = SystemState::Reconciling(step)
            }
            progress::Event::Changes(changes) => self.display.say(&narrate::changes(&changes).join("\n")),
            // Nobody names any here.
            progress::Event::LeftBehind(..) => {}
            progress::Event::Note(note) => self.display.say(&note),
            progress::Event::Stack(event) => {
                if event.resource_type == "AWS::CloudFormation::Stack" {
                    self.view.stack = Some((self.system.names.stack.clone(), event.status.clone()));
                    return;
                }
                if let Some(failure) = narrate::failure(&event) {
                    self.display.say(&failure);
                }
                self.view.state = SystemState::Reconciling(stack.take(&event));
            }
        }
    }

    /// Brings the workers to what the engine found, and says how the system stands.
    pub(super) async fn take_over(&mut self, provision: Provision) -> Result<(), LocalError> {
        self.view.stack = Some((self.system.names.stack.clone(), provision.stack_status));
        if let Some(config) = provision.worker_config {
            let change =
                self.in_force.as_ref().map_or(WorkerChange::Restart, |in_force| worker_change(in_force, &config));
            if change != WorkerChange::None {
                worker::write(&self.plan.state.worker_config(), &config)
                    .map_err(machine("write the worker configuration into the state folder"))?;
            }
            self.in_force = Some(config);
            self.bring_workers(change, provision.suspended).await?;
        }
        self.view.state = if provision.ready { SystemState::Ready } else { SystemState::Stalled(provision.reason) };
        Ok(())
    }

    async fn bring_workers(&mut self, change: WorkerChange, suspended: bool) -> Result<(), LocalError> {
        match (self.children.has(Program::Runtime), suspended, change) {
            (false, true, _) | (true, false, WorkerChange::None) => return Ok(()),
            (true, true, _) => {
                self.children.stop(Program::Runtime).await;
                self.view.runtime = RuntimeState { restarts: self.view.runtime.restarts, ..RuntimeState::default() };
                self.display.say("the system is suspended: the workers are stopped");
                return Ok(());
            }
            (true, false, WorkerChange::Reload) => {
                self.display.say("the workers take the new dispatch rules over without a restart");
                return Ok(());
            }
            (false, false, _) => {
                let [http, admin, ..] = self.plan.ports.numbers;
                let (program, ports) = (self.plan.runtime.clone(), RuntimePorts { http, admin });
                self.children.start(programs::runtime(program, ports, self.identity, &self.plan.state));
                self.watch();
            }
            (true, false, WorkerChange::Restart) => {
                self.display.say("the workers are started again with their new configuration");
                // The process of now must not pass for the new one.
                self.view.runtime.pid = None;
                self.children.restart(Program::Runtime).await;
            }
        }
        self.view.state = SystemState::Reconciling("waiting for the workers".to_owned());
        self.wait_for_workers().await
    }

    /// Waits until the started process is the one that answers.
    async fn wait_for_workers(&mut self) -> Result<(), LocalError> {
        self.view.runtime.ready = false;
        let deadline = Instant::now() + RUNTIME_READY;
        while !(self.view.runtime.ready && self.view.runtime.pid.is_some()) {
            if Instant::now() >= deadline {
                let what = format!("{}/readyz of the workers", self.view.endpoints.admin);
                return self.check(Err(NotInTime { what, waited: RUNTIME_READY }), Program::Runtime);
            }
            self.during(sleep(Duration::from_millis(50))).await?;
        }
        Ok(())
    }

    /// Asks the workers' admin port each second, from a task of its own: a slow answer must not stop the view.
    fn watch(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.abort();
        }
        let (client, admin, readings) =
            (self.client.clone(), self.view.endpoints.admin.clone(), self.readings.0.clone());
        self.watcher = Some(tokio::spawn(async move {
            let mut first = true;
            loop {
                let ready = health::serves(&client, &format!("{admin}/readyz")).await;
                let counts = health::page(&client, &format!("{admin}/metrics")).await.map(|page| Counts::parse(&page));
                if readings.send(Reading { ready, counts }).await.is_err() {
                    return;
                }
                first &= !ready;
                sleep(if first { Duration::from_millis(100) } else { TICK }).await;
            }
        }));
    }

    /// Another text of the manifest: applied when it is right, shown and left aside when it is not.
    pub(super) async fn edit(&mut self, engine: &mut Engine, text: &str) -> Result<(), LocalError> {
        match manifest::read_edit(text, &self.plan.args.cache(), &self.system) {
            Err(refused) => {
                let refused = refused.to_string();
                self.display.say(&format!("{} is refused:\n{refused}", self.view.manifest));
                self.view.manifest_error = Some(refused);
                Ok(())
            }
            Ok(edited) if edited == self.system => {
                self.view.manifest_error = None;
                Ok(())
            }
            Ok(edited) => {
                self.view.manifest_error = None;
                self.display.say(&format!("{} was edited", self.view.manifest));
                self.apply(engine, &edited).await
            }
        }
    }

    pub(super) async fn apply(&mut self, engine: &mut Engine, system: &ValidatedSystem) -> Result<(), LocalError> {
        match self.reconcile(engine, system).await? {
            Ok(provision) => {
                self.system = system.clone();
                self.take_over(provision).await?;
            }
            Err(error) => {
                let error = error.to_string();
                self.display.say(&format!("cannot apply {}: {error}", self.view.manifest));
                self.system = system.clone();
                self.view.state = SystemState::Stalled(error);
            }
        }
        self.display.show(&self.view, self.begun.elapsed());
        Ok(())
    }
}
