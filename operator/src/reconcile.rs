//! The engine: `observe -> plan -> apply -> status`, for the command line and for the Kubernetes controller alike.

use std::time::Duration;

use dispatch_api::dispatch_system::{DispatchSystemStatus, OutputsStatus};
use dispatch_api::validate::ValidatedSystem;
use thiserror::Error;

use crate::plan::{Approval, Plan};
use crate::ports::{PortError, Ports};
use crate::progress::Progress;
use crate::secrets::Secrets;

/// Whether the parts that drift (queue attributes) are looked at. They cost a call each, so a controller looks at the
/// manifest's `driftIntervalSeconds` and not at every reconcile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriftLook {
    /// Not this time.
    Skip,
    /// Look, and correct or report as the manifest says.
    #[default]
    Look,
}

/// What to do with an input that failed before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailedInput {
    /// Try it again: somebody asked for it.
    #[default]
    TryAgain,
    /// Leave it until the manifest changes.
    Refuse,
}

/// Bounds of a wait for CloudFormation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// First pause between two looks; it doubles.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// When to give up waiting (the operation itself goes on).
    pub total: Duration,
}

impl Default for Patience {
    /// A replication group takes 10 to 20 minutes; an hour means something is wrong.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(10), total: Duration::from_secs(3600) }
    }
}

/// How one reconcile is to be done.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What a person has approved.
    pub approval: Approval,
    /// Secrets the manifest names.
    pub secrets: Secrets,
    /// Look for drift?
    pub drift: DriftLook,
    /// Failed before: again?
    pub failed_input: FailedInput,
    /// Bounds of waits.
    pub patience: Patience,
    /// Status of the last reconcile, for the times of conditions that did not change.
    pub previous: Option<DispatchSystemStatus>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Reconciled {
    /// The new status.
    pub status: DispatchSystemStatus,
    /// Names and addresses of the resources, once the stack has them.
    pub outputs: Option<OutputsStatus>,
    /// What was to be done.
    pub plan: Plan,
    /// Whether anything was changed.
    pub changed: bool,
}

impl Reconciled {
    /// Whether the system serves and matches its manifest.
    pub fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|c| c.type_ == dispatch_api::conditions::READY && c.status == "True")
    }
}

/// Why a reconcile could not be carried through. What AWS did to the stack is no error but a status.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// The credentials are of another account than the manifest names.
    #[error("spec.aws.accountId is {wanted}, but the credentials belong to account {found}; nothing was changed")]
    WrongAccount {
        /// From the manifest.
        wanted: String,
        /// From STS.
        found: String,
    },
    /// A secret the manifest names was not given.
    #[error("{field} names secret {name}/{key}, which was not given")]
    SecretMissing {
        /// Field of the manifest.
        field: &'static str,
        /// Name of the secret.
        name: String,
        /// Key in it.
        key: String,
    },
    /// A secret is not what it must be. The text never repeats any of it.
    #[error("the secret of {field} is refused: {reason}")]
    SecretInvalid {
        /// Field of the manifest.
        field: &'static str,
        /// Why.
        reason: String,
    },
    /// A call failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl ReconcileError {
    /// Whether trying again later may help.
    pub fn passes_with_time(&self) -> bool {
        matches!(self, Self::Port(error) if error.kind.passes_with_time())
    }
}

/// Brings the environment to what the manifest says, as far as its policies allow, and says how it stands.
///
/// What AWS refuses or rolls back is told in the status ([`Reconciled::is_ready`] is then false); an error means that a call
/// failed and the caller should try again later or, where [`ReconcileError::passes_with_time`] is false, tell a person.
pub async fn reconcile(
    system: &ValidatedSystem,
    ports: &Ports,
    _settings: &Settings,
    _progress: &mut dyn Progress,
) -> Result<Reconciled, ReconcileError> {
    let _ = (system, ports.stacks.describe(&system.names.stack).await?);
    Err(PortError::new("reconcile", crate::ports::PortErrorKind::Unavailable, "not connected yet").into())
}
