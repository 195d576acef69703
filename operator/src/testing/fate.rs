//! What becomes of a call on an account in memory, and what the calls have done to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cloud::ports::{Call, PortError, PortErrorKind};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out and answered.
    #[default]
    Answered,
    /// It never arrives, and nothing ever answers.
    Lost,
    /// It is carried out, and nothing ever answers.
    Unanswered,
    /// It is carried out, and an error answers.
    Broken,
}

/// Decides what becomes of a call, by its name.
pub type Judge = Arc<dyn Fn(&'static str) -> Fate + Send + Sync>;

/// How often each effect took place. A call that found nothing to do has none.
pub type Ledger = BTreeMap<&'static str, usize>;

/// Carries a call out as `judge` says.
pub(crate) fn carry_out<T: Send + 'static>(
    judge: Option<Judge>,
    call: &'static str,
    work: impl FnOnce() -> Result<T, PortError>,
) -> Call<'static, T> {
    let fate = judge.map_or(Fate::Answered, |judge| judge(call));
    if fate == Fate::Lost {
        return Box::pin(std::future::pending());
    }
    let result = work();
    Box::pin(async move {
        match fate {
            Fate::Unanswered => std::future::pending().await,
            Fate::Broken => Err(PortError::new(call, PortErrorKind::Unavailable, "the connection was reset")),
            _ => result,
        }
    })
}
