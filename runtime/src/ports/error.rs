use thiserror::Error;

/// Why a port call failed. The adapters retry what AWS documents as retryable within their own time budget. Callers
/// treat both variants as a temporary failure and leave the next attempt to redelivery or to the client.
#[derive(Debug, Error)]
pub enum PortError {
    /// The service is unreachable, slow or throttling. A retry can succeed.
    #[error("{action} is temporarily unavailable")]
    Unavailable {
        /// The attempted operation.
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The service refused the call, or a stored value cannot be read. A retry does not help.
    #[error("{action} failed")]
    Failed {
        /// The attempted operation.
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
