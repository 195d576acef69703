//! The `DispatchSystem` custom resource: everything a platform engineer says about one city's dispatch.
//!
//! Each group of the spec is a module of its own. Field docs give the unit, the default and the bounds; they become
//! the `description`s of the generated schema, so `kubectl explain dsys.spec` reads the same text.

mod aws;
mod cache;
mod connection;
mod dispatch;
mod eta;
mod export;
mod gateway;
mod notifications;
mod queues;
mod status;
mod table;
mod workers;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use aws::AwsSpec;
pub use cache::{CacheSpec, ExternalCacheSpec};
pub use connection::ConnectionSpec;
pub use dispatch::{CoolDownsSpec, DispatchSpec, FareSpec, MatchingMode, MatchingSpec, NightSurchargeSpec};
pub use eta::{EtaProvider, EtaSpec};
pub use export::{AnalyticsSpec, ExportFormat, ExportSpec, ExportType};
pub use gateway::{
    ApiSpec, AuthSpec, ClaimsSpec, GatewaySpec, JwtSpec, LimitsSpec, RateSpec, ThrottleSpec, UpstreamSpec, VpcLinkSpec,
};
pub use notifications::{FcmSpec, NotificationsSpec, SecretKeyRef};
pub use queues::{QueueSpec, QueuesSpec};
pub use status::{
    AttemptStatus, DispatchSystemStatus, ExportScheduleStatus, ExportStatus, IdentityStatus, LastPlan, OutputsStatus,
    PlannedChange,
};
pub use table::{Billing, BillingMode, CapacitySpec, TableSpec};
pub use workers::{AutoscalingSpec, ResourceList, RoleScaling, RolesSpec, SchedulingSpec, WorkersSpec};

/// API group of every resource of this project.
pub const GROUP: &str = "dispatch.coactus.io";
/// Version of the resource served today.
pub const VERSION: &str = "v1alpha1";

/// One city's ride-dispatch system: its AWS environment, its dispatch rules and its worker pool.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "dispatch.coactus.io",
    version = "v1alpha1",
    kind = "DispatchSystem",
    plural = "dispatchsystems",
    singular = "dispatchsystem",
    shortname = "dsys",
    category = "coactus",
    namespaced,
    status = "DispatchSystemStatus",
    derive = "PartialEq",
    doc = "One city's ride-dispatch system: its AWS environment, its dispatch rules and its worker pool.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the whole system serves and matches its spec."
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready or not."
    ),
    printcolumn(
        name = "Stack",
        type_ = "string",
        json_path = ".status.stackStatus",
        description = "CloudFormation's word for the stack's state."
    ),
    printcolumn(
        name = "Drift",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Drifted\")].status",
        description = "Whether a resource was changed behind the operator's back."
    ),
    printcolumn(
        name = "City",
        type_ = "string",
        json_path = ".spec.city",
        description = "City the system serves."
    ),
    printcolumn(
        name = "Region",
        type_ = "string",
        json_path = ".spec.region",
        description = "AWS region of the system."
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.operatorVersion",
        description = "Version of the operator that last reconciled it."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Age of the object."
    ),
    printcolumn(
        name = "Stack ARN",
        type_ = "string",
        json_path = ".status.stackArn",
        description = "ARN of the CloudFormation stack.",
        priority = "1"
    ),
    printcolumn(
        name = "Last Plan",
        type_ = "string",
        json_path = ".status.lastPlan.id",
        description = "Identity of the last plan; an approval names it.",
        priority = "1"
    ),
    validation = Rule::new(
        "size(self.metadata.name) <= (has(self.spec.cache.external) ? 33 : 30) && !self.metadata.name.contains('--') \
         && !self.metadata.name.contains('.')"
    )
    .message(
        "the name becomes part of AWS names: at most 30 characters (33 with an external cache), no dots, no two \
         dashes side by side"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.queues.offers.retentionSeconds > self.dispatch.offerTimeoutSeconds")
        .message(
            "queues.offers.retentionSeconds must exceed dispatch.offerTimeoutSeconds: a timer must outlive its delay"
        ),
    validation = Rule::new(
        "self.table.pointInTimeRecovery || !(has(self.export.schedule) || (has(self.export.analytics) && \
         self.export.analytics.enabled))"
    )
    .message("export.schedule and export.analytics need table.pointInTimeRecovery: true"),
    validation = Rule::new("!has(self.aws.kmsKeyArn) || self.aws.kmsKeyArn.contains(':kms:' + self.region + ':')")
        .message("aws.kmsKeyArn must be a key of the city's own region"),
    validation = Rule::new(
        "!has(self.api.gateway.upstream) || !has(self.api.gateway.upstream.vpcLink) || \
         self.api.gateway.upstream.vpcLink.listenerArn.contains(':' + self.region + ':')"
    )
    .message("api.gateway.upstream.vpcLink.listenerArn must be a listener of the city's own region"),
)]
pub struct DispatchSystemSpec {
    /// Name of the city, for example `seoul`. Part of every Redis key. Lower-case letters, digits and inner
    /// dashes; 1 to 32 characters. Immutable.
    #[schemars(length(max = 32), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("city is immutable"))]
    pub city: String,
    /// AWS region of the whole environment, for example `ap-northeast-2`. Immutable.
    #[schemars(length(max = 32), regex(pattern = r"^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("region is immutable"))]
    pub region: String,
    /// IANA time zone of the city, for example `Asia/Seoul`: the offset of every stored timestamp, the night surcharge
    /// and the export schedule follow it. Immutable, because stored keys sort by local time.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("timezone is immutable: stored keys sort by local time")
    )]
    pub timezone: String,
    /// ISO 4217 code of all money amounts, three upper-case letters. Amounts are whole units (the seed: won as
    /// integers). Default `KRW`. Immutable.
    #[serde(default = "default_currency")]
    #[schemars(length(max = 3), regex(pattern = r"^[A-Z]{3}$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("currency is immutable"))]
    pub currency: String,
    /// Account, identity and tags.
    #[serde(default)]
    pub aws: AwsSpec,
    /// The DynamoDB single table.
    #[serde(default)]
    pub table: TableSpec,
    /// The three SQS queues and their dead-letter queues.
    #[serde(default)]
    pub queues: QueuesSpec,
    /// Push notifications.
    #[serde(default)]
    pub notifications: NotificationsSpec,
    /// The Redis cache of driver positions.
    #[serde(default)]
    pub cache: CacheSpec,
    /// Exports of the table to S3.
    #[serde(default)]
    pub export: ExportSpec,
    /// The public HTTP entrance.
    #[serde(default)]
    pub api: ApiSpec,
    /// The dispatch algorithm and the fare table.
    #[serde(default)]
    pub dispatch: DispatchSpec,
    /// The worker pool.
    #[serde(default)]
    pub workers: WorkersSpec,
    /// Where names and addresses are published for other programs of the city.
    #[serde(default)]
    pub connection: ConnectionSpec,
    /// `Full` (default): the operator creates, changes and deletes. `Observe`: it only reads and reports.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// Which changes wait for a person. Default `OnReplacement`.
    #[serde(default)]
    pub approval_policy: ApprovalPolicy,
    /// `Correct` (default) reverts changes made behind the operator's back; `ReportOnly` shows them in the status.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
    /// Seconds between two looks for drift; 0 switches the look off. Default 600, else 60 to 86400.
    #[serde(default = "default_drift_interval")]
    #[schemars(range(min = 0, max = 86400))]
    #[x_kube(validation = Rule::new("self == 0 || self >= 60").message("must be 0 or 60 to 86400"))]
    pub drift_interval_seconds: u32,
    /// What becomes of the data when this object is deleted. Default: what the annotation `dispatch.coactus.io/deletion-policy` of the
    /// namespace says, else the operator's `--deletion-policy`, else `Retain`. `status.deletionPolicy` shows what counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// `true` stops the workers and all changes, and keeps the infrastructure. Default `false`.
    #[serde(default)]
    pub suspend: bool,
}

/// How far the operator's hands reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ManagementPolicy {
    /// Create, update and delete.
    #[default]
    Full,
    /// Read and report; no mutating call is ever made.
    Observe,
}

/// Which planned changes wait for an approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApprovalPolicy {
    /// None: every plan is executed.
    Auto,
    /// Plans that replace or remove a resource that holds data.
    #[default]
    OnReplacement,
    /// Every plan.
    Always,
}

/// What happens to a change somebody made outside the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftPolicy {
    /// It is reverted and recorded.
    #[default]
    Correct,
    /// It is recorded.
    ReportOnly,
}

/// What becomes of table and bucket when the system is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Table and export bucket stay; everything else goes.
    #[default]
    Retain,
    /// Everything goes, data included.
    Delete,
}

fn default_currency() -> String {
    "KRW".to_owned()
}

fn default_drift_interval() -> u32 {
    600
}
