//! Notifications, as they are sent on `GET /v1/events` and to devices.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A message to one user or driver, about a dispatch or about the driver's availability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// The id of the notification. Repeated deliveries of a notification have the same id, so that receivers can ignore
    /// duplicates.
    pub id: String,
    /// The recipient: `user#…` or `driver#…`.
    pub recipient: String,
    /// What happened.
    pub kind: NotificationKind,
    /// The text to show, and the data about the dispatch.
    pub body: NotificationBody,
}

/// What happened:
///
/// - `OFFER`, to the driver: a new offer. Answer it before `timeoutAt`.
/// - `DISPATCH_CONFIRMED`, to the driver: the acceptance took effect, and the dispatch is assigned to the driver.
/// - `OFFER_CLOSED`, to the driver: the offer was rejected or has expired.
/// - `DRIVER_ACCEPTED`, to the user: a driver accepted.
/// - `DRIVER_REJECTED`, to the user: a driver rejected or did not answer; the search continues.
/// - `DISPATCH_FAILED`, to the user: no driver was found, and the dispatch is cancelled.
/// - `DISPATCH_CANCELLED`, to the user or the driver: the other party or operations cancelled, or the ride gave no
///   sign of life.
/// - `TRIP_PROGRESS`, to the user: the driver reported progress; `status` names the trip event. At the end of the trip,
///   the body has the fares, and the text says if the trip ended far from its destination. A driver receives it if
///   operations ended the trip, or it was ended because it gave no sign of life.
/// - `DRIVER_INACTIVE`, to the driver: the driver became `INACTIVE`, because no position arrived for a long time or
///   several offers were not answered. It is not about a dispatch. Report `ACTIVE` to receive offers again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NotificationKind {
    /// To the driver: a new offer.
    Offer,
    /// To the driver: the acceptance took effect.
    DispatchConfirmed,
    /// To the driver: the offer was rejected or has expired.
    OfferClosed,
    /// To the user: a driver accepted.
    DriverAccepted,
    /// To the user: a driver rejected or did not answer; the search continues.
    DriverRejected,
    /// To the user: no driver was found, and the dispatch is cancelled.
    DispatchFailed,
    /// To the user or the driver: the other party cancelled.
    DispatchCancelled,
    /// To the user: the driver reported progress.
    TripProgress,
    /// To the driver: the driver became `INACTIVE` without having asked for it.
    DriverInactive,
}

/// The content of a notification. It carries addresses, but no coordinates and no phone number. Fields that do not
/// apply to the kind of notification are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationBody {
    /// The text to show to the recipient, in Korean.
    pub message: String,
    /// The dispatch that the notification is about; absent for `DRIVER_INACTIVE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch_id: Option<String>,
    /// `OFFER`: the address of the pickup, or its district if the city shows no more before the driver accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pickup_address: Option<String>,
    /// `OFFER`: the address of the destination, or its district.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_address: Option<String>,
    /// `OFFER`, and `TRIP_PROGRESS` with the status `TRIP_COMPLETED`: the estimated fare, in whole units of the city's
    /// currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_fare: Option<u32>,
    /// `TRIP_PROGRESS` with the status `TRIP_COMPLETED`: the fare by the positions of the ride, in whole units of the
    /// city's currency; absent if they are not plausible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered_fare: Option<u32>,
    /// `TRIP_PROGRESS` with the status `TRIP_COMPLETED`: the fare to pay, in whole units of the city's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_fare: Option<u32>,
    /// `OFFER`: the estimated length of the ride, for example `2.5km`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_distance: Option<String>,
    /// The number of the offer. An answer to an `OFFER` must repeat it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_seq: Option<u32>,
    /// `OFFER`: when the offer expires, in the city's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_at: Option<String>,
    /// The status of the dispatch after what happened; for `TRIP_PROGRESS`, the trip event; for `DRIVER_INACTIVE`, the
    /// status of the driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// The recipient whose notifications are streamed. Exactly one of the two parameters must be set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// The driver's id, with or without the prefix `driver#`. Set either `driver` or `user`, to the caller's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^(driver#)?[A-Za-z0-9_-]{1,64}$")]
    pub driver: Option<String>,
    /// The user's id, with or without the prefix `user#`. Set either `driver` or `user`, to the caller's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^(user#)?[A-Za-z0-9_-]{1,64}$")]
    pub user: Option<String>,
}
