//! Annotations and the finalizer of a `DispatchSystem`. They are API: people and tools write the annotations.

/// Any new value asks for a reconcile at once, which also tries again what failed before. It is echoed in
/// `status.lastHandledReconcileAt`.
pub const RECONCILE_REQUESTED_AT: &str = "dispatch.coactus.io/reconcile-requested-at";
/// Identity of the plan a person approves, as `status.lastPlan.id` shows it. Any other plan is still not approved.
pub const APPROVE: &str = "dispatch.coactus.io/approve";
/// Name of the stack, `coactus-<namespace>-<name>`, that a person allows the operator to take over although another system, or nobody,
/// is named as its owner.
pub const ADOPT: &str = "dispatch.coactus.io/adopt";
/// On a namespace: `Retain` or `Delete`, for its systems whose spec has no `deletionPolicy`.
pub const NAMESPACE_DELETION_POLICY: &str = "dispatch.coactus.io/deletion-policy";
/// On a namespace: ARNs, with commas between them, of the roles its systems may name in `spec.aws.roleArn`, where the operator runs with
/// `--require-role-allow-list`.
pub const ALLOWED_ROLE_ARNS: &str = "dispatch.coactus.io/allowed-role-arns";
/// `true` makes the operator plan only: `status.lastPlan` shows what it would do, and nothing in AWS or of the workers is changed.
pub const DRY_RUN: &str = "dispatch.coactus.io/dry-run";
/// Logical ids of resources, with commas between them, that may be left out of a rollback that stopped half way
/// (`UPDATE_ROLLBACK_FAILED`) or of a deletion that failed (`DELETE_FAILED`). In every other state of the stack it is not looked at, and an id of
/// a resource CloudFormation has not failed at is refused.
pub const SKIP_RESOURCES: &str = "dispatch.coactus.io/skip-resources";
/// Keeps the object until its environment is gone, as far as its deletion policy says.
pub const FINALIZER: &str = "dispatch.coactus.io/finalizer";
