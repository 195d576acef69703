//! Why a reconcile did not come to its end, and whether it is tried again.

use dispatch_api::annotations::RECONCILE_REQUESTED_AT;
use dispatch_api::conditions::{AWS_ACCESS_DENIED, RETRY_LIMIT_REACHED, WRONG_ACCOUNT};
use thiserror::Error;

use super::cluster::{ClusterError, ClusterErrorKind};
use super::pace;
use super::pool::EnsureError;
use super::streak::{Nature, RETRY_LIMIT, Streak};
use crate::destroy::DestroyError;
use crate::plan::workers::PoolError;
use crate::ports::PortErrorKind;
use crate::reconcile::ReconcileError;
use crate::status::Trio;

/// Refusals in a row that may still be a race with somebody else's operation; the next one is final.
const REFUSALS_FORGIVEN: u32 = 3;

/// Why a reconcile failed. All of these are tried again, with growing pauses.
#[derive(Debug, Error)]
pub enum PassError {
    /// A call of the API server failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A call of AWS failed.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// The deletion failed.
    #[error(transparent)]
    Destroy(#[from] DestroyError),
    /// The worker objects cannot be made.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// It took too long.
    #[error("the reconcile did not end within {0} s")]
    Deadline(u64),
    /// It panicked.
    #[error("the reconcile stopped at an error of the operator's own; its log has the place")]
    Panicked,
}

impl From<EnsureError> for PassError {
    fn from(error: EnsureError) -> Self {
        match error {
            EnsureError::Cluster(error) => Self::Cluster(error),
            EnsureError::Pool(error) => Self::Pool(error),
        }
    }
}

impl PassError {
    /// Label of the metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cluster(_) => "kubernetes",
            Self::Reconcile(_) | Self::Destroy(_) => "aws",
            Self::Pool(_) => "internal",
            Self::Deadline(_) => "deadline",
            Self::Panicked => "panic",
        }
    }

    /// Reason of the conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Cluster(_) => "KubernetesUnavailable",
            Self::Reconcile(ReconcileError::Port(error)) | Self::Destroy(DestroyError::Port(error)) => {
                match error.kind {
                    PortErrorKind::Throttled => "AwsThrottled",
                    PortErrorKind::Quota => "AwsQuotaExceeded",
                    PortErrorKind::Denied => AWS_ACCESS_DENIED,
                    PortErrorKind::Invalid => "AwsRefused",
                    _ => "AwsUnavailable",
                }
            }
            Self::Reconcile(_) | Self::Destroy(_) => "AwsUnavailable",
            Self::Pool(_) | Self::Panicked => "InternalError",
            Self::Deadline(_) => "DeadlineExceeded",
        }
    }

    /// Whether it obviously passes by itself.
    pub fn nature(&self) -> Nature {
        match self {
            Self::Cluster(error) => match error.kind {
                ClusterErrorKind::Denied | ClusterErrorKind::Invalid => Nature::Lasting,
                // Without an answer of the API server nothing could be told, and nobody could change anything.
                _ => Nature::Passing,
            },
            Self::Reconcile(error) => nature(error),
            Self::Destroy(_) | Self::Pool(_) | Self::Deadline(_) | Self::Panicked => Nature::Lasting,
        }
    }

    /// Whether somebody else was faster, which is no failure: look again.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.kind == ClusterErrorKind::Conflict)
    }

    /// Whether this replica has stopped leading, which the next leader makes good.
    pub fn is_not_leading(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.kind == ClusterErrorKind::NotLeading)
    }
}

/// Whether a failure of the engine obviously passes by itself.
pub fn nature(error: &ReconcileError) -> Nature {
    match error {
        ReconcileError::Port(error) if error.kind == PortErrorKind::Throttled => Nature::Passing,
        _ => Nature::Lasting,
    }
}

/// A failure that is met by trying again, with what it is about.
pub fn tried_again(error: &dyn std::error::Error, stack: &str) -> String {
    format!("{error} (stack {stack}); it is tried again by itself, after pauses that grow to 5 minutes")
}

/// A failure that has come too often, with what it is about, what comes next and what a person can do.
pub fn limit_reached(error: &dyn std::error::Error, stack: &str) -> String {
    let minutes = pace::SLOW.as_secs() / 60;
    format!(
        "{error} (stack {stack}). It failed {RETRY_LIMIT} times in a row and is now tried every {minutes} minutes; an edit of the spec or a new value of \
         the annotation {RECONCILE_REQUESTED_AT} has it tried at once"
    )
}

/// A refusal that is not tried again until somebody changes something, or seldom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it makes of the system.
    pub trio: Trio,
    /// Reason of the conditions.
    pub reason: &'static str,
}

impl Refusal {
    /// `None` where trying again may help. `streak` counts this failure, too.
    pub fn of(error: &ReconcileError, streak: &Streak) -> Option<Self> {
        let stalled = |reason| Some(Self { trio: Trio::Stalled, reason });
        match error {
            ReconcileError::WrongAccount { .. } => stalled(WRONG_ACCOUNT),
            ReconcileError::Moved { .. } => stalled("InvalidSpec"),
            // It may be made in the next moment, and is looked for.
            ReconcileError::SecretMissing { .. } => Some(Self { trio: Trio::Reconciling, reason: "SecretMissing" }),
            ReconcileError::OwnedByAnother(_) => stalled(dispatch_api::conditions::OWNED_BY_ANOTHER),
            ReconcileError::SecretInvalid { .. } => stalled("InvalidSecret"),
            ReconcileError::ChangeSet(_) => stalled("ChangeSetFailed"),
            ReconcileError::Template(_) => stalled("TemplateTooLarge"),
            ReconcileError::Port(error)
                if error.kind == PortErrorKind::Invalid && streak.failures > REFUSALS_FORGIVEN =>
            {
                stalled("AwsRefused")
            }
            ReconcileError::Port(_) if streak.is_spent() => stalled(RETRY_LIMIT_REACHED),
            ReconcileError::Port(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::streak::Wish;
    use super::*;
    use crate::ports::PortError;

    fn port(kind: PortErrorKind) -> ReconcileError {
        PortError::new("try", kind, "no").into()
    }

    fn streak(error: &ReconcileError, failures: u32) -> Streak {
        (0..failures).fold(Streak::default(), |streak, _| streak.and(&Wish::default(), nature(error)))
    }

    fn refusal(error: &ReconcileError, failures: u32) -> Option<Refusal> {
        Refusal::of(error, &streak(error, failures))
    }

    #[test]
    fn throttling_is_tried_again_for_ever_and_what_may_last_only_up_to_the_limit() {
        assert_eq!(refusal(&port(PortErrorKind::Throttled), 1000), None);
        for kind in [PortErrorKind::Denied, PortErrorKind::Quota, PortErrorKind::Unavailable] {
            assert_eq!(refusal(&port(kind), RETRY_LIMIT - 1), None);
            let last = refusal(&port(kind), RETRY_LIMIT).expect("the limit");
            assert_eq!((last.trio, last.reason), (Trio::Stalled, RETRY_LIMIT_REACHED));
        }
    }

    #[test]
    fn limits_and_failures_say_what_comes_next() {
        let error = port(PortErrorKind::Denied);
        let words = limit_reached(&error, "coactus-default-seoul");
        assert!(words.starts_with("could not try: no (stack coactus-default-seoul). It failed 20 times"), "{words}");
        assert!(words.contains("every 30 minutes") && words.contains("reconcile-requested-at"), "{words}");
        let words = tried_again(&error, "coactus-default-seoul");
        assert!(words.contains("coactus-default-seoul") && words.contains("tried again by itself"), "{words}");
    }

    #[test]
    fn a_wrong_request_is_final_after_a_few_tries() {
        let wrong = port(PortErrorKind::Invalid);
        assert_eq!(refusal(&wrong, REFUSALS_FORGIVEN), None);
        let last = refusal(&wrong, REFUSALS_FORGIVEN + 1).expect("final");
        assert_eq!((last.trio, last.reason), (Trio::Stalled, "AwsRefused"));
    }

    #[test]
    fn a_refusal_is_not_told_as_an_outage() {
        let reason = |kind| PassError::Reconcile(port(kind)).reason();
        assert_eq!(reason(PortErrorKind::Invalid), "AwsRefused");
        assert_eq!(reason(PortErrorKind::Unavailable), "AwsUnavailable");
    }

    #[test]
    fn a_secret_that_is_missing_is_waited_for() {
        let missing = ReconcileError::SecretMissing { field: "f", name: "n".to_owned(), key: "k".to_owned() };
        assert_eq!(refusal(&missing, 1).map(|refusal| refusal.trio), Some(Trio::Reconciling));
    }
}
