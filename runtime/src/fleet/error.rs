//! Maps Redis errors to port errors.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::ports::PortError;

/// `Unavailable` if the same call can succeed later, `Failed` otherwise.
pub(super) fn failed(action: &'static str, error: RedisError) -> PortError {
    let retryable = is_retryable(error.kind());
    let source = Box::new(error);
    if retryable { PortError::Unavailable { action, source } } else { PortError::Failed { action, source } }
}

/// Both enums are `non_exhaustive`, so the compiler cannot report a new kind: kinds that are not listed count as
/// permanent.
fn is_retryable(kind: ErrorKind) -> bool {
    match kind {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_or_unreachable_server_is_retryable_and_a_refusal_is_not() {
        for kind in [ErrorKind::Io, ErrorKind::Server(ServerErrorKind::BusyLoading)] {
            assert!(is_retryable(kind), "{kind:?}");
        }
        for kind in [ErrorKind::Parse, ErrorKind::Server(ServerErrorKind::NoPerm)] {
            assert!(!is_retryable(kind), "{kind:?}");
        }
    }
}
