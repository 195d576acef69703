//! How long drivers need to a pickup.

use async_trait::async_trait;
use dispatch_core::geo::Coordinate;

use super::error::PortError;

/// Somebody who knows the city's roads. Only an order is made of what it says: an offer never waits for it for longer than the
/// policy's `eta_timeout_ms`, and without its answer drivers are ranked by distance.
#[async_trait]
pub trait Eta: Send + Sync {
    /// Seconds a car needs from each place to `to`, in the order of the places; `None` where there is no way. Places, at most as
    /// many as the policy's `eta_top_k`, are never part of an error.
    async fn seconds(&self, from: &[Coordinate], to: Coordinate) -> Result<Vec<Option<u32>>, PortError>;
}
