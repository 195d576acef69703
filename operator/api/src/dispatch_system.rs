//! The `DispatchSystem` custom resource: everything a platform engineer says about one city's dispatch.
//!
//! Each group of the spec is a module of its own. Field docs give the unit, the default and the bounds; they become
//! the `description`s of the generated schema, so `kubectl explain dsys.spec` reads the same text.

mod aws;
mod cache;
mod dispatch;
mod export;
mod gateway;
mod notifications;
mod queues;
mod status;
mod table;
mod workers;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use aws::AwsSpec;
pub use cache::{CacheSpec, ExternalCacheSpec};
pub use dispatch::{CoolDownsSpec, DispatchSpec, FareSpec, NightSurchargeSpec};
pub use export::{AnalyticsSpec, ExportFormat, ExportSpec, ExportType};
pub use gateway::{ApiSpec, GatewaySpec, JwtSpec, ThrottleSpec, UpstreamSpec, VpcLinkSpec};
pub use notifications::{FcmSpec, NotificationsSpec, SecretKeyRef};
pub use queues::{QueueSpec, QueuesSpec};
pub use status::{DispatchSystemStatus, ExportStatus, LastPlan, OutputsStatus};
pub use table::{Billing, BillingMode, CapacitySpec, TableSpec};
pub use workers::{AutoscalingSpec, ResourceList, RoleScaling, RolesSpec, SchedulingSpec, WorkersSpec};

/// API group of every resource of this project.
pub const GROUP: &str = "dispatch.coactus.io";
/// Version of the resource served today.
pub const VERSION: &str = "v1alpha1";

/// One city's ride-dispatch system: its AWS environment, its dispatch rules and its worker pool.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DispatchSystemSpec {
    /// Name of the city, for example `seoul`. Part of every Redis key. Lower-case letters, digits and dashes; 1 to 32
    /// characters; immutable.
    pub city: String,
    /// AWS region of the whole environment, for example `ap-northeast-2`. Immutable.
    pub region: String,
    /// IANA time zone of the city, for example `Asia/Seoul`: the offset of every stored timestamp, the night surcharge
    /// and the export schedule follow it. Immutable, because stored keys sort by local time.
    pub timezone: String,
    /// ISO 4217 code of all money amounts. Amounts are whole units (the seed: won as integers). Default `KRW`. Immutable.
    #[serde(default = "default_currency")]
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
    pub drift_interval_seconds: u32,
    /// What becomes of the data when this object is deleted. Default `Retain`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
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
