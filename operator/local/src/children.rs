//! The children of a run, as a whole: who there is, and in which order they end.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::guard::Guard;
use crate::process::{EVENT_CAPACITY, ProcessEvent, ProcessSpec, Program, Supervised};

/// The children that run. Dropping it kills them.
#[derive(Debug)]
pub struct Children {
    guard: Arc<Guard>,
    sender: mpsc::Sender<ProcessEvent>,
    running: Vec<Supervised>,
}

impl Children {
    /// None yet; what happens to them later is told through the receiver.
    pub fn new(guard: Arc<Guard>) -> (Self, mpsc::Receiver<ProcessEvent>) {
        let (sender, events) = mpsc::channel(EVENT_CAPACITY);
        (Self { guard, sender, running: Vec::new() }, events)
    }

    /// Starts one.
    pub fn start(&mut self, spec: ProcessSpec) {
        self.running.push(Supervised::start(spec, Arc::clone(&self.guard), self.sender.clone()));
    }

    /// Whether it was started and not stopped since.
    pub fn has(&self, program: Program) -> bool {
        self.running.iter().any(|child| child.program() == program)
    }

    /// Ends one gracefully and starts it again.
    pub async fn restart(&self, program: Program) {
        if let Some(child) = self.running.iter().find(|child| child.program() == program) {
            child.restart().await;
        }
    }

    /// Ends one gracefully.
    pub async fn stop(&mut self, program: Program) {
        if let Some(index) = self.running.iter().position(|child| child.program() == program) {
            self.running[index].stop().await;
            self.running.remove(index);
        }
    }

    /// Takes one that has ended for good off the list.
    pub fn forget(&mut self, program: Program) {
        self.running.retain(|child| child.program() != program);
    }

    /// Who is to end next: those who use the others come first.
    pub fn next_to_stop(&self) -> Option<Program> {
        self.running.iter().map(Supervised::program).max()
    }

    /// Ends all at once.
    pub async fn kill(&mut self) {
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
    use crate::process::OnExit;

    fn sleeper(dir: &std::path::Path, program: Program) -> ProcessSpec {
        ProcessSpec {
            program,
            executable: "sleep".into(),
            args: vec!["600".into()],
            env: Vec::new(),
            without_env: Vec::new(),
            log: dir.join("log"),
            on_exit: OnExit::Report,
            grace: Duration::from_secs(10),
        }
    }

    #[tokio::test]
    async fn those_who_use_the_others_end_first() {
        let dir = tempfile::tempdir().unwrap();
        let (mut children, mut events) = Children::new(Arc::new(Guard::start().unwrap()));
        for program in [Program::Redis, Program::Ministack, Program::Runtime, Program::Simulator] {
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
        assert_eq!(order, [Program::Simulator, Program::Runtime, Program::Redis, Program::Ministack]);
    }
}
