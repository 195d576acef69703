//! `status`: what the operator last saw and did. Written by the operator's `status` step alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DeletionPolicy;
use super::export::ExportType;

/// Observed state of a system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DispatchSystemStatus {
    /// Generation of the spec this status speaks of; -1 before the first look, so that nothing reads a new object as
    /// done.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// Conditions, one of each type: `Ready`, `Reconciling` and `Stalled` (kstatus), `StackReady`, `DataPlaneReady`,
    /// `WorkersReady`, `CredentialsValid`, `ExportsReady` (where exports are scheduled), `ConnectionPublished` (where
    /// `spec.connection` names something), `Drifted`, `PlanPending`, `Paused`, `DeletionBlocked`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Version of the operator that last reconciled the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_version: Option<String>,
    /// The immutable fields as they were when the stack was made, for clusters whose API server does not enforce rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityStatus>,
    /// ARN of the CloudFormation stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack_arn: Option<String>,
    /// CloudFormation's own word for the stack's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack_status: Option<String>,
    /// SHA-256 of the template and parameters last applied: equal means nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_hash: Option<String>,
    /// The last template and parameters handed to CloudFormation, so that what failed is not repeated by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<AttemptStatus>,
    /// What becomes of the data when the object is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Who says so: `spec`, `namespace`, `operator` or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy_from: Option<String>,
    /// Logical ids of resources that were left out of the last rollback that was continued. CloudFormation takes them for rolled back;
    /// what they really are like is for a person to see to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_resources: Vec<String>,
    /// Failures in a row, at least: written at 1, 2, 4, 8, … and at the limit, so that counting is no stream of writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures_in_a_row: Option<u32>,
    /// Value of the annotation `dispatch.coactus.io/reconcile-requested-at` that was last followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// What the workers need to know, as found at AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<OutputsStatus>,
    /// The last plan made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_plan: Option<LastPlan>,
    /// The last export of the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_export: Option<ExportStatus>,
    /// How far the scheduled exports are; absent where none are scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_schedule: Option<ExportScheduleStatus>,
    /// Name of the Secret the connection is published in, so that it can be removed when another one is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_secret_name: Option<String>,
}

/// Names and addresses of the city's resources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputsStatus {
    /// Table name.
    pub table_name: String,
    /// Stream ARN of the table.
    pub stream_arn: String,
    /// Table of the stream consumers' leases.
    pub lease_table_name: String,
    /// URL of the `offers` queue.
    pub offers_queue_url: String,
    /// URL of the `responses` queue.
    pub responses_queue_url: String,
    /// URL of the `notifications` queue.
    pub notifications_queue_url: String,
    /// ARN of the notifications topic.
    pub topic_arn: String,
    /// ARN of the FCM platform application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_application_arn: Option<String>,
    /// `redis://` or `rediss://` address of the cache.
    pub cache_url: String,
    /// Name of the export bucket.
    pub export_bucket: String,
    /// Address of the API Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_endpoint: Option<String>,
}

/// What of a spec must not change once there is a stack: where the data is, and how its keys are to be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityStatus {
    /// `spec.city`.
    pub city: String,
    /// `spec.region`.
    pub region: String,
    /// `spec.timezone`.
    pub timezone: String,
    /// `spec.currency`.
    pub currency: String,
    /// Name of the table, chosen or derived.
    pub table_name: String,
    /// `spec.aws.accountId`, once it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
}

/// One attempt to bring the stack to a template and its parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptStatus {
    /// SHA-256 of template and parameters.
    pub hash: String,
    /// Generation of the spec they were made from.
    pub generation: i64,
}

/// Summary of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastPlan {
    /// Identity of the plan; an approval names it.
    pub id: String,
    /// Resources to add.
    pub add: u32,
    /// Resources to change in place.
    pub change: u32,
    /// Resources to replace.
    pub replace: u32,
    /// Resources to remove.
    pub remove: u32,
    /// The changes, those that endanger data first; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PlannedChange>,
    /// How many changes are not in the list.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u32,
}

/// One change of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChange {
    /// Logical id in the template.
    pub logical_id: String,
    /// Type of the resource.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// `add`, `change`, `replace` or `remove`.
    pub action: String,
    /// CloudFormation's word for whether the resource is made anew: `True`, `False`, or `Conditional`, which shows only while the update
    /// runs.
    pub replacement: String,
    /// Whether data may be lost with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub endangers_data: bool,
}

/// One export of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportStatus {
    /// ARN of the export.
    pub export_arn: String,
    /// DynamoDB's word for its state: `IN_PROGRESS`, `COMPLETED` or `FAILED`.
    pub state: String,
    /// `Full`, or `Incremental`: what changed from `exportFrom` to `exportTime`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub export_type: Option<ExportType>,
    /// Time of the schedule it was started for; absent where a person started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Time>,
    /// When DynamoDB began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Beginning of the period of an incremental export, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_from: Option<String>,
    /// Moment of the table the export shows, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_time: Option<String>,
    /// Bytes written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_bytes: Option<i64>,
    /// Items written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_count: Option<i64>,
    /// Key of the export's manifest in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// How far the scheduled exports are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportScheduleStatus {
    /// `spec.export.schedule` this speaks of.
    pub schedule: String,
    /// When this schedule was first seen. No time of it before then is made up for.
    pub since: Time,
    /// Last time of the schedule an export was started for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_until: Option<Time>,
    /// Next time of the schedule; one that has passed waits until the system can export. Absent while none is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_export_at: Option<Time>,
    /// Moment of the table up to which completed exports show it; the next incremental one begins here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered_until: Option<Time>,
    /// Moment of the table the last completed full export shows, on which the incremental ones after it build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_full_at: Option<Time>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde asks for")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn unobserved() -> i64 {
    -1
}
