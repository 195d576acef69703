//! Changes of the system while it runs: reconcile, update the workers, apply edits.

use std::pin::pin;
use std::time::{Duration, Instant};

use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::engine::error::EngineError;
use dispatch_operator::engine::progress;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::error::{LocalError, machine_error};
use crate::health::ProbeTimeout;
use crate::manifest;
use crate::process::Program;
use crate::programs::{self, RuntimePorts};
use crate::session::Session;
use crate::session::provision::{ProvisionOutcome, Provisioner};
use crate::terminal::stack_progress::{StackProgress, failure_line, plan_lines};
use crate::terminal::view::{RuntimeState, SystemState};
use crate::worker_config::{self, WorkerUpdate, required_update};

/// The runtime connects to all services before it reports ready.
const RUNTIME_READY: Duration = Duration::from_mins(1);

/// Most progress events queued; further ones are not shown.
const PROGRESS_CAPACITY: usize = 512;

impl Session {
    /// Reconciles once and shows the progress.
    pub(super) async fn reconcile(
        &mut self,
        provisioner: &mut Provisioner,
        system: &ValidatedSystem,
    ) -> Result<Result<ProvisionOutcome, EngineError>, LocalError> {
        let (sender, mut inbox) = mpsc::channel(PROGRESS_CAPACITY);
        let mut work = pin!(provisioner.reconcile(system, move |event| {
            // With a full queue, the view lacks a line and nothing else.
            let _ = sender.try_send(event);
        }));
        let mut stack = StackProgress::default();
        loop {
            let next = self
                .supervise(async {
                    tokio::select! {
                        biased;
                        Some(event) = inbox.recv() => Err(event),
                        outcome = &mut work => Ok(outcome),
                    }
                })
                .await?;
            match next {
                Ok(outcome) => return Ok(outcome),
                Err(event) => self.on_progress(event, &mut stack),
            }
        }
    }

    fn on_progress(&mut self, event: progress::Event, stack: &mut StackProgress) {
        match event {
            progress::Event::Step(step) | progress::Event::Rollback(step) => {
                self.view.state = SystemState::Reconciling(step);
            }
            progress::Event::Changes(changes) => self.display.print(&plan_lines(&changes)),
            // Only a request to skip resources causes it, which a local run cannot make.
            progress::Event::ResourcesSkipped(..) => {}
            progress::Event::Note(note) => self.display.print(&note),
            progress::Event::Stack(event) => {
                if event.resource_type == "AWS::CloudFormation::Stack" {
                    self.view.stack = Some((self.system.names.stack.clone(), event.status.clone()));
                    return;
                }
                if let Some(failure) = failure_line(&event) {
                    self.display.print(&failure);
                }
                self.view.state = SystemState::Reconciling(stack.record(&event));
            }
        }
    }

    /// Updates the workers to the outcome of a reconcile, and shows the state of the system.
    pub(super) async fn adopt(&mut self, outcome: ProvisionOutcome) -> Result<(), LocalError> {
        self.view.stack = Some((self.system.names.stack.clone(), outcome.stack_status));
        if let Some(config) = outcome.worker_config {
            let update =
                self.worker_config.as_ref().map_or(WorkerUpdate::Restart, |current| required_update(current, &config));
            if update != WorkerUpdate::None {
                worker_config::write(&self.config.state.worker_config(), &config)
                    .map_err(machine_error("write the worker configuration into the state folder"))?;
            }
            self.worker_config = Some(config);
            self.update_workers(update, outcome.suspended).await?;
        }
        self.view.state = if outcome.ready { SystemState::Ready } else { SystemState::Stalled(outcome.reason) };
        Ok(())
    }

    async fn update_workers(&mut self, update: WorkerUpdate, suspended: bool) -> Result<(), LocalError> {
        match (self.children.has(Program::Runtime), suspended, update) {
            (false, true, _) | (true, false, WorkerUpdate::None) => return Ok(()),
            (true, true, _) => {
                self.children.stop(Program::Runtime).await;
                self.view.runtime = RuntimeState { restarts: self.view.runtime.restarts, ..RuntimeState::default() };
                self.display.print("the system is suspended; the workers are stopped");
                return Ok(());
            }
            (true, false, WorkerUpdate::Reload) => {
                self.display.print("the workers reload the dispatch rules without a restart");
                return Ok(());
            }
            (false, false, _) => {
                let [http, admin, ..] = self.config.ports.numbers;
                let (program, ports) = (self.config.binaries.runtime.clone(), RuntimePorts { http, admin });
                self.children.start(programs::runtime(program, ports, self.identity, &self.config.state));
                self.start_probe();
            }
            (true, false, WorkerUpdate::Restart) => {
                self.display.print("the workers restart with their new configuration");
                // The old process must not be taken for the new one.
                self.view.runtime.pid = None;
                self.children.restart(Program::Runtime).await;
            }
        }
        self.view.state = SystemState::Reconciling("waiting for the workers".to_owned());
        self.wait_for_workers().await
    }

    /// Waits until the started process reports ready.
    async fn wait_for_workers(&mut self) -> Result<(), LocalError> {
        self.view.runtime.ready = false;
        let deadline = Instant::now() + RUNTIME_READY;
        while !(self.view.runtime.ready && self.view.runtime.pid.is_some()) {
            if Instant::now() >= deadline {
                let what = format!("{}/readyz of the workers", self.view.endpoints.admin);
                return self.check(Err(ProbeTimeout { what, waited: RUNTIME_READY }), Program::Runtime);
            }
            self.supervise(sleep(Duration::from_millis(50))).await?;
        }
        Ok(())
    }

    /// Applies a new text of the manifest, or shows why it is invalid.
    pub(super) async fn edit(&mut self, provisioner: &mut Provisioner, text: &str) -> Result<(), LocalError> {
        match manifest::parse_edit(text, &self.config.args.cache(), &self.system) {
            Err(refusal) => {
                let (manifest, refusal) = (&self.view.manifest, refusal.to_string());
                self.display.print(&format!("{manifest} is invalid; the previous version stays in effect:\n{refusal}"));
                self.view.manifest_error = Some(refusal);
                Ok(())
            }
            Ok(edited) if edited == self.system => {
                self.view.manifest_error = None;
                Ok(())
            }
            Ok(edited) => {
                self.view.manifest_error = None;
                self.display.print(&format!("{} changed", self.view.manifest));
                self.apply(provisioner, &edited).await
            }
        }
    }

    pub(super) async fn apply(
        &mut self,
        provisioner: &mut Provisioner,
        system: &ValidatedSystem,
    ) -> Result<(), LocalError> {
        match self.reconcile(provisioner, system).await? {
            Ok(outcome) => {
                self.system = system.clone();
                self.adopt(outcome).await?;
            }
            Err(error) => {
                let error = error.to_string();
                self.display.print(&format!("cannot apply {}: {error}", self.view.manifest));
                self.system = system.clone();
                self.view.state = SystemState::Stalled(error);
            }
        }
        self.display.show(&self.view, self.started.elapsed());
        Ok(())
    }
}
