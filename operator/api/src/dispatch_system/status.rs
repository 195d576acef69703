//! `status`: the state that the operator last observed, and what it did. Only the operator writes it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DeletionPolicy;
use super::export::ExportType;

/// Observed state of the system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DispatchSystemStatus {
    /// Generation of the spec that this status describes. It is -1 before the first reconcile, so that a new object
    /// does not appear to be reconciled.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// Conditions, one for each type. Exactly one of `Ready`, `Reconciling` and `Stalled` is `True`. The others are
    /// `StackReady`, `DirectResourcesReady`, `WorkersReady`, `CredentialsValid`, `Drifted`, `PlanPending`, `Paused`,
    /// `DeletionBlocked`, where the spec uses them `ExportsReady` and `ConnectionPublished`, and `SpecAllowed` where
    /// the spec asks for something that is not allowed.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Version of the operator that last reconciled the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_version: Option<String>,
    /// Values of the immutable fields when the stack was created. The operator enforces them where the API server does
    /// not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityStatus>,
    /// Identity with which the operator last managed the stack. A deletion uses it if the spec names a role that is no
    /// longer allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessStatus>,
    /// ARN of the CloudFormation stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack_arn: Option<String>,
    /// Stack status as CloudFormation reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack_status: Option<String>,
    /// SHA-256 of the template and parameters that were last applied. If they are unchanged, the stack is not updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_hash: Option<String>,
    /// The template and parameters that were last sent to CloudFormation. If they failed, they are not sent again until
    /// the spec changes or a reconcile is requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<AttemptStatus>,
    /// Effective deletion policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Source of the effective deletion policy: `spec`, `namespace` (annotation), `operator` (flag) or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy_from: Option<String>,
    /// Logical ids of the resources that were skipped when a rollback was last continued. CloudFormation records them
    /// as rolled back; check their actual state and repair them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_resources: Vec<String>,
    /// Lower bound of the number of consecutive failed reconciles. It is written at 1, 2, 4, 8, … and at the retry
    /// limit, to avoid a status update for each failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures_in_a_row: Option<u32>,
    /// Value of the annotation `dispatch.coactus.io/reconcile-requested-at` that was last handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Names and addresses of the resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<OutputsStatus>,
    /// The plan that waits, is shown by a dry run, or is being carried out; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_plan: Option<LastPlan>,
    /// The last export of the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_export: Option<ExportStatus>,
    /// Progress of the scheduled exports; absent without a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_schedule: Option<ExportScheduleStatus>,
    /// Name of the Secret that publishes the connection. The operator deletes that Secret when `spec.connection` no
    /// longer names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_secret_name: Option<String>,
}

/// Names and addresses of the resources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputsStatus {
    /// Name of the table.
    pub table_name: String,
    /// ARN of the stream of the table.
    pub stream_arn: String,
    /// Name of the table of stream leases.
    pub lease_table_name: String,
    /// URL of the `offers` queue.
    pub offers_queue_url: String,
    /// URL of the `responses` queue.
    pub responses_queue_url: String,
    /// URL of the `notifications` queue.
    pub notifications_queue_url: String,
    /// ARN of the notification topic.
    pub topic_arn: String,
    /// ARN of the SNS platform application for FCM; absent without `spec.notifications.fcm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_application_arn: Option<String>,
    /// Address of the cache, `redis://` or `rediss://`, without the AUTH token.
    pub cache_url: String,
    /// Name of the export bucket.
    pub export_bucket: String,
    /// Address of the HTTP API; absent without `spec.api.gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_endpoint: Option<String>,
    /// ARNs of the IAM roles of the workers, by service account.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub worker_role_arns: BTreeMap<String, String>,
}

/// Values that must not change after the stack was created: they determine where the data is and how its keys are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityStatus {
    /// Value of `spec.city`.
    pub city: String,
    /// Value of `spec.region`.
    pub region: String,
    /// Value of `spec.timezone`.
    pub timezone: String,
    /// Value of `spec.currency`.
    pub currency: String,
    /// Name of the table, specified or derived.
    pub table_name: String,
    /// Value of `spec.aws.accountId`, once it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
}

/// Identity with which the operator manages the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessStatus {
    /// Whether it assumes a role. Always present: the API server stores an object without fields as null.
    #[serde(default)]
    pub assumes_role: bool,
    /// ARN of the role; absent if the operator uses its own identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// External ID that the operator sends when it assumes the role: that of the spec, or the one that the operator
    /// derives. The trust policy of the role can require it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// The template and parameters that were last sent to CloudFormation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptStatus {
    /// SHA-256 of template and parameters.
    pub hash: String,
    /// Generation of the spec from which they were rendered.
    pub generation: i64,
}

/// Summary of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastPlan {
    /// Id of the plan, twelve hexadecimal digits. An approval names it.
    pub id: String,
    /// Number of resources to create.
    pub add: u32,
    /// Number of resources to update in place.
    pub change: u32,
    /// Number of resources to replace.
    pub replace: u32,
    /// Number of resources of which CloudFormation decides only during the update whether it replaces them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub may_replace: u32,
    /// Number of resources to delete.
    pub remove: u32,
    /// What the plan adds to the charges of a month that do not depend on use; absent if it changes no resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_cost: Option<PlannedCost>,
    /// The first 20 changes. Changes that endanger data come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PlannedChange>,
    /// Number of further changes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u32,
}

/// What a plan adds to the charges of a month for cache nodes, provisioned capacity (at its minimum) and alarms, at
/// list prices. Charges for requests, storage and transfer come on top.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedCost {
    /// Amount with a sign and two decimals: `+46.72`.
    pub change: String,
    /// `USD`.
    pub currency: String,
    /// AWS region of the prices. Those of other regions differ.
    pub prices_of: String,
    /// What is not known and not counted, for example `the price of cache.x9.large`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// One change of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChange {
    /// Logical id of the resource in the template.
    pub logical_id: String,
    /// Type of the resource, for example `AWS::SQS::Queue`.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// `add`, `change`, `replace` or `remove`.
    pub action: String,
    /// Whether CloudFormation replaces the resource: `True`, `False`, or `Conditional`, which is decided during the
    /// update.
    pub replacement: String,
    /// Whether the change can destroy data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub endangers_data: bool,
    /// The first ten values that change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<PlannedValue>,
    /// Number of further values.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_values: u32,
}

/// One value of a resource that a plan changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedValue {
    /// Path in the resource, for example `RedrivePolicy.maxReceiveCount`.
    pub path: String,
    /// The value that was last applied, shortened; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The desired value, shortened; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The value of the resource, shortened, if it was changed outside the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<String>,
}

/// One export of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportStatus {
    /// ARN of the export.
    pub export_arn: String,
    /// State as DynamoDB reports it: `IN_PROGRESS`, `COMPLETED` or `FAILED`.
    pub state: String,
    /// `Full`: the whole table. `Incremental`: the changes from `exportFrom` to `exportTime`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub export_type: Option<ExportType>,
    /// Scheduled time of the export; absent for an export on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Time>,
    /// Time at which DynamoDB started the export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Time at which the export ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Start of the period of an incremental export, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_from: Option<String>,
    /// Point in time of the exported data, RFC 3339; the end of the period of an incremental export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_time: Option<String>,
    /// Size that AWS bills, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_bytes: Option<i64>,
    /// Number of exported items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_count: Option<i64>,
    /// Key of the manifest of the export in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// Why the export failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Progress of the scheduled exports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportScheduleStatus {
    /// The `spec.export.schedule` that this progress describes.
    pub schedule: String,
    /// Time at which the schedule was first observed. Earlier scheduled times are not caught up.
    pub since: Time,
    /// Last scheduled time for which an export was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_until: Option<Time>,
    /// Next scheduled time. A time in the past is due as soon as the system can export. Absent while no export is
    /// started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_export_at: Option<Time>,
    /// Point in time up to which completed exports contain all changes. The next incremental export starts there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered_until: Option<Time>,
    /// Point in time of the last completed full export, the base of the incremental exports after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_full_at: Option<Time>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn unobserved() -> i64 {
    -1
}
