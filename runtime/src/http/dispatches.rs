//! Dispatches: request, read, list, answer, report, cancel.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dispatch_core::dispatch::{Event, TripEvent};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use sha2::{Digest, Sha256};
use ulid::Ulid;

use super::AppState;
use super::api_doc::{
    BodyRefusals, Conflict, DispatchPath, DriverPath, IdempotencyKeyHeader, Missing, Refusals, UserPath,
};
use super::dto::{
    Answer, CancelDispatch, CreateDispatch, Dispatch, DispatchPage, ListQuery, OfferResponse, TripEventType, TripReport,
};
use super::extract::{IdempotencyKey, InPath, JsonBody, StrictQuery};
use super::problem::ApiError;
use super::{check, present};
use crate::port::{Created, NewDispatch, Owner, Page, StoredDispatch};
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
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<CreateDispatch>,
) -> Result<Response, ApiError> {
    let new = new_dispatch(&app, key.as_deref(), &body)?;
    let (pickup, destination) = (new.pickup.clone(), new.destination.clone());
    match app.engine.create(new).await? {
        Created::Stored(stored) => Ok(created(StatusCode::CREATED, &stored)),
        Created::Existed(stored) if stored.item.pickup_location == pickup && stored.item.destination == destination => {
            Ok(created(StatusCode::OK, &stored))
        }
        Created::Existed(_) => Err(ApiError::KeyReused),
        Created::UserBusy { current } => Err(ApiError::UserBusy { current: current_of(&app, current).await? }),
        Created::UnknownUser => Err(ApiError::NotFound { what: "user" }),
    }
}

fn new_dispatch(app: &AppState, key: Option<&str>, body: &CreateDispatch) -> Result<NewDispatch, ApiError> {
    let user = check::user_id("userId", &body.user_id)?;
    let (from, pickup) = check::location("pickupLocation", &body.pickup_location)?;
    let (to, destination) = check::location("destination", &body.destination)?;
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
    let mut response = (status, Json(present::dispatch(stored))).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/dispatches/{}", stored.state.id.suffix())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The dispatch somebody is on, for a conflict's `current`.
pub(super) async fn current_of(app: &AppState, id: Option<DispatchId>) -> Result<Option<Box<Dispatch>>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let stored = app.engine.ports.dispatches.load(&id).await?;
    Ok(stored.map(|stored| Box::new(present::dispatch(&stored))))
}

/// Read a dispatch.
#[utoipa::path(
    get, path = "/v1/dispatches/{dispatchId}", tag = "save-dispatch", operation_id = "getDispatch",
    params(DispatchPath),
    responses(
        (status = 200, description = "The dispatch", body = Dispatch),
        Missing,
        Refusals,
    )
)]
pub async fn read(State(app): State<AppState>, InPath(id): InPath<DispatchId>) -> Result<Json<Dispatch>, ApiError> {
    let stored = app.engine.ports.dispatches.load(&id).await?;
    let stored = stored.ok_or(ApiError::NotFound { what: "dispatch" })?;
    Ok(Json(present::dispatch(&stored)))
}

/// List the dispatches a user asked for, newest first.
#[utoipa::path(
    get, path = "/v1/users/{userId}/dispatches", tag = "save-dispatch", operation_id = "listUserDispatches",
    params(UserPath, ListQuery),
    responses((status = 200, description = "One page", body = DispatchPage), Refusals)
)]
pub async fn list_of_user(
    State(app): State<AppState>,
    InPath(user): InPath<UserId>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<DispatchPage>, ApiError> {
    list(&app, &Owner::User(user), query).await
}

/// List the dispatches a driver completed, newest first.
#[utoipa::path(
    get, path = "/v1/drivers/{driverId}/dispatches", tag = "save-dispatch", operation_id = "listDriverDispatches",
    params(
        DriverPath,
        ListQuery,
    ),
    responses((status = 200, description = "One page", body = DispatchPage), Refusals)
)]
pub async fn list_of_driver(
    State(app): State<AppState>,
    InPath(driver): InPath<DriverId>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<DispatchPage>, ApiError> {
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
    Ok(Json(DispatchPage { dispatches: items.iter().map(present::dispatch).collect(), next }))
}

/// Answer an offer.
///
/// The answer counts while the offer is open, for the driver who was asked. Repeating an accepted answer gives the same result.
#[utoipa::path(
    post, path = "/v1/dispatches/{dispatchId}/response", tag = "driver-response", operation_id = "respondToOffer",
    request_body = OfferResponse,
    params(DispatchPath),
    responses(
        (status = 200, description = "The answer counts", body = Dispatch),
        Missing,
        Conflict,
        BodyRefusals,
    )
)]
pub async fn respond(
    State(app): State<AppState>,
    InPath(id): InPath<DispatchId>,
    JsonBody(body): JsonBody<OfferResponse>,
) -> Result<Json<Dispatch>, ApiError> {
    let driver = check::driver_id("driverId", &body.driver_id)?;
    if body.offer_seq == 0 {
        return Err(ApiError::field("offerSeq", "must be at least 1"));
    }
    let event = match body.response {
        Answer::Accept => Event::Accept { driver, offer_seq: body.offer_seq },
        Answer::Reject => Event::Reject { driver, offer_seq: body.offer_seq },
    };
    apply(&app, &id, event).await
}

/// Report how a trip goes on.
///
/// `TRIP_COMPLETED` measures the route, counts the fare and frees user and driver. Repeating a report gives the same result.
#[utoipa::path(
    post, path = "/v1/dispatches/{dispatchId}/events", tag = "status-update", operation_id = "reportTripEvent",
    request_body = TripReport,
    params(DispatchPath),
    responses(
        (status = 200, description = "The report counts", body = Dispatch),
        Missing,
        Conflict,
        BodyRefusals,
    )
)]
pub async fn report(
    State(app): State<AppState>,
    InPath(id): InPath<DispatchId>,
    JsonBody(body): JsonBody<TripReport>,
) -> Result<Json<Dispatch>, ApiError> {
    let driver = check::driver_id("driverId", &body.driver_id)?;
    let event = match body.event_type {
        TripEventType::TripCompleted => {
            let applied = app.engine.complete_trip(&id, &driver).await?;
            return Ok(Json(present::dispatch(&applied.stored)));
        }
        TripEventType::PickupStarted => TripEvent::PickupStarted,
        TripEventType::DriverArrived => TripEvent::DriverArrived,
        TripEventType::PassengerPickedUp => TripEvent::PassengerPickedUp,
        TripEventType::TripStarted => TripEvent::TripStarted,
        TripEventType::PaymentCompleted => TripEvent::PaymentCompleted,
    };
    apply(&app, &id, Event::Trip { driver, event }).await
}

/// Cancel a dispatch.
///
/// The user can cancel until the passenger is on board, the driver after accepting. Repeating it gives the same result.
#[utoipa::path(
    post, path = "/v1/dispatches/{dispatchId}/cancel", tag = "status-update", operation_id = "cancelDispatch",
    request_body = CancelDispatch,
    params(DispatchPath),
    responses(
        (status = 200, description = "It is cancelled", body = Dispatch),
        Missing,
        Conflict,
        BodyRefusals,
    )
)]
pub async fn cancel(
    State(app): State<AppState>,
    InPath(id): InPath<DispatchId>,
    JsonBody(body): JsonBody<CancelDispatch>,
) -> Result<Json<Dispatch>, ApiError> {
    let event = match (&body.user_id, &body.driver_id) {
        (Some(user), None) => Event::CancelByUser { user: check::user_id("userId", user)? },
        (None, Some(driver)) => Event::CancelByDriver { driver: check::driver_id("driverId", driver)? },
        _ => return Err(ApiError::field("userId", "name who cancels: userId or driverId, exactly one of both")),
    };
    apply(&app, &id, event).await
}

async fn apply(app: &AppState, id: &DispatchId, event: Event) -> Result<Json<Dispatch>, ApiError> {
    let applied = app.engine.apply(id, event).await?;
    Ok(Json(present::dispatch(&applied.stored)))
}
