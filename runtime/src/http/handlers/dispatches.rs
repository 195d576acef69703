//! Dispatches: request, read, list, answer, report, cancel.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dispatch_core::dispatch::{Event, TripEvent};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_http_types::{
    Answer, CancelDispatch, CreateDispatch, Dispatch, DispatchPage, ListQuery, OfferResponse, TripReport,
};
use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::http::extract::{IdempotencyKey, InPath, JsonBody, StrictQuery};
use crate::http::idempotency::{Asked, once};
use crate::http::middleware::auth::{AsDriver, AsUser, Caller};
use crate::http::openapi::{
    BodyRefusals, Conflict, DispatchPath, DriverPath, IdempotencyKeyHeader, Missing, Refusals, UserPath,
};
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::http::{convert, validate};
use crate::ports::{CreateOutcome, NewDispatch, Owner, Page, Person, StoredDispatch};
use crate::store::is_page_token;

/// Entries of a page where the client does not say.
const PAGE_DEFAULT: u16 = 20;
/// Entries of a page at most: a finished dispatch with its route has some 20 KB.
const PAGE_MAX: u16 = 100;

/// Request a ride.
///
/// The fare is estimated by the city's table and the search for a driver begins at once. A request that is repeated with the
/// same Idempotency-Key gives the dispatch it made the first time.
#[utoipa::path(
    post, path = "/v1/dispatches", tag = "save-dispatch", operation_id = "createDispatch",
    security(("bearer" = ["user"])),
    request_body = CreateDispatch,
    params(IdempotencyKeyHeader),
    responses(
        (status = 201, description = "The dispatch is stored", body = Dispatch,
            headers(("Location" = String, description = "Path of the dispatch"))),
        (status = 200, description = "The dispatch was stored before, by a request with the same Idempotency-Key",
            body = Dispatch, headers(("Location" = String, description = "Path of the dispatch"))),
        Missing,
        Conflict,
        BodyRefusals,
    )
)]
pub async fn create(
    State(app): State<AppState>,
    AsUser(caller): AsUser,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<CreateDispatch>,
) -> Result<Response, ApiError> {
    let new = new_dispatch(&app, key.as_deref(), &body)?;
    caller.must_be(&Person::User(new.user.clone()))?;
    let (pickup, destination) = (new.pickup.clone(), new.destination.clone());
    match app.engine.create(new).await? {
        CreateOutcome::Stored(stored) => Ok(created(StatusCode::CREATED, &stored)),
        CreateOutcome::Existed(stored)
            if stored.item.pickup_location == pickup && stored.item.destination == destination =>
        {
            Ok(created(StatusCode::OK, &stored))
        }
        CreateOutcome::Existed(_) => Err(ApiError::KeyReused),
        CreateOutcome::UserBusy { current } => Err(ApiError::UserBusy { current: current_of(&app, current).await? }),
        CreateOutcome::UnknownUser => Err(ApiError::NotFound { what: "user" }),
    }
}

fn new_dispatch(app: &AppState, key: Option<&str>, body: &CreateDispatch) -> Result<NewDispatch, ApiError> {
    let user = validate::user_id("userId", &body.user_id)?;
    let (from, pickup) = validate::location("pickupLocation", &body.pickup_location)?;
    let (to, destination) = validate::location("destination", &body.destination)?;
    let (city, now) = (&app.engine.city, app.engine.ports.clock.now());
    let settings = city.settings();
    let suffix = match key {
        Some(key) => suffix_of_key(&user, key),
        None => Ulid::from_parts(now.0.unsigned_abs(), Ulid::generate().random()).to_string(),
    };
    let id = DispatchId::from_suffix(&suffix).map_err(|error| ApiError::field("dispatchId", error.to_string()))?;
    Ok(NewDispatch {
        id,
        user,
        pickup,
        destination,
        estimated_fare: settings.fare.estimate(from, to, city.minute_of_day(now)).amount,
        max_attempts: settings.policy.max_attempts,
        search_until: now.plus_ms(settings.policy.search_budget_ms),
        now,
    })
}

/// The id a key stands for: 128 bits of a hash over user and key, spelled like any other id. The separator occurs in neither.
fn suffix_of_key(user: &UserId, key: &str) -> String {
    let digest = Sha256::new().chain_update(user.as_str()).chain_update([0]).chain_update(key).finalize();
    let mut bits = [0; 16];
    bits.copy_from_slice(&digest[..16]);
    Ulid::from_bytes(bits).to_string()
}

fn created(status: StatusCode, stored: &StoredDispatch) -> Response {
    let mut response = (status, Json(convert::dispatch(stored))).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/dispatches/{}", stored.state.id.suffix())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The dispatch somebody is on, for a conflict's `current`.
pub(super) async fn current_of(app: &AppState, id: Option<DispatchId>) -> Result<Option<Box<Dispatch>>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let stored = app.engine.ports.dispatches.load(&id).await?;
    Ok(stored.map(|stored| Box::new(convert::dispatch(&stored))))
}

/// Read a dispatch.
///
/// It is shown to its user, to the driver who is asked or drives, and to operators.
#[utoipa::path(
    get, path = "/v1/dispatches/{dispatchId}", tag = "save-dispatch", operation_id = "getDispatch",
    security(("bearer" = ["user"]), ("bearer" = ["driver"]), ("bearer" = ["operations"])),
    params(DispatchPath),
    responses(
        (status = 200, description = "The dispatch", body = Dispatch),
        Missing,
        Refusals,
    )
)]
pub async fn read(
    State(app): State<AppState>,
    caller: Caller,
    InPath(id): InPath<DispatchId>,
) -> Result<Json<Dispatch>, ApiError> {
    let stored = app.engine.ports.dispatches.load(&id).await?;
    let stored = stored.filter(|stored| caller.sees(stored)).ok_or(ApiError::NotFound { what: "dispatch" })?;
    Ok(Json(convert::dispatch(&stored)))
}

/// List the dispatches a user asked for, newest first.
#[utoipa::path(
    get, path = "/v1/users/{userId}/dispatches", tag = "save-dispatch", operation_id = "listUserDispatches",
    security(("bearer" = ["user"]), ("bearer" = ["operations"])),
    params(UserPath, ListQuery),
    responses((status = 200, description = "One page", body = DispatchPage), Missing, Refusals)
)]
pub async fn list_of_user(
    State(app): State<AppState>,
    caller: Caller,
    InPath(user): InPath<UserId>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<DispatchPage>, ApiError> {
    caller.may_read(&Person::User(user.clone()))?;
    list(&app, &Owner::User(user), query).await
}

/// List the dispatches a driver completed, newest first.
#[utoipa::path(
    get, path = "/v1/drivers/{driverId}/dispatches", tag = "save-dispatch", operation_id = "listDriverDispatches",
    security(("bearer" = ["driver"]), ("bearer" = ["operations"])),
    params(
        DriverPath,
        ListQuery,
    ),
    responses((status = 200, description = "One page", body = DispatchPage), Missing, Refusals)
)]
pub async fn list_of_driver(
    State(app): State<AppState>,
    caller: Caller,
    InPath(driver): InPath<DriverId>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<DispatchPage>, ApiError> {
    caller.may_read(&Person::Driver(driver.clone()))?;
    list(&app, &Owner::Driver(driver), query).await
}

async fn list(app: &AppState, owner: &Owner, query: ListQuery) -> Result<Json<DispatchPage>, ApiError> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::field("limit", format!("must be 1 to {PAGE_MAX}")));
    }
    if query.after.as_ref().is_some_and(|after| !is_page_token(after)) {
        return Err(ApiError::field("after", "must be the `next` of a page"));
    }
    let Page { items, next } = app.engine.ports.dispatches.list(owner, limit, query.after).await?;
    Ok(Json(DispatchPage { dispatches: items.iter().map(convert::dispatch).collect(), next }))
}

/// Answer an offer.
///
/// The answer counts while the offer is open, for the driver who was asked. Repeating an accepted answer gives the same result,
/// and with the same Idempotency-Key any answer that counted is given again as it was.
#[utoipa::path(
    post, path = "/v1/dispatches/{dispatchId}/response", tag = "driver-response", operation_id = "respondToOffer",
    security(("bearer" = ["driver"])),
    request_body = OfferResponse,
    params(DispatchPath, IdempotencyKeyHeader),
    responses(
        (status = 200, description = "The answer counts", body = Dispatch),
        Missing,
        Conflict,
        BodyRefusals,
    )
)]
pub async fn respond(
    State(app): State<AppState>,
    AsDriver(caller): AsDriver,
    InPath(id): InPath<DispatchId>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<OfferResponse>,
) -> Result<Response, ApiError> {
    let driver = of_caller(&caller, &body.driver_id)?;
    if body.offer_seq == 0 {
        return Err(ApiError::field("offerSeq", "must be at least 1"));
    }
    let event = match body.response {
        Answer::Accept => Event::Accept { driver, offer_seq: body.offer_seq },
        Answer::Reject => Event::Reject { driver, offer_seq: body.offer_seq },
    };
    let asked = Asked { caller: &caller, operation: "respondToOffer", of: id.as_str(), body: &body, key };
    once(&app, asked, apply(&app, &caller, &id, event)).await
}

/// A dispatch exists for the driver who calls: another driver's looks like none.
fn of_caller(caller: &Caller, named: &str) -> Result<DriverId, ApiError> {
    let driver = caller.driver()?;
    let is = validate::driver_id("driverId", named)? == *driver;
    if is { Ok(driver.clone()) } else { Err(ApiError::NotFound { what: "dispatch" }) }
}

/// Report how a trip goes on.
///
/// `TRIP_COMPLETED` measures the route, counts the fare and frees user and driver. Repeating a report gives the same result.
#[utoipa::path(
    post, path = "/v1/dispatches/{dispatchId}/events", tag = "status-update", operation_id = "reportTripEvent",
    security(("bearer" = ["driver"])),
    request_body = TripReport,
    params(DispatchPath, IdempotencyKeyHeader),
    responses(
        (status = 200, description = "The report counts", body = Dispatch),
        Missing,
        Conflict,
        BodyRefusals,
    )
)]
pub async fn report(
    State(app): State<AppState>,
    AsDriver(caller): AsDriver,
    InPath(id): InPath<DispatchId>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<TripReport>,
) -> Result<Response, ApiError> {
    let driver = of_caller(&caller, &body.driver_id)?;
    let asked = Asked { caller: &caller, operation: "reportTripEvent", of: id.as_str(), body: &body, key };
    let event = match body.event_type {
        TripEvent::TripCompleted => return once(&app, asked, complete(&app, &caller, &id, &driver)).await,
        event => event,
    };
    once(&app, asked, apply(&app, &caller, &id, Event::Trip { driver, event })).await
}

async fn complete(
    app: &AppState,
    caller: &Caller,
    id: &DispatchId,
    driver: &DriverId,
) -> Result<Json<Dispatch>, ApiError> {
    let completed = app.engine.complete_trip(id, driver).await;
    let applied = completed.map_err(|error| ApiError::of_event(error, |dispatch| caller.sees(dispatch)))?;
    Ok(Json(convert::dispatch(&applied.stored)))
}

/// Cancel a dispatch.
///
/// The user can cancel until the passenger is on board, the driver after accepting. Repeating it gives the same result.
#[utoipa::path(
    post, path = "/v1/dispatches/{dispatchId}/cancel", tag = "status-update", operation_id = "cancelDispatch",
    security(("bearer" = ["user"]), ("bearer" = ["driver"])),
    request_body = CancelDispatch,
    params(DispatchPath, IdempotencyKeyHeader),
    responses(
        (status = 200, description = "It is cancelled", body = Dispatch),
        Missing,
        Conflict,
        BodyRefusals,
    )
)]
pub async fn cancel(
    State(app): State<AppState>,
    caller: Caller,
    InPath(id): InPath<DispatchId>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<CancelDispatch>,
) -> Result<Response, ApiError> {
    let event = match (&body.user_id, &body.driver_id) {
        (Some(named), None) => {
            let user = caller.user()?.clone();
            if validate::user_id("userId", named)? != user {
                return Err(ApiError::NotFound { what: "dispatch" });
            }
            Event::CancelByUser { user }
        }
        (None, Some(named)) => Event::CancelByDriver { driver: of_caller(&caller, named)? },
        _ => return Err(ApiError::field("userId", "name who cancels: userId or driverId, exactly one of both")),
    };
    let asked = Asked { caller: &caller, operation: "cancelDispatch", of: id.as_str(), body: &body, key };
    once(&app, asked, apply(&app, &caller, &id, event)).await
}

async fn apply(app: &AppState, caller: &Caller, id: &DispatchId, event: Event) -> Result<Json<Dispatch>, ApiError> {
    let applied = app
        .engine
        .apply(id, event)
        .await
        .map_err(|error| ApiError::of_event(error, |dispatch| caller.sees(dispatch)))?;
    Ok(Json(convert::dispatch(&applied.stored)))
}
