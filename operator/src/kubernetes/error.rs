//! Why a reconcile failed, and whether it is retried.

use dispatch_api::annotations::RECONCILE_REQUESTED_AT;
use dispatch_api::conditions::Reason;
use std::time::Duration;
use thiserror::Error;

use crate::cloud::ports::PortErrorKind;
use crate::engine::destroy::DestroyError;
use crate::engine::error::EngineError;
use crate::engine::plan::workers::PoolError;
use crate::engine::status::SystemPhase;
use crate::kubernetes::infra::cluster::{ClusterError, ClusterErrorKind};
use crate::kubernetes::infra::metric_labels::ErrorSource;
use crate::kubernetes::policy::requeue;
use crate::kubernetes::policy::retry::{FailureKind, RETRY_LIMIT, RetryState};
use crate::kubernetes::reconcile::worker_deployments::EnsureError;

/// Consecutive rejections of a request that may still be a race with another operation on the stack; the next one is
/// final.
const REFUSALS_FORGIVEN: u32 = 3;

/// Why a reconcile failed. Every one of these is retried with exponential backoff.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// A call to the Kubernetes API server failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The engine failed, usually in a call to AWS.
    #[error(transparent)]
    Reconcile(#[from] EngineError),
    /// The deletion failed.
    #[error(transparent)]
    Destroy(#[from] DestroyError),
    /// The worker objects cannot be rendered.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The deadline passed, s.
    #[error("the reconcile did not finish within {0} s")]
    Deadline(u64),
    /// The reconcile panicked.
    #[error("the reconcile panicked, which is a defect of the operator; see the operator's log")]
    Panicked,
}

impl From<EnsureError> for ReconcileError {
    fn from(error: EnsureError) -> Self {
        match error {
            EnsureError::Cluster(error) => Self::Cluster(error),
            EnsureError::Pool(error) => Self::Pool(error),
        }
    }
}

impl ReconcileError {
    /// Value of the metric label.
    pub fn source_label(&self) -> ErrorSource {
        match self {
            Self::Cluster(_) => ErrorSource::Kubernetes,
            Self::Reconcile(_) | Self::Destroy(_) => ErrorSource::Aws,
            Self::Pool(_) => ErrorSource::Internal,
            Self::Deadline(_) => ErrorSource::Deadline,
            Self::Panicked => ErrorSource::Panic,
        }
    }

    /// Reason in the conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Cluster(error) => match error.kind {
                ClusterErrorKind::Denied => Reason::KubernetesForbidden,
                ClusterErrorKind::Invalid => Reason::KubernetesRefused,
                _ => Reason::KubernetesUnavailable,
            },
            Self::Reconcile(EngineError::Port(error))
            | Self::Destroy(DestroyError::Port(error) | DestroyError::Reconcile(EngineError::Port(error))) => {
                match error.kind {
                    PortErrorKind::Throttled => Reason::AwsThrottled,
                    PortErrorKind::Quota => Reason::AwsQuotaExceeded,
                    PortErrorKind::CredentialsMissing => Reason::CredentialsMissing,
                    PortErrorKind::Denied => Reason::AwsAccessDenied,
                    PortErrorKind::Invalid => Reason::AwsRefused,
                    PortErrorKind::Conflict => Reason::StackBusy,
                    _ => Reason::AwsUnavailable,
                }
            }
            Self::Reconcile(_) | Self::Destroy(_) => Reason::AwsUnavailable,
            Self::Pool(_) | Self::Panicked => Reason::InternalError,
            Self::Deadline(_) => Reason::DeadlineExceeded,
        }
    }

    /// Whether the failure is transient, so that it does not count towards the retry limit.
    pub fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Cluster(error) => match error.kind {
                ClusterErrorKind::Denied | ClusterErrorKind::Invalid => FailureKind::Persistent,
                // While the API server is unavailable no status can be written and no user can react to it.
                _ => FailureKind::Transient,
            },
            Self::Reconcile(error) => failure_kind(error),
            Self::Destroy(_) | Self::Pool(_) | Self::Deadline(_) | Self::Panicked => FailureKind::Persistent,
        }
    }

    /// Whether the failure stays until a person changes something: the API server rejects an object, or denies a
    /// permission.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Cluster(error)
            if matches!(error.kind, ClusterErrorKind::Denied | ClusterErrorKind::Invalid))
    }

    /// Whether another writer changed the object first. This is not a failure; the object is read and reconciled again.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.kind == ClusterErrorKind::Conflict)
    }

    /// Whether this replica has lost the leadership. The next leader continues the work.
    pub fn is_not_leading(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.kind == ClusterErrorKind::NotLeading)
    }
}

/// Whether a failure of the engine is transient.
pub fn failure_kind(error: &EngineError) -> FailureKind {
    match error {
        EngineError::Port(error) if error.kind == PortErrorKind::Throttled => FailureKind::Transient,
        _ => FailureKind::Persistent,
    }
}

/// Message for a failure that the operator retries.
pub fn tried_again(error: &dyn std::error::Error, stack: &str) -> String {
    format!("{error} (stack {stack}); the operator will retry, backing off to at most 5 minutes")
}

/// Message for a rejection of the API server.
pub fn rejected(error: &ReconcileError, resync: Duration) -> String {
    let action = match error.reason() {
        Reason::KubernetesForbidden => "grant the permission, or change the quota or policy, that the message names",
        _ => "change what the message names",
    };
    let minutes = resync.as_secs().div_ceil(60);
    format!(
        "{error}; action required: {action}; the operator retries every {minutes} min, and at once after an edit of the \
         spec or a new value of the annotation {RECONCILE_REQUESTED_AT}"
    )
}

/// Message for a failure that reached the retry limit.
pub fn limit_reached(error: &dyn std::error::Error, stack: &str) -> String {
    let minutes = requeue::SLOW.as_secs() / 60;
    format!(
        "{error} (stack {stack}). It failed {RETRY_LIMIT} times in a row and is now retried every {minutes} minutes; \
         action required: remove the cause; an edit of the spec or a new value of the annotation \
         {RECONCILE_REQUESTED_AT} triggers a retry at once"
    )
}

/// A failure that is not retried until something changes, or only rarely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Phase of the system.
    pub phase: SystemPhase,
    /// Reason in the conditions.
    pub reason: Reason,
}

impl Refusal {
    /// `None` where a retry may succeed. `retry_state` already counts this failure.
    pub fn from_error(error: &EngineError, retry_state: &RetryState) -> Option<Self> {
        let stalled = |reason| Some(Self { phase: SystemPhase::Stalled, reason });
        match error {
            EngineError::WrongAccount { .. } => stalled(Reason::WrongAccount),
            EngineError::Moved { .. } | EngineError::Unfit(_) => stalled(Reason::InvalidSpec),
            // The Secret may be created at any time, and the operator keeps looking for it.
            EngineError::SecretMissing { .. } => {
                Some(Self { phase: SystemPhase::Reconciling, reason: Reason::SecretMissing })
            }
            EngineError::SecretInvalid { .. } => stalled(Reason::InvalidSecret),
            EngineError::ChangeSet(_) => stalled(Reason::ChangeSetFailed),
            EngineError::Template(_) => stalled(Reason::TemplateTooLarge),
            EngineError::Port(error)
                if error.kind == PortErrorKind::Invalid && retry_state.failures > REFUSALS_FORGIVEN =>
            {
                stalled(Reason::AwsRefused)
            }
            EngineError::Port(_) if retry_state.is_exhausted() => stalled(Reason::RetryLimitReached),
            EngineError::Port(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::ports::PortError;
    use crate::kubernetes::policy::retry::Revision;

    fn port(kind: PortErrorKind) -> EngineError {
        PortError::new("try", kind, "no").into()
    }

    fn retry_state(error: &EngineError, failures: u32) -> RetryState {
        (0..failures).fold(RetryState::default(), |retry_state, _| {
            retry_state.with_failure(&Revision::default(), failure_kind(error))
        })
    }

    fn refusal(error: &EngineError, failures: u32) -> Option<Refusal> {
        Refusal::from_error(error, &retry_state(error, failures))
    }

    #[test]
    fn throttling_is_retried_without_limit_and_persistent_failures_up_to_the_limit() {
        assert_eq!(refusal(&port(PortErrorKind::Throttled), 1000), None);
        for kind in
            [PortErrorKind::CredentialsMissing, PortErrorKind::Denied, PortErrorKind::Quota, PortErrorKind::Unavailable]
        {
            assert_eq!(refusal(&port(kind), RETRY_LIMIT - 1), None);
            let last = refusal(&port(kind), RETRY_LIMIT).expect("the limit");
            assert_eq!((last.phase, last.reason), (SystemPhase::Stalled, Reason::RetryLimitReached));
        }
    }

    #[test]
    fn messages_of_limits_and_failures_say_what_happens_next() {
        let error = port(PortErrorKind::Denied);
        let words = limit_reached(&error, "coactus-default-seoul");
        assert!(words.starts_with("cannot try: no (stack coactus-default-seoul). It failed 20 times"), "{words}");
        assert!(words.contains("every 30 minutes") && words.contains("reconcile-requested-at"), "{words}");
        let words = tried_again(&error, "coactus-default-seoul");
        assert!(words.contains("coactus-default-seoul") && words.contains("the operator will retry"), "{words}");
    }

    #[test]
    fn an_invalid_request_is_final_after_a_few_retries() {
        let wrong = port(PortErrorKind::Invalid);
        assert_eq!(refusal(&wrong, REFUSALS_FORGIVEN), None);
        let last = refusal(&wrong, REFUSALS_FORGIVEN + 1).expect("final");
        assert_eq!((last.phase, last.reason), (SystemPhase::Stalled, Reason::AwsRefused));
    }

    #[test]
    fn an_invalid_request_is_not_reported_as_an_outage() {
        let reason = |kind| ReconcileError::Reconcile(port(kind)).reason();
        assert_eq!(reason(PortErrorKind::Invalid), Reason::AwsRefused);
        assert_eq!(reason(PortErrorKind::Unavailable), Reason::AwsUnavailable);
        assert_eq!(reason(PortErrorKind::Denied), Reason::AwsAccessDenied);
        assert_eq!(reason(PortErrorKind::CredentialsMissing), Reason::CredentialsMissing);
    }

    #[test]
    fn a_rejection_of_the_api_server_is_permanent_and_has_its_own_reason() {
        let error = |kind| {
            let message = "Service \"x\" is invalid: metadata.name: Invalid value".to_owned();
            ReconcileError::Cluster(ClusterError { action: "apply a worker object", kind, message, source: None })
        };
        for (kind, permanent, reason) in [
            (ClusterErrorKind::Invalid, true, Reason::KubernetesRefused),
            (ClusterErrorKind::Denied, true, Reason::KubernetesForbidden),
            (ClusterErrorKind::Gone, false, Reason::KubernetesUnavailable),
            (ClusterErrorKind::Conflict, false, Reason::KubernetesUnavailable),
            (ClusterErrorKind::Unavailable, false, Reason::KubernetesUnavailable),
        ] {
            assert_eq!((error(kind).is_permanent(), error(kind).reason()), (permanent, reason), "{kind:?}");
        }
        let text = rejected(&error(ClusterErrorKind::Invalid), Duration::from_mins(5));
        assert!(text.contains("Service \"x\" is invalid") && text.contains("every 5 min"), "{text}");
    }

    #[test]
    fn a_missing_secret_is_waited_for() {
        let missing = EngineError::SecretMissing { field: "f", name: "n".to_owned(), key: "k".to_owned() };
        assert_eq!(refusal(&missing, 1).map(|refusal| refusal.phase), Some(SystemPhase::Reconciling));
    }
}
