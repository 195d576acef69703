//! The items of the single table, attribute for attribute as in spec §6.
//!
//! Specified names and formats never change, so that a service in another language that follows the specification reads
//! and writes the same table. Attributes of this service are marked *addition* and are optional on read. An update
//! never rewrites a whole item, so attributes of other writers survive.

use dispatch_core::dispatch::{DispatchStatus, EventEntry};
use dispatch_core::geo::Location;
use dispatch_core::number::{whole, whole_or_none};
use dispatch_core::person::{DriverPreferences, PaymentMethod, PersonStatus, UserPreferences, VehicleInfo};
use dispatch_core::route::RouteEntry;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

/// ISO 8601 with the city's offset, `2025-05-25T15:30:00+09:00`. Additions have milliseconds.
pub type Timestamp = String;

/// Addition: the time of the erasure of a person's data. A profile with it counts as missing.
pub(super) const ERASED_AT: &str = "erasedAt";

/// Addition: the table's time to live, Unix seconds.
pub(super) const EXPIRES_AT: &str = "expiresAt";

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
    /// Addition: version; each change by this service increments it. The stream's reader thus knows the changes of
    /// others.
    #[serde(default, deserialize_with = "whole")]
    pub ver: u32,
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
    /// Addition: when the user cancelled, with milliseconds; as many times as the limits need, oldest first.
    #[serde(
        rename = "recentCancellations",
        default,
        deserialize_with = "readable_entries",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub recent_cancellations: Vec<Timestamp>,
    /// Addition: until when those times allow no request, ms since the epoch; 0 if they allow one. The condition of a
    /// new request compares it.
    #[serde(
        rename = "requestsPausedUntil",
        default,
        deserialize_with = "readable_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub requests_paused_until: Option<i64>,
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

/// A value of the expected type, or any other one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Readable<T> {
    Value(T),
    Other(IgnoredAny),
}

impl<T> Readable<T> {
    fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}

/// Reads an attribute without which a profile is still valid: a value of another type counts as missing.
fn readable_or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Readable::deserialize(deserializer).map(Readable::value)
}

/// Reads the entries of such a list, each for itself.
fn readable_entries<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let entries: Option<Vec<Readable<T>>> = readable_or_none(deserializer)?;
    Ok(entries.unwrap_or_default().into_iter().filter_map(Readable::value).collect())
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
    #[serde(default, deserialize_with = "whole")]
    pub current_attempt: u8,
    /// Most offers.
    #[serde(default, deserialize_with = "whole")]
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
    #[serde(rename = "updatedAt", default)]
    pub updated_at: Timestamp,
    #[serde(rename = "pickupLocation")]
    pub pickup_location: Location,
    pub destination: Location,
    /// The fare shown to the user at the request.
    #[serde(rename = "estimatedFare", deserialize_with = "whole")]
    pub estimated_fare: u32,
    /// The fare paid; 0 before the end.
    #[serde(rename = "actualFare", default, deserialize_with = "whole")]
    pub actual_fare: u32,
    /// Addition: the fare by the positions of the ride; absent if they are not plausible.
    #[serde(
        rename = "meteredFare",
        default,
        deserialize_with = "whole_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub metered_fare: Option<u32>,
    /// Addition: whether the ride ended far from its destination.
    #[serde(rename = "farFromDestination", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_far: bool,
    /// Addition: why operations must review the dispatch, until they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<String>,
    /// The travelled route, written once at the end, at most 200 points.
    #[serde(default)]
    pub route: Vec<RouteEntry>,
    #[serde(default)]
    pub events: Vec<EventEntry>,
    /// Addition: number of the last offer.
    #[serde(rename = "offerSeq", default, deserialize_with = "whole")]
    pub offer_seq: u32,
    /// Addition: version; each change increments it.
    #[serde(default, deserialize_with = "whole")]
    pub ver: u32,
    /// Addition: the search.
    #[serde(default)]
    pub matching: MatchingItem,
    /// Addition: distance travelled, m; 0 before the end.
    #[serde(rename = "distanceMeters", default, deserialize_with = "whole")]
    pub distance_m: u32,
    /// Addition: duration, s; 0 before the end.
    #[serde(rename = "durationSeconds", default, deserialize_with = "whole")]
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
    /// Addition: the table's time to live, Unix seconds.
    #[serde(rename = "expiresAt", skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
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
    /// Addition: the table's time to live, Unix seconds.
    #[serde(rename = "expiresAt", skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
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
    /// Addition: the table's time to live, Unix seconds.
    #[serde(rename = "expiresAt", skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
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
    /// Addition: the table's time to live, Unix seconds.
    #[serde(rename = "expiresAt", skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

/// Addition: an entry of the list of dispatches that operations must review. An item of its own, because the index keys
/// of a dispatch belong to the lists of the specification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DispatchReviewItem {
    /// `dispatch#00001`.
    #[serde(rename = "PK")]
    pub pk: String,
    /// `REVIEW`.
    #[serde(rename = "SK")]
    pub sk: String,
    /// `DISPATCH_REVIEW`.
    #[serde(rename = "EntityType")]
    pub entity_type: String,
    /// Why.
    pub reason: String,
    /// `REVIEW#OPEN`; absent after the review.
    #[serde(rename = "GSI1PK", default, skip_serializing_if = "Option::is_none")]
    pub gsi1pk: Option<String>,
    /// `2025-05-25T14:30:00.000#dispatch#00001`, the time at which the review was requested.
    #[serde(rename = "GSI1SK", default, skip_serializing_if = "Option::is_none")]
    pub gsi1sk: Option<String>,
    /// Addition: the table's time to live, Unix seconds.
    #[serde(rename = "expiresAt", skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}
