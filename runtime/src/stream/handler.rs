//! The handler of stream records.

use async_trait::async_trait;
use dispatch_core::ids::{DispatchId, DriverId};

use crate::engine::EngineError;
use crate::ports::StoredDispatch;

/// A change of the table that asks for an action.
#[derive(Debug, Clone)]
pub enum StreamChange {
    /// A dispatch waits for a driver. The image may be outdated and may be delivered again.
    Waiting {
        stored: Box<StoredDispatch>,
        /// Whether the sweeper can find it. A dispatch of another service may have no index keys yet.
        indexed: bool,
    },
    /// Another service created, changed or deleted a driver.
    Driver(DriverId),
    /// Another service gave a dispatch to a driver.
    Taken { driver: DriverId, dispatch: DispatchId },
}

impl StreamChange {
    /// The id of the dispatch or driver, for logs.
    pub fn subject(&self) -> &str {
        match self {
            Self::Waiting { stored, .. } => stored.state.id.as_str(),
            Self::Driver(driver) => driver.as_str(),
            Self::Taken { dispatch, .. } => dispatch.as_str(),
        }
    }
}

/// Handles the changes that the stream delivers.
#[async_trait]
pub trait DispatchHandler: Send + Sync {
    /// Handles a change. It may be delivered again.
    async fn handle(&self, change: StreamChange) -> Result<(), EngineError>;

    /// Whether a handler may wait for later dispatches. More are then handled concurrently.
    fn waits(&self) -> bool {
        false
    }
}
