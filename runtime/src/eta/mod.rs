//! How long drivers need to a pickup: by the straight line, or by a router that runs somewhere.
//!
//! [`Routers`] is the adapter of a process. It asks the router that the city's settings name at that moment, with one request a
//! search and no second try; a router that keeps failing is left alone for a while. Whoever asks ranks by distance where there is
//! no answer.

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
