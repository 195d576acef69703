//! The HTTP API: one router for the three roles that talk to apps.
//!
//! | role | routes |
//! | --- | --- |
//! | `save-dispatch` | requests, reads and lists of dispatches; user profiles |
//! | `driver-response` | answers to offers, devices, event streams |
//! | `status-update` | trip events, cancellations, availability, positions, driver profiles |
//!
//! A request passes [`layers`] (id, its address's share, admission, deadline, access log), then [`caller`] (who is it, and its own
//! share), then [`extract`] (strict shapes), then [`check`] (bounds), and then one call of the engine or of a port; what comes back is turned into a document by `present`. Errors are problem
//! documents ([`problem`]). Handlers decide nothing: core does.
//!
//! Nobody is believed: not the API Gateway in front, whose authorizer looked at the same token; not the ids in paths and bodies,
//! which must be the caller's own; not that an answer fits: every change is decided on the stored dispatch, driver and offer
//! number included.

mod admin;
mod api_doc;
mod caller;
mod check;
mod dispatches;
pub mod dto;
mod events;
mod extract;
mod keyed;
mod layers;
mod locations;
mod people;
mod present;
mod problem;
mod rates;
pub mod serve;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi as _;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

pub use admin::{AdminState, Readiness, admin_router};
pub use events::StreamPlaces;
pub use layers::{Admission, REQUEST_ID};
pub use rates::Rates;

use crate::auth::Authenticator;
use crate::engine::Engine;
use crate::port::AnswerStore;
use problem::ApiError;

/// Longest body: the largest profile allowed has some 45 KB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest body of a batch of positions: 500 of some 200 bytes, and room.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// The roles that have routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpRole {
    /// Save Dispatch Data.
    SaveDispatch,
    /// Driver Response Handler.
    DriverResponse,
    /// Status Update.
    StatusUpdate,
}

impl HttpRole {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SaveDispatch, Self::DriverResponse, Self::StatusUpdate];
}

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The engine, with its ports, city and metrics.
    pub engine: Arc<Engine>,
    /// Who may call, and how often.
    pub access: Access,
    /// Answers to requests that may be repeated.
    pub answers: Arc<dyn AnswerStore>,
    /// Ends the event streams.
    pub shutdown: CancellationToken,
    /// Bound of requests served at once.
    pub admission: Admission,
    /// Bound of event streams open at once.
    pub stream_places: StreamPlaces,
}

/// Who may call, and how often.
#[derive(Clone)]
pub struct Access {
    /// Knows callers by their tokens.
    pub authenticator: Arc<Authenticator>,
    /// Counts what they ask.
    pub rates: Arc<Rates>,
}

impl AppState {
    /// A state with the usual bounds.
    pub fn new(
        engine: Arc<Engine>,
        access: Access,
        answers: Arc<dyn AnswerStore>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            engine,
            access,
            answers,
            shutdown,
            admission: Admission::default(),
            stream_places: StreamPlaces::default(),
        }
    }
}

/// The routes of the roles that this process runs; all others are not found.
pub fn router(state: AppState, roles: &BTreeSet<HttpRole>) -> Router {
    let (routes, _) =
        roles.iter().fold(OpenApiRouter::default(), |all, role| all.merge(routes_of(*role))).split_for_parts();
    routes
        .fallback(|| async { ApiError::NoSuchPath })
        .method_not_allowed_fallback(|| async { ApiError::Method })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(state.clone(), caller::authenticate))
        .layer(from_fn_with_state(state.clone(), layers::around))
        .with_state(state)
}

/// The OpenAPI document of all roles.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let frame = OpenApiRouter::with_openapi(api_doc::Frame::openapi());
    HttpRole::ALL.into_iter().fold(frame, |all, role| all.merge(routes_of(role))).into_openapi()
}

fn routes_of(role: HttpRole) -> OpenApiRouter<AppState> {
    match role {
        HttpRole::SaveDispatch => OpenApiRouter::default()
            .routes(routes!(dispatches::create))
            .routes(routes!(dispatches::read))
            .routes(routes!(dispatches::list_of_user))
            .routes(routes!(dispatches::list_of_driver))
            .routes(routes!(people::put_user, people::get_user)),
        HttpRole::DriverResponse => OpenApiRouter::default()
            .routes(routes!(dispatches::respond))
            .routes(routes!(people::put_user_device))
            .routes(routes!(people::put_driver_device))
            .routes(routes!(events::stream)),
        HttpRole::StatusUpdate => OpenApiRouter::default()
            .routes(routes!(dispatches::report))
            .routes(routes!(dispatches::cancel))
            .routes(routes!(people::put_driver, people::get_driver))
            .routes(routes!(people::put_availability))
            .routes(routes!(locations::post_one))
            .routes(routes!(locations::post_batch).layer(DefaultBodyLimit::max(BATCH_BYTES_MAX))),
    }
}

#[cfg(test)]
mod tests;
