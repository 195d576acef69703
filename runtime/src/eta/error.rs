//! What a router answers, and why it may answer nothing.

use thiserror::Error;

/// The times from one place, to each place asked for.
pub(super) type Row = Vec<Option<f64>>;

/// Why a router gives no times. None of these has a place in it: OSRM is asked in the address, which `reqwest` would repeat, and an
/// answer may hold what was asked.
#[derive(Debug, Error)]
pub enum RouterError {
    /// The HTTP client cannot be made.
    #[error("the HTTP client for the router cannot be made")]
    Client(#[source] reqwest::Error),
    /// It does not answer in time.
    #[error("the router does not answer in time")]
    TimedOut,
    /// It cannot be reached, or the answer breaks off.
    #[error("the router cannot be asked")]
    Call(#[source] reqwest::Error),
    /// It answers with another status than 200.
    #[error("the router answers with status {0}")]
    Status(u16),
    /// The answer is too long.
    #[error("the router's answer is too long")]
    TooLong,
    /// The answer is not the document it should be.
    #[error("the router's answer cannot be read")]
    Unreadable,
    /// The answer has another number of rows or columns than was asked for.
    #[error("the router's answer has another size than the question")]
    Size,
}

impl RouterError {
    /// Whether the router is well and the question is not: a place it knows no road near. Others may be asked about.
    pub(super) fn is_of_the_question(&self) -> bool {
        matches!(self, Self::Status(400))
    }

    /// Whether another try might help.
    pub(super) fn may_pass(&self) -> bool {
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
