//! Requests that may be repeated, and the answers they had.

use async_trait::async_trait;
use dispatch_core::time::EpochMs;

use super::error::PortError;

/// A request under an Idempotency-Key. It holds digests only: what was asked is nobody's business in a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotentRequest {
    /// Digest of caller, operation and key: equal for repetitions.
    pub key: String,
    /// Digest of what is asked; another one under the same key is a mistake of the client.
    pub asked: String,
    /// Who carries it out; unique to each attempt.
    pub holder: String,
}

/// The answer that was given to a [`IdempotentRequest`].
#[derive(Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// The document.
    pub body: String,
}

/// What is known of a [`IdempotentRequest`] that begins.
pub enum IdempotencyState {
    /// Nothing: it is to be carried out, and nobody else does meanwhile.
    New,
    /// It was carried out before.
    Completed(StoredAnswer),
    /// It is being carried out, for this long at most.
    InProgress {
        /// Milliseconds.
        for_ms: u64,
    },
    /// Something else was asked under this key.
    KeyReused,
}

/// Answers to requests that may be repeated, kept for [`ANSWER_KEPT_MS`].
#[async_trait]
pub trait IdempotencyStore: Send + Sync {
    /// Begins a request, unless it was begun before. Whoever begins has [`HELD_MS`] to end it; a process that dies holds nobody up
    /// for longer.
    async fn begin(&self, request: &IdempotentRequest, now: EpochMs) -> Result<IdempotencyState, PortError>;

    /// Keeps the answer, if the request is still held by this holder.
    async fn keep(&self, request: &IdempotentRequest, answer: &StoredAnswer, now: EpochMs) -> Result<(), PortError>;

    /// Forgets a request that came to nothing, if it is still held by this holder: the key is free again.
    async fn forget(&self, request: &IdempotentRequest) -> Result<(), PortError>;
}

/// How long an answer is kept, ms: a day, as clients of such interfaces expect.
pub const ANSWER_KEPT_MS: u64 = 24 * 60 * 60 * 1000;

/// How long a request may be under way, ms: what the HTTP API gives it, and as much more as the clocks of two workers may differ. Longer
/// would cost a driver whose worker died the rest of an offer's time; two attempts at once are harmless, because the offer's own fence
/// lets one of them through.
pub const HELD_MS: u64 = 12_000;
