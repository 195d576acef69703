//! The reaper: a small shell process that ends the children if this program cannot.
//!
//! This program handles a normal end, Ctrl-C and SIGTERM, but not SIGKILL or a crash. Then the kernel closes this end
//! of a pipe; the reaper reads end-of-file and ends every process group on its list. A pipe works on every Unix, needs
//! no unsafe code and, unlike `prctl(PR_SET_PDEATHSIG)`, does not fire when the *thread* that started a child ends. The
//! reaper has a process group of its own, so a signal to this program's group does not reach it.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Keeps a list of process groups from `add` and `remove` lines. At end-of-file it sends them SIGTERM, waits up to
/// three seconds for them to end, and sends SIGKILL to the rest.
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

/// The running reaper. Dropping it has the same effect as a crash of this program.
#[derive(Debug)]
pub(crate) struct Reaper {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shell: Child,
    pipe: Option<ChildStdin>,
    groups: BTreeSet<u32>,
}

impl Reaper {
    /// Fails if `sh` cannot be started.
    pub(crate) fn start() -> io::Result<Self> {
        let (shell, pipe) = start_shell()?;
        Ok(Self { state: Mutex::new(State { shell, pipe: Some(pipe), groups: BTreeSet::new() }) })
    }

    /// Adds a process group to the list.
    pub(crate) fn add(&self, group: u32) -> io::Result<()> {
        self.with_state(|state| {
            state.groups.insert(group);
            state.send("add", group)
        })
    }

    /// Removes a process group that has ended: the system may reuse its number.
    pub(crate) fn remove(&self, group: u32) -> io::Result<()> {
        self.with_state(|state| {
            state.groups.remove(&group);
            state.send("remove", group)
        })
    }

    /// Ends the reaper and every process group on its list. Blocks for at most about four seconds.
    pub(crate) fn finish(self) -> io::Result<()> {
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
    /// Sends a line. If the reaper was killed, a new one starts with the whole list.
    fn send(&mut self, verb: &str, group: u32) -> io::Result<()> {
        if let Some(pipe) = &mut self.pipe
            && writeln!(pipe, "{verb} {group}").is_ok()
        {
            return Ok(());
        }
        let (shell, mut pipe) = start_shell()?;
        for group in &self.groups {
            writeln!(pipe, "add {group}")?;
        }
        // The old shell has ended: waiting removes it from the process table.
        let _ = std::mem::replace(&mut self.shell, shell).wait();
        self.pipe = Some(pipe);
        Ok(())
    }
}

fn start_shell() -> io::Result<(Child, ChildStdin)> {
    let mut shell = Command::new("sh")
        .args(["-c", SCRIPT, "dispatch-reaper"])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let pipe = shell.stdin.take().ok_or_else(|| io::Error::other("the reaper has no standard input"))?;
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

    fn group_is_alive(group: u32) -> bool {
        test_kill_process_group(Pid::from_raw(i32::try_from(group).unwrap()).unwrap()).is_ok()
    }

    fn wait_until_gone(child: &mut Child) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while child.try_wait().unwrap().is_none() || group_is_alive(child.id()) {
            assert!(Instant::now() < deadline, "process group {} is still alive", child.id());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_crash_ends_children_and_grandchildren() {
        let reaper = Reaper::start().unwrap();
        let (mut first, mut second) = (sleeper(), sleeper());
        reaper.add(first.id()).unwrap();
        reaper.add(second.id()).unwrap();
        // Dropping closes the pipe, as the kernel does for a killed program.
        drop(reaper);
        wait_until_gone(&mut first);
        wait_until_gone(&mut second);
    }

    #[test]
    fn a_removed_group_is_left_alone() {
        let reaper = Reaper::start().unwrap();
        let mut child = sleeper();
        reaper.add(child.id()).unwrap();
        reaper.remove(child.id()).unwrap();
        reaper.finish().unwrap();
        assert!(group_is_alive(child.id()));
        kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
        wait_until_gone(&mut child);
    }

    #[test]
    fn a_killed_reaper_is_replaced_and_learns_all_groups() {
        let reaper = Reaper::start().unwrap();
        let (mut first, mut second) = (sleeper(), sleeper());
        reaper.add(first.id()).unwrap();
        let shell = reaper.shell_id();
        kill_process(Pid::from_raw(i32::try_from(shell).unwrap()).unwrap(), Signal::KILL).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while reaper.shell_id() == shell {
            assert!(Instant::now() < deadline, "the reaper was not replaced");
            reaper.add(second.id()).unwrap();
        }
        reaper.finish().unwrap();
        wait_until_gone(&mut first);
        wait_until_gone(&mut second);
    }
}
