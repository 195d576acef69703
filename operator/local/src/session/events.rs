//! What happens to processes and workers while a run does something else.

use tokio::time::sleep;

use crate::error::LocalError;
use crate::health;
use crate::metrics_scrape::TrafficCounts;
use crate::process::{ProcessEvent, Program, describe_exit};
use crate::session::{Session, TICK};
use crate::terminal::view::RuntimeState;

use std::time::Duration;

/// Interval of the probes until the workers are ready for the first time.
const STARTING_TICK: Duration = Duration::from_millis(100);

/// Result of a probe of the workers.
#[derive(Debug)]
pub(super) struct WorkerSample {
    ready: bool,
    counts: Option<TrafficCounts>,
}

impl Session {
    /// Probes the workers' admin port from a task of its own, so that a slow answer does not stop the view.
    pub(super) fn start_probe(&mut self) {
        if let Some(probe) = self.probe.take() {
            probe.abort();
        }
        let (client, admin, samples) = (self.client.clone(), self.view.endpoints.admin.clone(), self.samples.0.clone());
        self.probe = Some(tokio::spawn(async move {
            let mut starting = true;
            loop {
                let ready = health::is_success(&client, &format!("{admin}/readyz")).await;
                let page = health::page(&client, &format!("{admin}/metrics")).await;
                let counts = page.map(|page| TrafficCounts::parse(&page));
                if samples.send(WorkerSample { ready, counts }).await.is_err() {
                    return;
                }
                starting &= !ready;
                sleep(if starting { STARTING_TICK } else { TICK }).await;
            }
        }));
    }

    pub(super) fn on_worker_sample(&mut self, sample: &WorkerSample) {
        self.view.runtime.ready = sample.ready;
        if let Some(counts) = sample.counts {
            self.view.traffic.observe(counts, self.started.elapsed());
        }
    }

    /// Fails if the event ends the run.
    pub(super) fn on_process_event(&mut self, event: ProcessEvent) -> Result<(), LocalError> {
        if let ProcessEvent::Exited { program, restart_in: None, .. } = &event {
            self.children.remove(*program);
        }
        match event {
            ProcessEvent::Started { program: Program::Runtime, pid } => {
                self.view.runtime.pid = Some(pid);
                self.view.runtime.ready = false;
            }
            ProcessEvent::Started { .. } => {}
            ProcessEvent::Exited { program: Program::Emulator, status, .. } => {
                return Err(LocalError::EmulatorLost(describe_exit(status), self.log_tail(Program::Emulator)));
            }
            ProcessEvent::Exited { program: Program::Simulator, status, .. } => {
                self.view.simulation = None;
                self.simulator_exit = Some(status);
                if self.config.args.length.is_none() {
                    let log = self.config.state.log(Program::Simulator);
                    let how = describe_exit(status);
                    self.display.print(&format!("the simulator exited with {how}; its output is in {}", log.display()));
                }
            }
            ProcessEvent::Exited { program, status, restart_in } => {
                if program == Program::Runtime {
                    let restarts = self.view.runtime.restarts + 1;
                    self.view.runtime = RuntimeState { pid: None, ready: false, restarts };
                }
                let next = restart_in
                    .map_or_else(String::new, |pause| format!("; it restarts in {:.1} s", pause.as_secs_f64()));
                self.display.print(&format!("{} exited with {}{next}", program.name(), describe_exit(status)));
            }
            ProcessEvent::StartFailed { program, source, restart_in: None } => {
                return Err(LocalError::StartFailed(program.name(), source));
            }
            ProcessEvent::StartFailed { program, source, restart_in: Some(pause) } => {
                let (name, pause) = (program.name(), pause.as_secs_f64());
                self.display.print(&format!("cannot start {name}: {source}; next attempt in {pause:.1} s"));
            }
        }
        Ok(())
    }
}
