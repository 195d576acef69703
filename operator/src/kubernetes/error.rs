//! Why a reconcile did not come to its end, and whether it is tried again.

use thiserror::Error;

use super::cluster::{ClusterError, ClusterErrorKind};
use super::pool::EnsureError;
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
                    PortErrorKind::Denied => "AwsAccessDenied",
                    PortErrorKind::Invalid => "AwsRefused",
                    _ => "AwsUnavailable",
                }
            }
            Self::Reconcile(_) | Self::Destroy(_) => "AwsUnavailable",
            Self::Pool(_) | Self::Panicked => "InternalError",
            Self::Deadline(_) => "DeadlineExceeded",
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

/// A refusal that is not tried again until somebody changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it makes of the system.
    pub trio: Trio,
    /// Reason of the conditions.
    pub reason: &'static str,
}

impl Refusal {
    /// `None` where trying again may help. `failures` is the number of failures before this one.
    pub fn of(error: &ReconcileError, failures: u32) -> Option<Self> {
        let stalled = |reason| Some(Self { trio: Trio::Stalled, reason });
        match error {
            ReconcileError::WrongAccount { .. } => stalled("WrongAccount"),
            ReconcileError::Moved { .. } => stalled("InvalidSpec"),
            // It may be made in the next moment, and is looked for.
            ReconcileError::SecretMissing { .. } => Some(Self { trio: Trio::Reconciling, reason: "SecretMissing" }),
            ReconcileError::OwnedByAnother(_) => stalled(dispatch_api::conditions::OWNED_BY_ANOTHER),
            ReconcileError::SecretInvalid { .. } => stalled("InvalidSecret"),
            ReconcileError::ChangeSet(_) => stalled("ChangeSetFailed"),
            ReconcileError::Template(_) => stalled("TemplateTooLarge"),
            ReconcileError::Port(error) if error.kind == PortErrorKind::Invalid && failures >= REFUSALS_FORGIVEN => {
                stalled("AwsRefused")
            }
            ReconcileError::Port(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::PortError;

    fn port(kind: PortErrorKind) -> ReconcileError {
        PortError::new("try", kind, "no").into()
    }

    #[test]
    fn what_passes_with_time_is_tried_again_for_ever() {
        for kind in [PortErrorKind::Throttled, PortErrorKind::Denied, PortErrorKind::Unavailable] {
            assert_eq!(Refusal::of(&port(kind), 100), None);
        }
    }

    #[test]
    fn a_wrong_request_is_final_after_a_few_tries() {
        let wrong = port(PortErrorKind::Invalid);
        assert_eq!(Refusal::of(&wrong, 0), None);
        let last = Refusal::of(&wrong, REFUSALS_FORGIVEN).expect("final");
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
        assert_eq!(Refusal::of(&missing, 0).map(|refusal| refusal.trio), Some(Trio::Reconciling));
    }
}
