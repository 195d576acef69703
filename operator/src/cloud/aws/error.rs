//! Converts SDK errors by their error code.

use std::error::Error;

use aws_sdk_cloudformation::error::{ProvideErrorMetadata, SdkError};

use crate::cloud::ports::{PortError, PortErrorKind};
use crate::sanitize::shown;

/// What to do without credentials.
const CREDENTIALS: &str = "in a cluster, give the operator's ServiceAccount a role (EKS Pod Identity or IRSA); on a \
                           command line, set AWS_PROFILE, or run `aws sso login`";

pub(super) fn port_error<E, R>(action: &'static str, error: SdkError<E, R>) -> PortError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let kind = kind_of(&error);
    let message = match (error.code(), error.message()) {
        (Some(code), Some(text)) => format!("{code}: {text}"),
        (Some(code), None) => code.to_owned(),
        _ if kind == PortErrorKind::CredentialsMissing => {
            format!("no AWS credentials could be loaded ({}); {CREDENTIALS}", without_answer(&error))
        }
        _ => without_answer(&error),
    };
    let message = shown(&message);
    PortError { action, kind, message, source: Some(Box::new(error)) }
}

fn kind_of<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> PortErrorKind {
    match error {
        SdkError::ServiceError(_) => error.code().map_or(PortErrorKind::Unavailable, kind_of_code),
        SdkError::ConstructionFailure(_) => PortErrorKind::Invalid,
        // Before the first byte is sent, credentials are loaded; nothing else fails in these ways.
        SdkError::DispatchFailure(failure) if failure.is_other() || failure.is_user() => {
            PortErrorKind::CredentialsMissing
        }
        _ => PortErrorKind::Unavailable,
    }
}

/// Codes from the "Errors" and "Common errors" pages of the services' API references.
fn kind_of_code(code: &str) -> PortErrorKind {
    match code {
        "ChangeSetNotFound"
        | "ChangeSetNotFoundException"
        | "ResourceNotFoundException"
        | "TableNotFoundException"
        | "ExportNotFoundException"
        | "NotFound"
        | "NoSuchBucket"
        | "NotFoundException"
        | "ReplicationGroupNotFoundFault"
        | "QueueDoesNotExist"
        | "AWS.SimpleQueueService.NonExistentQueue"
        | "StackNotFoundException" => PortErrorKind::NotFound,
        // The change set was executed or removed meanwhile, another change of the resource is in progress, or a queue
        // of the same name was deleted within the last minute.
        "InvalidChangeSetStatus"
        | "InvalidChangeSetStatusException"
        | "OperationAborted"
        | "ConcurrentAccess"
        | "ConcurrentAccessException"
        | "InvalidReplicationGroupState"
        | "InvalidReplicationGroupStateFault"
        | "QueueDeletedRecently"
        | "AWS.SimpleQueueService.QueueDeletedRecently" => PortErrorKind::Conflict,
        "AlreadyExistsException" | "ExportConflictException" | "ImportConflictException" => {
            PortErrorKind::AlreadyExists
        }
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "Throttled"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "SlowDown"
        | "ProvisionedThroughputExceededException" => PortErrorKind::Throttled,
        "LimitExceededException" | "LimitExceeded" => PortErrorKind::Quota,
        "AccessDenied"
        | "AccessDeniedException"
        | "AuthorizationError"
        | "AuthorizationErrorException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "OptInRequired" => PortErrorKind::Denied,
        // A table that is being created or updated, or whose backups are being enabled.
        "ResourceInUseException"
        | "ContinuousBackupsUnavailableException"
        | "RequestTimeout"
        | "InternalFailure"
        | "InternalError"
        | "InternalErrorException"
        | "InternalServerError"
        | "ServiceUnavailable" => PortErrorKind::Unavailable,
        _ => PortErrorKind::Invalid,
    }
}

/// The innermost cause is the most specific: `connection refused` rather than `dispatch failure`.
fn without_answer(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_not_final() {
        for code in [
            "SlowDown",
            "RequestTimeout",
            "OperationAborted",
            "QueueDeletedRecently",
            "AWS.SimpleQueueService.QueueDeletedRecently",
            "ContinuousBackupsUnavailableException",
            "InvalidReplicationGroupState",
            "InvalidAccessKeyId",
            "RequestTimeTooSkewed",
            "ThrottlingException",
        ] {
            assert!(kind_of_code(code).is_transient(), "{code}");
        }
        assert_eq!(kind_of_code("ValidationException"), PortErrorKind::Invalid);
    }
}
