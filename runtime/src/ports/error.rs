use thiserror::Error;

/// Why a port call failed. The adapters retry what AWS documents as retryable within their own time budget. Callers
/// treat all variants as a temporary failure and leave the next attempt to redelivery or to the client.
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
    /// The service refused the call. A retry does not help.
    #[error("{action} failed")]
    Failed {
        /// The attempted operation.
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored record cannot be read. A retry does not help until it is repaired. The adapter has counted it and named
    /// it in the log, once per period; callers do not log it again.
    #[error("{action} failed")]
    Unreadable {
        /// The attempted operation.
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl PortError {
    /// The attempted operation.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Unavailable { action, .. } | Self::Failed { action, .. } | Self::Unreadable { action, .. } => action,
        }
    }

    /// Whether a stored record cannot be read.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}
