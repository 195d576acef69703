//! Errors of a reconcile.

use dispatch_api::validate::ValidationErrors;
use thiserror::Error;

use crate::cloud::ports::PortError;
use crate::engine::plan::template::TemplateError;

/// Why a reconcile could not finish. A stack operation that fails is not an error; the status reports it.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The credentials belong to another account than the spec names.
    #[error("spec.aws.accountId is {wanted}, but the credentials belong to account {found}; nothing was changed")]
    WrongAccount {
        /// Account of the spec.
        wanted: String,
        /// Account that STS reports.
        found: String,
    },
    /// The region or account of the spec is not the one that has the stack.
    #[error(
        "{field}: the stack is in {was} and cannot be moved; restore the previous value or create another object. \
         Nothing was changed"
    )]
    Moved {
        /// Field of the spec that changed.
        field: &'static str,
        /// Region or account of the stack.
        was: String,
    },
    /// A secret that the spec names was not provided.
    #[error("{field} names secret {name}/{key}, which was not provided")]
    SecretMissing {
        /// Field of the spec.
        field: &'static str,
        name: String,
        key: String,
    },
    /// A secret has an unusable value. The message contains no part of it.
    #[error("{field}: the secret is not usable: {reason}")]
    SecretInvalid {
        /// Field of the spec.
        field: &'static str,
        reason: String,
    },
    /// CloudFormation could not compute a change set.
    #[error("cannot compute the changes of the stack: {0}")]
    ChangeSet(String),
    /// A name that is derived from namespace and name is not usable.
    #[error("{0}; nothing was created")]
    Unfit(ValidationErrors),
    /// The template is too large.
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Port(#[from] PortError),
}

impl EngineError {
    /// Whether a retry may succeed without a change of the spec.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Port(error) if error.kind.is_transient())
    }
}
