//! What Redis refuses, as the port's error.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::ports::PortError;

/// What Redis calls not now, and what it calls no.
pub(super) fn failed(action: &'static str, error: RedisError) -> PortError {
    let later = match error.kind() {
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => true,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::NoScript
        ),
        _ => false,
    };
    let source = Box::new(error);
    if later { PortError::Unavailable { action, source } } else { PortError::Failed { action, source } }
}
