//! The documents of the HTTP API: what clients send and what they get.
//!
//! They are types of their own, apart from the table's items: keys, push endpoints and index attributes are nobody's business
//! outside. Requests refuse unknown fields; answers may gain fields, so clients must ignore those they do not know. All types
//! read and write, so that a client in Rust needs no second set. None of those that hold a position or a phone number can be
//! printed with `{:?}`, so that they cannot reach a log by accident.

mod parts;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use parts::{FavoriteLocation, PaymentMethod, UserPreferences, VehicleInfo};

use crate::store::entity::{DispatchStatus, EventEntry, PersonStatus, RideType};

/// A place with its address.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"}))]
pub struct Location {
    /// Latitude, degrees.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Longitude, degrees.
    #[schema(minimum = -180, maximum = 180)]
    pub lng: f64,
    /// Address.
    #[schema(min_length = 1, max_length = 200)]
    pub address: String,
}

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

/// What a driver reports of a trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TripEventType {
    /// The driver set out for the pickup.
    PickupStarted,
    /// The driver is at the pickup.
    DriverArrived,
    /// The passenger is on board.
    PassengerPickedUp,
    /// The trip began.
    TripStarted,
    /// The trip ended.
    TripCompleted,
    /// The fare was paid.
    PaymentCompleted,
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
    pub event_type: TripEventType,
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

/// What a user says about itself.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "phone": "01012341234",
    "paymentMethods": [{"id": "pm-1", "type": "CREDIT_CARD", "isDefault": true}],
    "preferences": {"defaultRideType": "STANDARD", "favoriteLocations": [
        {"id": "fav-1", "name": "집", "address": "서울시 종로구 종로", "lat": 37.5730, "lng": 126.9768}]},
    "currentLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"}
}))]
pub struct PutUser {
    /// Korean mobile number (`010…`) or E.164.
    #[schema(pattern = r"^(01[016789][0-9]{7,8}|\+[1-9][0-9]{6,14})$")]
    pub phone: String,
    /// Ways to pay; at most one is the default.
    #[schema(max_items = 20)]
    pub payment_methods: Vec<PaymentMethod>,
    /// What the user likes.
    pub preferences: UserPreferences,
    /// Where the user is.
    pub current_location: Location,
}

/// A user's own profile.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "userId": "user#00001", "phone": "01012341234", "createdAt": "2025-05-25T15:00:00+09:00",
    "currentStatus": {"status": "ACTIVE", "currentLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"},
        "lastLocationUpdate": "2025-05-25T15:29:00+09:00", "currentDispatchId": null},
    "paymentMethods": [{"id": "pm-1", "type": "CREDIT_CARD", "isDefault": true}],
    "preferences": {"defaultRideType": "STANDARD", "favoriteLocations": [
        {"id": "fav-1", "name": "집", "address": "서울시 종로구 종로", "lat": 37.5730, "lng": 126.9768}]}
}))]
pub struct UserProfile {
    /// Who.
    pub user_id: String,
    /// Phone number.
    pub phone: String,
    /// When the profile was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Where and how the user is.
    pub current_status: CurrentStatus,
    /// Ways to pay.
    pub payment_methods: Vec<PaymentMethod>,
    /// What the user likes.
    pub preferences: UserPreferences,
}

/// What a driver says about itself.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "phone": "01012341234",
    "vehicleInfo": {"manufacturer": "현대", "licensePlate": "서울12가3456"},
    "preferences": {"defaultRideType": "STANDARD", "preferredRegions": ["중구", "종로구"], "maxDistance": 20,
        "autoAccept": true, "minimumFare": 8000}
}))]
pub struct PutDriver {
    /// Korean mobile number (`010…`) or E.164.
    #[schema(pattern = r"^(01[016789][0-9]{7,8}|\+[1-9][0-9]{6,14})$")]
    pub phone: String,
    /// The car.
    pub vehicle_info: VehicleInfo,
    /// What the driver takes.
    pub preferences: DriverPreferences,
}

/// A driver's own profile.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "driverId": "driver#00001", "phone": "01012341234", "createdAt": "2025-05-25T15:00:00+09:00",
    "vehicleInfo": {"manufacturer": "현대", "licensePlate": "서울12가3456"},
    "currentStatus": {"status": "ACTIVE", "currentLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"},
        "lastLocationUpdate": "2025-05-25T15:29:00+09:00", "currentDispatchId": null},
    "preferences": {"defaultRideType": "STANDARD", "preferredRegions": ["중구", "종로구"], "maxDistance": 20,
        "autoAccept": true, "minimumFare": 8000},
    "completedRides": []
}))]
pub struct DriverProfile {
    /// Who.
    pub driver_id: String,
    /// Phone number.
    pub phone: String,
    /// When the profile was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// The car.
    pub vehicle_info: VehicleInfo,
    /// Where and how the driver is.
    pub current_status: CurrentStatus,
    /// What the driver takes.
    pub preferences: DriverPreferences,
    /// The last rides.
    pub completed_rides: Vec<String>,
}

/// What a driver takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"defaultRideType": "STANDARD", "preferredRegions": ["중구", "종로구"], "maxDistance": 20,
    "autoAccept": true, "minimumFare": 8000}))]
pub struct DriverPreferences {
    /// Ride type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_ride_type: Option<RideType>,
    /// Districts the driver likes.
    #[schema(max_items = 32)]
    pub preferred_regions: Vec<String>,
    /// Farthest pickup, kilometres.
    #[schema(exclusive_minimum = 0, maximum = 1000)]
    pub max_distance: f64,
    /// Whether the driver takes every offer.
    pub auto_accept: bool,
    /// Lowest estimate the driver is offered, whole units of the city's currency.
    #[schema(maximum = 10_000_000)]
    pub minimum_fare: u32,
}

/// Where and how somebody is.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"status": "ACTIVE", "currentLocation": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"},
        "lastLocationUpdate": "2025-05-25T15:29:00+09:00", "currentDispatchId": null}))]
pub struct CurrentStatus {
    /// Free, on a dispatch, or away.
    pub status: PersonStatus,
    /// Coarse position: as old as the status, not as the last ping.
    pub current_location: Location,
    /// When that position was seen.
    #[schema(format = DateTime)]
    pub last_location_update: String,
    /// The dispatch the person is on.
    pub current_dispatch_id: Option<String>,
}

/// A device that shall get push notifications.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1"}))]
pub struct PutDevice {
    /// FCM registration token. It is neither logged nor given out again.
    #[schema(min_length = 1, max_length = 4096)]
    pub token: String,
}

/// Whether a device gets push notifications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceRegistered {
    /// False where the city sends no push notifications; the app listens to `GET /v1/events` instead.
    pub push: bool,
}

/// What a driver can wish to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AvailabilityStatus {
    /// Free for offers.
    Active,
    /// Away.
    Inactive,
}

/// A driver's wish to be offered dispatches or not.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"status": "ACTIVE", "location": {"lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동"}}))]
pub struct PutAvailability {
    /// The wish.
    pub status: AvailabilityStatus,
    /// Where the driver is.
    pub location: Location,
}

/// Where a driver is.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"lat": 37.5655, "lng": 126.9785, "accuracyMeters": 8.5}))]
pub struct PostLocation {
    /// Latitude, degrees.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Longitude, degrees.
    #[schema(minimum = -180, maximum = 180)]
    pub lng: f64,
    /// Accuracy the device claims, m. A position that is more than 50 m off is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub accuracy_meters: Option<f64>,
    /// When the device made the position, by its own clock, ISO 8601: puts the positions of this driver in order and is compared with
    /// nothing else. A position counts from when it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub timestamp: Option<String>,
}

/// Where one of several drivers is.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"driverId": "driver#00001", "lat": 37.5655, "lng": 126.9785}))]
pub struct BatchLocation {
    /// Who.
    #[schema(pattern = "^driver#[A-Za-z0-9_-]{1,64}$")]
    pub driver_id: String,
    /// Latitude, degrees.
    #[schema(minimum = -90, maximum = 90)]
    pub lat: f64,
    /// Longitude, degrees.
    #[schema(minimum = -180, maximum = 180)]
    pub lng: f64,
    /// Accuracy the device claims, m. A position that is more than 50 m off is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub accuracy_meters: Option<f64>,
    /// When the device made the position, by its own clock, ISO 8601: puts the positions of this driver in order and is compared with
    /// nothing else. A position counts from when it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub timestamp: Option<String>,
}

/// Where several drivers are.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"locations": [{"driverId": "driver#00001", "lat": 37.5655, "lng": 126.9785}]}))]
pub struct PostLocations {
    /// The positions, taken in this order.
    #[schema(min_items = 1, max_items = 500)]
    pub locations: Vec<BatchLocation>,
}

/// What became of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct LocationsTaken {
    /// Positions taken over.
    #[schema(example = 1)]
    pub accepted: u32,
    /// Positions dropped: of unknown drivers, older than what is known, too inaccurate, or where nobody gets to that fast.
    #[schema(example = 0)]
    pub dropped: u32,
}

/// Whose notifications are streamed: exactly one of both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// A driver's id without `driver#`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub driver: Option<String>,
    /// A user's id without `user#`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub user: Option<String>,
}

/// Why a request was not served: a problem document of RFC 9457.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Kind of the problem; the tail after the last `/` is stable and made for programs.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference", example = "tag:coactus.io,2026:dispatch/invalid-field")]
    pub problem_type: String,
    /// The kind in words.
    #[schema(example = "A field is not valid")]
    pub title: String,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// What is wrong with this request.
    #[schema(example = "lat must be a number from -90 to 90")]
    pub detail: String,
    /// The field of the body, the path, the query or the headers that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "pickupLocation.lat")]
    pub field: Option<String>,
    /// The dispatch as it is, where that is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Box<Dispatch>>,
}
