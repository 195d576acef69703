//! `local`: see [`crate::local`].

use super::Exit;
use crate::local::{self, LocalArgs, LocalError, with_causes};

/// Runs the city and says how it ended.
pub async fn run(args: LocalArgs) -> Exit {
    // The future holds the whole session.
    match Box::pin(local::run(args)).await {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            exit(&error)
        }
    }
}

fn exit(error: &LocalError) -> Exit {
    match error {
        LocalError::ReadManifest { .. } | LocalError::Manifest { .. } | LocalError::Secrets(_) => Exit::Usage,
        LocalError::NotReady(_) => Exit::NotReady,
        LocalError::Interrupted(_) => Exit::Interrupted,
        _ => Exit::Failed,
    }
}
