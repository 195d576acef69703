//! Notifications, as they travel on `GET /v1/events` and to devices.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Something a person is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Identity: equal for repeated deliveries of the same notification, so that receivers can drop them.
    pub id: String,
    /// `user#…` or `driver#…`.
    pub recipient: String,
    /// What it is about.
    pub kind: NotificationKind,
    /// The seed's SNS message.
    pub body: NotificationBody,
}

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NotificationKind {
    /// To a driver: a new offer.
    Offer,
    /// To the driver: the offer was confirmed as theirs.
    DispatchConfirmed,
    /// To the driver: the offer is no longer theirs.
    OfferClosed,
    /// To the user: a driver accepted.
    DriverAccepted,
    /// To the user: a driver rejected or did not answer; the search goes on.
    DriverRejected,
    /// To the user: no driver was found.
    DispatchFailed,
    /// To the user or the driver: the other side cancelled.
    DispatchCancelled,
    /// To the user: how the ride goes on.
    TripProgress,
}

/// The seed's SNS message of section 7.4, which carries addresses but no coordinates and no phone number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationBody {
    /// Korean text.
    pub message: String,
    /// Which dispatch.
    pub dispatch_id: String,
    /// Pickup address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pickup_address: Option<String>,
    /// Destination address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_address: Option<String>,
    /// Estimate, whole units of currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_fare: Option<u32>,
    /// Length of the ride, for example `2.5km`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_distance: Option<String>,
    /// Addition: which offer an answer must name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_seq: Option<u32>,
    /// Addition: until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_at: Option<String>,
    /// Addition: the dispatch's status or the trip event told about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
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
