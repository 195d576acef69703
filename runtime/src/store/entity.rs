//! The items of the single table, attribute for attribute as in the seed's section 6.
//!
//! Names and formats of the seed are never changed, so that a service in another language that follows the seed reads and
//! writes the same table. What is ours is marked *addition* and is optional on read. Unknown attributes are kept out of the
//! way: an update never rewrites a whole item, so another writer's attributes survive.

use dispatch_core::dispatch::{DispatchStatus, EventType};
use dispatch_core::person::{PaymentType, PersonStatus, RideType};
use serde::{Deserialize, Serialize};

/// ISO 8601 with the city's offset, `2025-05-25T15:30:00+09:00`. Additions carry milliseconds.
pub type Timestamp = String;

/// The seed's `Location`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// Latitude, degrees.
    pub lat: f64,
    /// Longitude, degrees.
    pub lng: f64,
    /// Address.
    pub address: String,
}

/// The seed's `currentStatus`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CurrentStatus {
    /// Free, on a dispatch, or away.
    pub status: PersonStatus,
    /// Coarse position: written with the status, not with every ping.
    pub current_location: Location,
    /// When that position was seen.
    pub last_location_update: Timestamp,
    /// The dispatch the person is on.
    pub current_dispatch_id: Option<String>,
}

/// The seed's `DriverDynamoDBItem`.
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
    /// Phone number; never logged.
    pub phone: String,
    /// When the profile was made.
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
    /// The car.
    #[serde(rename = "vehicleInfo")]
    pub vehicle_info: VehicleInfo,
    /// Where and how the driver is.
    #[serde(rename = "currentStatus")]
    pub current_status: CurrentStatus,
    /// What the driver takes.
    pub preferences: DriverPreferences,
    /// The last [`COMPLETED_RIDES_KEPT`] rides; all of them are `COMPLETED#` items.
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

/// Rides kept in a driver's `completedRides`: each status change rewrites the whole profile, so it must stay small.
pub const COMPLETED_RIDES_KEPT: usize = 20;

/// The seed's `vehicleInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VehicleInfo {
    /// Manufacturer.
    pub manufacturer: String,
    /// Licence plate.
    pub license_plate: String,
}

/// The seed's `preferences` of a driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriverPreferences {
    /// Ride type; absent in the seed's short example of section 7.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_ride_type: Option<RideType>,
    /// Districts the driver likes, for example `중구`.
    pub preferred_regions: Vec<String>,
    /// Farthest pickup, **kilometres** (the seed's `20`).
    pub max_distance: f64,
    /// Whether the driver takes every offer.
    pub auto_accept: bool,
    /// Lowest estimate the driver is offered.
    pub minimum_fare: u32,
}

/// The seed's `UserDynamoDBItem`.
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
    /// Phone number; never logged.
    pub phone: String,
    /// When the profile was made.
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
    /// Where and how the user is.
    #[serde(rename = "currentStatus")]
    pub current_status: CurrentStatus,
    /// Ways to pay.
    #[serde(rename = "paymentMethods")]
    pub payment_methods: Vec<PaymentMethod>,
    /// What the user likes.
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

/// The seed's `paymentMethods` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentMethod {
    /// Identity.
    pub id: String,
    /// Kind.
    #[serde(rename = "type")]
    pub method_type: PaymentType,
    /// Whether it is used unless another is named.
    pub is_default: bool,
}

/// The seed's `preferences` of a user.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserPreferences {
    /// Ride type.
    pub default_ride_type: RideType,
    /// Places the user goes to.
    pub favorite_locations: Vec<FavoriteLocation>,
}

/// The seed's `favoriteLocations` entry.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct FavoriteLocation {
    /// Identity.
    pub id: String,
    /// Name.
    pub name: String,
    /// Address.
    pub address: String,
    /// Latitude, degrees.
    pub lat: f64,
    /// Longitude, degrees.
    pub lng: f64,
}

/// The seed's `events` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventEntry {
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// When.
    pub timestamp: Timestamp,
    /// In words.
    pub details: String,
}

/// The seed's `route` entry.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteEntry {
    /// Latitude, degrees.
    pub lat: f64,
    /// Longitude, degrees.
    pub lng: f64,
    /// When.
    pub timestamp: Timestamp,
    /// Metres since the entry before; absent in the seed's export example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance_from_previous: Option<u32>,
}

/// Addition: the search, as the seed's `DispatchRequest` names it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchingItem {
    /// Candidates not yet asked, best first.
    #[serde(default)]
    pub candidate_drivers: Vec<String>,
    /// Those of them that accept by themselves.
    #[serde(default)]
    pub auto_accept_drivers: Vec<String>,
    /// When the list was made, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searched_at: Option<Timestamp>,
    /// Drivers asked so far.
    #[serde(default)]
    pub asked_drivers: Vec<String>,
    /// Offers made so far.
    #[serde(default)]
    pub current_attempt: u8,
    /// Offers allowed.
    #[serde(default)]
    pub max_attempts: u8,
    /// When the live offer was made, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_at: Option<Timestamp>,
    /// When it runs out, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_at: Option<Timestamp>,
    /// Until when an unanswerable request is searched again, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_until: Option<Timestamp>,
}

/// The seed's `DispatchDynamoDBItem`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct DispatchItem {
    /// `dispatch#00001`; ours end in a ULID.
    #[serde(rename = "PK")]
    pub pk: String,
    /// `METADATA`.
    #[serde(rename = "SK")]
    pub sk: String,
    /// `DISPATCH`.
    #[serde(rename = "EntityType")]
    pub entity_type: String,
    /// Who asked.
    #[serde(rename = "userId")]
    pub user_id: String,
    /// The driver offered to or driving; null before the first offer and between offers.
    #[serde(rename = "driverId")]
    pub driver_id: Option<String>,
    /// Where it stands.
    pub status: DispatchStatus,
    /// When it was requested.
    #[serde(rename = "createdAt")]
    pub created_at: Timestamp,
    /// When it last changed.
    #[serde(rename = "updatedAt")]
    pub updated_at: Timestamp,
    /// Where the ride begins.
    #[serde(rename = "pickupLocation")]
    pub pickup_location: Location,
    /// Where it ends.
    pub destination: Location,
    /// Fare told to the user.
    #[serde(rename = "estimatedFare")]
    pub estimated_fare: u32,
    /// Fare paid; 0 before the end.
    #[serde(rename = "actualFare")]
    pub actual_fare: u32,
    /// The travelled route, written once at the end, at most 200 points.
    pub route: Vec<RouteEntry>,
    /// What happened.
    pub events: Vec<EventEntry>,
    /// Addition: number of the last offer.
    #[serde(rename = "offerSeq", default)]
    pub offer_seq: u32,
    /// Addition: version, +1 with each change.
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

/// The seed's `DriverStatusHistoryItem`.
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
    /// When.
    pub timestamp: Timestamp,
    /// On which dispatch.
    #[serde(rename = "dispatchId", default, skip_serializing_if = "Option::is_none")]
    pub dispatch_id: Option<String>,
    /// Where.
    pub location: Location,
    /// `DRIVER#driver#00001`.
    #[serde(rename = "GSI2PK", default, skip_serializing_if = "Option::is_none")]
    pub gsi2pk: Option<String>,
    /// `STATUS#2025-05-25T14:30:00.000`.
    #[serde(rename = "GSI2SK", default, skip_serializing_if = "Option::is_none")]
    pub gsi2sk: Option<String>,
}

/// The seed's `UserDispatchHistoryItem`.
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
    /// Which ride.
    #[serde(rename = "dispatchId")]
    pub dispatch_id: String,
    /// When it ended.
    pub date: Timestamp,
    /// Pickup address.
    pub from: String,
    /// Destination address.
    pub to: String,
    /// Fare paid; 0 where cancelled.
    pub fare: u32,
    /// `COMPLETED` or `CANCELLED`.
    pub status: DispatchStatus,
}

/// The seed's `DriverCompletedRideItem`.
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
    /// Which ride.
    #[serde(rename = "dispatchId")]
    pub dispatch_id: String,
    /// When it ended.
    #[serde(rename = "completedAt")]
    pub completed_at: Timestamp,
    /// Fare paid.
    pub fare: u32,
    /// Distance, m.
    pub distance: u32,
    /// Duration, s.
    pub duration: u32,
    /// `DRIVER#driver#00001`.
    #[serde(rename = "GSI2PK", default, skip_serializing_if = "Option::is_none")]
    pub gsi2pk: Option<String>,
    /// `DISPATCH#2025-05-25T14:30:00.000`.
    #[serde(rename = "GSI2SK", default, skip_serializing_if = "Option::is_none")]
    pub gsi2sk: Option<String>,
}

/// Addition: one chunk of a live trip's route. An item may have 400 KB and each append rewrites all of it, so points are
/// written in chunks of their own.
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
    /// The points.
    pub route: Vec<RouteEntry>,
}
