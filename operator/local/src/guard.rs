//! The guard: a tiny shell process that ends the children when the operator cannot.
//!
//! A normal end, Ctrl-C and SIGTERM are handled by the operator itself. SIGKILL and a crash are not: the kernel closes the
//! operator's end of a pipe then, the guard reads end-of-file and ends every process group it was told of. A pipe works on
//! every Unix, needs no unsafe code, and, unlike `prctl(PR_SET_PDEATHSIG)`, does not fire when the *thread* that started a
//! child ends. The guard is in a process group of its own, so a signal to the operator's group leaves it at work.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// What the guard runs: it keeps a list of process groups by `add` and `forget` lines, and at end-of-file sends them
/// SIGTERM, waits up to three seconds for them to end, and sends SIGKILL to the rest.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups=
while read -r verb group; do
  rest=
  for g in $groups; do [ "$g" = "$group" ] || rest="$rest $g"; done
  groups=$rest
  [ "$verb" = add ] && groups="$groups $group"
done
for g in $groups; do kill -s TERM -- "-$g" 2>/dev/null; done
for _ in 1 2 3; do
  alive=
  for g in $groups; do kill -s 0 -- "-$g" 2>/dev/null && alive=yes; done
  [ -z "$alive" ] && exit 0
  sleep 1
done
for g in $groups; do kill -s KILL -- "-$g" 2>/dev/null; done
exit 0
"#;

/// The running guard. Dropping it has the same effect as the operator's death.
#[derive(Debug)]
pub struct Guard {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shell: Child,
    pipe: Option<ChildStdin>,
    groups: BTreeSet<u32>,
}

impl Guard {
    /// Starts the guard. Fails when `sh` cannot be started.
    pub fn start() -> io::Result<Self> {
        let (shell, pipe) = start_shell()?;
        Ok(Self { state: Mutex::new(State { shell, pipe: Some(pipe), groups: BTreeSet::new() }) })
    }

    /// Puts a process group under the guard's watch.
    pub fn add(&self, group: u32) -> io::Result<()> {
        self.with_state(|state| {
            state.groups.insert(group);
            state.say("add", group)
        })
    }

    /// Takes a process group that has ended out of the guard's watch: its number may be given to somebody else.
    pub fn forget(&self, group: u32) -> io::Result<()> {
        self.with_state(|state| {
            state.groups.remove(&group);
            state.say("forget", group)
        })
    }

    /// Ends the guard, and with it every group it still knows. Blocks for at most about four seconds.
    pub fn finish(self) -> io::Result<()> {
        self.with_state(|state| {
            drop(state.pipe.take());
            state.shell.wait().map(drop)
        })
    }

    fn with_state<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    fn shell_id(&self) -> u32 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).shell.id()
    }
}

impl State {
    /// Tells the guard; when somebody killed it, starts a new one that learns all groups.
    fn say(&mut self, verb: &str, group: u32) -> io::Result<()> {
        if let Some(pipe) = &mut self.pipe
            && writeln!(pipe, "{verb} {group}").is_ok()
        {
            return Ok(());
        }
        let (shell, mut pipe) = start_shell()?;
        for group in &self.groups {
            writeln!(pipe, "add {group}")?;
        }
        // The old shell is gone: waiting only takes it from the process table.
        let _ = std::mem::replace(&mut self.shell, shell).wait();
        self.pipe = Some(pipe);
        Ok(())
    }
}

fn start_shell() -> io::Result<(Child, ChildStdin)> {
    let mut shell = Command::new("sh")
        .args(["-c", SCRIPT, "dispatch-guard"])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let pipe = shell.stdin.take().ok_or_else(|| io::Error::other("the guard has no standard input"))?;
    Ok((shell, pipe))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sh").args(["-c", "sleep 600 & wait"]).process_group(0).spawn().unwrap()
    }

    fn group_lives(group: u32) -> bool {
        test_kill_process_group(Pid::from_raw(i32::try_from(group).unwrap()).unwrap()).is_ok()
    }

    fn wait_until_gone(child: &mut Child) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while child.try_wait().unwrap().is_none() || group_lives(child.id()) {
            assert!(Instant::now() < deadline, "process group {} still lives", child.id());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_lost_operator_takes_its_children_and_grandchildren_along() {
        let guard = Guard::start().unwrap();
        let (mut first, mut second) = (sleeper(), sleeper());
        guard.add(first.id()).unwrap();
        guard.add(second.id()).unwrap();
        // Dropping closes the pipe, as the kernel does for a killed operator.
        drop(guard);
        wait_until_gone(&mut first);
        wait_until_gone(&mut second);
    }

    #[test]
    fn a_forgotten_group_is_left_alone() {
        let guard = Guard::start().unwrap();
        let mut child = sleeper();
        guard.add(child.id()).unwrap();
        guard.forget(child.id()).unwrap();
        guard.finish().unwrap();
        assert!(group_lives(child.id()));
        kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
        wait_until_gone(&mut child);
    }

    #[test]
    fn a_killed_guard_is_replaced_and_learns_all_groups() {
        let guard = Guard::start().unwrap();
        let (mut first, mut second) = (sleeper(), sleeper());
        guard.add(first.id()).unwrap();
        let shell = guard.shell_id();
        kill_process(Pid::from_raw(i32::try_from(shell).unwrap()).unwrap(), Signal::KILL).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while guard.shell_id() == shell {
            assert!(Instant::now() < deadline, "the guard was not replaced");
            guard.add(second.id()).unwrap();
        }
        guard.finish().unwrap();
        wait_until_gone(&mut first);
        wait_until_gone(&mut second);
    }
}
