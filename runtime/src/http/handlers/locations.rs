//! Positions of drivers. A ping costs one call of the cache and none of the table, except one write for every few dozen
//! points of a live route, and one read if the cache does not know the driver.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::ping_filter;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use dispatch_http_types::{BatchLocation, LocationsTaken, PostLocation, PostLocations, RejectedLocation};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::adapters::fleet::{ROUTE_CHUNK_POINTS, fleet_entry};
use crate::http::extract::{InPath, JsonBody, WHOLE_BODY, read_body, read_json};
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
pub(crate) async fn post_one(
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

/// A batch whose entries were read one by one.
pub(crate) struct Batch(Vec<Result<BatchLocation, ApiError>>);

impl<S: Send + Sync> FromRequest<S> for Batch {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = read_body(request, state).await?;
        // Most batches are valid as a whole; only the others are read a second time, entry by entry.
        let Ok(PostLocations { locations }) = read_json(&body) else {
            let RawBatch { locations } = read_json(&body)?;
            check_length(locations.len())?;
            let read = |(index, entry): (usize, &RawValue)| {
                read_json(entry.get().as_bytes()).map_err(|error| in_entry(index, error))
            };
            return Ok(Self(locations.into_iter().enumerate().map(read).collect()));
        };
        check_length(locations.len())?;
        Ok(Self(locations.into_iter().map(Ok).collect()))
    }
}

/// [`PostLocations`] with unread entries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch<'a> {
    #[serde(borrow)]
    locations: Vec<&'a RawValue>,
}

fn check_length(length: usize) -> Result<(), ApiError> {
    if (1..=BATCH_MAX).contains(&length) {
        return Ok(());
    }
    Err(ApiError::field("locations", format!("must have 1 to {BATCH_MAX} entries")))
}

/// The error of an entry that was read as a document of its own.
fn in_entry(index: usize, error: ApiError) -> ApiError {
    let entry = validate::Entry(index);
    match error {
        ApiError::Field { field, detail } if field == WHOLE_BODY => ApiError::field(entry.whole(), detail),
        ApiError::Field { field, detail } => ApiError::field(format!("{entry}{field}"), detail),
        _ => ApiError::field(entry.whole(), "is not valid"),
    }
}

/// Report the positions of several drivers.
///
/// For the gateway of a fleet that collects the positions of its drivers. A batch holds at most 500 positions, which
/// are applied in their order. An entry with a field that is not valid is listed in `rejected`, and the other entries
/// are applied; if no entry is valid, the call fails with 422. A valid position that is inaccurate, outdated or
/// implausible, or of a driver without a profile, is counted in `dropped`.
#[utoipa::path(
    post, path = "/v1/locations/batch", tag = "status-update", operation_id = "postLocations",
    security(("bearer" = ["operations"])),
    request_body = PostLocations,
    responses(
        (status = 202, description = "How many positions were accepted and discarded, and which entries are not valid",
            body = LocationsTaken),
        BodyRefusals,
    )
)]
pub(crate) async fn post_batch(
    State(app): State<AppState>,
    _: AsOperations,
    Batch(batch): Batch,
) -> Result<(StatusCode, Json<LocationsTaken>), ApiError> {
    let now = app.engine.ports.clock.now();
    let mut taken = PingInput::default();
    for (index, entry) in batch.into_iter().enumerate() {
        match entry.and_then(|given| ping(index, given, now)) {
            Ok((ping, accuracy_m)) => taken.add(ping, accuracy_m),
            Err(error) => taken.reject(index, error)?,
        }
    }
    if taken.pings.is_empty()
        && taken.inaccurate == 0
        && let Some(RejectedLocation { field, detail, .. }) = taken.rejected.first()
    {
        return Err(ApiError::field(field, detail));
    }
    take(&app, taken).await
}

/// An entry of a batch with its accuracy.
fn ping(index: usize, given: BatchLocation, now: EpochMs) -> Result<(Ping, Option<f64>), ApiError> {
    let entry = validate::Entry(index);
    let driver = validate::driver_id(&format_args!("{entry}driverId"), given.driver_id)?;
    let position = validate::coordinate(&entry, given.lat, given.lng)?;
    let accuracy_m = validate::ping_accuracy(&entry, given.accuracy_meters)?;
    let phone_at = validate::ping_time(&entry, given.timestamp.as_deref())?;
    Ok((Ping { driver, position, at: now, phone_at }, accuracy_m))
}

/// The positions of a request.
#[derive(Default)]
struct PingInput {
    /// Those that are accurate enough to record.
    pings: Vec<Ping>,
    inaccurate: u32,
    rejected: Vec<RejectedLocation>,
}

impl PingInput {
    fn add(&mut self, ping: Ping, accuracy_m: Option<f64>) {
        if ping_filter::is_accurate(accuracy_m) {
            self.pings.push(ping);
        } else {
            self.inaccurate += 1;
        }
    }

    /// Lists an entry that is not valid. Other errors fail the batch.
    fn reject(&mut self, index: usize, error: ApiError) -> Result<(), ApiError> {
        let ApiError::Field { field, detail } = error else { return Err(error) };
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.rejected.push(RejectedLocation { index, field, detail });
        Ok(())
    }
}

async fn take(app: &AppState, given: PingInput) -> Result<(StatusCode, Json<LocationsTaken>), ApiError> {
    let PingInput { pings, inaccurate, rejected } = given;
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
    metrics.pings("invalid", u32::try_from(rejected.len()).unwrap_or(u32::MAX));
    let dropped = outdated + inaccurate + implausible + unknown;
    Ok((StatusCode::ACCEPTED, Json(LocationsTaken { accepted, dropped, rejected })))
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
