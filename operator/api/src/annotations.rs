//! Annotations and the finalizer of a `DispatchSystem`. They are API: people and tools set the annotations.

/// Any new value requests a reconcile at once and a retry of what failed before. The value is copied to
/// `status.lastHandledReconcileAt`.
pub const RECONCILE_REQUESTED_AT: &str = "dispatch.coactus.io/reconcile-requested-at";
/// Id of the approved plan, as in `status.lastPlan.id`. It approves no other plan.
pub const APPROVE: &str = "dispatch.coactus.io/approve";
/// Name of the stack, as in `status.stackArn`, that the operator may adopt although its tags name another owner or
/// none. Needs the consent [`ADOPTIONS`].
pub const ADOPT: &str = "dispatch.coactus.io/adopt";
/// On a namespace: what its systems may take over, as `<name>=<owner>` separated by commas: the name of the system,
/// and the value of the tag `coactus:system` of the stack or data (`<namespace>/<name>`), or `unowned` for a resource
/// without that tag. It is the consent to [`ADOPT`], which the author of a system cannot give.
pub const ADOPTIONS: &str = "dispatch.coactus.io/adoptions";
/// On a namespace: table names, separated by commas, that its systems may choose in `spec.table.name` besides their
/// own.
pub const ALLOWED_TABLE_NAMES: &str = "dispatch.coactus.io/allowed-table-names";
/// On a namespace: approvals of a second person, as `<name>=<plan id>` separated by commas, or
/// `<name>=delete` for a deletion that deletes data. Used instead of [`APPROVE`] if the operator runs with
/// `--require-second-approver`.
pub const APPROVALS: &str = "dispatch.coactus.io/approvals";
/// Value of [`APPROVALS`] that approves a deletion.
pub const APPROVAL_OF_DELETION: &str = "delete";
/// On a namespace: `Retain` or `Delete`, the default for systems whose spec has no `deletionPolicy`.
pub const NAMESPACE_DELETION_POLICY: &str = "dispatch.coactus.io/deletion-policy";
/// On a namespace: the role ARNs that `spec.aws.roleArn` of its systems may name. This annotation and the other lists
/// of what a spec may ask for are `Any`, `None` (or empty), or entries separated by commas. Each replaces the list of
/// the operator, which counts where the annotation is absent.
pub const ALLOWED_ROLE_ARNS: &str = "dispatch.coactus.io/allowed-role-arns";
/// On a namespace: the AWS regions that `spec.region` of its systems may name.
pub const ALLOWED_REGIONS: &str = "dispatch.coactus.io/allowed-regions";
/// On a namespace: the images that `spec.workers.image` of its systems may name: repositories or paths above them, each
/// with its registry (`registry.example.com/team`), digests (`sha256:…`), or complete references.
pub const ALLOWED_IMAGES: &str = "dispatch.coactus.io/allowed-images";
/// On a namespace: the annotations that `spec.workers.serviceAccountAnnotations` of its systems may set, as
/// `<key>=<value>`, or `<key>=*` for any value.
pub const ALLOWED_SERVICE_ACCOUNT_ANNOTATIONS: &str = "dispatch.coactus.io/allowed-service-account-annotations";
/// On a namespace: the priority classes that `spec.workers.scheduling.priorityClassName` of its systems may name.
pub const ALLOWED_PRIORITY_CLASSES: &str = "dispatch.coactus.io/allowed-priority-classes";
/// On a namespace: the hosts that `spec.api.ingress` and `spec.api.httpRoute` of its systems may name:
/// `seoul.example.com`, or `*.example.com` for every host below.
pub const ALLOWED_HOSTS: &str = "dispatch.coactus.io/allowed-hosts";
/// Label of a Secret: the name of the system that may read it, or [`ANY_SYSTEM`]. Required if the operator runs with
/// `--require-secret-label`.
pub const READABLE_BY: &str = "dispatch.coactus.io/readable-by";
/// Value of [`READABLE_BY`] that permits every system of the namespace. No system has this name, because names of
/// systems are lower case.
pub const ANY_SYSTEM: &str = "AnySystem";
/// Any value except `false` makes the operator plan only: `status.lastPlan` shows the changes, and neither AWS
/// resources nor workers are modified.
pub const DRY_RUN: &str = "dispatch.coactus.io/dry-run";
/// Logical ids, separated by commas, of resources to skip in a rollback that failed (`UPDATE_ROLLBACK_FAILED`) or in a
/// deletion that failed (`DELETE_FAILED`). It has no effect in any other stack state. The id of a resource that did not
/// fail is refused.
pub const SKIP_RESOURCES: &str = "dispatch.coactus.io/skip-resources";
/// Finalizer that keeps the object until its environment is deleted as its deletion policy specifies.
pub const FINALIZER: &str = "dispatch.coactus.io/finalizer";
