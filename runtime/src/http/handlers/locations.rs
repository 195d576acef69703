//! Positions of drivers. A ping costs one call of the cache and none of the table, except one write for every few dozen
//! points of a live route, and one read if the cache does not know the driver.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::ping_filter;
use dispatch_core::route::RoutePoint;
use dispatch_http_types::{LocationsTaken, PostLocation, PostLocations};

use crate::fleet::{ROUTE_CHUNK_POINTS, fleet_entry};
use crate::http::extract::{InPath, JsonBody};
use crate::http::middleware::auth::{AsDriver, AsOperations};
use crate::http::openapi::{BodyRefusals, DriverPath, Missing};
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::http::validate;
use crate::ports::{Person, Ping, PingOutcome, PortError, RouteTail};

/// Maximum positions in one batch.
const BATCH_MAX: usize = 500;

/// Drivers read from the table in one call, the limit of `ProfileStore::drivers`.
const PROFILES_AT_ONCE: usize = 100;

/// Report a driver's position.
///
/// Send the position every few seconds while the driver is `ACTIVE` or on a dispatch: offers go only to drivers with a
/// recent position, and the positions of a ride make up its route. The status 202 does not mean that the position was
/// accepted: a position that is inaccurate, outdated or implausible, or of a driver without a profile, is counted in
/// `dropped`. Do not retry such a position; send the next one.
///
/// The call fails with 404 if `driverId` is not the caller's own id.
#[utoipa::path(
    post, path = "/v1/drivers/{driverId}/locations", tag = "status-update", operation_id = "postLocation",
    security(("bearer" = ["driver"])),
    request_body = PostLocation,
    params(DriverPath),
    responses(
        (status = 202, description = "The position was accepted or discarded", body = LocationsTaken),
        Missing,
        BodyRefusals,
    )
)]
pub async fn post_one(
    State(app): State<AppState>,
    AsDriver(caller): AsDriver,
    InPath(driver): InPath<DriverId>,
    JsonBody(body): JsonBody<PostLocation>,
) -> Result<(StatusCode, Json<LocationsTaken>), ApiError> {
    caller.must_be(&Person::Driver(driver.clone()))?;
    let position = validate::coordinate("", body.lat, body.lng)?;
    let accuracy_m = validate::ping_accuracy("", body.accuracy_meters)?;
    let phone_at = validate::ping_time("", body.timestamp.as_deref())?;
    let mut given = PingInput::default();
    given.add(Ping { driver, position, at: app.engine.ports.clock.now(), phone_at }, accuracy_m);
    take(&app, given).await
}

/// Report the positions of several drivers.
///
/// For the gateway of a fleet that collects the positions of its drivers. A batch holds at most 500 positions, which
/// are applied in their order. If a field of any entry is not valid, the call fails with 422 and applies none of them.
/// A valid position that is inaccurate, outdated or implausible, or of a driver without a profile, is counted in
/// `dropped`.
#[utoipa::path(
    post, path = "/v1/locations/batch", tag = "status-update", operation_id = "postLocations",
    security(("bearer" = ["operations"])),
    request_body = PostLocations,
    responses(
        (status = 202, description = "How many positions were accepted and discarded", body = LocationsTaken),
        BodyRefusals,
    )
)]
pub async fn post_batch(
    State(app): State<AppState>,
    _: AsOperations,
    JsonBody(body): JsonBody<PostLocations>,
) -> Result<(StatusCode, Json<LocationsTaken>), ApiError> {
    if !(1..=BATCH_MAX).contains(&body.locations.len()) {
        return Err(ApiError::field("locations", format!("must have 1 to {BATCH_MAX} entries")));
    }
    let now = app.engine.ports.clock.now();
    let mut taken = PingInput::default();
    for (index, given) in body.locations.into_iter().enumerate() {
        let entry = validate::Entry(index);
        let driver = validate::driver_id(&format_args!("{entry}driverId"), given.driver_id)?;
        let position = validate::coordinate(&entry, given.lat, given.lng)?;
        let accuracy_m = validate::ping_accuracy(&entry, given.accuracy_meters)?;
        let phone_at = validate::ping_time(&entry, given.timestamp.as_deref())?;
        taken.add(Ping { driver, position, at: now, phone_at }, accuracy_m);
    }
    take(&app, taken).await
}

/// The positions of a request.
#[derive(Default)]
struct PingInput {
    /// Those that are accurate enough to record.
    pings: Vec<Ping>,
    inaccurate: u32,
}

impl PingInput {
    fn add(&mut self, ping: Ping, accuracy_m: Option<f64>) {
        if ping_filter::is_accurate(accuracy_m) {
            self.pings.push(ping);
        } else {
            self.inaccurate += 1;
        }
    }
}

async fn take(app: &AppState, given: PingInput) -> Result<(StatusCode, Json<LocationsTaken>), ApiError> {
    let PingInput { pings, inaccurate } = given;
    let metrics = &app.engine.metrics;
    let recorded = app.engine.ports.fleet.positions.record(&pings).await;
    let mut recorded = recorded.inspect_err(|error| {
        metrics.port_error(error);
        metrics.pings("refused", u32::try_from(pings.len()).unwrap_or(u32::MAX));
    })?;
    introduce_unknown(app, &pings, &mut recorded).await?;
    let (mut accepted, mut outdated, mut implausible, mut unknown) = (0, 0, 0, 0);
    let mut points = Vec::new();
    for (ping, recorded) in pings.iter().zip(recorded) {
        match recorded {
            PingOutcome::Seen => accepted += 1,
            PingOutcome::OnDispatch(dispatch) => {
                points.push((dispatch, RoutePoint { position: ping.position, at: ping.at }));
                accepted += 1;
            }
            PingOutcome::Outdated => outdated += 1,
            PingOutcome::Implausible => implausible += 1,
            PingOutcome::Unknown => unknown += 1,
        }
    }
    extend_routes(app, &points).await;
    metrics.pings("taken", accepted);
    metrics.pings("outdated", outdated);
    metrics.pings("inaccurate", inaccurate);
    metrics.pings("implausible", implausible);
    metrics.pings("unknown", unknown);
    let dropped = outdated + inaccurate + implausible + unknown;
    Ok((StatusCode::ACCEPTED, Json(LocationsTaken { accepted, dropped })))
}

/// Loads drivers that the cache does not know from the table, and records their pings again. Drivers without a profile
/// stay unknown.
async fn introduce_unknown(app: &AppState, pings: &[Ping], recorded: &mut [PingOutcome]) -> Result<(), ApiError> {
    let unknown: Vec<usize> =
        (0..pings.len().min(recorded.len())).filter(|i| recorded[*i] == PingOutcome::Unknown).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let ports = &app.engine.ports;
    let ids: BTreeSet<DriverId> = unknown.iter().map(|index| pings[*index].driver.clone()).collect();
    let ids: Vec<DriverId> = ids.into_iter().collect();
    let mut entries = Vec::with_capacity(ids.len());
    for some in ids.chunks(PROFILES_AT_ONCE) {
        entries.extend(ports.profiles.drivers(some).await?.iter().filter_map(fleet_entry));
    }
    if entries.is_empty() {
        return Ok(());
    }
    ports.fleet.positions.put(&entries).await?;
    let known: BTreeSet<&DriverId> = entries.iter().map(|entry| &entry.driver).collect();
    let again: Vec<usize> = unknown.into_iter().filter(|index| known.contains(&pings[*index].driver)).collect();
    let repeated: Vec<Ping> = again.iter().map(|index| pings[*index].clone()).collect();
    for (index, answer) in again.into_iter().zip(ports.fleet.positions.record(&repeated).await?) {
        recorded[index] = answer;
    }
    Ok(())
}

/// Adds points to the routes of trips. A failure costs route points, but no ping: all of them are recorded already.
async fn extend_routes(app: &AppState, points: &[(DispatchId, RoutePoint)]) {
    if points.is_empty() {
        return;
    }
    let failed = |error: PortError| {
        app.engine.metrics.port_error(&error);
        tracing::warn!(%error, "cannot extend routes");
    };
    match app.engine.ports.fleet.routes.push(points).await {
        Ok(tails) => {
            for (dispatch, tail) in tails {
                store_chunks(app, &dispatch, tail).await.unwrap_or_else(failed);
            }
        }
        Err(error) => failed(error),
    }
}

/// Stores the complete chunks of a tail. A chunk is written first and trimmed afterwards: after a crash in between, or
/// when another request received the same points, it is written again, which changes nothing.
async fn store_chunks(app: &AppState, dispatch: &DispatchId, tail: RouteTail) -> Result<(), PortError> {
    let ports = &app.engine.ports;
    for (number, chunk) in (tail.next_chunk..).zip(tail.points.chunks_exact(ROUTE_CHUNK_POINTS)) {
        ports.dispatches.append_route(dispatch, number, chunk).await?;
        ports.fleet.routes.trim(dispatch, number, chunk.len()).await?;
    }
    Ok(())
}
