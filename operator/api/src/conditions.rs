//! Condition types and reasons of a `DispatchSystem`. They are API: scripts and health checks read them.

/// Summary: the whole system serves and matches its spec.
pub const READY: &str = "Ready";
/// The operator is working towards the spec (kstatus: in progress).
pub const RECONCILING: &str = "Reconciling";
/// The operator cannot go on until somebody changes something (kstatus: failed).
pub const STALLED: &str = "Stalled";
/// The CloudFormation stack is complete.
pub const STACK_READY: &str = "StackReady";
/// The parts CloudFormation cannot carry are as they should be.
pub const DATA_PLANE_READY: &str = "DataPlaneReady";
/// The worker pool serves.
pub const WORKERS_READY: &str = "WorkersReady";
/// Scheduled exports of the table succeed. Absent where none are scheduled; says nothing of whether the system serves.
pub const EXPORTS_READY: &str = "ExportsReady";
/// Names and addresses are where `spec.connection` wants them. Absent where it wants nothing; says nothing of whether the system serves.
pub const CONNECTION_PUBLISHED: &str = "ConnectionPublished";
/// Somebody changed a resource behind the operator's back.
pub const DRIFTED: &str = "Drifted";
/// A plan waits for an approval.
pub const PLAN_PENDING: &str = "PlanPending";
/// AWS takes the credentials, they are of the account the manifest names, and the namespace may use their role. Names account and role.
pub const CREDENTIALS_VALID: &str = "CredentialsValid";
/// The system is suspended.
pub const PAUSED: &str = "Paused";
/// Deletion cannot finish.
pub const DELETION_BLOCKED: &str = "DeletionBlocked";

/// Reason of `Stalled`: the stack, or data that was kept, carries another owner's tags.
pub const OWNED_BY_ANOTHER: &str = "OwnedByAnother";
/// Reason of `Stalled`: data that was kept is not what the template describes.
pub const NOT_ADOPTABLE: &str = "NotAdoptable";
/// Reason of `Stalled`: SNS refuses the service account key.
pub const INVALID_PUSH_CREDENTIAL: &str = "InvalidPushCredential";
/// Reason of `Stalled`: the namespace may not use the role the manifest names.
pub const ROLE_NOT_ALLOWED: &str = "RoleNotAllowed";
/// Reason of `Stalled`: the credentials are of another account than the manifest names.
pub const WRONG_ACCOUNT: &str = "WrongAccount";
/// Reason of `Reconciling`: AWS refuses the credentials, or they lack a right.
pub const AWS_ACCESS_DENIED: &str = "AwsAccessDenied";
/// Reason of `Stalled` and `PlanPending`: a plan waits for an approval.
pub const APPROVAL_REQUIRED: &str = "ApprovalRequired";
/// Reason of `Reconciling` and `PlanPending`: there is a plan, and the annotation says that it is not to be carried out.
pub const DRY_RUN: &str = "DryRun";
/// Reason of `Stalled`: the same kind of failure came so often in a row that it does not pass by itself.
pub const RETRY_LIMIT_REACHED: &str = "RetryLimitReached";
/// Reason of `Stalled`: a resource of the stack was deleted outside.
pub const RESOURCE_GONE: &str = "ResourceGone";
/// Reason of `Reconciling`: as many other stacks are being changed as may be at once.
pub const WAITING_FOR_TURN: &str = "WaitingForTurn";
