//! Travel times to a pickup.

use async_trait::async_trait;
use dispatch_core::geo::Coordinate;

use super::error::PortError;

/// A routing service. Its answer only orders candidates: an offer waits for it no longer than the policy's
/// `eta_timeout_ms`, and without an answer drivers are ranked by distance.
#[async_trait]
pub trait Eta: Send + Sync {
    /// Driving time from each place to `to` in seconds, in the order of the places; `None` if there is no route. `from`
    /// has at most `eta_top_k` places (policy). Errors never contain places.
    async fn seconds(&self, from: &[Coordinate], to: Coordinate) -> Result<Vec<Option<u32>>, PortError>;
}
