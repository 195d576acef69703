//! Whether this replica may write. A replica that has not renewed its lease in time stops by itself, before another one begins.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

/// This replica is not the leader, or cannot be sure of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this replica does not lead; nothing is written")]
pub struct Closed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Forever,
    At(Instant),
}

/// Every write asks here first. Clones are one fence.
#[derive(Clone, Debug)]
pub struct Fence(Arc<watch::Sender<Option<Until>>>);

impl Fence {
    /// Open for ever: for an operator that runs alone.
    pub fn open() -> Self {
        Self(Arc::new(watch::Sender::new(Some(Until::Forever))))
    }

    /// Closed until [`Self::open_until`].
    pub fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Opens, or keeps open, until a moment.
    pub fn open_until(&self, moment: Instant) {
        self.0.send_replace(Some(Until::At(moment)));
    }

    /// Closes.
    pub fn close(&self) {
        self.0.send_replace(None);
    }

    /// Whether writing is allowed now.
    pub fn check(&self) -> Result<(), Closed> {
        match *self.0.borrow() {
            Some(Until::Forever) => Ok(()),
            Some(Until::At(moment)) if Instant::now() < moment => Ok(()),
            _ => Err(Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fence_closes_by_itself() {
        let fence = Fence::closed();
        assert_eq!(fence.check(), Err(Closed));
        fence.open_until(Instant::now() + Duration::from_secs(10));
        assert_eq!(fence.check(), Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(fence.check(), Err(Closed));
        assert_eq!(Fence::open().check(), Ok(()));
    }
}
