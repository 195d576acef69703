//! The state folder of a local run: keys, logs, worker configuration, and the emulator's data.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use dispatch_dev_keys::SIGNING_KEY;
use thiserror::Error;

use crate::process::Program;

/// Lines of a log that are shown when its program failed.
const TAIL_LINES: usize = 12;

/// Bytes of a log that are read for them.
const TAIL_BYTES: u64 = 8 * 1024;

/// Why the state folder cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The folder, or a file in it, cannot be created or read.
    #[error("cannot use the state folder {0}; choose another with --state-dir")]
    Unusable(PathBuf, #[source] io::Error),
    /// Another run holds the lock. `pid` is empty if that run has not written it yet.
    #[error(
        "another `dispatch-local run` (process {pid}) uses {path}; stop it, or choose another folder with --state-dir"
    )]
    InUse { path: PathBuf, pid: String },
}

/// What outlives a run, besides the signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Nothing: each run starts with an empty AWS.
    None,
    /// The emulator writes its state when it ends, and reads it when it starts.
    EmulatorState,
}

/// The folder, held for this run by a lock that the kernel releases however the process ends.
#[derive(Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates the folder, takes its lock, empties the logs and removes the state of the last emulator unless it
    /// persists.
    pub(crate) fn open(root: &Path, persistence: Persistence) -> Result<Self, StateError> {
        let unusable = |source| StateError::Unusable(root.to_owned(), source);
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(unusable)?;
        // Children may change their working directory, so their paths are absolute.
        let root = fs::canonicalize(root).map_err(unusable)?;
        let lock = take_lock(&root)?;
        let state = Self { root, _lock: lock };
        state.prepare(persistence).map_err(unusable)?;
        Ok(state)
    }

    fn prepare(&self, persistence: Persistence) -> io::Result<()> {
        let emulator = self.root.join("ministack");
        if persistence == Persistence::None && emulator.exists() {
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
        for program in [Program::Emulator, Program::Redis, Program::Runtime, Program::Simulator] {
            File::create(self.log(program))?;
        }
        match fs::remove_file(self.simulation()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn log(&self, program: Program) -> PathBuf {
        self.root.join("logs").join(format!("{}.log", program.name()))
    }

    pub(crate) fn worker_config(&self) -> PathBuf {
        self.root.join("worker.json")
    }

    /// Addresses of the run, as a file for shells.
    pub(crate) fn env_file(&self) -> PathBuf {
        self.root.join("env")
    }

    /// Folder of the signing key. It outlives the run, so that a token in a terminal is still valid in the next one.
    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("auth")
    }

    pub(crate) fn signing_key(&self) -> PathBuf {
        self.keys().join(SIGNING_KEY)
    }

    /// The summary that the simulator writes.
    pub(crate) fn simulation(&self) -> PathBuf {
        self.root.join("simulation.json")
    }

    /// The program of the emulator.
    pub(crate) fn emulator_app(&self) -> PathBuf {
        self.root.join("ministack/city_emulator.py")
    }

    pub(crate) fn emulator_state(&self) -> PathBuf {
        self.root.join("ministack/state")
    }

    /// Content of the emulated buckets.
    pub(crate) fn emulator_objects(&self) -> PathBuf {
        self.root.join("ministack/s3")
    }

    pub(crate) fn emulator_temporary(&self) -> PathBuf {
        self.root.join("ministack/tmp")
    }

    /// The last lines of a program's log; empty if there are none.
    pub(crate) fn log_tail(&self, program: Program) -> String {
        tail(&self.log(program)).unwrap_or_default()
    }
}

/// Replaces a file so that a reader sees the old or the new content, never a part: a temporary file beside it, then a
/// rename. Only the owner may read it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    // The temporary file of a killed run may have other permissions.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn take_lock(root: &Path) -> Result<File, StateError> {
    let unusable = |source| StateError::Unusable(root.to_owned(), source);
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
        let first = StateDir::open(dir.path(), Persistence::None).unwrap();
        let error = StateDir::open(dir.path(), Persistence::None).unwrap_err();
        assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
        drop(first);
        assert!(StateDir::open(dir.path(), Persistence::None).is_ok());
    }

    #[test]
    fn a_run_starts_with_an_empty_emulator_unless_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), Persistence::None).unwrap();
        let item = state.emulator_state().join("dynamodb.json");
        fs::write(&item, "{}").unwrap();
        drop(state);
        drop(StateDir::open(dir.path(), Persistence::EmulatorState).unwrap());
        assert!(item.exists());
        drop(StateDir::open(dir.path(), Persistence::None).unwrap());
        assert!(!item.exists());
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), Persistence::None).unwrap();
        assert_eq!(state.log_tail(Program::Redis), "");
        let lines: Vec<String> = (1..=20).map(|line| format!("line {line}")).collect();
        fs::write(state.log(Program::Redis), lines.join("\n")).unwrap();
        assert!(state.log_tail(Program::Redis).starts_with("line 9\n"));
        assert!(state.log_tail(Program::Redis).ends_with("line 20"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_says_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateDir::open(&file.path().join("under"), Persistence::None).unwrap_err();
        assert!(error.to_string().ends_with("choose another with --state-dir"), "{error}");
    }
}
