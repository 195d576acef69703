//! Devices that receive push notifications.

use axum::Json;
use axum::extract::State;
use dispatch_core::ids::{DriverId, UserId};
use dispatch_http_types::{DeviceRegistered, PutDevice};

use crate::http::extract::{InPath, JsonBody};
use crate::http::middleware::auth::{AsDriver, AsUser};
use crate::http::openapi::{BodyRefusals, DriverPath, Missing, UserPath};
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::http::validate;
use crate::ports::Person;

/// Register a user's device for push notifications.
///
/// Replaces the device registered before: a user has one. Register again whenever FCM issues a new token to the app. If
/// the response says `push: false`, the city sends no push notifications; listen to `GET /v1/events` instead. The call
/// fails with 404 if the user has no profile or `userId` is not the caller's own id. Repeating it is safe.
#[utoipa::path(
    put, path = "/v1/users/{userId}/device", tag = "driver-response", operation_id = "putUserDevice",
    security(("bearer" = ["user"])),
    request_body = PutDevice,
    params(UserPath),
    responses(
        (status = 200, description = "Whether the device receives push notifications", body = DeviceRegistered),
        Missing,
        BodyRefusals,
    )
)]
pub async fn put_user_device(
    State(app): State<AppState>,
    AsUser(caller): AsUser,
    InPath(id): InPath<UserId>,
    JsonBody(body): JsonBody<PutDevice>,
) -> Result<Json<DeviceRegistered>, ApiError> {
    caller.must_be(&Person::User(id.clone()))?;
    validate::device_token(&body.token)?;
    if app.engine.ports.profiles.user(&id).await?.is_none() {
        return Err(ApiError::NotFound { what: "user" });
    }
    register(&app, &Person::User(id), &body.token, "user").await
}

/// Register a driver's device for push notifications.
///
/// Replaces the device registered before: a driver has one. Register again whenever FCM issues a new token to the app.
/// If the response says `push: false`, the city sends no push notifications; listen to `GET /v1/events` instead. The
/// call fails with 404 if the driver has no profile or `driverId` is not the caller's own id. Repeating it is safe.
#[utoipa::path(
    put, path = "/v1/drivers/{driverId}/device", tag = "driver-response", operation_id = "putDriverDevice",
    security(("bearer" = ["driver"])),
    request_body = PutDevice,
    params(DriverPath),
    responses(
        (status = 200, description = "Whether the device receives push notifications", body = DeviceRegistered),
        Missing,
        BodyRefusals,
    )
)]
pub async fn put_driver_device(
    State(app): State<AppState>,
    AsDriver(caller): AsDriver,
    InPath(id): InPath<DriverId>,
    JsonBody(body): JsonBody<PutDevice>,
) -> Result<Json<DeviceRegistered>, ApiError> {
    caller.must_be(&Person::Driver(id.clone()))?;
    validate::device_token(&body.token)?;
    if app.engine.ports.profiles.drivers(std::slice::from_ref(&id)).await?.is_empty() {
        return Err(ApiError::NotFound { what: "driver" });
    }
    register(&app, &Person::Driver(id), &body.token, "driver").await
}

/// Callers check that the profile exists before an endpoint is created, so that callers without a profile cannot fill
/// the platform application with endpoints.
async fn register(
    app: &AppState,
    person: &Person,
    token: &str,
    what: &'static str,
) -> Result<Json<DeviceRegistered>, ApiError> {
    let ports = &app.engine.ports;
    let Some(endpoint) = ports.devices.register(person, token).await? else {
        return Ok(Json(DeviceRegistered { push: false }));
    };
    if ports.profiles.set_device(person, &endpoint).await? {
        Ok(Json(DeviceRegistered { push: true }))
    } else {
        Err(ApiError::NotFound { what })
    }
}
