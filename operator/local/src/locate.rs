//! Where the programs of a local run are.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A program that is not there. The text says what to do about it.
#[derive(Debug, Error)]
pub enum LocateError {
    /// No `ministack`.
    #[error(
        "ministack, the local AWS emulator, was not found (looked for .venv/bin/ministack here and in the folders above, \
         and on PATH); install it with `make tools-local` or `python3 -m venv .venv && .venv/bin/pip install -r requirements/local.txt`, name it \
         with --ministack, or use a running endpoint with --aws-endpoint"
    )]
    Ministack,
    /// No `redis-server`.
    #[error(
        "redis-server was not found on PATH; install it (`apt-get install redis-server`, `brew install redis`), name it \
         with --redis-server, or use a running one with --redis redis://host:port"
    )]
    Redis,
    /// No `dispatch-runtime`.
    #[error(
        "dispatch-runtime was not found beside this program or on PATH; build it with `cargo build -p dispatch-runtime` or \
         name it with --runtime-bin"
    )]
    Runtime,
    /// A program named by an option is not there.
    #[error("{option} names {path}, which is not a file")]
    Named {
        /// The option.
        option: &'static str,
        /// Its value.
        path: PathBuf,
    },
}

/// The emulator: as named, else from the project's virtual environment, else on PATH.
pub fn ministack(named: Option<&Path>) -> Result<PathBuf, LocateError> {
    match named {
        Some(path) => named_file("--ministack", path),
        None => env::current_dir()
            .ok()
            .and_then(|dir| upwards(&dir, Path::new(".venv/bin/ministack")))
            .or_else(|| on_path("ministack", env::var_os("PATH").as_deref()))
            .ok_or(LocateError::Ministack),
    }
}

/// Redis: as named, else on PATH.
pub fn redis_server(named: Option<&Path>) -> Result<PathBuf, LocateError> {
    match named {
        Some(path) => named_file("--redis-server", path),
        None => on_path("redis-server", env::var_os("PATH").as_deref()).ok_or(LocateError::Redis),
    }
}

/// The runtime: as named, else beside this program, else on PATH.
pub fn runtime(named: Option<&Path>) -> Result<PathBuf, LocateError> {
    match named {
        Some(path) => named_file("--runtime-bin", path),
        None => env::current_exe()
            .ok()
            .map(|own| own.with_file_name("dispatch-runtime"))
            .filter(|path| path.is_file())
            .or_else(|| on_path("dispatch-runtime", env::var_os("PATH").as_deref()))
            .ok_or(LocateError::Runtime),
    }
}

/// A bare name is looked for on PATH, as a shell does; anything with a folder is a file.
fn named_file(option: &'static str, path: &Path) -> Result<PathBuf, LocateError> {
    let bare = path.components().count() == 1 && !path.is_file();
    let found = if bare {
        path.to_str().and_then(|name| on_path(name, env::var_os("PATH").as_deref()))
    } else {
        path.is_file().then(|| path.to_owned())
    };
    found.ok_or_else(|| LocateError::Named { option, path: path.to_owned() })
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
    fn a_bare_name_is_looked_for_on_path() {
        assert!(redis_server(Some(Path::new("sh"))).is_ok());
        assert_eq!(on_path("sh", None), None);
    }

    #[test]
    fn a_named_program_that_is_not_there_is_said_with_its_option() {
        let error = runtime(Some(Path::new("/no/such/program"))).unwrap_err();
        assert_eq!(error.to_string(), "--runtime-bin names /no/such/program, which is not a file");
    }
}
