//! Why a request was not served.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dispatch::Dispatch;

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
