//! Requests with an Idempotency-Key and their answers.

use async_trait::async_trait;
use dispatch_core::time::EpochMs;

use super::error::PortError;

/// A request with an Idempotency-Key. It holds digests only, because a key must not reveal the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotentRequest {
    /// Digest of caller, operation and key: equal for repetitions.
    pub key: String,
    /// Digest of the request. A different one under the same key is a client error.
    pub asked: String,
    /// The attempt that carries out the request; unique.
    pub holder: String,
}

/// The answer to an [`IdempotentRequest`].
#[derive(Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    pub body: String,
}

/// The result of [`IdempotencyStore::begin`].
pub enum IdempotencyState {
    /// The caller carries out the request and holds the key.
    New,
    /// Carried out before.
    Completed(StoredAnswer),
    /// Another attempt carries it out, for at most this long.
    InProgress { for_ms: u64 },
    /// The key was used for a different request.
    KeyReused,
}

/// Stores the answers of requests with a key for [`ANSWER_KEPT_MS`].
#[async_trait]
pub trait IdempotencyStore: Send + Sync {
    /// Begins a request unless it was begun before. The holder has [`HELD_MS`] to complete it; after that another
    /// attempt may begin.
    async fn begin(&self, request: &IdempotentRequest, now: EpochMs) -> Result<IdempotencyState, PortError>;

    /// Stores the answer if this attempt still holds the key.
    async fn keep(&self, request: &IdempotentRequest, answer: &StoredAnswer, now: EpochMs) -> Result<(), PortError>;

    /// Frees the key after a request without effect, if this attempt still holds it.
    async fn forget(&self, request: &IdempotentRequest) -> Result<(), PortError>;
}

/// How long an answer is kept, ms: a day, as clients of such APIs expect.
pub const ANSWER_KEPT_MS: u64 = 24 * 60 * 60 * 1000;

/// How long an attempt may hold a key, ms: the time limit of the HTTP API plus the difference between the clocks of two
/// workers. A longer time would cost a driver whose worker died the rest of an offer's time. Two attempts at the same
/// time are harmless, because the offer's own fence admits only one of them.
pub const HELD_MS: u64 = 12_000;
