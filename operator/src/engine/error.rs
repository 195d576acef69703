//! Why a run of the engine could not be carried through.

use thiserror::Error;

use crate::cloud::ports::PortError;
use crate::engine::plan::template::TemplateError;

/// Why a reconcile could not be carried through. What AWS did to the stack is no error but a status.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The credentials are of another account than the manifest names.
    #[error("spec.aws.accountId is {wanted}, but the credentials belong to account {found}; nothing was changed")]
    WrongAccount {
        /// From the manifest.
        wanted: String,
        /// From STS.
        found: String,
    },
    /// The stack is in another place than the manifest, or the identity it names, leads to.
    #[error(
        "{field} leads to another place than {was}, where the stack is; give it back, or make another object. Nothing was changed"
    )]
    Moved {
        /// Field of the manifest.
        field: &'static str,
        /// Region or account of the stack.
        was: String,
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
    /// The stack is somebody else's.
    #[error("{0}")]
    OwnedByAnother(String),
    /// CloudFormation could not compare.
    #[error("cloudformation could not compute the changes: {0}")]
    ChangeSet(String),
    /// The template cannot be sent.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A call failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl EngineError {
    /// Whether trying again later may help.
    pub fn passes_with_time(&self) -> bool {
        matches!(self, Self::Port(error) if error.kind.passes_with_time())
    }
}
