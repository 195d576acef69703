//! What the stream is read for.

use async_trait::async_trait;

use crate::engine::EngineError;
use crate::ports::StoredDispatch;

/// What the stream is read for.
#[async_trait]
pub trait DispatchHandler: Send + Sync {
    /// Handles the image of a dispatch that waits for a driver. It may be old, and it may come again.
    async fn handle(&self, stored: StoredDispatch) -> Result<(), EngineError>;

    /// Whether handling one may be to wait for others that come later. More are handled at once then.
    fn waits(&self) -> bool {
        false
    }
}
