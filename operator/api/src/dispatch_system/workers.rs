//! `spec.workers`: the worker pool as Deployments. Without a cluster the sizes and Pod settings have no effect.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::scheduling::SchedulingSpec;
use super::{DATA_KEY, OBJECT_NAME};

/// The worker pool, as Deployments in the namespace of the system. Changes to image, resources and scheduling start a
/// rolling update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.env.all(name, name in ['AWS_USE_DUALSTACK_ENDPOINT', 'AWS_USE_FIPS_ENDPOINT', \
        'RUST_BACKTRACE', 'RUST_LOG'])")
        .message("only AWS_USE_DUALSTACK_ENDPOINT, AWS_USE_FIPS_ENDPOINT, RUST_BACKTRACE and RUST_LOG can be set")
        .field_path(".env")
        .reason(Reason::FieldValueForbidden),
)]
pub struct WorkersSpec {
    /// Container image of the runtime, 1 to 512 characters. An administrator can limit it, with the annotation
    /// `dispatch.coactus.io/allowed-images` of the namespace or an option of the operator. Default: the image of the
    /// operator's release. A change starts a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// How the roles are divided among Deployments. Default `Split`. A change starts the new Deployments, moves the
    /// Services when they are complete, and then stops the old ones.
    #[serde(default)]
    pub layout: WorkersLayout,
    /// Number of replicas of each role, in the layout `Split`.
    #[serde(default)]
    pub roles: RolesSpec,
    /// Number of replicas of the workers that run all roles, in the layout `Combined`.
    #[serde(default)]
    pub combined: RoleScaling,
    /// CPU and memory of each worker.
    #[serde(default)]
    pub resources: ResourceList,
    /// Environment variables of each worker: `RUST_LOG`, `RUST_BACKTRACE`, `AWS_USE_DUALSTACK_ENDPOINT` and
    /// `AWS_USE_FIPS_ENDPOINT`. Values have at most 256 characters. A change starts a rolling update.
    #[serde(default)]
    #[schemars(schema_with = "env")]
    pub env: BTreeMap<String, String>,
    /// Secrets and `ConfigMap`s of the namespace with environment variables, at most 8: those of `env`, and the AWS
    /// credentials `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`. Other keys are ignored. The
    /// last source of a variable counts; `env` comes first. A changed source starts a rolling update. On AWS, prefer an
    /// IAM role for the service account of the workers.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub env_from: Vec<EnvFromSource>,
    /// `ConfigMap` with certificates of authorities (PEM) that the workers trust besides the public ones, for a private
    /// token issuer, router or Redis. A changed `ConfigMap` starts a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<ConfigMapKeyRef>,
    /// Secrets of the namespace with the credentials of the image's registry, at most 8. Default: none. A change starts
    /// a rolling update.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<ObjectRef>,
    /// Annotations of the workers' service account, at most 32, for example `eks.amazonaws.com/role-arn`. An
    /// administrator can limit them, with the annotation `dispatch.coactus.io/allowed-service-account-annotations` of
    /// the namespace or an option of the operator. Default: none. A change does not restart the workers; Pods that
    /// exist keep the identity with which they were created.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 32))]
    pub service_account_annotations: BTreeMap<String, String>,
    /// Constraints on the nodes of the workers.
    #[serde(default)]
    pub scheduling: SchedulingSpec,
}

/// Names of environment variables that `spec.workers.env` may set. None of them decides where a worker sends anything.
pub const ENV_NAMES: [&str; 4] = ["AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT", "RUST_BACKTRACE", "RUST_LOG"];
/// Names that only a source of `spec.workers.envFrom` may set.
pub const ENV_FROM_NAMES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
/// Path of the field with the sources of environment variables.
pub const ENV_FROM_FIELD: &str = "spec.workers.envFrom";
/// Path of the field with the certificate authorities.
pub const CA_BUNDLE_FIELD: &str = "spec.workers.caBundle";

/// A source of environment variables: one Secret or one `ConfigMap`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.secretRef) != has(self.configMapRef)")
        .message("exactly one of secretRef and configMapRef is required")
        .field_path(".secretRef")
        .reason(Reason::FieldValueInvalid),
)]
pub struct EnvFromSource {
    /// A Secret in the namespace of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectRef>,
    /// A `ConfigMap` in the namespace of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ObjectRef>,
}

/// Name of an object in the namespace of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectRef {
    /// Name of the object.
    #[schemars(
        length(max = 253),
        regex(pattern = OBJECT_NAME)
    )]
    pub name: String,
}

/// A key of a `ConfigMap` in the namespace of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapKeyRef {
    /// Name of the `ConfigMap`.
    #[schemars(
        length(max = 253),
        regex(pattern = OBJECT_NAME)
    )]
    pub name: String,
    /// Key within it.
    #[schemars(length(max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

/// How the roles are divided among Deployments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkersLayout {
    /// One Deployment for each role: each is scaled and rolled out separately. For large cities.
    #[default]
    Split,
    /// One Deployment whose workers run all roles. For small cities: two Pods instead of eight.
    Combined,
}

/// Number of replicas of each role. Updated in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolesSpec {
    /// `save-dispatch`: stores the requests of users.
    #[serde(default)]
    pub save_dispatch: RoleScaling,
    /// `dispatch-algorithm`: reads the stream of the table, ranks drivers and makes offers. The shards of the stream
    /// are divided among its replicas, so prefer a fixed number.
    #[serde(default)]
    pub dispatch_algorithm: RoleScaling,
    /// `driver-response`: records the answers of drivers, and delivers notifications to both apps.
    #[serde(default)]
    pub driver_response: RoleScaling,
    /// `status-update`: records availability, positions and trip events.
    #[serde(default)]
    pub status_update: RoleScaling,
}

/// Number of replicas of one role: fixed, or scaled automatically.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.replicas) || !has(self.autoscaling)")
        .message("only one of replicas and autoscaling is allowed")
        .field_path(".replicas")
        .reason(Reason::FieldValueForbidden),
)]
pub struct RoleScaling {
    /// Fixed number of replicas, 0 to 100. Default 2. Not allowed together with `autoscaling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: Option<u32>,
    /// Scaling by CPU utilization with a `HorizontalPodAutoscaler`. Default: none. It starts with the replicas that run
    /// at that moment, within its bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingSpec>,
}

/// Bounds and target of automatic scaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.minReplicas <= self.maxReplicas")
        .message("maxReplicas must be at least minReplicas")
        .field_path(".maxReplicas")
        .reason(Reason::FieldValueInvalid),
)]
pub struct AutoscalingSpec {
    /// Minimum number of replicas, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: u32,
    /// Maximum number of replicas, `minReplicas` to 100.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: u32,
    /// Target CPU utilization, in percent of `resources.cpuRequest`, 10 to 95. Default 70.
    #[serde(default = "seventy")]
    #[schemars(range(min = 10, max = 95))]
    pub target_cpu_percent: u8,
}

/// CPU and memory of each worker, as Kubernetes quantities. A change starts a rolling update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceList {
    /// CPU request, a quantity above zero. Default `100m`. There is no CPU limit, because throttling would delay
    /// offers.
    #[serde(default = "cpu")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+([.][0-9]+)?(m|k|M|G|Ki|Mi|Gi)?$"))]
    pub cpu_request: String,
    /// Memory request, a quantity above zero. Default `64Mi`.
    #[serde(default = "memory_request")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+([.][0-9]+)?(m|k|M|G|Ki|Mi|Gi)?$"))]
    pub memory_request: String,
    /// Memory limit, a quantity of at least `memoryRequest`. Default `256Mi`.
    #[serde(default = "memory_limit")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+([.][0-9]+)?(m|k|M|G|Ki|Mi|Gi)?$"))]
    pub memory_limit: String,
}

impl Default for ResourceList {
    fn default() -> Self {
        Self { cpu_request: cpu(), memory_request: memory_request(), memory_limit: memory_limit() }
    }
}

fn env(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": { "type": "string", "maxLength": 256, "pattern": "^[^\\x00]*$" },
    })
}

fn seventy() -> u8 {
    70
}

fn cpu() -> String {
    "100m".to_owned()
}

fn memory_request() -> String {
    "64Mi".to_owned()
}

fn memory_limit() -> String {
    "256Mi".to_owned()
}
