//! Extractors that reject with problem documents: strict JSON bodies, strict queries, ids in paths, the
//! Idempotency-Key. The extractors for callers are in [`auth`](super::middleware::auth).

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use dispatch_core::ids::{DispatchId, DriverId, IdError, UserId};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::ApiError;
use super::strict_json::StrictJson;

/// Maximum characters of a serde path or message that a response repeats.
const ECHO_CHARS_MAX: usize = 200;

/// The field of an error that concerns the whole body.
pub(super) const WHOLE_BODY: &str = "body";

/// Maximum length of an Idempotency-Key, characters.
const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;

/// Maximum time for a body to arrive: enough for the longest allowed body at 400 kbit/s.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// A JSON body that must match `T` exactly. A layer limits its length (`DefaultBodyLimit`).
pub(crate) struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        read_json(&read_body(request, state).await?).map(Self)
    }
}

/// The bytes of a JSON body.
pub(super) async fn read_body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    if !says_json(request.headers()) {
        return Err(ApiError::MediaType);
    }
    let body = tokio::time::timeout(BODY_WITHIN, Bytes::from_request(request, state));
    body.await.map_err(|_| ApiError::SlowBody)?.map_err(|rejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge,
        _ => ApiError::BodyCut,
    })
}

/// Whether the `Content-Type` is `application/json`, with or without parameters.
fn says_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// Reads one JSON document by the rules of [`StrictJson`].
pub(super) fn read_json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, ApiError> {
    // Tracking the path doubles the cost of parsing, so only a body that failed is parsed a second time with it.
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    if let Ok(value) = T::deserialize(StrictJson(&mut deserializer))
        && deserializer.end().is_ok()
    {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(StrictJson(&mut deserializer)).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() { wrong_shape(&path, &inner.to_string()) } else { ApiError::MalformedJson }
    })?;
    deserializer.end().map_err(|_| ApiError::MalformedJson)?;
    Ok(value)
}

/// Serde's message without the value, which may be a phone number or a position.
fn wrong_shape(path: &str, message: &str) -> ApiError {
    let message = message.split(" at line ").next().unwrap_or(message);
    let quoted = message.split('`').nth(1).unwrap_or_default();
    let (name, detail) = if message.starts_with("unknown field") {
        let allowed = message.split_once(", ").map_or("no field is allowed here", |(_, allowed)| allowed);
        (quoted, format!("unknown field; {allowed}"))
    } else if message.starts_with("missing field") {
        (quoted, "is required".to_owned())
    } else if message.starts_with("duplicate field") {
        (quoted, "must occur only once".to_owned())
    } else {
        let expected = message.rsplit_once("expected ").map(|(_, expected)| format!("must be {}", in_json(expected)));
        ("", expected.unwrap_or_else(|| "is not valid".to_owned()))
    };
    let field = match (path, name) {
        ("." | "", "") => WHOLE_BODY.to_owned(),
        ("." | "", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        (path, name) => format!("{path}.{name}"),
    };
    ApiError::field(shortened(&field), shortened(&detail))
}

/// Rust's names of types in JSON terms.
fn in_json(expected: &str) -> &str {
    match expected {
        "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" => "a whole number that is not negative",
        "a sequence" => "a list",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(ECHO_CHARS_MAX).collect()
}

/// A query that must match `T` exactly.
pub(crate) struct StrictQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::<T>::from_request_parts(parts, state).await.map_err(|rejection| {
            let text = rejection.body_text();
            let message = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            match message.split_once(": ") {
                Some((path, message)) => query_field(path, message),
                None => query_field("", message),
            }
        })?;
        Ok(Self(query))
    }
}

fn query_field(path: &str, message: &str) -> ApiError {
    if message.contains(" field") {
        return wrong_shape("", message);
    }
    ApiError::field(shortened(if path.is_empty() { "query" } else { path }), "is not valid")
}

/// An id in a path or a query. Clients send the part after the prefix, because `#` would start a fragment, or the whole
/// id with `#` encoded as `%23`.
pub(crate) trait PathId: Sized {
    /// Name of the path parameter.
    const NAME: &'static str;
    /// Prefix of the whole id.
    const PREFIX: &'static str;

    /// Makes the id from the part after the prefix.
    fn from_suffix(suffix: &str) -> Result<Self, IdError>;

    /// Makes the id from a whole id or the part after its prefix. `field` names it in an error.
    fn read(field: &str, given: &str) -> Result<Self, ApiError> {
        let suffix = given.strip_prefix(Self::PREFIX).unwrap_or(given);
        Self::from_suffix(suffix).map_err(|_| {
            let rule = "must be 1 to 64 of the characters A-Z a-z 0-9 _ -, with or without the prefix";
            ApiError::field(field, format!("{rule} {}", Self::PREFIX))
        })
    }
}

impl PathId for UserId {
    const NAME: &'static str = "userId";
    const PREFIX: &'static str = Self::PREFIX;

    fn from_suffix(suffix: &str) -> Result<Self, IdError> {
        Self::from_suffix(suffix)
    }
}

impl PathId for DriverId {
    const NAME: &'static str = "driverId";
    const PREFIX: &'static str = Self::PREFIX;

    fn from_suffix(suffix: &str) -> Result<Self, IdError> {
        Self::from_suffix(suffix)
    }
}

impl PathId for DispatchId {
    const NAME: &'static str = "dispatchId";
    const PREFIX: &'static str = Self::PREFIX;

    fn from_suffix(suffix: &str) -> Result<Self, IdError> {
        Self::from_suffix(suffix)
    }
}

pub(crate) struct InPath<T>(pub T);

impl<S: Send + Sync, T: PathId> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(suffix) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::field(T::NAME, "must be UTF-8"))?;
        T::read(T::NAME, &suffix).map(Self)
    }
}

/// The optional header `Idempotency-Key`.
pub(crate) struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut given = parts.headers.get_all("idempotency-key").iter();
        let (key, another) = (given.next(), given.next());
        let Some(key) = key else { return Ok(Self(None)) };
        let bytes = key.as_bytes();
        let plain = bytes.iter().all(u8::is_ascii_graphic);
        if another.is_some() || bytes.is_empty() || bytes.len() > IDEMPOTENCY_KEY_CHARS_MAX || !plain {
            return Err(ApiError::field("Idempotency-Key", "must occur once, with 1 to 255 visible ASCII characters"));
        }
        Ok(Self(key.to_str().ok().map(str::to_owned)))
    }
}
