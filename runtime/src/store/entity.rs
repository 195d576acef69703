//! The items of the single table, attribute for attribute as in spec §6.
//!
//! Specified names and formats never change, so that a service in another language that follows the specification reads
//! and writes the same table. Attributes of this service are marked *addition* and are optional on read. An update
//! never rewrites a whole item, so attributes of other writers survive.

use dispatch_core::dispatch::{DispatchStatus, EventType};
use dispatch_core::geo::Location;
use dispatch_core::person::{DriverPreferences, PaymentMethod, PersonStatus, UserPreferences, VehicleInfo};
use serde::{Deserialize, Serialize};

/// ISO 8601 with the city's offset, `2025-05-25T15:30:00+09:00`. Additions have milliseconds.
pub type Timestamp = String;

/// `currentStatus` of a profile.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CurrentStatus {
    pub status: PersonStatus,
    /// Coarse position: written with the status, not with every ping.
    pub current_location: Location,
    /// When the person reported that position.
    pub last_location_update: Timestamp,
    pub current_dispatch_id: Option<String>,
}

/// `DriverDynamoDBItem` of the specification.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct DriverItem {
    /// `driver#00001`.
    #[serde(rename = "PK")]
    pub pk: String,
    /// `PROFILE`.
    #[serde(rename = "SK")]
    pub sk: String,
    /// `DRIVER`.
    #[serde(rename = "EntityType")]
    pub entity_type: String,
    /// Never logged.
    pub phone: String,
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
    #[serde(rename = "vehicleInfo")]
    pub vehicle_info: VehicleInfo,
    #[serde(rename = "currentStatus")]
    pub current_status: CurrentStatus,
    pub preferences: DriverPreferences,
    /// The last [`COMPLETED_RIDES_KEPT`] rides. All rides are stored as `COMPLETED#` items.
    #[serde(rename = "completedRides")]
    pub completed_rides: Vec<String>,
    /// Addition: SNS platform endpoint of the driver's device.
    #[serde(rename = "deviceEndpointArn", default, skip_serializing_if = "Option::is_none")]
    pub device_endpoint_arn: Option<String>,
    /// `DRIVER#ACTIVE`.
    #[serde(rename = "GSI1PK", default, skip_serializing_if = "Option::is_none")]
    pub gsi1pk: Option<String>,
    /// `REGION#강남구#driver#00001`.
    #[serde(rename = "GSI1SK", default, skip_serializing_if = "Option::is_none")]
    pub gsi1sk: Option<String>,
}

/// Length of a driver's `completedRides`. Each status change rewrites the whole profile, so it must stay small.
pub const COMPLETED_RIDES_KEPT: usize = 20;

/// `UserDynamoDBItem` of the specification.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct UserItem {
    /// `user#00001`.
    #[serde(rename = "PK")]
    pub pk: String,
    /// `PROFILE`.
    #[serde(rename = "SK")]
    pub sk: String,
    /// `USER`.
    #[serde(rename = "EntityType")]
    pub entity_type: String,
    /// Never logged.
    pub phone: String,
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
    #[serde(rename = "currentStatus")]
    pub current_status: CurrentStatus,
    #[serde(rename = "paymentMethods")]
    pub payment_methods: Vec<PaymentMethod>,
    pub preferences: UserPreferences,
    /// Addition: SNS platform endpoint of the user's device.
    #[serde(rename = "deviceEndpointArn", default, skip_serializing_if = "Option::is_none")]
    pub device_endpoint_arn: Option<String>,
    /// `USER#ACTIVE`.
    #[serde(rename = "GSI1PK", default, skip_serializing_if = "Option::is_none")]
    pub gsi1pk: Option<String>,
    /// `REGION#강남구#user#00001`.
    #[serde(rename = "GSI1SK", default, skip_serializing_if = "Option::is_none")]
    pub gsi1sk: Option<String>,
}

/// An entry of a dispatch's `events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventEntry {
    #[serde(rename = "type")]
    pub event_type: EventType,
    pub timestamp: Timestamp,
    /// Human-readable description.
    pub details: String,
}

/// An entry of a dispatch's `route`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteEntry {
    /// Degrees.
    pub lat: f64,
    /// Degrees.
    pub lng: f64,
    pub timestamp: Timestamp,
    /// Metres from the previous entry; absent in the export example of the specification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance_from_previous: Option<u32>,
}

/// Addition: the search, with the names of `DispatchRequest` in the specification.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchingItem {
    /// Candidates without an offer so far, best first.
    #[serde(default)]
    pub candidate_drivers: Vec<String>,
    /// Those candidates that accept every offer automatically.
    #[serde(default)]
    pub auto_accept_drivers: Vec<String>,
    /// When the candidates were found, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searched_at: Option<Timestamp>,
    /// Drivers who have had an offer.
    #[serde(default)]
    pub asked_drivers: Vec<String>,
    /// Offers so far.
    #[serde(default)]
    pub current_attempt: u8,
    /// Most offers.
    #[serde(default)]
    pub max_attempts: u8,
    /// When the live offer was made, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_at: Option<Timestamp>,
    /// When the live offer ends, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_at: Option<Timestamp>,
    /// When the repeated search for a driver ends, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_until: Option<Timestamp>,
}

/// `DispatchDynamoDBItem` of the specification.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct DispatchItem {
    /// `dispatch#00001`; this service appends a ULID.
    #[serde(rename = "PK")]
    pub pk: String,
    /// `METADATA`.
    #[serde(rename = "SK")]
    pub sk: String,
    /// `DISPATCH`.
    #[serde(rename = "EntityType")]
    pub entity_type: String,
    #[serde(rename = "userId")]
    pub user_id: String,
    /// The driver who has the offer or the ride; null before the first offer and between offers.
    #[serde(rename = "driverId")]
    pub driver_id: Option<String>,
    pub status: DispatchStatus,
    /// When it was requested.
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
    #[serde(rename = "updatedAt")]
    pub updated_at: Timestamp,
    #[serde(rename = "pickupLocation")]
    pub pickup_location: Location,
    pub destination: Location,
    /// The fare shown to the user at the request.
    #[serde(rename = "estimatedFare")]
    pub estimated_fare: u32,
    /// The fare paid; 0 before the end.
    #[serde(rename = "actualFare")]
    pub actual_fare: u32,
    /// The travelled route, written once at the end, at most 200 points.
    pub route: Vec<RouteEntry>,
    pub events: Vec<EventEntry>,
    /// Addition: number of the last offer.
    #[serde(rename = "offerSeq", default)]
    pub offer_seq: u32,
    /// Addition: version; each change increments it.
    #[serde(default)]
    pub ver: u32,
    /// Addition: the search.
    #[serde(default)]
    pub matching: MatchingItem,
    /// Addition: distance travelled, m; 0 before the end.
    #[serde(rename = "distanceMeters", default)]
    pub distance_m: u32,
    /// Addition: duration, s; 0 before the end.
    #[serde(rename = "durationSeconds", default)]
    pub duration_s: u32,
    /// `DISPATCH#REQUESTED`.
    #[serde(rename = "GSI1PK", default, skip_serializing_if = "Option::is_none")]
    pub gsi1pk: Option<String>,
    /// `2025-05-25T14:30:00.000#dispatch#00001`.
    #[serde(rename = "GSI1SK", default, skip_serializing_if = "Option::is_none")]
    pub gsi1sk: Option<String>,
    /// `USER#user#00001`.
    #[serde(rename = "GSI2PK", default, skip_serializing_if = "Option::is_none")]
    pub gsi2pk: Option<String>,
    /// `DISPATCH#2025-05-25T14:30:00.000`.
    #[serde(rename = "GSI2SK", default, skip_serializing_if = "Option::is_none")]
    pub gsi2sk: Option<String>,
}

/// `DriverStatusHistoryItem` of the specification.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct DriverStatusHistoryItem {
    /// `driver#00001`.
    #[serde(rename = "PK")]
    pub pk: String,
    /// `DISPATCHED#2025-05-25T14:30:00.000`.
    #[serde(rename = "SK")]
    pub sk: String,
    /// `DRIVER_STATUS_HISTORY`.
    #[serde(rename = "EntityType")]
    pub entity_type: String,
    /// The new status.
    pub status: PersonStatus,
    pub timestamp: Timestamp,
    #[serde(rename = "dispatchId", default, skip_serializing_if = "Option::is_none")]
    pub dispatch_id: Option<String>,
    pub location: Location,
    /// `DRIVER#driver#00001`.
    #[serde(rename = "GSI2PK", default, skip_serializing_if = "Option::is_none")]
    pub gsi2pk: Option<String>,
    /// `STATUS#2025-05-25T14:30:00.000`.
    #[serde(rename = "GSI2SK", default, skip_serializing_if = "Option::is_none")]
    pub gsi2sk: Option<String>,
}

/// `UserDispatchHistoryItem` of the specification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserDispatchHistoryItem {
    /// `user#00001`.
    #[serde(rename = "PK")]
    pub pk: String,
    /// `DISPATCH#2025-05-25T14:30:00.000#dispatch#00001`.
    #[serde(rename = "SK")]
    pub sk: String,
    /// `USER_DISPATCH_HISTORY`.
    #[serde(rename = "EntityType")]
    pub entity_type: String,
    #[serde(rename = "dispatchId")]
    pub dispatch_id: String,
    /// When the dispatch ended.
    pub date: Timestamp,
    /// Pickup address.
    pub from: String,
    /// Destination address.
    pub to: String,
    /// The fare paid; 0 if cancelled.
    pub fare: u32,
    /// `COMPLETED` or `CANCELLED`.
    pub status: DispatchStatus,
}

/// `DriverCompletedRideItem` of the specification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriverCompletedRideItem {
    /// `driver#00001`.
    #[serde(rename = "PK")]
    pub pk: String,
    /// `COMPLETED#2025-05-25T14:30:00.000#dispatch#00001`.
    #[serde(rename = "SK")]
    pub sk: String,
    /// `DRIVER_COMPLETED_RIDE`.
    #[serde(rename = "EntityType")]
    pub entity_type: String,
    #[serde(rename = "dispatchId")]
    pub dispatch_id: String,
    #[serde(rename = "completedAt")]
    pub completed_at: Timestamp,
    /// The fare paid.
    pub fare: u32,
    /// Metres.
    pub distance: u32,
    /// Seconds.
    pub duration: u32,
    /// `DRIVER#driver#00001`.
    #[serde(rename = "GSI2PK", default, skip_serializing_if = "Option::is_none")]
    pub gsi2pk: Option<String>,
    /// `DISPATCH#2025-05-25T14:30:00.000`.
    #[serde(rename = "GSI2SK", default, skip_serializing_if = "Option::is_none")]
    pub gsi2sk: Option<String>,
}

/// Addition: one chunk of the route of a live trip. An item may have 400 KB, and each append rewrites all of it, so
/// points are stored in separate chunks.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteChunkItem {
    /// `dispatch#00001`.
    #[serde(rename = "PK")]
    pub pk: String,
    /// `ROUTE#000001`.
    #[serde(rename = "SK")]
    pub sk: String,
    /// `DISPATCH_ROUTE`.
    #[serde(rename = "EntityType")]
    pub entity_type: String,
    pub route: Vec<RouteEntry>,
}
