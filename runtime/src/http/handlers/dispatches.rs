//! Dispatches: create, read, list, answer, report progress, cancel.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dispatch_core::cancellation::Pause;
use dispatch_core::dispatch::{Event, TripEvent};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::requested_trip::check_trip;
use dispatch_core::time::EpochMs;
use dispatch_http_types::{
    Answer, CancelDispatch, CreateDispatch, Dispatch, DispatchPage, ListQuery, OfferResponse, TripReport,
};
use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::adapters::store::is_page_token;
use crate::engine::EngineError;
use crate::http::extract::{IdempotencyKey, InPath, JsonBody, StrictQuery};
use crate::http::idempotency::{RequestKey, once};
use crate::http::middleware::auth::{AsDriver, AsReporter, AsUser, Caller};
use crate::http::openapi::{
    BodyRefusals, Conflict, DispatchPath, DriverPath, IdempotencyKeyHeader, Missing, Refusals, UserPath,
};
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::http::{validate, view};
use crate::ports::{CreateOutcome, NewDispatch, Owner, Page, Person};

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
/// which the problem contains as `current`. A user who requests and cancels often has to wait: the call fails with 429
/// (`cancelled-too-often`), and `retryAt` is the time when the next request is possible.
///
/// The call fails with 422 if pickup or destination is outside the area that the city serves (`outside-service-area`),
/// if the destination is too far from the pickup (`trip-too-long`), or if both are the same place (`same-place`).
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
pub(crate) async fn create(
    State(app): State<AppState>,
    AsUser(caller): AsUser,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<CreateDispatch>,
) -> Result<Response, ApiError> {
    let new = new_dispatch(&app, &caller, key.as_deref(), &body)?;
    let (pickup, destination) = (new.pickup.clone(), new.destination.clone());
    match app.engine.create(new).await? {
        CreateOutcome::Stored(stored) => Ok(created(StatusCode::CREATED, view::dispatch(&app, &caller, &stored))),
        CreateOutcome::Existed(stored)
            if stored.details.pickup == pickup && stored.details.destination == destination =>
        {
            Ok(created(StatusCode::OK, view::dispatch(&app, &caller, &stored)))
        }
        CreateOutcome::Existed(_) => Err(ApiError::KeyReused),
        CreateOutcome::UserBusy { current } => {
            Err(ApiError::UserBusy { current: current_of(&app, &caller, current).await? })
        }
        CreateOutcome::Paused(pause) => Err(paused(&app, pause)),
        CreateOutcome::UnknownUser => Err(ApiError::NotFound { what: "user" }),
    }
}

/// The error for a user who has cancelled too often.
fn paused(app: &AppState, pause: Pause) -> ApiError {
    let Pause { until, limit } = pause;
    app.engine.metrics.request_refused("cancelled-too-often");
    let after_s = until.since_ms(app.engine.ports.clock.now()).div_ceil(1000);
    // To the next whole second: until then the user waits.
    let shown = EpochMs(until.0.saturating_add(999)).whole_seconds();
    ApiError::CancelledTooOften { limit, until: app.engine.city.timestamp(shown), after_s }
}

fn new_dispatch(
    app: &AppState,
    caller: &Caller,
    key: Option<&str>,
    body: &CreateDispatch,
) -> Result<NewDispatch, ApiError> {
    let user = validate::user_id("userId", &body.user_id)?;
    let (from, pickup) = validate::location("pickupLocation", &body.pickup_location)?;
    let (to, destination) = validate::location("destination", &body.destination)?;
    let (city, now) = (&app.engine.city, app.engine.ports.clock.now());
    let settings = city.settings();
    caller.must_be(&Person::User(user.clone()))?;
    check_trip((from, to), settings.policy.longest_trip_m, settings.service_area.as_ref()).map_err(|refusal| {
        app.engine.metrics.request_refused(refusal.name());
        ApiError::Trip(refusal)
    })?;
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

fn created(status: StatusCode, document: Dispatch) -> Response {
    let suffix = document.dispatch_id.strip_prefix(DispatchId::PREFIX).unwrap_or_default();
    let location = HeaderValue::from_str(&format!("/v1/dispatches/{suffix}"));
    let mut response = (status, Json(document)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The dispatch that a user or driver is on, for `current` of a conflict.
pub(super) async fn current_of(
    app: &AppState,
    caller: &Caller,
    id: Option<DispatchId>,
) -> Result<Option<Box<Dispatch>>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let stored = app.engine.ports.dispatches.load(&id).await?;
    Ok(stored.map(|stored| Box::new(view::dispatch(app, caller, &stored))))
}

/// Read a dispatch.
///
/// The dispatch is visible to its user, to the driver who has the open offer or the ride, and to callers with the scope
/// `payments` or `operations`. For every other caller the call fails with 404.
#[utoipa::path(
    get, path = "/v1/dispatches/{dispatchId}", tag = "save-dispatch", operation_id = "getDispatch",
    security(
        ("bearer" = ["user"]), ("bearer" = ["driver"]), ("bearer" = ["payments"]), ("bearer" = ["operations"])
    ),
    params(DispatchPath),
    responses(
        (status = 200, description = "The dispatch in its current state", body = Dispatch),
        Missing,
        Refusals,
    )
)]
pub(crate) async fn read(
    State(app): State<AppState>,
    caller: Caller,
    InPath(id): InPath<DispatchId>,
) -> Result<Json<Dispatch>, ApiError> {
    let stored = app.engine.ports.dispatches.load(&id).await?;
    let stored = stored.filter(|stored| caller.sees(stored)).ok_or(ApiError::NotFound { what: "dispatch" })?;
    Ok(Json(view::dispatch(&app, &caller, &stored)))
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
pub(crate) async fn list_of_user(
    State(app): State<AppState>,
    caller: Caller,
    InPath(user): InPath<UserId>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<DispatchPage>, ApiError> {
    caller.may_read(&Person::User(user.clone()))?;
    list(&app, &caller, &Owner::User(user), query).await
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
pub(crate) async fn list_of_driver(
    State(app): State<AppState>,
    caller: Caller,
    InPath(driver): InPath<DriverId>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<DispatchPage>, ApiError> {
    caller.may_read(&Person::Driver(driver.clone()))?;
    list(&app, &caller, &Owner::Driver(driver), query).await
}

async fn list(
    app: &AppState,
    caller: &Caller,
    owner: &Owner,
    query: ListQuery,
) -> Result<Json<DispatchPage>, ApiError> {
    let (limit, after) = page_of(query)?;
    let Page { items, next } = app.engine.ports.dispatches.list(owner, limit, after).await?;
    let dispatches = items.iter().map(|stored| view::dispatch(app, caller, stored)).collect();
    Ok(Json(DispatchPage { dispatches, next }))
}

/// The size and the start of a page.
pub(super) fn page_of(query: ListQuery) -> Result<(u16, Option<String>), ApiError> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::field("limit", format!("must be a whole number from 1 to {PAGE_MAX}")));
    }
    if query.after.as_ref().is_some_and(|after| !is_page_token(after)) {
        return Err(ApiError::field("after", "must be the value of `next` from the previous page"));
    }
    Ok((limit, query.after))
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
pub(crate) async fn respond(
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
    let named = validate::driver_id("driverId", named)?;
    if named == *driver {
        return Ok(named);
    }
    caller.note(named.as_str());
    Err(ApiError::NotFound { what: "dispatch" })
}

/// Report progress on a ride, or its payment.
///
/// The events in their order are `PICKUP_STARTED`, `DRIVER_ARRIVED`, `PASSENGER_PICKED_UP`, `TRIP_STARTED`,
/// `TRIP_COMPLETED` and `PAYMENT_COMPLETED`. `PICKUP_STARTED`, `DRIVER_ARRIVED` and `TRIP_STARTED` may be skipped. An
/// event cannot be reported after a later one.
///
/// `PASSENGER_PICKED_UP` sets the status `IN_PROGRESS`; from then on the dispatch cannot be cancelled. `TRIP_COMPLETED`
/// measures the route, calculates the fare, sets the status `COMPLETED`, and frees the user and the driver for other
/// dispatches. The user is notified of every event.
///
/// `PAYMENT_COMPLETED` needs the scope `payments` or `operations`: the driver's word alone does not pay a ride. All
/// other events need the scope `driver`.
///
/// The call fails with 409 (`wrong-state`) if the status of the dispatch does not allow the event or a later event was
/// reported. It fails with 404 if the ride is not the caller's. Repeating the latest event returns the same result.
#[utoipa::path(
    post, path = "/v1/dispatches/{dispatchId}/events", tag = "status-update", operation_id = "reportTripEvent",
    security(("bearer" = ["driver"]), ("bearer" = ["payments"]), ("bearer" = ["operations"])),
    request_body = TripReport,
    params(DispatchPath, IdempotencyKeyHeader),
    responses(
        (status = 200, description = "The report took effect", body = Dispatch),
        Missing,
        Conflict,
        BodyRefusals,
    )
)]
pub(crate) async fn report(
    State(app): State<AppState>,
    AsReporter(caller): AsReporter,
    InPath(id): InPath<DispatchId>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<TripReport>,
) -> Result<Response, ApiError> {
    let driver = if body.event_type == TripEvent::PaymentCompleted {
        caller.may_report_payments()?;
        validate::driver_id("driverId", &body.driver_id)?
    } else {
        of_caller(&caller, &body.driver_id)?
    };
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
    let applied = completed.map_err(|error| refused(app, caller, (id, error)))?;
    Ok(Json(view::dispatch(app, caller, &applied.stored)))
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
pub(crate) async fn cancel(
    State(app): State<AppState>,
    caller: Caller,
    InPath(id): InPath<DispatchId>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<CancelDispatch>,
) -> Result<Response, ApiError> {
    let event = match (&body.user_id, &body.driver_id) {
        (Some(named), None) => {
            let user = caller.user()?.clone();
            let named = validate::user_id("userId", named)?;
            if named != user {
                caller.note(named.as_str());
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

/// Why an event did not take effect, with the dispatch if the caller may read it.
fn refused(app: &AppState, caller: &Caller, (id, error): (&DispatchId, EngineError)) -> ApiError {
    let error = ApiError::of_event(error, |current| caller.sees(current).then(|| view::dispatch(app, caller, current)));
    if matches!(error, ApiError::NotFound { .. }) {
        caller.note(id.as_str());
    }
    error
}

async fn apply(app: &AppState, caller: &Caller, id: &DispatchId, event: Event) -> Result<Json<Dispatch>, ApiError> {
    let applied = app.engine.apply(id, event).await.map_err(|error| refused(app, caller, (id, error)))?;
    Ok(Json(view::dispatch(app, caller, &applied.stored)))
}
