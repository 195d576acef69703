//! The error responses of the API: problem documents as defined by RFC 9457.
//!
//! A problem names the field that is not valid and says what is allowed there. It never repeats a value from the
//! request and never contains the error text of a backend service. Those texts are logged under the request id, which
//! the client receives in `x-request-id`.

use std::error::Error as _;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dispatch_core::cancellation::Limit;
use dispatch_core::dispatch::Refusal;
use dispatch_core::requested_trip::{End, SAME_PLACE_M, TripRefusal};
use dispatch_http_types::{Dispatch, Problem, Scope};

use super::convert;
use crate::engine::EngineError;
use crate::ports::{PortError, StoredDispatch};

/// Prefix of every problem's `type`: a tag URI (RFC 4151), which RFC 9457 recommends for types that cannot be fetched.
const TYPE_PREFIX: &str = "tag:coactus.io,2026:dispatch/";

/// `Retry-After` of 503 responses, and of 429 responses to clients that hold their share, in seconds: longer than a
/// burst of throttling, and short enough for people to wait.
pub(super) const RETRY_AFTER_S: u64 = 2;

/// An error of the API.
pub(crate) enum ApiError {
    /// A field is missing, of the wrong type, or out of bounds.
    Field {
        /// Path of the field, as the client spells it.
        field: String,
        /// The rule that the value breaks, without the value.
        detail: String,
    },
    /// The request has no valid `Host` (RFC 9112, section 3.2).
    Host,
    /// The body is not JSON.
    MalformedJson,
    /// The `Content-Type` is not `application/json`.
    MediaType,
    /// The body is longer than allowed.
    TooLarge,
    /// The connection ended before the body was complete.
    BodyCut,
    /// The body did not arrive in time.
    SlowBody,
    /// The token is missing or not valid.
    Unauthenticated {
        /// Whether there was a token.
        given: bool,
    },
    /// The token lacks the scope.
    Forbidden {
        /// The scope that the operation requires.
        needs: Scope,
    },
    /// The caller or its address has used up its rate.
    TooMany {
        /// Seconds until the next request is allowed.
        after_s: u64,
    },
    /// The trip cannot be requested.
    Trip(TripRefusal),
    /// The user has cancelled too often.
    CancelledTooOften {
        limit: Limit,
        /// When the next request is possible, local time of the city.
        until: String,
        /// The same in seconds from now.
        after_s: u64,
    },
    /// The issuer's keys are not loaded yet.
    NoKeys,
    /// The object does not exist, or the caller may not access it.
    NotFound {
        /// The kind of object.
        what: &'static str,
    },
    NoSuchPath,
    Method,
    /// The user is on another dispatch.
    UserBusy {
        current: Option<Box<Dispatch>>,
    },
    /// The driver is on a dispatch.
    DriverBusy {
        current: Option<Box<Dispatch>>,
    },
    /// The person whose data should be erased is on a dispatch.
    OpenRide,
    /// The Idempotency-Key was used for another request.
    KeyReused,
    /// A request with the same key is in progress.
    KeyInUse {
        /// Seconds until it has ended or is given up.
        after_s: u64,
    },
    /// The state of the dispatch does not allow the event.
    Refused {
        refusal: Refusal,
        /// The dispatch in its current state, if the caller may read it.
        current: Option<Box<Dispatch>>,
    },
    /// The process serves its maximum of concurrent requests.
    Overloaded,
    /// The request exceeded its deadline.
    TimedOut,
    /// Concurrent writers won every attempt.
    Contended,
    /// A backend service failed.
    Port(PortError),
}

impl ApiError {
    /// A field that is not valid.
    pub(crate) fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Field { field: field.into(), detail: detail.into() }
    }
}

impl From<PortError> for ApiError {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

impl ApiError {
    /// The error for an event that was refused. `sees` decides whether the caller may read the dispatch: when the
    /// caller's offer has ended, the dispatch may already be offered to another driver.
    pub(super) fn of_event(error: EngineError, view: impl FnOnce(&StoredDispatch) -> Option<Dispatch>) -> Self {
        match error {
            // A caller must not learn whether a dispatch that is not its own exists.
            EngineError::NotFound | EngineError::Refused { refusal: Refusal::NotYours, .. } => {
                Self::NotFound { what: "dispatch" }
            }
            EngineError::Refused { refusal, current } => {
                Self::Refused { refusal, current: view(&current).map(Box::new) }
            }
            EngineError::Port(error) => Self::Port(error),
            EngineError::Contended => Self::Contended,
        }
    }
}

/// The field of a request with an end of the trip.
fn field_of(end: End) -> &'static str {
    match end {
        End::Pickup => "pickupLocation",
        End::Destination => "destination",
    }
}

/// The parts of a problem that depend only on its kind.
struct Kind {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
}

const fn kind(status: StatusCode, name: &'static str, title: &'static str) -> Kind {
    Kind { status, name, title }
}

impl ApiError {
    fn kind(&self) -> Kind {
        match self {
            Self::Field { .. } => kind(StatusCode::UNPROCESSABLE_ENTITY, "invalid-field", "A field is not valid"),
            Self::Host => kind(StatusCode::BAD_REQUEST, "invalid-host", "The Host is not valid"),
            Self::MalformedJson => kind(StatusCode::BAD_REQUEST, "malformed-json", "The body is not valid JSON"),
            Self::BodyCut => kind(StatusCode::BAD_REQUEST, "incomplete-body", "The body is incomplete"),
            Self::SlowBody => kind(StatusCode::REQUEST_TIMEOUT, "slow-body", "The body arrived too slowly"),
            Self::Unauthenticated { .. } => {
                kind(StatusCode::UNAUTHORIZED, "unauthenticated", "A valid access token is required")
            }
            Self::Forbidden { .. } => kind(StatusCode::FORBIDDEN, "wrong-scope", "The token lacks the required scope"),
            Self::TooMany { .. } => kind(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests"),
            Self::Trip(refusal) => kind(
                StatusCode::UNPROCESSABLE_ENTITY,
                refusal.name(),
                match refusal {
                    TripRefusal::OutsideServiceArea(_) => "The place is outside the service area",
                    TripRefusal::TooLong { .. } => "The trip is too long",
                    TripRefusal::SamePlace => "Pickup and destination are the same place",
                },
            ),
            Self::CancelledTooOften { .. } => {
                kind(StatusCode::TOO_MANY_REQUESTS, "cancelled-too-often", "Too many cancelled requests")
            }
            Self::MediaType => {
                kind(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body must be JSON")
            }
            Self::TooLarge => kind(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large"),
            Self::NotFound { .. } => kind(StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::NoSuchPath => kind(StatusCode::NOT_FOUND, "no-such-path", "Not found"),
            Self::Method => kind(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed"),
            Self::UserBusy { .. } => kind(StatusCode::CONFLICT, "user-busy", "The user is already on a dispatch"),
            Self::DriverBusy { .. } => kind(StatusCode::CONFLICT, "driver-busy", "The driver is on a dispatch"),
            Self::OpenRide => kind(StatusCode::CONFLICT, "open-ride", "The person is on a dispatch"),
            Self::KeyReused => kind(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The Idempotency-Key was used for another request",
            ),
            Self::KeyInUse { .. } => kind(StatusCode::CONFLICT, "idempotency-key-in-use", "The request is in progress"),
            Self::Refused { refusal: Refusal::OfferOver, .. } => {
                kind(StatusCode::CONFLICT, "offer-over", "The offer is no longer open")
            }
            Self::Refused { .. } => {
                kind(StatusCode::CONFLICT, "wrong-state", "The state of the dispatch does not allow this")
            }
            Self::Overloaded => kind(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many concurrent requests"),
            Self::TimedOut => kind(StatusCode::SERVICE_UNAVAILABLE, "timed-out", "The request timed out"),
            Self::Contended | Self::NoKeys | Self::Port(PortError::Unavailable { .. }) => {
                kind(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable")
            }
            Self::Port(PortError::Failed { .. } | PortError::Unreadable { .. }) => {
                kind(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error")
            }
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Field { detail, .. } => detail.clone(),
            Self::Host => "send exactly one Host with the name of this API".to_owned(),
            Self::MalformedJson => "the body must be one JSON document".to_owned(),
            Self::BodyCut => "the connection ended before the body was complete; send the request again".to_owned(),
            Self::SlowBody => "the body must arrive within a few seconds; send the request again".to_owned(),
            Self::Unauthenticated { given: false } => {
                "send one access token in the header Authorization: Bearer".to_owned()
            }
            Self::Unauthenticated { given: true } => {
                "the access token is not valid, has expired, or is for another audience; request a new one".to_owned()
            }
            Self::Forbidden { needs } => format!("the operation requires a token with the scope {needs}"),
            Self::TooMany { .. } => {
                "the caller or its address has reached its limit; retry after the seconds in Retry-After".to_owned()
            }
            Self::Trip(TripRefusal::OutsideServiceArea(end)) => {
                format!("{} must be in the area that the city serves", field_of(*end))
            }
            Self::Trip(TripRefusal::TooLong { longest_m }) => {
                format!("the destination must be at most {longest_m} m from the pickup in a straight line")
            }
            Self::Trip(TripRefusal::SamePlace) => {
                format!("the destination must be more than {SAME_PLACE_M} m from the pickup")
            }
            Self::CancelledTooOften { limit, until, .. } => {
                let when = match limit {
                    Limit::CoolDown => "in a short time",
                    Limit::Daily => "today",
                };
                format!("the user cancelled too many requests {when}; the next request is possible at {until}")
            }
            Self::MediaType => "send the body with Content-Type: application/json".to_owned(),
            Self::TooLarge => "the body is longer than this operation allows".to_owned(),
            Self::NotFound { what } => format!("the {what} does not exist, or the caller may not access it"),
            Self::NoSuchPath => "the API has no such path".to_owned(),
            Self::Method => "the path does not support this method".to_owned(),
            Self::UserBusy { .. } => {
                "a user can be on one dispatch at a time; cancel the current one or wait until it ends".to_owned()
            }
            Self::DriverBusy { .. } => {
                "the availability cannot change while the driver is on a dispatch; retry when it has ended".to_owned()
            }
            Self::OpenRide => "the data can be erased when the dispatch has ended; retry then".to_owned(),
            Self::KeyReused => "a key identifies one request; send another request with a new key".to_owned(),
            Self::KeyInUse { .. } => {
                "a request with this key is in progress; retry after the seconds in Retry-After".to_owned()
            }
            Self::Refused { refusal: Refusal::WrongStatus(status), .. } => {
                format!("not allowed while the dispatch is {}", status.as_str())
            }
            Self::Refused { refusal: Refusal::OutOfOrder(Some(last)), .. } => {
                format!("not allowed after {}", convert::wire_name(last))
            }
            Self::Refused { refusal: Refusal::OutOfOrder(None), .. } => {
                "an earlier trip event must be reported first".to_owned()
            }
            Self::Refused { .. } => "the offer was answered, has expired, or was superseded".to_owned(),
            Self::Overloaded
            | Self::TimedOut
            | Self::Contended
            | Self::NoKeys
            | Self::Port(PortError::Unavailable { .. }) => {
                "retry after the seconds in Retry-After; repeating the request is safe".to_owned()
            }
            Self::Port(PortError::Failed { .. } | PortError::Unreadable { .. }) => {
                "the request failed, and a retry does not help; report it with the id in x-request-id".to_owned()
            }
        }
    }

    fn log(&self) {
        let Self::Port(error) = self else { return };
        let mut causes = String::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes = format!("{causes}: {cause}");
            source = cause.source();
        }
        match error {
            PortError::Unavailable { .. } => tracing::warn!("{error}{causes}"),
            PortError::Failed { .. } => tracing::error!("{error}{causes}"),
            PortError::Unreadable { .. } => tracing::debug!("{error}{causes}"),
        }
    }
}

impl ApiError {
    /// The document that the client receives.
    pub(crate) fn into_problem(self) -> Problem {
        let Kind { status, name, title } = self.kind();
        let detail = self.detail();
        let (mut field, mut current, mut retry_at) = (None, None, None);
        match self {
            Self::Field { field: path, .. } => field = Some(path),
            Self::Trip(TripRefusal::OutsideServiceArea(end)) => field = Some(field_of(end).to_owned()),
            Self::Trip(_) => field = Some(field_of(End::Destination).to_owned()),
            Self::KeyReused | Self::KeyInUse { .. } => field = Some("Idempotency-Key".to_owned()),
            Self::UserBusy { current: dispatch }
            | Self::DriverBusy { current: dispatch }
            | Self::Refused { current: dispatch, .. } => current = dispatch,
            Self::CancelledTooOften { until, .. } => retry_at = Some(until),
            _ => {}
        }
        Problem {
            problem_type: format!("{TYPE_PREFIX}{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            field,
            current,
            retry_at,
        }
    }
}

impl ApiError {
    /// Seconds to wait before a retry; `None` if a retry does not help.
    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::TooMany { after_s } | Self::CancelledTooOften { after_s, .. } | Self::KeyInUse { after_s } => {
                Some((*after_s).max(1))
            }
            _ => (self.kind().status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_S),
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750, section 3).
    fn challenge(&self) -> Option<String> {
        match self {
            Self::Unauthenticated { given: false } => Some("Bearer".to_owned()),
            Self::Unauthenticated { given: true } => Some("Bearer error=\"invalid_token\"".to_owned()),
            Self::Forbidden { needs } => Some(format!("Bearer error=\"insufficient_scope\", scope=\"{needs}\"")),
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let (status, retry, challenge) = (self.kind().status, self.retry_after_s(), self.challenge());
        let mut response = (status, Json(self.into_problem())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
