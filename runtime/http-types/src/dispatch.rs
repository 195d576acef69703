//! Dispatches: the requests that create, answer, report and cancel them, and the dispatch itself.

use dispatch_core::dispatch::{DispatchStatus, EventName, TripEvent};
use dispatch_core::meter::ReviewReason;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::location::Location;

/// A request for a ride.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "userId": "user#00001",
    "pickupLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"},
    "destination": {"lat": 37.5730, "lng": 126.9768, "address": "서울시 종로구 종로"}
}))]
pub struct CreateDispatch {
    /// The user who requests the ride. Must be the caller's own id.
    #[schema(pattern = "^user#[A-Za-z0-9_-]{1,64}$")]
    pub user_id: String,
    /// Where the driver picks up the user.
    pub pickup_location: Location,
    /// Where the ride ends.
    pub destination: Location,
}

/// A dispatch: one request for a ride, from its creation until it is completed or cancelled.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "dispatchId": "dispatch#01JW3Q4X5Y6Z7A8B9C0D1E2F3G", "userId": "user#00001", "driverId": "driver#00001",
    "status": "REQUESTED", "createdAt": "2025-05-25T15:30:00+09:00", "updatedAt": "2025-05-25T15:30:30+09:00",
    "pickupLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"},
    "destination": {"lat": 37.5730, "lng": 126.9768, "address": "서울시 종로구 종로"},
    "estimatedFare": 12000, "actualFare": 0, "meteredFare": null, "review": null, "farFromDestination": false,
    "offerSeq": 1, "offerTimeoutAt": "2025-05-25T15:32:30.000+09:00",
    "distanceMeters": 0, "durationSeconds": 0, "route": [],
    "events": [
        {"type": "CREATED", "timestamp": "2025-05-25T15:30:00+09:00", "details": "배차 요청 생성"},
        {"type": "DRIVER_ASSIGNED", "timestamp": "2025-05-25T15:30:30+09:00", "details": "드라이버 배정 완료"}
    ]
}))]
pub struct Dispatch {
    /// The id of the dispatch, prefix included: `dispatch#…`. Paths take the part after the prefix.
    pub dispatch_id: String,
    /// The user who requested the ride. Empty where the city does not show the user to the driver: before the driver
    /// accepts, and some time after the ride has ended.
    pub user_id: String,
    /// While `REQUESTED`, the driver who has the open offer, or null if no offer is open. From `ACCEPTED` on, the
    /// driver of the ride. Null if the dispatch was cancelled before a driver accepted it.
    pub driver_id: Option<String>,
    /// The current state of the dispatch:
    ///
    /// - `REQUESTED`: a driver is being searched for.
    /// - `ACCEPTED`: a driver accepted and drives to the pickup.
    /// - `IN_PROGRESS`: the passenger is on board.
    /// - `COMPLETED`: the ride has ended. Final.
    /// - `CANCELLED`: the user, the driver or the system cancelled; the last of `events` says which. Final.
    pub status: DispatchStatus,
    /// When the ride was requested, in the city's time zone.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When the dispatch last changed, in the city's time zone.
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// Where the driver picks up the user. A driver may see only the district, with rounded coordinates: before
    /// accepting, if the city has it so, and some time after the ride has ended.
    pub pickup_location: Location,
    /// Where the ride ends; for drivers like `pickupLocation`.
    pub destination: Location,
    /// The fare estimated when the ride was requested, in whole units of the city's currency.
    pub estimated_fare: u32,
    /// The fare of the completed ride, in whole units of the city's currency; 0 until the ride is completed.
    pub actual_fare: u32,
    /// The fare by the positions of the completed ride, in whole units of the city's currency. If it differs from
    /// `actualFare`, the estimate is billed. Null until the ride is completed, and if the positions are not plausible.
    pub metered_fare: Option<u32>,
    /// Why operations review the ride; null if they do not. A completed ride under review costs the estimate.
    ///
    /// - `NO_TRACE`: the driver sent no positions during the ride.
    /// - `TRACE_GAP`: the positions of the ride have a long gap.
    /// - `TOO_FAST`: the positions are farther apart than a car can drive in the duration of the ride.
    /// - `FARE_ABOVE_ESTIMATE`: the metered fare is far above the estimate.
    /// - `NO_SIGN_OF_LIFE`: neither a position nor an event was received for a long time.
    pub review: Option<ReviewReason>,
    /// Whether the completed ride ended far from its destination.
    pub far_from_destination: bool,
    /// The number of the latest offer, which an answer must repeat; 0 before the first offer.
    pub offer_seq: u32,
    /// When the open offer expires; null if no offer is open.
    #[schema(format = DateTime)]
    pub offer_timeout_at: Option<String>,
    /// The distance travelled, in metres; 0 until the ride is completed.
    pub distance_meters: u32,
    /// The duration of the ride, in seconds; 0 until the ride is completed.
    pub duration_seconds: u32,
    /// The route travelled, simplified; empty until the ride is completed.
    pub route: Vec<RoutePoint>,
    /// The history of the dispatch, oldest entry first.
    pub events: Vec<EventEntry>,
}

/// One entry in the history of a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventEntry {
    /// What happened. `DRIVER_ASSIGNED` means that a driver received an offer, `DRIVER_REJECTED` that the driver
    /// rejected it, did not answer or was no longer free, and `CANCELLED_BY_SYSTEM` that no driver was found.
    ///
    /// `ENDED_FAR_FROM_DESTINATION` means that the trip ended far from its destination; `details` has both fares.
    /// `REVIEW_REQUESTED` means that operations review the ride; `details` says why, and `REVIEW_CLOSED` who ended the
    /// review. `CANCELLED_BY_OPERATIONS`, `COMPLETED_BY_OPERATIONS` and `RELEASED_BY_OPERATIONS` say in `details` who
    /// acted and why. `NO_SIGN_OF_LIFE` means that neither a position nor an event was received for a long time.
    ///
    /// The other values are `CREATED`, `DRIVER_ACCEPTED`, `PICKUP_STARTED`, `DRIVER_ARRIVED`, `PASSENGER_PICKED_UP`,
    /// `TRIP_STARTED`, `TRIP_COMPLETED`, `PAYMENT_COMPLETED`, `CANCELLED_BY_USER` and `CANCELLED_BY_DRIVER`. Another
    /// service that writes the city's table may add values of its own.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "DRIVER_ACCEPTED")]
    pub event_type: EventName,
    /// When it happened, in the city's time zone.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// A short description in Korean, for display.
    pub details: String,
}

/// A point on the route travelled.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"lat": 37.5655, "lng": 126.9785, "timestamp": "2025-05-25T15:35:00+09:00", "distanceFromPrevious": 150}))]
pub struct RoutePoint {
    /// Latitude in degrees.
    pub lat: f64,
    /// Longitude in degrees.
    pub lng: f64,
    /// When the driver was at this point, in the city's time zone.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// The distance from the previous point, in metres; 0 at the first point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance_from_previous: Option<u32>,
}

/// One page of dispatches, newest first.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DispatchPage {
    /// The dispatches on this page.
    pub dispatches: Vec<Dispatch>,
    /// The cursor of the next page, to be sent as `after`; null on the last page.
    pub next: Option<String>,
}

/// The size and start of a page.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// The maximum number of entries on a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<u16>,
    /// The cursor: `next` of the previous page. Omit it for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(
        pattern = "^[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?_[A-Za-z0-9_-]{1,64}$",
        example = "2025-05-25T15:30:00.000_01JW3Q4X5Y6Z7A8B9C0D1E2F3G"
    )]
    pub after: Option<String>,
}

/// A driver's decision on an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Answer {
    /// The driver takes the ride.
    Accept,
    /// The driver declines; the search continues with the next driver.
    Reject,
}

/// A driver's answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"}))]
pub struct OfferResponse {
    /// The driver who answers. Must be the caller's own id.
    #[schema(pattern = "^driver#[A-Za-z0-9_-]{1,64}$")]
    pub driver_id: String,
    /// The number of the offer: `offerSeq` of the `OFFER` notification or of the dispatch.
    #[schema(minimum = 1)]
    pub offer_seq: u32,
    /// Whether the driver accepts or rejects the offer.
    pub response: Answer,
}

/// A report on a ride: progress by its driver, or the payment by a program with the scope `payments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"driverId": "driver#00001", "type": "DRIVER_ARRIVED"}))]
pub struct TripReport {
    /// The driver of the ride. For a driver, the caller's own id.
    #[schema(pattern = "^driver#[A-Za-z0-9_-]{1,64}$")]
    pub driver_id: String,
    /// The step that the ride has reached.
    #[serde(rename = "type")]
    pub event_type: TripEvent,
}

/// The party that cancels a dispatch. Exactly one of the two fields must be set, to the caller's own id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"userId": "user#00001"}))]
pub struct CancelDispatch {
    /// The user who requested the ride.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^user#[A-Za-z0-9_-]{1,64}$")]
    pub user_id: Option<String>,
    /// The driver who accepted the dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^driver#[A-Za-z0-9_-]{1,64}$")]
    pub driver_id: Option<String>,
}
