//! The run's own issuer: the runtime makes its key pair and signs with it, the operator knows nothing of cryptography.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use dispatch_api::worker_config::LocalAccess;
use thiserror::Error;
use tokio::process::Command;
use tokio::time::timeout;

/// Longest time for the keys; making a pair takes milliseconds.
const MADE_WITHIN: Duration = Duration::from_secs(20);

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The runtime cannot be started.
    #[error("cannot start `dispatch-runtime keys`")]
    Start(#[source] io::Error),
    /// It did not end.
    #[error("`dispatch-runtime keys` did not end within {} s", MADE_WITHIN.as_secs())]
    NotInTime,
    /// It failed; its own words are the best there are.
    #[error("`dispatch-runtime keys` failed: {0}")]
    Failed(String),
    /// It printed something else. That is not repeated: it may hold a token.
    #[error("`dispatch-runtime keys` printed something else than keys; is it of another version?")]
    Shape,
}

/// Makes the keys of a folder with this runtime, or takes those that are there.
pub async fn make(runtime: &Path, keys: &Path) -> Result<LocalAccess, AccessError> {
    let mut command = Command::new(runtime);
    command.arg("keys").arg("--dir").arg(keys).stdin(Stdio::null()).kill_on_drop(true);
    let ended = timeout(MADE_WITHIN, command.output()).await.map_err(|_| AccessError::NotInTime)?;
    let output = ended.map_err(AccessError::Start)?;
    if !output.status.success() {
        return Err(AccessError::Failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|_| AccessError::Shape)
}

/// Tokens to call the API with, as lines for a shell, and how to make others.
pub fn words(access: &LocalAccess, runtime: &Path, signing_key: &Path) -> Vec<String> {
    let tokens = &access.tokens;
    let (runtime, key) = (runtime.display(), signing_key.display());
    vec![
        format!("export USER_TOKEN={}", tokens.user),
        format!("export DRIVER_TOKEN={}", tokens.driver),
        format!("export OPERATIONS_TOKEN={}", tokens.operations),
        format!("{runtime} token --key {key} --sub user#00002 --scope user   # another, for whomever you like"),
    ]
}
