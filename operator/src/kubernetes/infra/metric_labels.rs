//! Values of metric labels. Object names are never used as label values.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

use crate::cloud::ports::PortErrorKind;

/// Declares an enum of label values.
macro_rules! label_values {
    ($(#[$attribute:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// The label's value.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label_values! {
    /// How a reconcile ended.
    pub enum ReconcileResult {
        /// The system is ready.
        Ready = "ready",
        /// The system waits for AWS, for the workers or for a slot.
        Waiting = "waiting",
        /// The system waits for a change of its spec, a permission or an approval.
        Stalled = "stalled",
        /// The deletion continues.
        Deleting = "deleting",
        /// The deletion finished.
        Deleted = "deleted",
        /// The object no longer exists.
        Gone = "gone",
        /// The reconcile failed.
        Error = "error",
    }
}

label_values! {
    /// Where a reconcile failed.
    pub enum ErrorSource {
        /// The Kubernetes API server.
        Kubernetes = "kubernetes",
        /// AWS.
        Aws = "aws",
        /// The operator itself.
        Internal = "internal",
        /// The deadline of a reconcile.
        Deadline = "deadline",
        /// A panic.
        Panic = "panic",
    }
}

label_values! {
    /// Outcome of a scheduled export.
    pub enum ExportResult {
        /// It started.
        Started = "started",
        /// It completed.
        Completed = "completed",
        /// It failed.
        Failed = "failed",
        /// It could not be started.
        Refused = "refused",
    }
}

label_values! {
    /// What preceded a system that became ready.
    pub enum After {
        /// Its creation.
        Creation = "creation",
        /// A change of its spec, or a failure.
        Change = "change",
    }
}

label_values! {
    /// How an AWS call ended.
    pub enum CallResult {
        /// The call succeeded.
        Ok = "ok",
        /// The resource does not exist.
        NotFound = "not_found",
        /// The resource already exists.
        AlreadyExists = "already_exists",
        /// AWS throttled the call.
        Throttled = "throttled",
        /// A quota is reached.
        Quota = "quota",
        /// No credentials were found.
        CredentialsMissing = "credentials_missing",
        /// A permission is missing.
        Denied = "denied",
        /// AWS rejected the request as invalid.
        Invalid = "invalid",
        /// Another client changed the resource meanwhile.
        Conflict = "conflict",
        /// AWS did not answer, or answered with a server error.
        Unavailable = "unavailable",
    }
}

impl From<PortErrorKind> for CallResult {
    fn from(kind: PortErrorKind) -> Self {
        match kind {
            PortErrorKind::NotFound => Self::NotFound,
            PortErrorKind::AlreadyExists => Self::AlreadyExists,
            PortErrorKind::Throttled => Self::Throttled,
            PortErrorKind::Quota => Self::Quota,
            PortErrorKind::CredentialsMissing => Self::CredentialsMissing,
            PortErrorKind::Denied => Self::Denied,
            PortErrorKind::Invalid => Self::Invalid,
            PortErrorKind::Conflict => Self::Conflict,
            PortErrorKind::Unavailable => Self::Unavailable,
        }
    }
}
