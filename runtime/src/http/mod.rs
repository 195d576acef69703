//! The HTTP API: one router for the three roles that talk to apps.
//!
//! | role | routes |
//! | --- | --- |
//! | `save-dispatch` | requests, reads and lists of dispatches; user profiles |
//! | `driver-response` | answers to offers, devices, event streams |
//! | `status-update` | trip events, cancellations, availability, positions, driver profiles |
//!
//! A request passes [`middleware::request`] (id, its address's share, admission, deadline, access log), then
//! [`middleware::auth`] (who is it, and its own share), then [`extract`] (strict shapes), then [`validate`] (bounds), and then one
//! call of the engine or of a port; what comes back is turned into a document by [`convert`]. Errors are problem documents
//! ([`problem`]). Handlers decide nothing: core does.
//!
//! Nobody is believed: not the API Gateway in front, whose authorizer looked at the same token; not the ids in paths and bodies,
//! which must be the caller's own; not that an answer fits: every change is decided on the stored dispatch, driver and offer
//! number included.

mod admin;
mod convert;
mod extract;
mod handlers;
mod idempotency;
pub mod listener;
mod middleware;
mod openapi;
mod problem;
mod router;
mod state;
#[cfg(test)]
mod tests;
mod validate;

pub use admin::{AdminState, Readiness, admin_router};
pub use middleware::limits::{Admission, StreamPlaces};
pub use middleware::rate_limit::Rates;
pub use middleware::request::REQUEST_ID;
pub use router::{HttpRole, openapi, router};
pub use state::{Access, AppState};
