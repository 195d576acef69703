//! Annotations and the finalizer of a `DispatchSystem`. They are API: people and tools set the annotations.

/// Any new value requests a reconcile at once and a retry of what failed before. The value is copied to
/// `status.lastHandledReconcileAt`.
pub const RECONCILE_REQUESTED_AT: &str = "dispatch.coactus.io/reconcile-requested-at";
/// Id of the approved plan, as in `status.lastPlan.id`. It approves no other plan.
pub const APPROVE: &str = "dispatch.coactus.io/approve";
/// Name of the stack, `coactus-<namespace>-<name>`, that the operator may adopt although its tags name another owner or
/// none.
pub const ADOPT: &str = "dispatch.coactus.io/adopt";
/// On a namespace: `Retain` or `Delete`, the default for systems whose spec has no `deletionPolicy`.
pub const NAMESPACE_DELETION_POLICY: &str = "dispatch.coactus.io/deletion-policy";
/// On a namespace: the role ARNs, separated by commas, that `spec.aws.roleArn` of its systems may name. Enforced if the
/// operator runs with `--require-role-allow-list`.
pub const ALLOWED_ROLE_ARNS: &str = "dispatch.coactus.io/allowed-role-arns";
/// `true` makes the operator plan only: `status.lastPlan` shows the changes, and neither AWS resources nor workers are
/// modified.
pub const DRY_RUN: &str = "dispatch.coactus.io/dry-run";
/// Logical ids, separated by commas, of resources to skip in a rollback that failed (`UPDATE_ROLLBACK_FAILED`) or in a
/// deletion that failed (`DELETE_FAILED`). It has no effect in any other stack state. The id of a resource that did not
/// fail is refused.
pub const SKIP_RESOURCES: &str = "dispatch.coactus.io/skip-resources";
/// Finalizer that keeps the object until its environment is deleted as its deletion policy specifies.
pub const FINALIZER: &str = "dispatch.coactus.io/finalizer";
