//! The error document of the API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dispatch::Dispatch;

/// An error: a problem document as defined by RFC 9457.
///
/// Programs should decide by the last part of `type`, which is stable: `body-too-large`, `cancelled-too-often`,
/// `driver-busy`, `idempotency-key-in-use`, `idempotency-key-reused`, `incomplete-body`, `internal`, `invalid-field`,
/// `invalid-host`, `malformed-json`, `method-not-allowed`, `no-such-path`, `not-found`, `offer-over`,
/// `outside-service-area`, `overloaded`, `same-place`, `slow-body`, `timed-out`, `too-many-requests`, `trip-too-long`,
/// `unauthenticated`, `unavailable`, `unsupported-media-type`, `user-busy`, `wrong-scope` or `wrong-state`. `title`
/// and `detail` are for people and may change. A problem never repeats a value from the request.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The kind of problem. The part after the last `/` is stable and meant for programs.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference", example = "tag:coactus.io,2026:dispatch/invalid-field")]
    pub problem_type: String,
    /// A short summary of the kind of problem.
    #[schema(example = "A field is not valid")]
    pub title: String,
    /// The HTTP status code, as in the status line.
    #[schema(example = 422)]
    pub status: u16,
    /// What is wrong with this request, and what to do about it.
    #[schema(example = "lat must be a number from -90 to 90")]
    pub detail: String,
    /// The field of the body, the path, the query or the headers that is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "pickupLocation.lat")]
    pub field: Option<String>,
    /// The dispatch that caused a conflict, in its current state. Absent if the caller may not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Box<Dispatch>>,
    /// When the request is possible again, in the city's time zone. Only with `cancelled-too-often`.
    #[serde(rename = "retryAt", default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, example = "2025-05-25T15:35:00+09:00")]
    pub retry_at: Option<String>,
}
