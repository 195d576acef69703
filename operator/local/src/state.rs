//! The state folder of a local run: logs, the worker configuration, and the emulator's data.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::process::Program;

/// Lines of a log shown when its program failed.
const TAIL_LINES: usize = 12;

/// Bytes of a log read for them.
const TAIL_BYTES: u64 = 8 * 1024;

/// Why the state folder cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The folder or a file in it cannot be made.
    #[error("cannot use the state folder {path}; choose another with --state-dir")]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another run uses it.
    #[error(
        "another `dispatch-operator local` (process {pid}) runs in {path}; stop it, or choose another folder with --state-dir"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Its process id, as far as it wrote it.
        pid: String,
    },
}

/// Whether what the emulator keeps outlives a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Each run starts with an empty AWS.
    Nothing,
    /// The emulator's state is written when it ends and read when it starts.
    EmulatorState,
}

/// The folder, held for this run by a lock that the kernel releases whatever happens to the process.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the folder, takes its lock, empties the logs, and, unless it is kept, removes what the last emulator left.
    pub fn open(root: &Path, keep: Keep) -> Result<Self, StateError> {
        let unusable = |source| StateError::Unusable { path: root.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(unusable)?;
        // Children are given absolute paths: they may change their working directory.
        let root = fs::canonicalize(root).map_err(unusable)?;
        let lock = take_lock(&root)?;
        let state = Self { root, _lock: lock };
        state.prepare(keep).map_err(unusable)?;
        Ok(state)
    }

    fn prepare(&self, keep: Keep) -> io::Result<()> {
        let emulator = self.root.join("ministack");
        if keep == Keep::Nothing && emulator.exists() {
            fs::remove_dir_all(&emulator)?;
        }
        for dir in [
            self.emulator_state(),
            self.emulator_objects(),
            self.emulator_temporary(),
            self.keys(),
            self.root.join("logs"),
        ] {
            fs::create_dir_all(dir)?;
        }
        for program in [Program::Ministack, Program::Redis, Program::Runtime, Program::Simulator] {
            File::create(self.log(program))?;
        }
        match fs::remove_file(self.simulation()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Log of a child.
    pub fn log(&self, program: Program) -> PathBuf {
        self.root.join("logs").join(format!("{}.log", program.name()))
    }

    /// The worker configuration.
    pub fn worker_config(&self) -> PathBuf {
        self.root.join("worker.json")
    }

    /// The run's own keys. They outlive it, so that a token from a terminal is good tomorrow, too.
    pub fn keys(&self) -> PathBuf {
        self.root.join("auth")
    }

    /// The secret one, under the name the runtime gives it.
    pub fn signing_key(&self) -> PathBuf {
        self.keys().join("signing-key.json")
    }

    /// The simulator's own summary.
    pub fn simulation(&self) -> PathBuf {
        self.root.join("simulation.json")
    }

    /// The emulator's services.
    pub fn emulator_state(&self) -> PathBuf {
        self.root.join("ministack/state")
    }

    /// The emulator's buckets.
    pub fn emulator_objects(&self) -> PathBuf {
        self.root.join("ministack/s3")
    }

    /// The emulator's temporary files.
    pub fn emulator_temporary(&self) -> PathBuf {
        self.root.join("ministack/tmp")
    }

    /// The last lines of a child's log, for the message that it failed.
    pub fn log_tail(&self, program: Program) -> String {
        tail(&self.log(program)).unwrap_or_default()
    }
}

fn take_lock(root: &Path) -> Result<File, StateError> {
    let unusable = |source| StateError::Unusable { path: root.to_owned(), source };
    let path = root.join("lock");
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(unusable)?;
            return Err(StateError::InUse { path: root.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unusable)?;
    Ok(file)
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_with_the_process_that_uses_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path(), Keep::Nothing).unwrap();
        let error = StateDir::open(dir.path(), Keep::Nothing).unwrap_err();
        assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
        drop(first);
        assert!(StateDir::open(dir.path(), Keep::Nothing).is_ok());
    }

    #[test]
    fn a_run_starts_with_an_empty_emulator_unless_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), Keep::Nothing).unwrap();
        let item = state.emulator_state().join("dynamodb.json");
        fs::write(&item, "{}").unwrap();
        drop(state);
        drop(StateDir::open(dir.path(), Keep::EmulatorState).unwrap());
        assert!(item.exists());
        drop(StateDir::open(dir.path(), Keep::Nothing).unwrap());
        assert!(!item.exists());
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), Keep::Nothing).unwrap();
        assert_eq!(state.log_tail(Program::Redis), "");
        let lines: Vec<String> = (1..=20).map(|line| format!("line {line}")).collect();
        fs::write(state.log(Program::Redis), lines.join("\n")).unwrap();
        assert!(state.log_tail(Program::Redis).starts_with("line 9\n"));
        assert!(state.log_tail(Program::Redis).ends_with("line 20"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_says_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateDir::open(&file.path().join("under"), Keep::Nothing).unwrap_err();
        assert!(error.to_string().ends_with("choose another with --state-dir"), "{error}");
    }
}
