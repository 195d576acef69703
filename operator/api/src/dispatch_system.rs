//! The `DispatchSystem` custom resource: the desired state of one city's dispatch environment.
//!
//! Each group of the spec has its own module. The doc comments become the `description`s of the generated schema, which
//! `kubectl explain dsys.spec` prints. Each field therefore states its unit, bounds and default, and what a change
//! does: whether it is immutable, updated in place, a replacement, or a restart of the workers.

mod aws;
mod cache;
mod connection;
mod dispatch;
mod eta;
mod export;
mod gateway;
mod notifications;
mod presence;
mod privacy;
mod queues;
mod rides;
mod routing;
mod scheduling;
mod service_area;
mod status;
mod table;
mod workers;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use aws::AwsSpec;
pub use cache::{CacheSpec, ExternalCacheSpec};
pub use connection::ConnectionSpec;
pub use dispatch::{
    CancellationsSpec, CoolDownsSpec, DispatchSpec, FareSpec, MatchingMode, MatchingSpec, NightSurchargeSpec,
};
pub use eta::{EtaProvider, EtaSpec};
pub use export::{AnalyticsSpec, ExportFormat, ExportSpec, ExportType, QUERY_RESULTS_PREFIX};
pub use gateway::{
    ApiSpec, AuthSpec, ClaimsSpec, GatewaySpec, JwtSpec, LimitsSpec, RateSpec, ThrottleSpec, UpstreamSpec, VpcLinkSpec,
};
pub use notifications::{FcmSpec, NotificationsSpec, SecretKeyRef};
pub use presence::PresenceSpec;
pub use privacy::{OfferAddresses, PrivacySpec, RetentionSpec};
pub use queues::{QueueSpec, QueuesSpec};
pub use rides::RidesSpec;
pub use routing::{GatewayRef, HttpRouteSpec, IngressSpec};
pub use scheduling::{
    NodeAffinitySpec, NodeOperator, NodePreference, NodeRequirement, SchedulingSpec, TaintEffect, TolerationSpec,
};
pub use service_area::{PolygonSpec, ServiceAreaSpec};
pub use status::{
    AccessStatus, AttemptStatus, DispatchSystemStatus, ExportScheduleStatus, ExportStatus, IdentityStatus, LastPlan,
    OutputsStatus, PlannedChange, PlannedCost, PlannedValue,
};
pub use table::{Billing, BillingMode, CapacitySpec, TableSpec};
pub use workers::{
    AutoscalingSpec, CA_BUNDLE_FIELD, ConfigMapKeyRef, ENV_FROM_FIELD, ENV_FROM_NAMES, ENV_NAMES, EnvFromSource,
    ObjectRef, ResourceList, RoleScaling, RolesSpec, WorkersLayout, WorkersSpec,
};

/// Why an Ingress and an `HTTPRoute` are refused in the layout `Split`.
pub(crate) const COMBINED_MESSAGE: &str = "api.ingress and api.httpRoute require workers.layout Combined: with Split, \
    the Service of a request depends on its method and on the end of its path, which an Ingress cannot express; \
    `dispatch-runtime routes` prints rules for a proxy";
/// Pattern of the name of an object in the cluster: a DNS subdomain.
const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Pattern of a DNS label.
const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Pattern of a key in the data of a Secret or `ConfigMap`.
const DATA_KEY: &str = r"^[-._A-Za-z0-9]+$";

/// Rule of an address: its host is neither the machine itself nor a metadata service. The operator refuses more
/// spellings than this one does.
const HOST_RULE: &str =
    r"!self.matches(r'^[a-z]+://(localhost([:/]|$)|127[.]|169[.]254[.]|\[::1\]|\[[fF][eE][89aAbB])')";
const HOST_MESSAGE: &str = "the host must not be localhost, a loopback or a link-local address";

/// API group of the resource.
pub const GROUP: &str = "dispatch.coactus.io";
/// Served version of the resource.
pub const VERSION: &str = "v1alpha1";

/// Desired state of one city's ride-dispatch system. Changes are applied in place unless a field's description says
/// otherwise.
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
        description = "Whether the system serves and matches its spec."
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why the system is or is not ready."
    ),
    printcolumn(
        name = "Stack",
        type_ = "string",
        json_path = ".status.stackStatus",
        description = "Stack status as CloudFormation reports it."
    ),
    printcolumn(
        name = "Drift",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Drifted\")].status",
        description = "Whether a resource was changed outside the operator."
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
        description = "Version of the operator that last reconciled the object."
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
        description = "Id of the last plan, which an approval names.",
        priority = "1"
    ),
    validation = Rule::new(
        "size(self.metadata.name) <= (has(self.spec.cache.external) ? 33 : 30) && !self.metadata.name.contains('--') \
         && !self.metadata.name.contains('.')"
    )
    .message(
        "the name becomes part of AWS resource names: at most 30 characters (33 with an external cache), without dots \
         or consecutive dashes"
    )
    // Without a field path: the API server knows no path within the metadata.
    .reason(Reason::FieldValueInvalid),
    // What stored data depends on. A rule sees the status only at the root. Until there is a stack, a wrong value can
    // be corrected. A value that an earlier definition let in can be changed back.
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.identity) || self.spec.city == oldSelf.spec.city || \
         self.spec.city == oldSelf.status.identity.city"
    )
    .message("city is immutable once the stack exists")
    .field_path(".spec.city")
    .reason(Reason::FieldValueForbidden),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.identity) || self.spec.region == oldSelf.spec.region || \
         self.spec.region == oldSelf.status.identity.region"
    )
    .message("region is immutable once the stack exists")
    .field_path(".spec.region")
    .reason(Reason::FieldValueForbidden),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.identity) || self.spec.timezone == oldSelf.spec.timezone || \
         self.spec.timezone == oldSelf.status.identity.timezone"
    )
    .message("timezone is immutable once the stack exists: stored keys contain local time")
    .field_path(".spec.timezone")
    .reason(Reason::FieldValueForbidden),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.identity) || self.spec.currency == oldSelf.spec.currency || \
         self.spec.currency == oldSelf.status.identity.currency"
    )
    .message("currency is immutable once the stack exists")
    .field_path(".spec.currency")
    .reason(Reason::FieldValueForbidden),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.identity) || (has(self.spec.table.name) == \
         has(oldSelf.spec.table.name) && (!has(self.spec.table.name) || self.spec.table.name == \
         oldSelf.spec.table.name)) || (has(self.spec.table.name) && self.spec.table.name == \
         oldSelf.status.identity.tableName)"
    )
    .message("name is immutable once the stack exists: another name would be another, empty table")
    .field_path(".spec.table.name")
    .reason(Reason::FieldValueForbidden),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.identity) || !has(oldSelf.spec.aws.accountId) || \
         (has(self.spec.aws.accountId) && (self.spec.aws.accountId == oldSelf.spec.aws.accountId || \
         (has(oldSelf.status.identity.accountId) && self.spec.aws.accountId == oldSelf.status.identity.accountId)))"
    )
    .message("accountId is immutable once it is set and the stack exists")
    .field_path(".spec.aws.accountId")
    .reason(Reason::FieldValueForbidden)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.queues.offers.retentionSeconds > self.dispatch.offerTimeoutSeconds")
        .message(
            "queues.offers.retentionSeconds must be greater than dispatch.offerTimeoutSeconds: SQS would delete offer \
             timers before it delivers them"
        )
        .field_path(".queues.offers.retentionSeconds")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new(
        "self.table.pointInTimeRecovery || !(has(self.export.schedule) || (has(self.export.analytics) && \
         self.export.analytics.enabled))"
    )
    .message("export.schedule and export.analytics require table.pointInTimeRecovery: true")
    .field_path(".table.pointInTimeRecovery")
    .reason(Reason::FieldValueInvalid),
    validation = Rule::new("!has(self.aws.kmsKeyArn) || self.aws.kmsKeyArn.contains(':kms:' + self.region + ':')")
        .message("aws.kmsKeyArn must be a key in spec.region")
        .field_path(".aws.kmsKeyArn")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new(
        "!has(self.api.gateway.upstream) || !has(self.api.gateway.upstream.vpcLink) || \
         (self.api.gateway.upstream.vpcLink.listenerArn.contains(':' + self.region + ':') && \
         (!has(self.aws.accountId) || \
         self.api.gateway.upstream.vpcLink.listenerArn.contains(':' + self.aws.accountId + ':')))"
    )
    .message("api.gateway.upstream.vpcLink.listenerArn must be a listener in spec.region and in spec.aws.accountId")
    .field_path(".api.gateway.upstream.vpcLink.listenerArn")
    .reason(Reason::FieldValueInvalid),
    validation = Rule::new("!(has(self.api.ingress) || has(self.api.httpRoute)) || self.workers.layout == 'Combined'")
        .message(COMBINED_MESSAGE)
        .field_path(".workers.layout")
        .reason(Reason::FieldValueInvalid),
)]
pub struct DispatchSystemSpec {
    /// Name of the city, for example `seoul`: 1 to 32 lower-case letters, digits and inner dashes. It is part of every
    /// Redis key. Immutable once the stack exists.
    #[schemars(length(max = 32), regex(pattern = LABEL))]
    pub city: String,
    /// AWS region of all resources, for example `ap-northeast-2`. An administrator can limit it, with the annotation
    /// `dispatch.coactus.io/allowed-regions` of the namespace or an option of the operator. Immutable once the stack
    /// exists.
    #[schemars(length(max = 32), regex(pattern = r"^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$"))]
    pub region: String,
    /// IANA time zone of the city, for example `Asia/Seoul`. It determines the UTC offset of stored timestamps and the
    /// local time of night surcharges and of the export schedule. Immutable once the stack exists, because stored keys
    /// contain local time.
    #[schemars(length(min = 1, max = 64))]
    pub timezone: String,
    /// ISO 4217 code of all amounts of money, three upper-case letters. Amounts are integers in whole units of the
    /// currency. Default `KRW`. Immutable once the stack exists.
    #[serde(default = "default_currency")]
    #[schemars(length(max = 3), regex(pattern = r"^[A-Z]{3}$"))]
    pub currency: String,
    /// AWS account, operator role, encryption key and tags.
    #[serde(default)]
    pub aws: AwsSpec,
    /// The DynamoDB table that stores users, drivers and dispatches.
    #[serde(default)]
    pub table: TableSpec,
    /// The three SQS queues. Each has a dead-letter queue, which keeps messages for 14 days.
    #[serde(default)]
    pub queues: QueuesSpec,
    /// Push notifications to the apps.
    #[serde(default)]
    pub notifications: NotificationsSpec,
    /// The Redis cache of driver positions: a managed ElastiCache replication group, or an external Redis.
    #[serde(default)]
    pub cache: CacheSpec,
    /// Exports of the table to S3.
    #[serde(default)]
    pub export: ExportSpec,
    /// The HTTP API: gateway, token issuer and rate limits.
    #[serde(default)]
    pub api: ApiSpec,
    /// The dispatch rules and the fare table. Changes reach running workers without a restart.
    #[serde(default)]
    pub dispatch: DispatchSpec,
    /// What drivers see of users, and how long data of rides is kept. Changes reach running workers without a restart.
    #[serde(default)]
    pub privacy: PrivacySpec,
    /// The worker pool: one Deployment for each role.
    #[serde(default)]
    pub workers: WorkersSpec,
    /// Objects in the cluster that publish resource names and addresses to other programs of the city.
    #[serde(default)]
    pub connection: ConnectionSpec,
    /// What the operator may do. `Full` (default): create, update and delete. `Observe`: read and report; the operator
    /// changes nothing in AWS or in the cluster, and deleting the object leaves AWS as it is. Kubernetes deletes the
    /// workers with the object, unless it is deleted with `--cascade=orphan`.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
    /// Which plans wait for an approval. `OnReplacement` (default): plans that replace or remove a resource with data
    /// (table, bucket or cache). `Always`: every plan, the first creation included. `Auto`: none. A plan is approved
    /// with the annotation `dispatch.coactus.io/approve: <status.lastPlan.id>`.
    #[serde(default)]
    pub approval_policy: ApprovalPolicy,
    /// What happens when a resource was changed outside the operator. `Correct` (default): the operator restores the
    /// specified value. `ReportOnly`: the condition `Drifted` lists the differences.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
    /// Time between two drift checks, in seconds: 60 to 86400, or 0 to disable them. Default 600.
    #[serde(default = "default_drift_interval")]
    #[schemars(range(min = 0, max = 86400))]
    #[x_kube(
        validation = Rule::new("self == 0 || self >= 60")
            .message("must be 0 or 60 to 86400")
            .reason(Reason::FieldValueInvalid)
    )]
    pub drift_interval_seconds: u32,
    /// Whether table and export bucket are deleted with this object. The default is the namespace's annotation
    /// `dispatch.coactus.io/deletion-policy`, else the operator's flag `--deletion-policy`, else `Retain`. The
    /// effective value is in `status.deletionPolicy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// `true` scales the workers to zero and stops all changes and exports; the AWS resources stay, and the system is
    /// not `Ready`. Deleting the object still works. Default `false`.
    #[serde(default)]
    pub suspend: bool,
}

/// What the operator may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ManagementPolicy {
    /// Create, update and delete.
    #[default]
    Full,
    /// Read and report; no mutating call is made.
    Observe,
}

/// Which plans wait for an approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApprovalPolicy {
    /// None: every plan is executed.
    Auto,
    /// Plans that replace or remove a resource with data.
    #[default]
    OnReplacement,
    /// Every plan.
    Always,
}

/// What happens when a resource was changed outside the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftPolicy {
    /// The change is reverted and reported.
    #[default]
    Correct,
    /// The change is reported.
    ReportOnly,
}

/// Whether table and export bucket are deleted with this object. `Retain`: they stay, and the next system of the same
/// namespace and name imports them. `Delete`: they are deleted with all data. Every other resource is deleted in both
/// cases. If the spec sets no value, the namespace's annotation `dispatch.coactus.io/deletion-policy` applies, else the
/// operator's flag `--deletion-policy`, else `Retain`; the effective value is in `status.deletionPolicy`. Updated in
/// place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Table and export bucket stay; all other resources are deleted.
    #[default]
    Retain,
    /// All resources and their data are deleted.
    Delete,
}

impl DispatchSystemSpec {
    /// Every Secret of which the operator reads a value, with the path of the field that names it. Of the sources of
    /// `workers.envFrom` it reads only which keys they have.
    pub fn secret_refs(&self) -> Vec<(&'static str, &SecretKeyRef)> {
        let fcm = self.notifications.fcm.as_ref().map(|fcm| (FCM_SECRET_FIELD, &fcm.service_account_secret_ref));
        let cache = self.cache.auth_secret_ref.as_ref().map(|reference| (CACHE_SECRET_FIELD, reference));
        fcm.into_iter().chain(cache).collect()
    }
}

/// Path of the field that names the service account key of FCM.
pub const FCM_SECRET_FIELD: &str = "spec.notifications.fcm.serviceAccountSecretRef";
/// Path of the field that names the AUTH token of the cache.
pub const CACHE_SECRET_FIELD: &str = "spec.cache.authSecretRef";

/// Namespace of an object; `default` if it has none, as in `kubectl` without a context.
pub fn namespace_of(system: &DispatchSystem) -> &str {
    system.metadata.namespace.as_deref().unwrap_or("default")
}

fn default_currency() -> String {
    "KRW".to_owned()
}

fn default_drift_interval() -> u32 {
    600
}
