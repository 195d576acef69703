//! The routes that each role serves.

use std::collections::BTreeSet;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use dispatch_http_types::{ROUTES, Route};
use utoipa::OpenApi as _;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::document_rules;
use super::handlers::{devices, dispatches, drivers, events, locations, operations, persons, users};
use super::middleware::{audit, auth, request};
use super::openapi::Frame;
use super::problem::ApiError;
use super::state::AppState;

/// Maximum length of a body: the largest profile allowed is about 45 KB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Maximum length of a batch of positions: 500 positions of about 200 bytes, with room to spare.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// The roles that serve routes.
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
    pub const ALL: [Self; 3] = [Self::SaveDispatch, Self::DriverResponse, Self::StatusUpdate];

    /// Name of the role.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SaveDispatch => "save-dispatch",
            Self::DriverResponse => "driver-response",
            Self::StatusUpdate => "status-update",
        }
    }
}

/// Every route of the API with the role that serves it.
pub(super) fn served_routes() -> Vec<(&'static Route, HttpRole)> {
    let served: Vec<(HttpRole, BTreeSet<String>)> =
        HttpRole::ALL.into_iter().map(|role| (role, operations_of(role))).collect();
    let role_of =
        |route: &Route| served.iter().find(|(_, ids)| ids.contains(route.operation_id)).map(|(role, _)| *role);
    ROUTES.iter().filter_map(|route| Some((route, role_of(route)?))).collect()
}

fn operations_of(role: HttpRole) -> BTreeSet<String> {
    let items = routes_of(role).into_openapi().paths.paths.into_values();
    let operations = items.flat_map(|item| [item.get, item.post, item.put, item.delete]);
    operations.flatten().filter_map(|operation| operation.operation_id).collect()
}

/// The routes of the given roles. Every other path is answered with 404.
pub fn router(state: AppState, roles: &BTreeSet<HttpRole>) -> Router {
    let (routes, _) =
        roles.iter().fold(OpenApiRouter::default(), |all, role| all.merge(routes_of(*role))).split_for_parts();
    routes
        .fallback(|| async { ApiError::NoSuchPath })
        .method_not_allowed_fallback(|| async { ApiError::Method })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(audit::record))
        .layer(from_fn_with_state(state.clone(), auth::authenticate))
        .layer(from_fn_with_state(state.clone(), request::around))
        .with_state(state)
}

/// The OpenAPI document of all roles.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let frame = OpenApiRouter::with_openapi(Frame::openapi());
    let mut document = HttpRole::ALL.into_iter().fold(frame, |all, role| all.merge(routes_of(role))).into_openapi();
    document_rules::add_to(&mut document);
    document
}

fn routes_of(role: HttpRole) -> OpenApiRouter<AppState> {
    match role {
        HttpRole::SaveDispatch => OpenApiRouter::default()
            .routes(routes!(dispatches::create))
            .routes(routes!(dispatches::read))
            .routes(routes!(dispatches::list_of_user))
            .routes(routes!(dispatches::list_of_driver))
            .routes(routes!(users::put_user, users::get_user)),
        HttpRole::DriverResponse => OpenApiRouter::default()
            .routes(routes!(dispatches::respond))
            .routes(routes!(devices::put_user_device, devices::delete_user_device))
            .routes(routes!(devices::put_driver_device, devices::delete_driver_device))
            .routes(routes!(events::stream))
            .routes(routes!(persons::erase_user))
            .routes(routes!(persons::erase_driver))
            .routes(routes!(persons::export_user))
            .routes(routes!(persons::export_driver)),
        HttpRole::StatusUpdate => OpenApiRouter::default()
            .routes(routes!(dispatches::report))
            .routes(routes!(dispatches::cancel))
            .routes(routes!(drivers::put_driver, drivers::get_driver))
            .routes(routes!(drivers::put_availability))
            .routes(routes!(operations::list_reviews))
            .routes(routes!(operations::cancel))
            .routes(routes!(operations::complete))
            .routes(routes!(operations::release))
            .routes(routes!(operations::close_review))
            .routes(routes!(locations::post_one))
            .routes(routes!(locations::post_batch).layer(DefaultBodyLimit::max(BATCH_BYTES_MAX))),
    }
}
