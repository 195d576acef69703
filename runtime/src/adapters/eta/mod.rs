//! Driving times to a pickup: by the straight line, or from an external router.
//!
//! [`Routers`] is the adapter of a process. It calls the router of the city's current settings, with one request for
//! each search and without retries; a circuit breaker skips a router that keeps failing. Without an answer the caller
//! ranks by distance.

mod breaker;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod osrm;
mod router;
mod routers;
mod straight_line;
mod valhalla;

pub use error::RouterError;
pub use router::Router;
pub use routers::Routers;
pub use straight_line::StraightLine;
