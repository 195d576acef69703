//! Documents for operations.

use dispatch_core::dispatch::DispatchStatus;
use dispatch_core::meter::ReviewReason;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why operations act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"reason": "교통사고"}))]
pub struct OperationsOrder {
    /// The reason, which the dispatch records together with the subject of the token. Its user and driver can read
    /// both.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
}

/// Whom operations release, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"reason": "배차 기록 손상", "driverId": "driver#00001"}))]
pub struct ReleaseOrder {
    /// The reason, which the dispatch records together with the subject of the token, if it can be read.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
    /// A user to release, if the dispatch is gone or cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^user#[A-Za-z0-9_-]{1,64}$")]
    pub user_id: Option<String>,
    /// A driver to release, if the dispatch is gone or cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^driver#[A-Za-z0-9_-]{1,64}$")]
    pub driver_id: Option<String>,
}

/// The people who were released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"released": ["user#00001", "driver#00001"]}))]
pub struct Released {
    /// The ids of the users and drivers who were on the dispatch and are free now.
    pub released: Vec<String>,
}

/// A ride that operations must review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// The id of the dispatch, prefix included.
    pub dispatch_id: String,
    /// Why the ride must be reviewed.
    pub reason: ReviewReason,
    /// When the review was requested: local time of the city with milliseconds, without offset.
    pub requested_at: String,
    /// The user of the ride.
    pub user_id: String,
    /// The driver of the ride.
    pub driver_id: Option<String>,
    /// The status of the dispatch.
    pub status: DispatchStatus,
    /// The fare estimated when the ride was requested, in whole units of the city's currency.
    pub estimated_fare: u32,
    /// The fare by the positions of the ride, in whole units of the city's currency; null if they are not plausible.
    pub metered_fare: Option<u32>,
    /// The fare to pay, in whole units of the city's currency; 0 until the ride is completed.
    pub actual_fare: u32,
    /// The distance of the ride, in metres; 0 until the ride is completed.
    pub distance_meters: u32,
    /// The duration of the ride, in seconds; 0 until the ride is completed.
    pub duration_seconds: u32,
    /// Whether the ride ended far from its destination.
    pub far_from_destination: bool,
}

/// One page of rides under review, oldest request first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReviewPage {
    /// The rides on this page.
    pub reviews: Vec<Review>,
    /// The cursor of the next page, to be sent as `after`; null on the last page.
    pub next: Option<String>,
}
