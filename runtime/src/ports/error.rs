//! Why a port could not do its work.

use thiserror::Error;

/// Why a port could not do its work. The adapters retry what AWS documents as retryable inside their own time budget;
/// callers treat both variants as "not now" and leave the next attempt to redelivery or to the client.
#[derive(Debug, Error)]
pub enum PortError {
    /// The service is unreachable, slow or throttling. Worth another try later.
    #[error("{action} is not possible right now")]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The service refused, or a stored value cannot be read. Another try will not help.
    #[error("{action} failed")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
