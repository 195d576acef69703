//! Classifies failed DynamoDB calls and paces retries.

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

/// Attempts per write. Concurrent transactions on an item end within tens of milliseconds. A write that loses five
/// times in a row should fail, so that its caller reads again.
const TRIES_MAX: u32 = 5;
/// First pause between attempts; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// Longest pause between attempts. All pauses together stay under a second.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// No attempt starts after this time. With one more attempt of three seconds and a lookup of the same length, a write
/// ends within the ten seconds of its request.
const RETRY_UNTIL: Duration = Duration::from_secs(4);
/// Time limit for looking up a write whose answer was lost.
pub(super) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// What a failed call means for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A condition was false; nothing was written.
    ConditionFailed,
    /// A concurrent writer or throttling; nothing was written.
    Contended,
    /// The write may or may not have been applied.
    InDoubt,
    /// Permanent.
    Refused,
}

/// A failed DynamoDB call. It contains only the service's code and message: the SDK's error also holds the response,
/// and a failed condition returns the item with phone number and position.
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

    /// Classifies a failed call other than a transaction.
    pub(super) fn from_sdk<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
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

    /// The label of the retry metric. The reasons of a cancelled transaction are in its message.
    fn because(&self) -> &'static str {
        let met = |code: &str| self.code.contains(code) || self.message.contains(code);
        match self.meaning {
            Meaning::InDoubt => "in_doubt",
            _ if met("Conflict") || met("ConditionalCheckFailed") => "conflict",
            _ => "throttled",
        }
    }

    /// Converts to the port's error.
    pub(super) fn into_port(self, action: &'static str) -> PortError {
        match self.meaning {
            Meaning::Contended | Meaning::InDoubt => PortError::Unavailable { action, source: Box::new(self) },
            Meaning::ConditionFailed | Meaning::Refused => PortError::Failed { action, source: Box::new(self) },
        }
    }
}

/// The codes come from "Common Errors" and the operations' "Errors" in the DynamoDB API reference.
fn meaning_of(code: &str, server_side: bool) -> Meaning {
    match code {
        "ConditionalCheckFailedException" => Meaning::ConditionFailed,
        "TransactionConflictException"
        | "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException" => Meaning::Contended,
        // An earlier attempt of this call with the same token is still in progress.
        "TransactionInProgressException" => Meaning::InDoubt,
        _ if server_side => Meaning::InDoubt,
        _ => Meaning::Refused,
    }
}

/// Why a transaction was not written.
pub(super) enum TransactionFailure {
    /// Conditions were false. The reasons are in the order of the transaction's parts.
    Conditions(Vec<CancellationReason>),
    Other(DynamoFailure),
}

impl TransactionFailure {
    /// Classifies a failed `TransactWriteItems` by its cancellation reasons. The SDK never retries a cancelled
    /// transaction, so the callers retry conflicts and throttling.
    pub(super) fn from_sdk(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> Self {
        let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() else {
            return Self::Other(DynamoFailure::from_sdk(error));
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

/// A client that attempts every call once, for writes that this module retries. With SDK retries as well, attempts
/// would multiply, and a retry after a lost answer would fail on its own condition and look like a concurrent write.
///
/// It is a separate client, because overriding the settings per call recomputes them with every call.
pub(super) fn once(client: &Client) -> Client {
    Client::from_conf(client.config().to_builder().retry_config(RetryConfig::disabled()).build())
}

/// The retry budget of one write.
pub(super) struct Tries {
    made: u32,
    begun: Instant,
    metrics: Arc<Metrics>,
}

impl Tries {
    /// A new budget that counts retries in `metrics`.
    pub(super) fn counting(metrics: Arc<Metrics>) -> Self {
        Self { made: 0, begun: Instant::now(), metrics }
    }

    /// Waits before the next attempt. False if the budget is used up.
    pub(super) async fn pause(&mut self, after: &DynamoFailure) -> bool {
        self.made += 1;
        if self.made >= TRIES_MAX || self.begun.elapsed() >= RETRY_UNTIL {
            return false;
        }
        self.metrics.store_retry(after.because());
        let longest = PAUSE_FIRST.saturating_mul(1 << self.made.min(8)).min(PAUSE_MAX);
        tokio::time::sleep(longest.mul_f64(random_share())).await;
        true
    }
}

/// A random number from 0 to 1 ("full jitter"), so that writers that collided once do not collide again. The standard
/// library seeds its hasher randomly, which is random enough for a pause.
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
    fn retries_are_labelled_by_reason() {
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

    #[test]
    fn every_documented_code_has_its_meaning() {
        for code in ["ProvisionedThroughputExceededException", "RequestLimitExceeded"] {
            assert_eq!(meaning_of(code, false), Meaning::Contended, "{code}");
        }
        assert_eq!(meaning_of("TransactionInProgressException", false), Meaning::InDoubt);
        assert_eq!(meaning_of("ThrottlingException", true), Meaning::Contended, "the code decides before the status");
        assert_eq!((meaning_of("", true), meaning_of("", false)), (Meaning::InDoubt, Meaning::Refused));
    }

    #[test]
    fn a_condition_is_labelled_as_a_conflict_wherever_it_is_named() {
        let reason = |code, message| DynamoFailure::new(Meaning::Contended, code, message).because();
        assert_eq!(reason("ConditionalCheckFailedException", "no"), "conflict");
        assert_eq!(reason("TransactionCanceledException", "ConditionalCheckFailed, None"), "conflict");
    }

    #[test]
    fn only_what_may_pass_is_unavailable() {
        let port = |meaning| DynamoFailure::new(meaning, "code", "message").into_port("reading");
        for passing in [Meaning::Contended, Meaning::InDoubt] {
            assert!(matches!(port(passing), PortError::Unavailable { action: "reading", .. }), "{passing:?}");
        }
        for permanent in [Meaning::ConditionFailed, Meaning::Refused] {
            assert!(matches!(port(permanent), PortError::Failed { action: "reading", .. }), "{permanent:?}");
        }
    }

    fn reason(code: &str) -> CancellationReason {
        CancellationReason::builder().code(code).build()
    }

    #[test]
    fn a_part_is_refused_by_its_own_condition() {
        let reasons = [reason("None"), reason("ConditionalCheckFailed"), reason("TransactionConflict")];
        let failed: Vec<bool> = (0..4).map(|part| condition_failed(&reasons, part)).collect();
        assert_eq!(failed, [false, true, false, false]);
    }

    #[test]
    fn a_cancelled_transaction_is_classified_by_its_reasons() {
        let of = |codes: &[&str]| {
            let cancelled = aws_sdk_dynamodb::types::error::TransactionCanceledException::builder()
                .set_cancellation_reasons(Some(codes.iter().map(|code| reason(code)).collect()))
                .build();
            let response = HttpResponse::new(400.try_into().unwrap(), "".into());
            let error = TransactWriteItemsError::TransactionCanceledException(cancelled);
            match TransactionFailure::from_sdk(&SdkError::service_error(error, response)) {
                TransactionFailure::Conditions(reasons) => format!("{} conditions", reasons.len()),
                TransactionFailure::Other(failure) => format!("{:?} {}", failure.meaning, failure.message),
            }
        };
        assert_eq!(of(&["None", "ConditionalCheckFailed"]), "2 conditions");
        assert_eq!(of(&["TransactionConflict", "ConditionalCheckFailed"]), "2 conditions");
        for code in ["TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError"] {
            assert_eq!(of(&["None", code]), format!("Contended None, {code}"));
        }
        assert_eq!(of(&["ValidationError", "None"]), "Refused ValidationError, None");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_differ_and_the_budget_ends_with_its_time() {
        let failure = DynamoFailure::new(Meaning::Contended, "ThrottlingException", "slow down");
        let mut pauses = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let mut tries = Tries::counting(Arc::new(Metrics::new()));
            let begin = tokio::time::Instant::now();
            assert!(tries.pause(&failure).await);
            assert!(
                begin.elapsed() <= PAUSE_FIRST.saturating_mul(2) + Duration::from_millis(1),
                "{:?}",
                begin.elapsed()
            );
            pauses.insert(begin.elapsed());
        }
        assert!(pauses.len() > 3, "{pauses:?}");
        let mut late = Tries::counting(Arc::new(Metrics::new()));
        tokio::time::advance(RETRY_UNTIL).await;
        assert!(!late.pause(&failure).await, "no time is left");
        let shares: Vec<f64> = (0..100).map(|_| random_share()).collect();
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        assert!(shares.iter().any(|share| *share < 0.4) && shares.iter().any(|share| *share > 0.6), "{shares:?}");
    }
}
