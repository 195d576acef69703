//! Profiles of users.

use axum::Json;
use axum::extract::State;
use dispatch_core::ids::UserId;
use dispatch_http_types::{PutUser, UserProfile};

use crate::http::extract::{InPath, JsonBody};
use crate::http::middleware::auth::{AsUser, Caller};
use crate::http::openapi::{BodyRefusals, Missing, Refusals, UserPath};
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::http::{convert, validate};
use crate::ports::Person;

/// Create or replace a user's profile.
///
/// Replaces the phone number, the payment methods, the preferences and the location. The user's status does not change;
/// a new user is `ACTIVE`. A user needs a profile to request rides. The call fails with 404 if `userId` is not the
/// caller's own id. Repeating it is safe.
#[utoipa::path(
    put, path = "/v1/users/{userId}", tag = "save-dispatch", operation_id = "putUser",
    security(("bearer" = ["user"])),
    request_body = PutUser,
    params(UserPath),
    responses((status = 200, description = "The stored profile", body = UserProfile), Missing, BodyRefusals)
)]
pub(crate) async fn put_user(
    State(app): State<AppState>,
    AsUser(caller): AsUser,
    InPath(id): InPath<UserId>,
    JsonBody(body): JsonBody<PutUser>,
) -> Result<Json<UserProfile>, ApiError> {
    caller.must_be(&Person::User(id.clone()))?;
    let profile = validate::user_profile(body)?;
    let ports = &app.engine.ports;
    let item = ports.profiles.put_user(&id, profile, ports.clock.now()).await?;
    Ok(Json(convert::user(item)))
}

/// Read a user's profile.
///
/// The profile is visible to the user and to callers with the scope `operations`. For every other user, and if there is
/// no profile, the call fails with 404.
#[utoipa::path(
    get, path = "/v1/users/{userId}", tag = "save-dispatch", operation_id = "getUser",
    security(("bearer" = ["user"]), ("bearer" = ["operations"])),
    params(UserPath),
    responses(
        (status = 200, description = "The profile", body = UserProfile),
        Missing,
        Refusals,
    )
)]
pub(crate) async fn get_user(
    State(app): State<AppState>,
    caller: Caller,
    InPath(id): InPath<UserId>,
) -> Result<Json<UserProfile>, ApiError> {
    caller.may_read(&Person::User(id.clone()))?;
    let item = app.engine.ports.profiles.user(&id).await?.ok_or(ApiError::NotFound { what: "user" })?;
    Ok(Json(convert::user(item)))
}
