//! The HTTP API: one router for the three roles that serve apps.
//!
//! | role | routes |
//! | --- | --- |
//! | `save-dispatch` | creating, reading and listing dispatches; user profiles |
//! | `driver-response` | answers to offers, devices, event streams |
//! | `status-update` | trip events, cancellations, availability, positions, driver profiles |
//!
//! A request passes [`middleware::request`] (request id, rate limit of the address, admission, deadline, access log),
//! then [`middleware::auth`] (authentication, rate limit of the caller), then [`middleware::audit`] (audit trail), then
//! [`extract`] (strict parsing), then [`validate`] (rules for fields), and then makes one call of the engine or of a
//! port. [`convert`] turns the result into a document, and [`view`] decides what the caller sees of a dispatch. Errors
//! are problem documents ([`problem`]). Handlers make no decisions about dispatches: core does.
//!
//! Nothing is trusted: tokens are verified even behind an API Gateway whose authorizer verified them; ids in paths and
//! bodies must be the caller's own; and every change is decided on the stored dispatch, including its driver and offer
//! number.

mod admin;
mod connections;
mod convert;
mod document_rules;
mod extract;
mod handlers;
mod head_scanner;
mod idempotency;
pub mod listener;
mod middleware;
mod openapi;
mod problem;
mod proxy_rules;
mod router;
mod state;
mod strict_json;
#[cfg(test)]
mod tests;
mod validate;
mod view;
mod visible_text;

pub use admin::{AdminState, Readiness, admin_router};
pub use middleware::limits::{Admission, IN_FLIGHT_MAX, STREAMS_MAX, StreamPlaces};
pub use middleware::rate_limit::Rates;
pub use middleware::request::REQUEST_ID;
pub use proxy_rules::{ProxyFormat, ProxyTarget, proxy_rules};
pub use router::{HttpRole, openapi, router};
pub use state::{Access, AppState};
