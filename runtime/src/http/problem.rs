//! What a client is told when its request is not served: problem documents of RFC 9457.
//!
//! A problem names the field that is wrong and what is allowed there; it never repeats a value, and it never carries the text
//! of a service behind us. Those go to the log, under the request id the client has in `x-request-id`.

use std::error::Error as _;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dispatch_core::dispatch::Refusal;
use dispatch_http_types::{Dispatch, Problem, Scope};

use super::convert;
use crate::engine::EngineError;
use crate::ports::{PortError, StoredDispatch};

/// Begins the `type` of each problem: a tag URI (RFC 4151), which RFC 9457 advises where nothing is to be fetched.
const TYPE_PREFIX: &str = "tag:coactus.io,2026:dispatch/";

/// Seconds after which a client shall try again when a service is busy: longer than a throttled burst, shorter than patience.
const RETRY_AFTER_S: u64 = 2;

/// Why a request is not served.
pub enum ApiError {
    /// A field is missing, of the wrong type, or out of bounds.
    Field {
        /// Path of the field as the client spells it.
        field: String,
        /// What is allowed.
        detail: String,
    },
    /// The body is not JSON.
    MalformedJson,
    /// The body is not said to be JSON.
    MediaType,
    /// The body is longer than allowed.
    TooLarge,
    /// The body could not be read to its end.
    BodyCut,
    /// The body did not come in time.
    SlowBody,
    /// Nobody is known to call: no token, or one that is not believed.
    Unauthenticated {
        /// Whether there was a token.
        given: bool,
    },
    /// The caller is of another kind.
    Forbidden {
        /// Which kind it takes.
        needs: Scope,
    },
    /// The caller, or its address, asks more than its share.
    TooMany {
        /// When its next request is free, s.
        after_s: u64,
    },
    /// The issuer's keys are not known yet.
    NoKeys,
    /// There is no such thing, or it is not the caller's.
    NotFound {
        /// What was asked for.
        what: &'static str,
    },
    /// There is no such path.
    NoSuchPath,
    /// The path has no such method.
    Method,
    /// The user is on another dispatch.
    UserBusy {
        /// Which.
        current: Option<Box<Dispatch>>,
    },
    /// The driver is on a dispatch.
    DriverBusy {
        /// Which.
        current: Option<Box<Dispatch>>,
    },
    /// The Idempotency-Key was used for another request.
    KeyReused,
    /// A request under the same key is being carried out.
    KeyInUse {
        /// When to ask again, s.
        after_s: u64,
    },
    /// The dispatch is in no state for this.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The dispatch as it is, where it is the caller's to see.
        current: Option<Box<Dispatch>>,
    },
    /// More requests than this process takes at once.
    Overloaded,
    /// It took too long.
    TimedOut,
    /// Other writers were faster every time.
    Contended,
    /// A service could not do its part.
    Port(PortError),
}

impl ApiError {
    /// A wrong field.
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Field { field: field.into(), detail: detail.into() }
    }
}

impl From<PortError> for ApiError {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

impl ApiError {
    /// What a caller is told of a refused event, who `sees` a dispatch or does not. An offer that is over may be somebody else's by now, and so is the dispatch then.
    pub(super) fn of_event(error: EngineError, sees: impl FnOnce(&StoredDispatch) -> bool) -> Self {
        match error {
            // Whether a dispatch does not exist or is somebody else's is told to nobody.
            EngineError::NotFound | EngineError::Refused { refusal: Refusal::NotYours, .. } => {
                Self::NotFound { what: "dispatch" }
            }
            EngineError::Refused { refusal, current } => {
                let current = sees(&current).then(|| Box::new(convert::dispatch(&current)));
                Self::Refused { refusal, current }
            }
            EngineError::Port(error) => Self::Port(error),
            EngineError::Contended => Self::Contended,
        }
    }
}

/// The parts of a problem that depend on its kind alone.
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
            Self::MalformedJson => kind(StatusCode::BAD_REQUEST, "malformed-json", "The body is not JSON"),
            Self::BodyCut => kind(StatusCode::BAD_REQUEST, "incomplete-body", "The body is incomplete"),
            Self::SlowBody => kind(StatusCode::REQUEST_TIMEOUT, "slow-body", "The body took too long"),
            Self::Unauthenticated { .. } => {
                kind(StatusCode::UNAUTHORIZED, "unauthenticated", "A valid token is needed")
            }
            Self::Forbidden { .. } => kind(StatusCode::FORBIDDEN, "wrong-scope", "The token has another scope"),
            Self::TooMany { .. } => kind(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests"),
            Self::MediaType => {
                kind(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body must be JSON")
            }
            Self::TooLarge => kind(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large"),
            Self::NotFound { .. } => kind(StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::NoSuchPath => kind(StatusCode::NOT_FOUND, "no-such-path", "Not found"),
            Self::Method => kind(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed"),
            Self::UserBusy { .. } => kind(StatusCode::CONFLICT, "user-busy", "The user is on a dispatch"),
            Self::DriverBusy { .. } => kind(StatusCode::CONFLICT, "driver-busy", "The driver is on a dispatch"),
            Self::KeyReused => {
                kind(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The Idempotency-Key was used before")
            }
            Self::KeyInUse { .. } => kind(StatusCode::CONFLICT, "idempotency-key-in-use", "The request is under way"),
            Self::Refused { refusal: Refusal::OfferOver, .. } => {
                kind(StatusCode::CONFLICT, "offer-over", "The offer is over")
            }
            Self::Refused { .. } => kind(StatusCode::CONFLICT, "wrong-state", "The dispatch is in another state"),
            Self::Overloaded => kind(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many requests at once"),
            Self::TimedOut => kind(StatusCode::SERVICE_UNAVAILABLE, "timed-out", "The request took too long"),
            Self::Contended | Self::NoKeys | Self::Port(PortError::Unavailable { .. }) => {
                kind(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not possible right now")
            }
            Self::Port(PortError::Failed { .. }) => {
                kind(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error")
            }
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Field { detail, .. } => detail.clone(),
            Self::MalformedJson => "the body must be one JSON document".to_owned(),
            Self::BodyCut => "the body ended before its time".to_owned(),
            Self::SlowBody => "send the whole body within some seconds".to_owned(),
            Self::Unauthenticated { given: false } => "send one token as Authorization: Bearer".to_owned(),
            Self::Unauthenticated { given: true } => {
                "the token is not valid, has run out, or is meant for others".to_owned()
            }
            Self::Forbidden { needs } => format!("the scope {needs} is needed here"),
            Self::TooMany { .. } => "slow down; Retry-After says when the next request is taken".to_owned(),
            Self::MediaType => "send the body as Content-Type: application/json".to_owned(),
            Self::TooLarge => "the body is longer than this path allows".to_owned(),
            Self::NotFound { what } => format!("there is no such {what}"),
            Self::NoSuchPath => "there is no such path".to_owned(),
            Self::Method => "the path does not have this method".to_owned(),
            Self::UserBusy { .. } => "a user can be on one dispatch at a time".to_owned(),
            Self::DriverBusy { .. } => "not possible while the driver is on a dispatch".to_owned(),
            Self::KeyReused => "the key belongs to a request with another body; make a new key".to_owned(),
            Self::KeyInUse { .. } => {
                "a request with this key is being carried out; ask again for its answer".to_owned()
            }
            Self::Refused { refusal: Refusal::WrongStatus(status), .. } => {
                format!("not possible while the dispatch is {}", status.as_str())
            }
            Self::Refused { refusal: Refusal::OutOfOrder(Some(last)), .. } => {
                format!("not possible after {}", convert::wire_name(last))
            }
            Self::Refused { refusal: Refusal::OutOfOrder(None), .. } => {
                "the trip events before this one are missing".to_owned()
            }
            Self::Refused { .. } => "the offer was answered, ran out, or was superseded".to_owned(),
            Self::Overloaded
            | Self::TimedOut
            | Self::Contended
            | Self::NoKeys
            | Self::Port(PortError::Unavailable { .. }) => {
                "try again in a moment; repeating the request is safe".to_owned()
            }
            Self::Port(PortError::Failed { .. }) => "the request could not be served".to_owned(),
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
        }
    }
}

impl ApiError {
    /// The document a client gets.
    pub fn into_problem(self) -> Problem {
        let Kind { status, name, title } = self.kind();
        let detail = self.detail();
        let (field, current) = match self {
            Self::Field { field, .. } => (Some(field), None),
            Self::KeyReused | Self::KeyInUse { .. } => (Some("Idempotency-Key".to_owned()), None),
            Self::UserBusy { current } | Self::DriverBusy { current } | Self::Refused { current, .. } => {
                (None, current)
            }
            _ => (None, None),
        };
        Problem {
            problem_type: format!("{TYPE_PREFIX}{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            field,
            current,
        }
    }
}

impl ApiError {
    /// Seconds after which to try again, where that helps.
    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::TooMany { after_s } | Self::KeyInUse { after_s } => Some((*after_s).max(1)),
            _ => (self.kind().status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_S),
        }
    }

    /// What kind of token is wanted (RFC 6750, section 3).
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
