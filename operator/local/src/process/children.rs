//! The processes of a run, and the order in which they end.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::process::reaper::Reaper;
use crate::process::{EVENT_CAPACITY, ProcessEvent, ProcessHandle, ProcessSpec, Program};

/// The running processes. Dropping the value kills them.
#[derive(Debug)]
pub(crate) struct Children {
    reaper: Arc<Reaper>,
    sender: mpsc::Sender<ProcessEvent>,
    running: Vec<ProcessHandle>,
}

impl Children {
    /// No process yet. The receiver gets the events of those that are started.
    pub(crate) fn new(reaper: Arc<Reaper>) -> (Self, mpsc::Receiver<ProcessEvent>) {
        let (sender, events) = mpsc::channel(EVENT_CAPACITY);
        (Self { reaper, sender, running: Vec::new() }, events)
    }

    pub(crate) fn start(&mut self, spec: ProcessSpec) {
        self.running.push(ProcessHandle::start(spec, Arc::clone(&self.reaper), self.sender.clone()));
    }

    /// Whether a program was started and not stopped since.
    pub(crate) fn has(&self, program: Program) -> bool {
        self.running.iter().any(|child| child.program() == program)
    }

    /// Ends a program gracefully and starts it again.
    pub(crate) async fn restart(&self, program: Program) {
        if let Some(child) = self.running.iter().find(|child| child.program() == program) {
            child.restart().await;
        }
    }

    /// Ends a program gracefully.
    pub(crate) async fn stop(&mut self, program: Program) {
        if let Some(index) = self.running.iter().position(|child| child.program() == program) {
            self.running[index].stop().await;
            self.running.remove(index);
        }
    }

    /// Removes a program that has exited and does not restart.
    pub(crate) fn remove(&mut self, program: Program) {
        self.running.retain(|child| child.program() != program);
    }

    /// The program to end next: a program ends before those it uses.
    pub(crate) fn next_to_stop(&self) -> Option<Program> {
        self.running.iter().map(ProcessHandle::program).max()
    }

    /// Ends all programs with SIGKILL.
    pub(crate) async fn kill(&mut self) {
        for child in &mut self.running {
            child.kill().await;
        }
        self.running.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::process::RestartPolicy;

    fn sleeper(dir: &std::path::Path, program: Program) -> ProcessSpec {
        ProcessSpec {
            program,
            executable: "sleep".into(),
            args: vec!["600".into()],
            env: Vec::new(),
            without_env: Vec::new(),
            log: dir.join("log"),
            restart: RestartPolicy::Never,
            grace: Duration::from_secs(10),
        }
    }

    #[tokio::test]
    async fn a_program_ends_before_those_it_uses() {
        let dir = tempfile::tempdir().unwrap();
        let (mut children, mut events) = Children::new(Arc::new(Reaper::start().unwrap()));
        for program in [Program::Redis, Program::Emulator, Program::Runtime, Program::Simulator] {
            children.start(sleeper(dir.path(), program));
        }
        for _ in 0..4 {
            timeout(Duration::from_secs(10), events.recv()).await.unwrap();
        }
        let mut order = Vec::new();
        while let Some(program) = children.next_to_stop() {
            children.stop(program).await;
            order.push(program);
        }
        assert_eq!(order, [Program::Simulator, Program::Runtime, Program::Redis, Program::Emulator]);
    }
}
