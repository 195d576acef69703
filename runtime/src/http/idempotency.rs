//! Requests with an Idempotency-Key: the first successful response is stored and returned again.
//!
//! The rules follow Stripe's API. A key belongs to its caller and operation for a day. Another request with the same
//! key is rejected. While the first request is in progress, a second one is asked to retry later. A request that is not
//! valid is rejected before it uses the key. A response is stored only if the request took effect. Refusals and
//! failures of backend services are not stored: they changed nothing, or can be repeated safely because the dispatch
//! itself fences every change, so the next attempt is decided on the current state of the dispatch.
//!
//! A stored response shows the dispatch as it was then, and is marked with `Idempotent-Replayed: true`.
//!
//! A request without a key costs nothing here; one with a key costs two writes.

use std::fmt::Write as _;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use dispatch_http_types::Dispatch;
use serde::Serialize;
use sha2::{Digest, Sha256};
use ulid::Ulid;

use super::middleware::auth::Caller;
use super::problem::ApiError;
use super::state::AppState;
use super::view;
use crate::ports::{IdempotencyState, IdempotentRequest, PortError, StoredAnswer};

/// Marks a stored response that is returned again.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A request that may carry an Idempotency-Key.
pub(super) struct RequestKey<'a, T> {
    pub caller: &'a Caller,
    /// The `operationId`.
    pub operation: &'static str,
    /// The id in the path.
    pub of: &'a str,
    pub body: &'a T,
    pub key: Option<String>,
}

impl<T: Serialize> RequestKey<'_, T> {
    fn request(&self, key: &str) -> IdempotentRequest {
        // A document that was deserialized can be serialized, so the fallback is never used.
        let body = serde_json::to_vec(self.body).unwrap_or_default();
        IdempotentRequest {
            key: digest(&[self.caller.subject().as_bytes(), self.operation.as_bytes(), key.as_bytes()]),
            asked: digest(&[self.of.as_bytes(), &body]),
            holder: Ulid::generate().to_string(),
        }
    }
}

/// SHA-256 in hexadecimal digits. Each part is preceded by its length, so that bytes cannot move between parts
/// unnoticed.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Runs `work`, or returns the stored response of an earlier request with the same key.
pub(super) async fn once<T: Serialize>(
    app: &AppState,
    asked: RequestKey<'_, T>,
    work: impl Future<Output = Result<Json<Dispatch>, ApiError>>,
) -> Result<Response, ApiError> {
    let Some(key) = &asked.key else { return work.await.map(IntoResponse::into_response) };
    let request = asked.request(key);
    match app.answers.begin(&request, app.engine.ports.clock.now()).await? {
        IdempotencyState::New => {}
        IdempotencyState::Completed(answer) => return replayed(app, asked.caller, &answer).await,
        IdempotencyState::InProgress { for_ms } => return Err(ApiError::KeyInUse { after_s: for_ms.div_ceil(1000) }),
        IdempotencyState::KeyReused => return Err(ApiError::KeyReused),
    }
    let done = work.await;
    note(app, end(app, &request, done.as_ref().ok()).await);
    done.map(IntoResponse::into_response)
}

async fn end(app: &AppState, request: &IdempotentRequest, done: Option<&Json<Dispatch>>) -> Result<(), PortError> {
    let body = done.and_then(|Json(dispatch)| serde_json::to_string(dispatch).ok());
    match body {
        Some(body) => {
            let answer = StoredAnswer { status: StatusCode::OK.as_u16(), body };
            app.answers.keep(request, &answer, app.engine.ports.clock.now()).await
        }
        None => app.answers.forget(request).await,
    }
}

/// Logs a failure to store the outcome. The request itself is done, and the key becomes free when its hold expires.
fn note(app: &AppState, settled: Result<(), PortError>) {
    if let Err(error) = settled {
        app.engine.metrics.port_error(&error);
        tracing::warn!(%error, "cannot store the outcome of a request with an Idempotency-Key");
    }
}

/// The stored response, as far as its caller may still see it.
async fn replayed(app: &AppState, caller: &Caller, answer: &StoredAnswer) -> Result<Response, ApiError> {
    const ACTION: &str = "reading a stored response";
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let document: Dispatch = serde_json::from_str(&answer.body)
        .map_err(|error| PortError::Failed { action: ACTION, source: Box::new(error) })?;
    let headers = [(REPLAYED, HeaderValue::from_static("true"))];
    Ok((status, headers, Json(view::earlier(app, caller, document).await?)).into_response())
}
