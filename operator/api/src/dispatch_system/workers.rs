//! `spec.workers`: the runtime as Deployments. Without a cluster only the roles matter.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The worker pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkersSpec {
    /// Container image of the runtime, 1 to 512 characters. Default: the image the operator was released with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Size of each role's Deployment.
    #[serde(default)]
    pub roles: RolesSpec,
    /// CPU and memory of a worker.
    #[serde(default)]
    pub resources: ResourceList,
    /// Annotations of the workers' service account, at most 32, for example `eks.amazonaws.com/role-arn`.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 32))]
    pub service_account_annotations: BTreeMap<String, String>,
    /// Where workers may run.
    #[serde(default)]
    pub scheduling: SchedulingSpec,
}

/// The four roles: the seed's four functions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolesSpec {
    /// Save Dispatch Data: requests of users.
    #[serde(default)]
    pub save_dispatch: RoleScaling,
    /// Dispatch Algorithm: choice of drivers.
    #[serde(default)]
    pub dispatch_algorithm: RoleScaling,
    /// Driver Response Handler: accept and reject.
    #[serde(default)]
    pub driver_response: RoleScaling,
    /// Status Update: positions and trip events.
    #[serde(default)]
    pub status_update: RoleScaling,
}

/// Size of one role: a fixed number of replicas, or autoscaling.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.replicas) || !has(self.autoscaling)")
        .message("only one of replicas and autoscaling is allowed"),
)]
pub struct RoleScaling {
    /// Fixed number of replicas, 0 to 100. Not together with `autoscaling`. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: Option<u32>,
    /// Replicas by CPU use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingSpec>,
}

/// Bounds of autoscaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.minReplicas <= self.maxReplicas").message("maxReplicas must be at least minReplicas"),
)]
pub struct AutoscalingSpec {
    /// Fewest replicas, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: u32,
    /// Most replicas, `minReplicas` to 100.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: u32,
    /// CPU use aimed at, in per cent of the request, 10 to 95. Default 70.
    #[serde(default = "seventy")]
    #[schemars(range(min = 10, max = 95))]
    pub target_cpu_percent: u8,
}

/// Kubernetes resource quantities of one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceList {
    /// CPU request, a Kubernetes quantity above zero. Default `100m`.
    #[serde(default = "cpu")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+([.][0-9]+)?(m|k|M|G|Ki|Mi|Gi)?$"))]
    pub cpu_request: String,
    /// Memory request, a Kubernetes quantity above zero. Default `64Mi`.
    #[serde(default = "memory_request")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+([.][0-9]+)?(m|k|M|G|Ki|Mi|Gi)?$"))]
    pub memory_request: String,
    /// Memory limit, at least the request. Default `256Mi`. There is no CPU limit: throttling would lengthen offers'
    /// latency for nothing.
    #[serde(default = "memory_limit")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+([.][0-9]+)?(m|k|M|G|Ki|Mi|Gi)?$"))]
    pub memory_limit: String,
}

impl Default for ResourceList {
    fn default() -> Self {
        Self { cpu_request: cpu(), memory_request: memory_request(), memory_limit: memory_limit() }
    }
}

/// Where workers may run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchedulingSpec {
    /// Labels a node must have, at most 32.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Priority class of the Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub priority_class_name: Option<String>,
    /// Spread replicas over zones. Default `true`.
    #[serde(default = "yes")]
    pub spread_over_zones: bool,
}

impl Default for SchedulingSpec {
    fn default() -> Self {
        Self { node_selector: BTreeMap::new(), priority_class_name: None, spread_over_zones: yes() }
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
