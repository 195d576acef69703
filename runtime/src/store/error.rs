//! What a failed call means, and how long to wait before the next one.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::CancellationReason;
use thiserror::Error;
use tokio::time::Instant;

use crate::ports::PortError;
use crate::telemetry::metrics::Metrics;

/// Tries of one write. Two transactions that meet on an item are over within tens of milliseconds; whoever loses five times in a row is
/// better off reading again later than waiting here.
const TRIES_MAX: u32 = 5;
/// First pause between tries; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// Longest pause between tries: all of them together stay under a second.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// Time after which no further try is made: with one more try of three seconds and a look of as many, a write is over before the ten
/// seconds of its request are.
const TRIED_FOR: Duration = Duration::from_secs(4);
/// Longest look for a write whose answer was lost.
pub(super) const LOOKED_FOR: Duration = Duration::from_secs(3);

/// What a failed call means for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A condition was false; nothing was written.
    ConditionFailed,
    /// Somebody else was writing the item, or the table is throttled; nothing was written.
    Contended,
    /// There is no telling whether the write took place.
    InDoubt,
    /// It is refused, now and later.
    Refused,
}

/// A failed DynamoDB call. It keeps the service's code and text only: the SDK's error also holds the response, in which a failed
/// condition returns the item with phone number and position.
#[derive(Debug, Error)]
#[error("DynamoDB: {code}: {message}")]
pub struct DynamoFailure {
    pub(super) meaning: Meaning,
    code: String,
    message: String,
}

impl DynamoFailure {
    pub(super) fn new(meaning: Meaning, code: &str, message: &str) -> Self {
        Self { meaning, code: code.to_owned(), message: message.to_owned() }
    }

    /// The failure of a call that holds no transaction.
    pub(super) fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
        let (meaning, fallback) = match error {
            SdkError::ConstructionFailure(_) => (Meaning::Refused, "the request could not be made"),
            SdkError::TimeoutError(_) => (Meaning::InDoubt, "no answer in time"),
            SdkError::DispatchFailure(_) => (Meaning::InDoubt, "the connection failed"),
            SdkError::ServiceError(service) => {
                let server_side = service.raw().status().is_server_error();
                (meaning_of(service.err().code().unwrap_or_default(), server_side), "refused")
            }
            _ => (Meaning::InDoubt, "the answer could not be read"),
        };
        Self::new(meaning, error.code().unwrap_or("no code"), error.message().unwrap_or(fallback))
    }

    /// Why a call is made again, as metrics tell it. What a cancelled transaction met stands in its message.
    fn because(&self) -> &'static str {
        let met = |code: &str| self.code.contains(code) || self.message.contains(code);
        match self.meaning {
            Meaning::InDoubt => "in_doubt",
            _ if met("Conflict") || met("ConditionalCheckFailed") => "conflict",
            _ => "throttled",
        }
    }

    /// The failure as the port's error.
    pub(super) fn into_port(self, action: &'static str) -> PortError {
        match self.meaning {
            Meaning::Contended | Meaning::InDoubt => PortError::Unavailable { action, source: Box::new(self) },
            Meaning::ConditionFailed | Meaning::Refused => PortError::Failed { action, source: Box::new(self) },
        }
    }
}

/// Codes are those of the "Common Errors" and the operations' "Errors" sections of the DynamoDB API reference.
fn meaning_of(code: &str, server_side: bool) -> Meaning {
    match code {
        "ConditionalCheckFailedException" => Meaning::ConditionFailed,
        "TransactionConflictException"
        | "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException" => Meaning::Contended,
        // Ours: the same token is being worked on.
        "TransactionInProgressException" => Meaning::InDoubt,
        _ if server_side => Meaning::InDoubt,
        _ => Meaning::Refused,
    }
}

/// Why a transaction was not written.
pub(super) enum TransactionFailure {
    /// Conditions were false: reasons in the order of the transaction's parts.
    Conditions(Vec<CancellationReason>),
    /// Anything else.
    Other(DynamoFailure),
}

impl TransactionFailure {
    /// Sorts a failed `TransactWriteItems` by its cancellation reasons. The SDK does not retry a cancelled transaction, whatever the
    /// reasons, so conflicts and throttling are retried by the callers of this module.
    pub(super) fn of(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> Self {
        let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() else {
            return Self::Other(DynamoFailure::of(error));
        };
        let reasons = cancelled.cancellation_reasons();
        let codes: Vec<&str> = reasons.iter().filter_map(CancellationReason::code).collect();
        if codes.contains(&"ConditionalCheckFailed") {
            return Self::Conditions(reasons.to_vec());
        }
        let passing = ["TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError"];
        let contended = codes.iter().any(|code| passing.contains(code));
        let meaning = if contended { Meaning::Contended } else { Meaning::Refused };
        Self::Other(DynamoFailure::new(meaning, "TransactionCanceledException", &codes.join(", ")))
    }
}

/// Whether the condition of the part at `index` was false.
pub(super) fn condition_failed(reasons: &[CancellationReason], index: usize) -> bool {
    reasons.get(index).and_then(CancellationReason::code) == Some("ConditionalCheckFailed")
}

/// For writes that this module's callers try again themselves: the SDK tries once. Otherwise tries would multiply, and a repetition
/// by the SDK after a lost answer would fail on its own condition and look like somebody else's write.
///
/// A client of its own, because settings that change with a call are worked out with each.
pub(super) fn once(client: &Client) -> Client {
    Client::from_conf(client.config().to_builder().retry_config(RetryConfig::disabled()).build())
}

/// The tries of one write.
pub(super) struct Tries {
    made: u32,
    begun: Instant,
    metrics: Arc<Metrics>,
}

impl Tries {
    /// Tries that count those after the first.
    pub(super) fn counting(metrics: Arc<Metrics>) -> Self {
        Self { made: 0, begun: Instant::now(), metrics }
    }

    /// Waits before the next try, after this failure; false where the budget is used up.
    pub(super) async fn pause(&mut self, after: &DynamoFailure) -> bool {
        self.made += 1;
        if self.made >= TRIES_MAX || self.begun.elapsed() >= TRIED_FOR {
            return false;
        }
        self.metrics.store_retry(after.because());
        let longest = PAUSE_FIRST.saturating_mul(1 << self.made.min(8)).min(PAUSE_MAX);
        tokio::time::sleep(longest.mul_f64(random_share())).await;
        true
    }
}

/// A random number from 0 to 1 ("full jitter"): writers that met once should not meet again. The standard library seeds its hasher at
/// random, which is random enough to spread a pause.
fn random_share() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 32;
    bits as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_have_been_written_is_in_doubt() {
        assert_eq!(meaning_of("ConditionalCheckFailedException", false), Meaning::ConditionFailed);
        assert_eq!(meaning_of("TransactionConflictException", false), Meaning::Contended);
        assert_eq!(meaning_of("ThrottlingException", false), Meaning::Contended);
        assert_eq!(meaning_of("InternalServerError", true), Meaning::InDoubt);
        assert_eq!(meaning_of("ValidationException", false), Meaning::Refused);
    }

    #[test]
    fn what_is_tried_again_is_told_by_its_reason() {
        let reason = |meaning, code, message| DynamoFailure::new(meaning, code, message).because();
        assert_eq!(reason(Meaning::InDoubt, "no code", "no answer in time"), "in_doubt");
        let cancelled = "TransactionCanceledException";
        assert_eq!(reason(Meaning::Contended, cancelled, "TransactionConflict, None"), "conflict");
        assert_eq!(reason(Meaning::Contended, cancelled, "ThrottlingError, None"), "throttled");
        assert_eq!(reason(Meaning::Contended, "ThrottlingException", "slow down"), "throttled");
    }

    #[tokio::test(start_paused = true)]
    async fn the_tries_of_a_write_end_within_a_second() {
        let begin = tokio::time::Instant::now();
        let metrics = Arc::new(Metrics::new());
        let mut tries = Tries::counting(Arc::clone(&metrics));
        let failure = DynamoFailure::new(Meaning::Contended, "TransactionConflictException", "busy");
        let mut pauses = 0;
        while tries.pause(&failure).await {
            pauses += 1;
        }
        let counted = metrics.encode().unwrap();
        assert!(counted.contains("dispatch_store_retries_total{because=\"conflict\"} 4"), "{counted}");
        assert_eq!(pauses, TRIES_MAX - 1);
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    }
}
