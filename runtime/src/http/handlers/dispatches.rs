//! Dispatches: create, read, list, answer, report progress, cancel.

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
use crate::http::idempotency::{RequestKey, once};
use crate::http::middleware::auth::{AsDriver, AsUser, Caller};
use crate::http::openapi::{
    BodyRefusals, Conflict, DispatchPath, DriverPath, IdempotencyKeyHeader, Missing, Refusals, UserPath,
};
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::http::{convert, validate};
use crate::ports::{CreateOutcome, NewDispatch, Owner, Page, Person, StoredDispatch};
use crate::store::is_page_token;

/// Entries on a page if the client does not set `limit`.
const PAGE_DEFAULT: u16 = 20;
/// Maximum entries on a page: a completed dispatch with its route is about 20 KB.
const PAGE_MAX: u16 = 100;

/// Request a ride.
///
/// Stores a dispatch with the status `REQUESTED`, estimates its fare from the city's fare table, and starts the search
/// for a driver. The call does not wait for the search: listen to `GET /v1/events` or read the dispatch to follow it.
/// If no driver is found in time, the dispatch is cancelled and the user receives the notification `DISPATCH_FAILED`.
///
/// The call fails with 404 if the user has no profile, and with 409 (`user-busy`) if the user is already on a dispatch,
/// which the problem contains as `current`.
///
/// Send an `Idempotency-Key` so that a retry cannot create a second dispatch. A request that repeats the key returns
/// the dispatch that the first request created, with the status 200. A key repeated with another pickup or destination
/// fails with 422 (`idempotency-key-reused`).
#[utoipa::path(
    post, path = "/v1/dispatches", tag = "save-dispatch", operation_id = "createDispatch",
    security(("bearer" = ["user"])),
    request_body = CreateDispatch,
    params(IdempotencyKeyHeader),
    responses(
        (status = 201, description = "The dispatch was created", body = Dispatch,
            headers(("Location" = String, description = "The path of the dispatch"))),
        (status = 200, description = "An earlier request with the same Idempotency-Key created the dispatch, which is \
                                      returned in its current state",
            body = Dispatch, headers(("Location" = String, description = "The path of the dispatch"))),
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

/// The id that a key always maps to: 128 bits of a hash over user and key, in the format of any other id. The separator
/// cannot occur in either of them.
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

/// The dispatch that a user or driver is on, for `current` of a conflict.
pub(super) async fn current_of(app: &AppState, id: Option<DispatchId>) -> Result<Option<Box<Dispatch>>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let stored = app.engine.ports.dispatches.load(&id).await?;
    Ok(stored.map(|stored| Box::new(convert::dispatch(&stored))))
}

/// Read a dispatch.
///
/// The dispatch is visible to its user, to the driver who has the open offer or the ride, and to callers with the scope
/// `operations`. For every other caller the call fails with 404.
#[utoipa::path(
    get, path = "/v1/dispatches/{dispatchId}", tag = "save-dispatch", operation_id = "getDispatch",
    security(("bearer" = ["user"]), ("bearer" = ["driver"]), ("bearer" = ["operations"])),
    params(DispatchPath),
    responses(
        (status = 200, description = "The dispatch in its current state", body = Dispatch),
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

/// List a user's dispatches.
///
/// Returns the dispatches that the user requested, newest first, one page at a time. A new dispatch may be missing for
/// a moment; read it by its id to see it immediately.
#[utoipa::path(
    get, path = "/v1/users/{userId}/dispatches", tag = "save-dispatch", operation_id = "listUserDispatches",
    security(("bearer" = ["user"]), ("bearer" = ["operations"])),
    params(UserPath, ListQuery),
    responses((status = 200, description = "One page of dispatches", body = DispatchPage), Missing, Refusals)
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

/// List a driver's completed dispatches.
///
/// Returns the dispatches that the driver completed, newest first, one page at a time. A ride that was just completed
/// may be missing for a moment.
#[utoipa::path(
    get, path = "/v1/drivers/{driverId}/dispatches", tag = "save-dispatch", operation_id = "listDriverDispatches",
    security(("bearer" = ["driver"]), ("bearer" = ["operations"])),
    params(
        DriverPath,
        ListQuery,
    ),
    responses((status = 200, description = "One page of dispatches", body = DispatchPage), Missing, Refusals)
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
        return Err(ApiError::field("limit", format!("must be a whole number from 1 to {PAGE_MAX}")));
    }
    if query.after.as_ref().is_some_and(|after| !is_page_token(after)) {
        return Err(ApiError::field("after", "must be the value of `next` from the previous page"));
    }
    let Page { items, next } = app.engine.ports.dispatches.list(owner, limit, query.after).await?;
    Ok(Json(DispatchPage { dispatches: items.iter().map(convert::dispatch).collect(), next }))
}

/// Answer an offer.
///
/// `ACCEPT` assigns the dispatch to the driver. `REJECT` closes the offer, and the search continues with the next
/// driver. Only the driver who received the offer can answer it, and only while it is open.
///
/// The call fails with 409 (`offer-over`) if the offer was already answered, has expired or was superseded, or if the
/// driver is no longer free. It fails with 404 if the driver was never offered the dispatch.
///
/// Repeating an acceptance that took effect returns the same result. To retry a rejection, send an `Idempotency-Key`: a
/// request that repeats the key returns the first response.
#[utoipa::path(
    post, path = "/v1/dispatches/{dispatchId}/response", tag = "driver-response", operation_id = "respondToOffer",
    security(("bearer" = ["driver"])),
    request_body = OfferResponse,
    params(DispatchPath, IdempotencyKeyHeader),
    responses(
        (status = 200, description = "The answer took effect", body = Dispatch),
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
        return Err(ApiError::field("offerSeq", "must be a whole number of at least 1"));
    }
    let event = match body.response {
        Answer::Accept => Event::Accept { driver, offer_seq: body.offer_seq },
        Answer::Reject => Event::Reject { driver, offer_seq: body.offer_seq },
    };
    let asked = RequestKey { caller: &caller, operation: "respondToOffer", of: id.as_str(), body: &body, key };
    once(&app, asked, apply(&app, &caller, &id, event)).await
}

/// The driver named in the body, who must be the caller. Naming another driver is answered like an unknown dispatch.
fn of_caller(caller: &Caller, named: &str) -> Result<DriverId, ApiError> {
    let driver = caller.driver()?;
    let is = validate::driver_id("driverId", named)? == *driver;
    if is { Ok(driver.clone()) } else { Err(ApiError::NotFound { what: "dispatch" }) }
}

/// Report progress on a ride.
///
/// The events in their order are `PICKUP_STARTED`, `DRIVER_ARRIVED`, `PASSENGER_PICKED_UP`, `TRIP_STARTED`,
/// `TRIP_COMPLETED` and `PAYMENT_COMPLETED`. `PICKUP_STARTED`, `DRIVER_ARRIVED` and `TRIP_STARTED` may be skipped. An
/// event cannot be reported after a later one.
///
/// `PASSENGER_PICKED_UP` sets the status `IN_PROGRESS`; from then on the dispatch cannot be cancelled. `TRIP_COMPLETED`
/// measures the route, calculates the fare, sets the status `COMPLETED`, and frees the user and the driver for other
/// dispatches. The user is notified of every event.
///
/// The call fails with 409 (`wrong-state`) if the status of the dispatch does not allow the event or a later event was
/// reported. It fails with 404 if the ride is not the caller's. Repeating the latest event returns the same result.
#[utoipa::path(
    post, path = "/v1/dispatches/{dispatchId}/events", tag = "status-update", operation_id = "reportTripEvent",
    security(("bearer" = ["driver"])),
    request_body = TripReport,
    params(DispatchPath, IdempotencyKeyHeader),
    responses(
        (status = 200, description = "The report took effect", body = Dispatch),
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
    let asked = RequestKey { caller: &caller, operation: "reportTripEvent", of: id.as_str(), body: &body, key };
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
/// The user can cancel until the driver reports `PASSENGER_PICKED_UP`. The driver can cancel between accepting the
/// offer and that event; to decline an offer, answer it with `REJECT`. The other party is notified. A cancelled
/// dispatch is final: to try again, the user requests a new ride.
///
/// The call fails with 409 (`wrong-state`) if the status of the dispatch does not allow cancellation, and with 404 if
/// the dispatch is not the caller's. Cancelling a dispatch again returns the same result.
#[utoipa::path(
    post, path = "/v1/dispatches/{dispatchId}/cancel", tag = "status-update", operation_id = "cancelDispatch",
    security(("bearer" = ["user"]), ("bearer" = ["driver"])),
    request_body = CancelDispatch,
    params(DispatchPath, IdempotencyKeyHeader),
    responses(
        (status = 200, description = "The dispatch is cancelled", body = Dispatch),
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
        _ => return Err(ApiError::field("userId", "set exactly one of userId and driverId: the party that cancels")),
    };
    let asked = RequestKey { caller: &caller, operation: "cancelDispatch", of: id.as_str(), body: &body, key };
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
