//! Dispatches: requests, answers, reports, and the dispatch itself.

use dispatch_core::dispatch::{DispatchStatus, EventType, TripEvent};
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
    /// Who asks.
    #[schema(pattern = "^user#[A-Za-z0-9_-]{1,64}$")]
    pub user_id: String,
    /// Where the ride begins.
    pub pickup_location: Location,
    /// Where it ends.
    pub destination: Location,
}

/// A dispatch as its user and its driver see it.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "dispatchId": "dispatch#01JW3Q4X5Y6Z7A8B9C0D1E2F3G", "userId": "user#00001", "driverId": "driver#00001",
    "status": "REQUESTED", "createdAt": "2025-05-25T15:30:00+09:00", "updatedAt": "2025-05-25T15:30:30+09:00",
    "pickupLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"},
    "destination": {"lat": 37.5730, "lng": 126.9768, "address": "서울시 종로구 종로"},
    "estimatedFare": 12000, "actualFare": 0, "offerSeq": 1, "offerTimeoutAt": "2025-05-25T15:32:30.000+09:00",
    "distanceMeters": 0, "durationSeconds": 0, "route": [],
    "events": [
        {"type": "CREATED", "timestamp": "2025-05-25T15:30:00+09:00", "details": "배차 요청 생성"},
        {"type": "DRIVER_ASSIGNED", "timestamp": "2025-05-25T15:30:30+09:00", "details": "드라이버 배정 완료"}
    ]
}))]
pub struct Dispatch {
    /// Which.
    pub dispatch_id: String,
    /// Who asked.
    pub user_id: String,
    /// The driver offered to while `REQUESTED`, the driver of the ride afterwards; null while nobody is asked.
    pub driver_id: Option<String>,
    /// Where it stands.
    pub status: DispatchStatus,
    /// When it was requested, in the city's time.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it last changed, in the city's time.
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// Where the ride begins.
    pub pickup_location: Location,
    /// Where it ends.
    pub destination: Location,
    /// Fare told to the user, whole units of the city's currency.
    pub estimated_fare: u32,
    /// Fare paid; 0 before the end.
    pub actual_fare: u32,
    /// Number of the last offer made, which an answer must name; 0 before the first.
    pub offer_seq: u32,
    /// When the live offer runs out; null where no offer waits for its answer.
    #[schema(format = DateTime)]
    pub offer_timeout_at: Option<String>,
    /// Distance travelled, m; 0 before the end.
    pub distance_meters: u32,
    /// Duration, s; 0 before the end.
    pub duration_seconds: u32,
    /// The travelled route, simplified; empty before the end.
    pub route: Vec<RoutePoint>,
    /// What happened, oldest first.
    pub events: Vec<EventEntry>,
}

/// The seed's `events` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventEntry {
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// When.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// In words.
    pub details: String,
}

/// A point of a travelled route.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"lat": 37.5655, "lng": 126.9785, "timestamp": "2025-05-25T15:35:00+09:00", "distanceFromPrevious": 150}))]
pub struct RoutePoint {
    /// Latitude, degrees.
    pub lat: f64,
    /// Longitude, degrees.
    pub lng: f64,
    /// When, in the city's time.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// Metres since the point before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance_from_previous: Option<u32>,
}

/// One page of dispatches, newest first.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DispatchPage {
    /// The dispatches.
    pub dispatches: Vec<Dispatch>,
    /// What to send as `after` for the next page; null on the last one.
    pub next: Option<String>,
}

/// How a list is cut into pages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Most entries of a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<u16>,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(example = "2025-05-25T15:30:00.000_01JW3Q4X5Y6Z7A8B9C0D1E2F3G")]
    pub after: Option<String>,
}

/// What a driver says to an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Answer {
    /// The driver takes it.
    Accept,
    /// The driver does not.
    Reject,
}

/// A driver's answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"}))]
pub struct OfferResponse {
    /// Who answers.
    #[schema(pattern = "^driver#[A-Za-z0-9_-]{1,64}$")]
    pub driver_id: String,
    /// Which offer is answered: the `offerSeq` of the notification.
    #[schema(minimum = 1)]
    pub offer_seq: u32,
    /// The answer.
    pub response: Answer,
}

/// A driver's report of a trip. Steps may be left out, but never go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"driverId": "driver#00001", "type": "DRIVER_ARRIVED"}))]
pub struct TripReport {
    /// Who reports.
    #[schema(pattern = "^driver#[A-Za-z0-9_-]{1,64}$")]
    pub driver_id: String,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: TripEvent,
}

/// Who cancels a dispatch: exactly one of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"userId": "user#00001"}))]
pub struct CancelDispatch {
    /// The user who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^user#[A-Za-z0-9_-]{1,64}$")]
    pub user_id: Option<String>,
    /// The driver who accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^driver#[A-Za-z0-9_-]{1,64}$")]
    pub driver_id: Option<String>,
}
