//! Finds the programs of a run.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The programs of a run.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) runtime: PathBuf,
    /// Present if traffic is to be simulated.
    pub(crate) simulator: Option<PathBuf>,
    /// The emulator's web server, present if the run starts an emulator.
    pub(crate) emulator: Option<PathBuf>,
    /// Present if the run starts a Redis.
    pub(crate) redis: Option<PathBuf>,
}

/// A program is missing. The text says what to do about it.
#[derive(Debug, Error)]
pub enum BinaryError {
    #[error(
        "ministack, the AWS emulator, was not found: neither .venv/bin/ministack in this folder or one above, nor \
         ministack on PATH. Install it with `make tools-local`, name it with --ministack, or use a running endpoint \
         with --aws-endpoint"
    )]
    Ministack,
    #[error(
        "{0} has no hypercorn beside it. The emulator needs the Python environment of ministack: install it with \
         `make tools-local`, and name its bin/ministack with --ministack"
    )]
    Hypercorn(PathBuf),
    #[error(
        "redis-server was not found on PATH. Install it (`apt-get install redis-server`, `brew install redis`), name \
         it with --redis-server, or use a running one with --redis redis://host:port"
    )]
    Redis,
    #[error(
        "dispatch-runtime was not found beside this program or on PATH. Build it with `cargo build -p \
         dispatch-runtime`, or name it with --runtime-bin"
    )]
    Runtime,
    #[error(
        "dispatch-simulator was not found beside this program or on PATH. Build it with \
         `cargo build -p dispatch-simulator`, or name it with --simulator-bin"
    )]
    Simulator,
    /// The value of an option is not a file.
    #[error("{option}: there is no file {path}")]
    NoFile { option: &'static str, path: PathBuf },
}

/// The emulator's web server, hypercorn, in the Python environment of ministack: the named one, else that of the
/// project, else that of the ministack on PATH.
pub(crate) fn emulator(named: Option<&Path>) -> Result<PathBuf, BinaryError> {
    let ministack = match named {
        Some(path) => named_file("--ministack", path)?,
        None => env::current_dir()
            .ok()
            .and_then(|dir| upwards(&dir, Path::new(".venv/bin/ministack")))
            .or_else(|| on_path("ministack", env::var_os("PATH").as_deref()))
            .ok_or(BinaryError::Ministack)?,
    };
    // A link may lead out of the environment: pipx links single programs into a folder on PATH.
    let real = ministack.canonicalize().unwrap_or_else(|_| ministack.clone());
    let hypercorn = real.with_file_name("hypercorn");
    if hypercorn.is_file() { Ok(hypercorn) } else { Err(BinaryError::Hypercorn(ministack)) }
}

/// Redis: the named one, else that on PATH.
pub(crate) fn redis_server(named: Option<&Path>) -> Result<PathBuf, BinaryError> {
    match named {
        Some(path) => named_file("--redis-server", path),
        None => on_path("redis-server", env::var_os("PATH").as_deref()).ok_or(BinaryError::Redis),
    }
}

/// The runtime: the named one, else that beside this program, else that on PATH.
pub(crate) fn runtime(named: Option<&Path>) -> Result<PathBuf, BinaryError> {
    match named {
        Some(path) => named_file("--runtime-bin", path),
        None => beside_or_on_path("dispatch-runtime").ok_or(BinaryError::Runtime),
    }
}

/// The simulator: the named one, else that beside this program, else that on PATH.
pub(crate) fn simulator(named: Option<&Path>) -> Result<PathBuf, BinaryError> {
    match named {
        Some(path) => named_file("--simulator-bin", path),
        None => beside_or_on_path("dispatch-simulator").ok_or(BinaryError::Simulator),
    }
}

fn beside_or_on_path(name: &str) -> Option<PathBuf> {
    env::current_exe()
        .ok()
        .map(|own| own.with_file_name(name))
        .filter(|path| path.is_file())
        .or_else(|| on_path(name, env::var_os("PATH").as_deref()))
}

/// A bare name is searched on PATH, as by a shell; a path with a folder is a file.
fn named_file(option: &'static str, path: &Path) -> Result<PathBuf, BinaryError> {
    let bare = path.components().count() == 1 && !path.is_file();
    let found = if bare {
        path.to_str().and_then(|name| on_path(name, env::var_os("PATH").as_deref()))
    } else {
        path.is_file().then(|| path.to_owned())
    };
    found.ok_or_else(|| BinaryError::NoFile { option, path: path.to_owned() })
}

fn upwards(from: &Path, relative: &Path) -> Option<PathBuf> {
    from.ancestors().map(|dir| dir.join(relative)).find(|path| path.is_file())
}

fn on_path(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    env::split_paths(path?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_a_folder_above() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join(".venv/bin/ministack");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(&program, "").unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(upwards(&deep, Path::new(".venv/bin/ministack")), Some(program));
        assert_eq!(upwards(&deep, Path::new(".venv/bin/no-such-program")), None);
    }

    #[test]
    fn the_emulators_web_server_is_beside_it_also_behind_a_link() {
        let root = tempfile::tempdir().unwrap();
        let (ministack, link) = (root.path().join("env/ministack"), root.path().join("bin/ministack"));
        std::fs::create_dir_all(ministack.parent().unwrap()).unwrap();
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::fs::write(&ministack, "").unwrap();
        std::os::unix::fs::symlink(&ministack, &link).unwrap();
        let error = emulator(Some(&link)).unwrap_err();
        assert!(error.to_string().contains("has no hypercorn beside it"), "{error}");
        let hypercorn = root.path().join("env/hypercorn");
        std::fs::write(&hypercorn, "").unwrap();
        assert_eq!(emulator(Some(&link)).unwrap(), hypercorn.canonicalize().unwrap());
    }

    #[test]
    fn a_bare_name_is_searched_on_path() {
        assert!(redis_server(Some(Path::new("sh"))).is_ok());
        assert_eq!(on_path("sh", None), None);
    }

    #[test]
    fn a_missing_program_is_reported_with_its_option() {
        let error = runtime(Some(Path::new("/no/such/program"))).unwrap_err();
        assert_eq!(error.to_string(), "--runtime-bin: there is no file /no/such/program");
    }
}
