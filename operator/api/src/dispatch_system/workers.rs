//! `spec.workers`: the worker pool as Deployments. Without a cluster the sizes and Pod settings have no effect.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The worker pool: one Deployment for each role, in the namespace of the system. Changes to image, resources and
/// scheduling start a rolling update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkersSpec {
    /// Container image of the runtime, 1 to 512 characters. An administrator can limit it, with the annotation
    /// `dispatch.coactus.io/allowed-images` of the namespace or an option of the operator. Default: the image of the
    /// operator's release. A change starts a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Number of replicas of each role.
    #[serde(default)]
    pub roles: RolesSpec,
    /// CPU and memory of each worker.
    #[serde(default)]
    pub resources: ResourceList,
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

/// Constraints on the nodes of the workers. A change starts a rolling update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchedulingSpec {
    /// Labels that a node must have, at most 32. Default: none.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Name of the `PriorityClass` of the Pods. An administrator can limit it, with the annotation
    /// `dispatch.coactus.io/allowed-priority-classes` of the namespace or an option of the operator. Default: the
    /// default of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub priority_class_name: Option<String>,
    /// Whether the replicas of a role are spread over availability zones where possible. Default `true`. They are
    /// always spread over nodes where possible.
    #[serde(default = "yes")]
    pub spread_over_zones: bool,
    /// Seconds for which a worker stays on a node that Kubernetes has lost, before another node gets it, 0 to 3600.
    /// Default 60. Without it, Kubernetes waits 300 seconds.
    #[serde(default = "lost_node")]
    #[schemars(range(min = 0, max = 3600))]
    pub lost_node_seconds: u32,
}

impl Default for SchedulingSpec {
    fn default() -> Self {
        Self {
            node_selector: BTreeMap::new(),
            priority_class_name: None,
            spread_over_zones: yes(),
            lost_node_seconds: lost_node(),
        }
    }
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

fn yes() -> bool {
    true
}

fn lost_node() -> u32 {
    60
}
