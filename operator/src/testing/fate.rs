//! Fault injection for calls to the in-memory account, and a ledger of their effects.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cloud::ports::{PortError, PortErrorKind};

/// Outcome of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// The call takes effect and returns.
    #[default]
    Answered,
    /// The call has no effect and never returns.
    Lost,
    /// The call takes effect and never returns.
    Unanswered,
    /// The call takes effect and returns an error.
    Broken,
}

/// Decides the outcome of a call by its name.
pub type Judge = Arc<dyn Fn(&'static str) -> Fate + Send + Sync>;

/// How often each effect occurred. A call that had nothing to do has none.
pub type Ledger = BTreeMap<&'static str, usize>;

/// Executes a call with the outcome that `judge` decides.
pub(crate) async fn carry_out<T>(
    judge: Option<Judge>,
    call: &'static str,
    work: impl FnOnce() -> Result<T, PortError> + Send,
) -> Result<T, PortError> {
    let fate = judge.map_or(Fate::Answered, |judge| judge(call));
    if fate == Fate::Lost {
        return std::future::pending().await;
    }
    let result = work();
    match fate {
        Fate::Unanswered => {
            drop(result);
            std::future::pending().await
        }
        Fate::Broken => Err(PortError::new(call, PortErrorKind::Unavailable, "the connection was reset")),
        _ => result,
    }
}
