//! The handler of stream records.

use async_trait::async_trait;

use crate::engine::EngineError;
use crate::ports::StoredDispatch;

/// Handles the dispatches that the stream delivers.
#[async_trait]
pub trait DispatchHandler: Send + Sync {
    /// Handles the image of a dispatch that waits for a driver. The image may be outdated and may be delivered again.
    async fn handle(&self, stored: StoredDispatch) -> Result<(), EngineError>;

    /// Whether a handler may wait for later dispatches. More are then handled concurrently.
    fn waits(&self) -> bool {
        false
    }
}
