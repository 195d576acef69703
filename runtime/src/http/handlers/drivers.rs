//! Profiles and availability of drivers.

use axum::Json;
use axum::extract::State;
use dispatch_core::ids::DriverId;
use dispatch_core::person::PersonStatus;
use dispatch_http_types::{AvailabilityStatus, DriverProfile, PutAvailability, PutDriver};

use crate::adapters::fleet::fleet_entry;
use crate::http::extract::{InPath, JsonBody};
use crate::http::handlers::dispatches::current_of;
use crate::http::middleware::auth::{AsDriver, Caller};
use crate::http::openapi::{BodyRefusals, Conflict, DriverPath, Missing, Refusals};
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::http::{convert, validate, view};
use crate::ports::{AvailabilityChange, Driver, FleetEntry, Person, PortError};

/// Create or replace a driver's profile.
///
/// Replaces the phone number, the vehicle and the preferences. The driver's status does not change; a new driver is
/// `INACTIVE` and receives no offers until the availability is set to `ACTIVE`. The call fails with 404 if `driverId`
/// is not the caller's own id. Repeating it is safe.
#[utoipa::path(
    put, path = "/v1/drivers/{driverId}", tag = "status-update", operation_id = "putDriver",
    security(("bearer" = ["driver"])),
    request_body = PutDriver,
    params(DriverPath),
    responses((status = 200, description = "The stored profile", body = DriverProfile), Missing, BodyRefusals)
)]
pub(crate) async fn put_driver(
    State(app): State<AppState>,
    AsDriver(caller): AsDriver,
    InPath(id): InPath<DriverId>,
    JsonBody(body): JsonBody<PutDriver>,
) -> Result<Json<DriverProfile>, ApiError> {
    caller.must_be(&Person::Driver(id.clone()))?;
    let profile = validate::driver_profile(body)?;
    let ports = &app.engine.ports;
    let item = ports.profiles.put_driver(&id, profile, ports.clock.now()).await?;
    if item.current_status.status != PersonStatus::Inactive {
        refresh_cache(&app, &item).await;
    }
    Ok(Json(convert::driver(item)))
}

/// Read a driver's profile.
///
/// The profile is visible to the driver and to callers with the scope `operations`. For every other driver, and if
/// there is no profile, the call fails with 404.
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
pub(crate) async fn get_driver(
    State(app): State<AppState>,
    caller: Caller,
    InPath(id): InPath<DriverId>,
) -> Result<Json<DriverProfile>, ApiError> {
    caller.may_read(&Person::Driver(id.clone()))?;
    let found = app.engine.ports.profiles.drivers(std::slice::from_ref(&id)).await?.pop();
    let found = found.ok_or(ApiError::NotFound { what: "driver" })?;
    Ok(Json(view::driver(&app, &caller, found)))
}

/// Start or stop receiving offers.
///
/// An `ACTIVE` driver receives offers as long as the driver's position is recent, which means no older than 30 seconds
/// unless the city sets another limit: report it every few seconds. An `INACTIVE` driver receives no offers, and cannot
/// accept an offer that is still open.
///
/// The call fails with 409 (`driver-busy`) while the driver is on a dispatch, and with 404 if the driver has no profile
/// or `driverId` is not the caller's own id. Repeating it is safe.
#[utoipa::path(
    put, path = "/v1/drivers/{driverId}/availability", tag = "status-update", operation_id = "putAvailability",
    security(("bearer" = ["driver"])),
    request_body = PutAvailability,
    params(DriverPath),
    responses(
        (status = 200, description = "The stored profile", body = DriverProfile),
        Missing,
        Conflict,
        BodyRefusals,
    )
)]
pub(crate) async fn put_availability(
    State(app): State<AppState>,
    AsDriver(caller): AsDriver,
    InPath(id): InPath<DriverId>,
    JsonBody(body): JsonBody<PutAvailability>,
) -> Result<Json<DriverProfile>, ApiError> {
    caller.must_be(&Person::Driver(id.clone()))?;
    let (position, location) = validate::location("location", &body.location)?;
    let ports = &app.engine.ports;
    let now = ports.clock.now();
    let status = match body.status {
        AvailabilityStatus::Active => PersonStatus::Active,
        AvailabilityStatus::Inactive => PersonStatus::Inactive,
    };
    match app.engine.set_availability(&id, status, &location).await? {
        AvailabilityChange::Done(item) => {
            let cached = match (body.status, fleet_entry(&item)) {
                // The item stores whole seconds, but the cache orders pings by milliseconds.
                (AvailabilityStatus::Active, Some(entry)) => {
                    ports.fleet.positions.put(&[FleetEntry { position, seen_at: now, ..entry }]).await
                }
                _ => ports.fleet.reservations.set_status(&id, status, None).await,
            };
            note_cache(&app, cached);
            Ok(Json(convert::driver(*item)))
        }
        AvailabilityChange::OnDispatch { current } => {
            Err(ApiError::DriverBusy { current: current_of(&app, &caller, current).await? })
        }
        AvailabilityChange::UnknownDriver => Err(ApiError::NotFound { what: "driver" }),
    }
}

async fn refresh_cache(app: &AppState, item: &Driver) {
    if let Some(entry) = fleet_entry(item) {
        note_cache(app, app.engine.ports.fleet.positions.put(&[entry]).await);
    }
}

/// The change is already stored in the table, so a failed cache update is only logged: the driver's next ping repeats
/// it.
fn note_cache(app: &AppState, cached: Result<(), PortError>) {
    if let Err(error) = cached {
        app.engine.metrics.port_error(&error);
        tracing::warn!(%error, "cannot update the driver in the cache; the next ping updates it");
    }
}
