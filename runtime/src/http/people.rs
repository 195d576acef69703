//! Users and drivers: profiles, devices, availability.

use axum::Json;
use axum::extract::State;
use dispatch_core::ids::{DriverId, UserId};

use super::AppState;
use super::api_doc::{BodyRefusals, Conflict, DriverPath, Missing, Refusals, UserPath};
use super::caller::{AsDriver, AsUser, Caller};
use super::dispatches::current_of;
use super::dto::{
    AvailabilityStatus, DeviceRegistered, DriverProfile, PutAvailability, PutDevice, PutDriver, PutUser, UserProfile,
};
use super::extract::{InPath, JsonBody};
use super::problem::ApiError;
use super::{check, present};
use crate::fleet::fleet_entry;
use crate::port::{AvailabilityChange, FleetEntry, Person, PortError};
use crate::store::entity::{DriverItem, PersonStatus};

/// Make or change a user's profile.
#[utoipa::path(
    put, path = "/v1/users/{userId}", tag = "save-dispatch", operation_id = "putUser",
    security(("bearer" = ["user"])),
    request_body = PutUser,
    params(UserPath),
    responses((status = 200, description = "The profile as it now is", body = UserProfile), Missing, BodyRefusals)
)]
pub async fn put_user(
    State(app): State<AppState>,
    AsUser(caller): AsUser,
    InPath(id): InPath<UserId>,
    JsonBody(body): JsonBody<PutUser>,
) -> Result<Json<UserProfile>, ApiError> {
    caller.must_be(&Person::User(id.clone()))?;
    let profile = check::user_profile(body)?;
    let ports = &app.engine.ports;
    let item = ports.profiles.put_user(&id, profile, ports.clock.now()).await?;
    Ok(Json(present::user(item)))
}

/// Read a user's own profile.
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
pub async fn get_user(
    State(app): State<AppState>,
    caller: Caller,
    InPath(id): InPath<UserId>,
) -> Result<Json<UserProfile>, ApiError> {
    caller.may_read(&Person::User(id.clone()))?;
    let item = app.engine.ports.profiles.user(&id).await?.ok_or(ApiError::NotFound { what: "user" })?;
    Ok(Json(present::user(item)))
}

/// Make or change a driver's profile. A new driver is `INACTIVE`.
#[utoipa::path(
    put, path = "/v1/drivers/{driverId}", tag = "status-update", operation_id = "putDriver",
    security(("bearer" = ["driver"])),
    request_body = PutDriver,
    params(DriverPath),
    responses((status = 200, description = "The profile as it now is", body = DriverProfile), Missing, BodyRefusals)
)]
pub async fn put_driver(
    State(app): State<AppState>,
    AsDriver(caller): AsDriver,
    InPath(id): InPath<DriverId>,
    JsonBody(body): JsonBody<PutDriver>,
) -> Result<Json<DriverProfile>, ApiError> {
    caller.must_be(&Person::Driver(id.clone()))?;
    let profile = check::driver_profile(body)?;
    let ports = &app.engine.ports;
    let item = ports.profiles.put_driver(&id, profile, ports.clock.now()).await?;
    if item.current_status.status != PersonStatus::Inactive {
        refresh_cache(&app, &item).await;
    }
    Ok(Json(present::driver(item)))
}

/// Read a driver's own profile.
#[utoipa::path(
    get, path = "/v1/drivers/{driverId}", tag = "status-update", operation_id = "getDriver",
    security(("bearer" = ["driver"]), ("bearer" = ["operations"])),
    params(DriverPath),
    responses(
        (status = 200, description = "The profile", body = DriverProfile),
        Missing,
        Refusals,
    )
)]
pub async fn get_driver(
    State(app): State<AppState>,
    caller: Caller,
    InPath(id): InPath<DriverId>,
) -> Result<Json<DriverProfile>, ApiError> {
    caller.may_read(&Person::Driver(id.clone()))?;
    let found = app.engine.ports.profiles.drivers(std::slice::from_ref(&id)).await?.pop();
    Ok(Json(present::driver(found.ok_or(ApiError::NotFound { what: "driver" })?)))
}

/// Register a user's device for push notifications.
#[utoipa::path(
    put, path = "/v1/users/{userId}/device", tag = "driver-response", operation_id = "putUserDevice",
    security(("bearer" = ["user"])),
    request_body = PutDevice,
    params(UserPath),
    responses(
        (status = 200, description = "Whether the device gets push notifications", body = DeviceRegistered),
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
    check::device_token(&body.token)?;
    if app.engine.ports.profiles.user(&id).await?.is_none() {
        return Err(ApiError::NotFound { what: "user" });
    }
    register(&app, &Person::User(id), &body.token, "user").await
}

/// Register a driver's device for push notifications.
#[utoipa::path(
    put, path = "/v1/drivers/{driverId}/device", tag = "driver-response", operation_id = "putDriverDevice",
    security(("bearer" = ["driver"])),
    request_body = PutDevice,
    params(DriverPath),
    responses(
        (status = 200, description = "Whether the device gets push notifications", body = DeviceRegistered),
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
    check::device_token(&body.token)?;
    if app.engine.ports.profiles.drivers(std::slice::from_ref(&id)).await?.is_empty() {
        return Err(ApiError::NotFound { what: "driver" });
    }
    register(&app, &Person::Driver(id), &body.token, "driver").await
}

/// The person is known to exist before an endpoint is made, so that strangers cannot fill the platform application.
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

/// Begin or end to be offered dispatches.
#[utoipa::path(
    put, path = "/v1/drivers/{driverId}/availability", tag = "status-update", operation_id = "putAvailability",
    security(("bearer" = ["driver"])),
    request_body = PutAvailability,
    params(DriverPath),
    responses(
        (status = 200, description = "The profile as it now is", body = DriverProfile),
        Missing,
        Conflict,
        BodyRefusals,
    )
)]
pub async fn put_availability(
    State(app): State<AppState>,
    AsDriver(caller): AsDriver,
    InPath(id): InPath<DriverId>,
    JsonBody(body): JsonBody<PutAvailability>,
) -> Result<Json<DriverProfile>, ApiError> {
    caller.must_be(&Person::Driver(id.clone()))?;
    let (position, location) = check::location("location", &body.location)?;
    let ports = &app.engine.ports;
    let now = ports.clock.now();
    let status = match body.status {
        AvailabilityStatus::Active => PersonStatus::Active,
        AvailabilityStatus::Inactive => PersonStatus::Inactive,
    };
    match ports.profiles.set_availability(&id, status, &location, now).await? {
        AvailabilityChange::Done(item) => {
            let cached = match (body.status, fleet_entry(&item)) {
                // The item's time has whole seconds; the cache orders pings by milliseconds.
                (AvailabilityStatus::Active, Some(entry)) => {
                    ports.fleet.put(&[FleetEntry { position, seen_at: now, ..entry }]).await
                }
                _ => ports.fleet.set_status(&id, status, None).await,
            };
            note_cache(&app, cached);
            Ok(Json(present::driver(*item)))
        }
        AvailabilityChange::OnDispatch { current } => {
            Err(ApiError::DriverBusy { current: current_of(&app, current).await? })
        }
        AvailabilityChange::UnknownDriver => Err(ApiError::NotFound { what: "driver" }),
    }
}

async fn refresh_cache(app: &AppState, item: &DriverItem) {
    if let Some(entry) = fleet_entry(item) {
        note_cache(app, app.engine.ports.fleet.put(&[entry]).await);
    }
}

/// The table has decided already: a cache that cannot hear of it now learns it with the driver's next ping.
fn note_cache(app: &AppState, cached: Result<(), PortError>) {
    if let Err(error) = cached {
        app.engine.metrics.port_error(&error);
        tracing::warn!(%error, "the cache did not hear of a driver's change");
    }
}
