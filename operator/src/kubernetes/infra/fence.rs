//! Whether this replica may write. The fence of a replica that does not renew its lease in time closes automatically,
//! before another replica can take over.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

/// This replica is not the leader, or cannot be sure that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this replica is not the leader")]
pub struct Closed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Forever,
    At(Instant),
}

/// The check before every write. Clones share one state.
#[derive(Clone, Debug)]
pub struct Fence(Arc<watch::Sender<Option<Until>>>);

impl Fence {
    /// Always open, for an operator without leader election.
    pub fn open() -> Self {
        Self(Arc::new(watch::Sender::new(Some(Until::Forever))))
    }

    /// Closed until [`Self::open_until`].
    pub fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Opens the fence until `moment`, or extends it.
    pub fn open_until(&self, moment: Instant) {
        self.0.send_replace(Some(Until::At(moment)));
    }

    /// Closes the fence at once.
    pub fn close(&self) {
        self.0.send_replace(None);
    }

    /// Whether writes are allowed now.
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
    async fn a_fence_closes_when_its_time_has_passed() {
        let fence = Fence::closed();
        assert_eq!(fence.check(), Err(Closed));
        fence.open_until(Instant::now() + Duration::from_secs(10));
        assert_eq!(fence.check(), Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(fence.check(), Err(Closed));
        assert_eq!(Fence::open().check(), Ok(()));
    }
}
