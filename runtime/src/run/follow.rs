//! Follows the configuration file: the dispatch rules change while the process runs, everything else with its next start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::worker_config::{WorkerConfig, WorkerConfigError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::city::Settings;

/// Time between two looks. Watching the content works for a file, a renamed file and a mounted `ConfigMap` alike, and a small
/// file costs nothing to read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The settings a running process can take over.
pub(super) fn settings_of(config: &WorkerConfig) -> Result<Settings, WorkerConfigError> {
    Ok(Settings {
        policy: config.dispatch.policy().map_err(WorkerConfigError::Policy)?,
        fare: config.dispatch.fare_table().map_err(WorkerConfigError::Fare)?,
    })
}

/// Follows the file until `shutdown`. A file that is missing or wrong changes nothing.
pub(super) async fn follow(
    path: PathBuf,
    mut current: WorkerConfig,
    settings: watch::Sender<Arc<Settings>>,
    shutdown: CancellationToken,
) {
    let mut seen = String::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // A file that is being replaced may be away for a moment.
        let Ok(text) = tokio::fs::read_to_string(&path).await else { continue };
        if text == seen {
            continue;
        }
        match take_over(&text, &mut current, &settings) {
            Ok(()) => {}
            Err(error) => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, reason, "the changed configuration is not used");
            }
        }
        seen = text;
    }
}

fn take_over(
    text: &str,
    current: &mut WorkerConfig,
    settings: &watch::Sender<Arc<Settings>>,
) -> Result<(), WorkerConfigError> {
    let changed = WorkerConfig::read(text)?;
    let rest = WorkerConfig { dispatch: current.dispatch.clone(), ..changed.clone() };
    if rest != *current {
        tracing::warn!("the configuration has changes that need a restart");
    }
    if changed.dispatch != current.dispatch {
        settings.send_replace(Arc::new(settings_of(&changed)?));
        current.dispatch = changed.dispatch;
        tracing::info!("dispatch rules changed");
    }
    Ok(())
}
