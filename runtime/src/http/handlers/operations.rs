//! What operations do with rides.

use axum::Json;
use axum::extract::State;
use dispatch_core::ids::DispatchId;
use dispatch_http_types::{Dispatch, ListQuery, OperationsOrder, ReleaseOrder, Released, Review, ReviewPage};

use crate::engine::{Advance, EngineError};
use crate::http::extract::{InPath, JsonBody, StrictQuery};
use crate::http::handlers::dispatches::page_of;
use crate::http::middleware::auth::{AsOperations, Caller};
use crate::http::openapi::{BodyRefusals, Conflict, DispatchPath, Missing, Refusals};
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::http::{validate, view};
use crate::ports::{OpenReview, Person};

/// Cancel a dispatch as operations.
///
/// Cancels a dispatch in any status that is not final, also with the passenger on board, and frees its user and its
/// driver. Both are notified. The dispatch records the subject of the token and the reason.
///
/// The call fails with 409 (`wrong-state`) if the ride is completed. Cancelling a dispatch again returns the same
/// result.
#[utoipa::path(
    post, path = "/v1/operations/dispatches/{dispatchId}/cancel", tag = "status-update",
    operation_id = "cancelByOperations",
    security(("bearer" = ["operations"])),
    request_body = OperationsOrder,
    params(DispatchPath),
    responses((status = 200, description = "The dispatch is cancelled", body = Dispatch), Missing, Conflict, BodyRefusals)
)]
pub(crate) async fn cancel(
    State(app): State<AppState>,
    AsOperations(caller): AsOperations,
    InPath(id): InPath<DispatchId>,
    JsonBody(body): JsonBody<OperationsOrder>,
) -> Result<Json<Dispatch>, ApiError> {
    let note = note(&caller, &body.reason)?;
    shown(&app, &caller, app.engine.cancel_by_operations(&id, note).await)
}

/// Complete a ride as operations.
///
/// Ends a ride in progress, as its driver's report `TRIP_COMPLETED` would, and frees its user and its driver. Both are
/// notified. The dispatch records the subject of the token and the reason.
///
/// The call fails with 409 (`wrong-state`) if the passenger is not on board; cancel the dispatch instead. Completing a
/// ride again returns the same result.
#[utoipa::path(
    post, path = "/v1/operations/dispatches/{dispatchId}/complete", tag = "status-update",
    operation_id = "completeByOperations",
    security(("bearer" = ["operations"])),
    request_body = OperationsOrder,
    params(DispatchPath),
    responses((status = 200, description = "The ride is completed", body = Dispatch), Missing, Conflict, BodyRefusals)
)]
pub(crate) async fn complete(
    State(app): State<AppState>,
    AsOperations(caller): AsOperations,
    InPath(id): InPath<DispatchId>,
    JsonBody(body): JsonBody<OperationsOrder>,
) -> Result<Json<Dispatch>, ApiError> {
    let note = note(&caller, &body.reason)?;
    shown(&app, &caller, app.engine.complete_by_operations(&id, note).await)
}

/// Release people from a dispatch that is over.
///
/// Frees a user and a driver whose profiles still name a dispatch that is over, gone or not readable. Those of a
/// readable dispatch are known; name them otherwise. People who are not on the dispatch are unchanged, so
/// a repeated call has no effect.
///
/// The call fails with 409 (`wrong-state`) if the dispatch continues; cancel or complete it instead.
#[utoipa::path(
    post, path = "/v1/operations/dispatches/{dispatchId}/release", tag = "status-update",
    operation_id = "releaseByOperations",
    security(("bearer" = ["operations"])),
    request_body = ReleaseOrder,
    params(DispatchPath),
    responses(
        (status = 200, description = "The people who were released", body = Released),
        Conflict,
        BodyRefusals,
    )
)]
pub(crate) async fn release(
    State(app): State<AppState>,
    AsOperations(caller): AsOperations,
    InPath(id): InPath<DispatchId>,
    JsonBody(body): JsonBody<ReleaseOrder>,
) -> Result<Json<Released>, ApiError> {
    let note = note(&caller, &body.reason)?;
    let user = body.user_id.map(|user| validate::user_id("userId", &user).map(Person::User)).transpose()?;
    let driver =
        body.driver_id.map(|driver| validate::driver_id("driverId", driver).map(Person::Driver)).transpose()?;
    let named = user.into_iter().chain(driver).collect();
    let released = app.engine.release_by_operations(&id, named, note).await;
    let released = released.map_err(|error| refused(&app, &caller, error))?;
    Ok(Json(Released { released: released.iter().map(|person| person.as_str().to_owned()).collect() }))
}

/// Close the review of a ride.
///
/// Removes the ride from the list of reviews. The dispatch records the subject of the token and the result of the
/// review. Closing a review again returns the same result.
#[utoipa::path(
    post, path = "/v1/operations/dispatches/{dispatchId}/review", tag = "status-update", operation_id = "closeReview",
    security(("bearer" = ["operations"])),
    request_body = OperationsOrder,
    params(DispatchPath),
    responses((status = 200, description = "The ride is not under review", body = Dispatch), Missing, BodyRefusals)
)]
pub(crate) async fn close_review(
    State(app): State<AppState>,
    AsOperations(caller): AsOperations,
    InPath(id): InPath<DispatchId>,
    JsonBody(body): JsonBody<OperationsOrder>,
) -> Result<Json<Dispatch>, ApiError> {
    let note = note(&caller, &body.reason)?;
    shown(&app, &caller, app.engine.close_review(&id, note).await)
}

/// What the dispatch records: who acts, and why.
fn note(caller: &Caller, reason: &str) -> Result<String, ApiError> {
    validate::reason("reason", reason)?;
    Ok(format!("{}: {reason}", caller.subject()))
}

fn shown(app: &AppState, caller: &Caller, result: Result<Advance, EngineError>) -> Result<Json<Dispatch>, ApiError> {
    let advance = result.map_err(|error| refused(app, caller, error))?;
    Ok(Json(view::dispatch(app, caller, &advance.stored)))
}

fn refused(app: &AppState, caller: &Caller, error: EngineError) -> ApiError {
    ApiError::of_event(error, |current| Some(view::dispatch(app, caller, current)))
}

/// List the rides under review.
///
/// Returns the rides whose fare or end operations must review, oldest request first, one page at a time. A ride is
/// listed if its positions are missing or not plausible, if its metered fare is far above the estimate, or if it gave
/// no sign of life. Until the review, a completed ride costs the estimate. A new entry may be missing for a moment.
#[utoipa::path(
    get, path = "/v1/operations/reviews", tag = "status-update", operation_id = "listReviews",
    security(("bearer" = ["operations"])),
    params(ListQuery),
    responses((status = 200, description = "One page of rides under review", body = ReviewPage), Refusals)
)]
pub(crate) async fn list_reviews(
    State(app): State<AppState>,
    _: AsOperations,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<ReviewPage>, ApiError> {
    let (limit, after) = page_of(query)?;
    let page = app.engine.ports.dispatches.reviews(limit, after).await?;
    Ok(Json(ReviewPage { reviews: page.items.iter().filter_map(review).collect(), next: page.next }))
}

/// The entry of a dispatch, unless it was reviewed a moment ago.
fn review(OpenReview { requested_at, stored }: &OpenReview) -> Option<Review> {
    let (state, details) = (&stored.state, &stored.details);
    Some(Review {
        dispatch_id: state.id.to_string(),
        reason: state.review?,
        requested_at: requested_at.clone(),
        user_id: state.user.to_string(),
        driver_id: state.driver.as_ref().map(ToString::to_string),
        status: state.status,
        estimated_fare: state.estimated_fare,
        metered_fare: details.metered_fare,
        actual_fare: details.actual_fare,
        distance_meters: details.distance_m,
        duration_seconds: details.duration_s,
        far_from_destination: details.is_far,
    })
}
