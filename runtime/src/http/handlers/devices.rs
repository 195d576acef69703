//! Devices that receive push notifications.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use dispatch_core::ids::{DriverId, UserId};
use dispatch_http_types::{DeviceRegistered, PutDevice};

use crate::http::extract::{InPath, JsonBody};
use crate::http::middleware::auth::{AsDriver, AsUser};
use crate::http::openapi::{BodyRefusals, DriverPath, Missing, Refusals, UserPath};
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::http::validate;
use crate::ports::Person;

/// Register a user's device for push notifications.
///
/// Replaces the device registered before: a user has one, and a device belongs to one person. Register again whenever
/// FCM issues a new token to the app. If the response says `push: false`, the city sends no push notifications; listen
/// to `GET /v1/events` instead. The call fails with 404 if the user has no profile or `userId` is not the caller's own
/// id. Repeating it is safe.
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
pub(crate) async fn put_user_device(
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

/// Remove a user's device.
///
/// The user receives no more push notifications; `GET /v1/events` still has them. Call it when the user signs out. It
/// succeeds whether or not a device is registered, and fails with 404 if `userId` is not the caller's own id. Repeating
/// it is safe.
#[utoipa::path(
    delete, path = "/v1/users/{userId}/device", tag = "driver-response", operation_id = "deleteUserDevice",
    security(("bearer" = ["user"])),
    params(UserPath),
    responses((status = 204, description = "No device of the user is registered"), Missing, Refusals)
)]
pub(crate) async fn delete_user_device(
    State(app): State<AppState>,
    AsUser(caller): AsUser,
    InPath(id): InPath<UserId>,
) -> Result<StatusCode, ApiError> {
    let person = Person::User(id);
    caller.must_be(&person)?;
    unregister(&app, &person).await
}

/// Register a driver's device for push notifications.
///
/// Replaces the device registered before: a driver has one, and a device belongs to one person. Register again whenever
/// FCM issues a new token to the app. If the response says `push: false`, the city sends no push notifications; listen
/// to `GET /v1/events` instead. The call fails with 404 if the driver has no profile or `driverId` is not the caller's
/// own id. Repeating it is safe.
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
pub(crate) async fn put_driver_device(
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

/// Remove a driver's device.
///
/// The driver receives no more push notifications; `GET /v1/events` still has them. Call it when the driver signs out.
/// It succeeds whether or not a device is registered, and fails with 404 if `driverId` is not the caller's own id.
/// Repeating it is safe.
#[utoipa::path(
    delete, path = "/v1/drivers/{driverId}/device", tag = "driver-response", operation_id = "deleteDriverDevice",
    security(("bearer" = ["driver"])),
    params(DriverPath),
    responses((status = 204, description = "No device of the driver is registered"), Missing, Refusals)
)]
pub(crate) async fn delete_driver_device(
    State(app): State<AppState>,
    AsDriver(caller): AsDriver,
    InPath(id): InPath<DriverId>,
) -> Result<StatusCode, ApiError> {
    let person = Person::Driver(id);
    caller.must_be(&person)?;
    unregister(&app, &person).await
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
    let Some(device) = ports.devices.register(person, token).await? else {
        return Ok(Json(DeviceRegistered { push: false }));
    };
    // The former owner first and the new one last: after a failure in between, the next attempt starts again.
    if let Some(former) = &device.former_owner {
        ports.profiles.remove_device(former, &device.endpoint_arn).await?;
    }
    if !ports.profiles.set_device(person, &device.endpoint_arn).await? {
        return Err(ApiError::NotFound { what });
    }
    ports.devices.assign(&device.endpoint_arn, person, token).await?;
    Ok(Json(DeviceRegistered { push: true }))
}

/// The endpoint first and the profile last: after a failure in between, the next attempt finds the endpoint again.
async fn unregister(app: &AppState, person: &Person) -> Result<StatusCode, ApiError> {
    let ports = &app.engine.ports;
    if let Some(endpoint) = ports.profiles.device(person).await? {
        ports.devices.unregister(&endpoint, person).await?;
        ports.profiles.remove_device(person, &endpoint).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
