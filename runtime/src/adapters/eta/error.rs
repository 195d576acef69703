//! The answer of a router, and its errors.

use thiserror::Error;

/// Driving times from one place to each destination, s.
pub(super) type Row = Vec<Option<f64>>;

/// Why a router returns no times. No error contains a position: OSRM's request has them in the URL, which `reqwest`
/// would repeat, and a response may echo them.
#[derive(Debug, Error)]
pub enum RouterError {
    /// The HTTP client cannot be created.
    #[error("cannot create the HTTP client for the router")]
    Client(#[source] reqwest::Error),
    /// The router does not answer in time.
    #[error("the router does not answer in time")]
    TimedOut,
    /// The router cannot be reached, or the response is incomplete.
    #[error("cannot call the router")]
    Call(#[source] reqwest::Error),
    /// The router answers with a status other than 200.
    #[error("the router answers with status {0}")]
    Status(u16),
    /// The response is too long.
    #[error("the router's response is too long")]
    TooLong,
    /// The response cannot be parsed.
    #[error("cannot parse the router's response")]
    Unreadable,
    /// The response has an unexpected number of rows or columns.
    #[error("the router's response has an unexpected size")]
    Size,
}

impl RouterError {
    /// Whether the request is at fault and the router is healthy, for example a place without a road nearby. Other
    /// requests may succeed.
    pub(super) fn is_request_error(&self) -> bool {
        matches!(self, Self::Status(400))
    }

    /// Whether a retry may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut | Self::Call(_) => true,
            Self::Status(status) => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

impl From<reqwest::Error> for RouterError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() { Self::TimedOut } else { Self::Call(error.without_url()) }
    }
}
