//! Requests under an Idempotency-Key: the first answer is kept and given again.
//!
//! As Stripe's API does it: a key belongs to its caller and operation for a day; another request under it is refused; while the
//! first is under way, a second is told to wait. What is not valid is refused before the key counts. An answer is kept where the
//! request took effect. A refusal, or a failure behind us, is not: it changed nothing or may be repeated safely, because every
//! change is fenced by the dispatch itself, so the next attempt is judged by the dispatch as it then is.
//!
//! A kept answer shows the dispatch as it was; `Idempotent-Replayed: true` says so, and reading the dispatch tells how it is.
//!
//! A request without a key costs nothing here; one with a key costs two writes.

use std::fmt::Write as _;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dispatch_http_types::Dispatch;
use serde::Serialize;
use sha2::{Digest, Sha256};
use ulid::Ulid;

use super::middleware::auth::Caller;
use super::problem::ApiError;
use super::state::AppState;
use crate::ports::{IdempotencyState, IdempotentRequest, PortError, StoredAnswer};

/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What is asked.
pub(super) struct Asked<'a, T> {
    /// Who asks.
    pub caller: &'a Caller,
    /// Method and pattern of the path.
    pub operation: &'static str,
    /// The id in the path.
    pub of: &'a str,
    /// The document sent.
    pub body: &'a T,
    /// The key, where there is one.
    pub key: Option<String>,
}

impl<T: Serialize> Asked<'_, T> {
    fn request(&self, key: &str) -> IdempotentRequest {
        // A document that was read can be written; what could not would only be like itself.
        let body = serde_json::to_vec(self.body).unwrap_or_default();
        IdempotentRequest {
            key: digest(&[self.caller.subject().as_bytes(), self.operation.as_bytes(), key.as_bytes()]),
            asked: digest(&[self.of.as_bytes(), &body]),
            holder: Ulid::generate().to_string(),
        }
    }
}

/// SHA-256 in hexadecimal digits. Lengths go in, so that parts cannot borrow from each other.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Carries out `work`, or gives the answer it had under the same key.
pub(super) async fn once<T: Serialize>(
    app: &AppState,
    asked: Asked<'_, T>,
    work: impl Future<Output = Result<Json<Dispatch>, ApiError>>,
) -> Result<Response, ApiError> {
    let Some(key) = &asked.key else { return work.await.map(IntoResponse::into_response) };
    let request = asked.request(key);
    match app.answers.begin(&request, app.engine.ports.clock.now()).await? {
        IdempotencyState::New => {}
        IdempotencyState::Completed(answer) => return Ok(replayed(answer)),
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

/// What was done is done: a key that could not be settled is free again when its time is over.
fn note(app: &AppState, settled: Result<(), PortError>) {
    if let Err(error) = settled {
        app.engine.metrics.port_error(&error);
        tracing::warn!(%error, "an answer was not kept");
    }
}

fn replayed(answer: StoredAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, [json, (REPLAYED, HeaderValue::from_static("true"))], answer.body).into_response()
}
