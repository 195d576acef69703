//! All data of one person, for operations: its erasure and its export.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What an erasure has found and removed so far. It contains no personal data except the id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "personId": "user#00001", "startedAt": "2025-05-25T16:00:00+09:00", "completedAt": "2025-05-25T16:00:00+09:00",
    "found": {"profiles": 1, "devices": 1, "dispatches": 3, "routes": 12, "histories": 3, "rides": 0, "others": 0},
    "digest": "6b1f0c1f2a6a0c5c5a0f6f5b5d3c9a7e1c0d7f5e4b3a29181706f5e4d3c2b1a0"
}))]
pub struct ErasureReceipt {
    /// The person whose data is erased.
    pub person_id: String,
    /// When the erasure began, in the city's time zone.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// When the erasure was complete, in the city's time zone; null while data is left: send the request again.
    #[schema(format = DateTime)]
    pub completed_at: Option<String>,
    /// How much was found.
    pub found: ErasureCounts,
    /// SHA-256 of the other fields as compact JSON in the order of this document, in hexadecimal digits. Keep the
    /// receipt with it as a proof.
    pub digest: String,
}

/// How much of each kind of data an erasure found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErasureCounts {
    /// Profiles, which are removed.
    pub profiles: u32,
    /// Devices, which no longer receive notifications.
    pub devices: u32,
    /// Dispatches. Fares and times stay; of a user's dispatches all places, addresses and texts are removed.
    pub dispatches: u32,
    /// Items with recorded positions, which are removed.
    pub routes: u32,
    /// Entries of histories. Places and addresses are removed.
    pub histories: u32,
    /// Completed rides of a driver, which hold fares and times only and stay.
    pub rides: u32,
    /// Items of other services, which stay: erase them there.
    pub others: u32,
}

/// One page of all that is stored about a person.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersonExport {
    /// The person.
    pub person_id: String,
    /// The stored items on this page.
    pub items: Vec<ExportedItem>,
    /// The cursor of the next page, to be sent as `after`; null on the last page.
    pub next: Option<String>,
}

/// A stored item.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportedItem {
    /// The kind of data.
    pub kind: ExportedKind,
    /// The item with all its attributes, those of other services included.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

/// A kind of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExportedKind {
    /// The profile.
    Profile,
    /// A dispatch; of a driver's dispatches, without the places of the user.
    Dispatch,
    /// Recorded positions of a ride.
    Route,
    /// An entry of a history.
    History,
    /// A completed ride of a driver.
    Ride,
    /// An item of another service.
    Other,
}

/// The start of a page.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// The cursor: `next` of the previous page. Omit it for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(
        pattern = "^(own_([0-7][0-9a-f])+|dispatches|dispatches_[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?_[A-Za-z0-9_-]{1,64})$",
        example = "dispatches"
    )]
    pub after: Option<String>,
}
