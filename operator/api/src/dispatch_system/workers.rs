//! `spec.workers`: the runtime as Deployments. Without a cluster only the roles matter.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The worker pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkersSpec {
    /// Container image of the runtime. Default: the image the operator was released with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Size of each role's Deployment.
    #[serde(default)]
    pub roles: RolesSpec,
    /// CPU and memory of a worker.
    #[serde(default)]
    pub resources: ResourceList,
    /// Annotations of the workers' ServiceAccount, for example `eks.amazonaws.com/role-arn`.
    #[serde(default)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleScaling {
    /// Fixed number of replicas, 0 to 100. Not together with `autoscaling`. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Replicas by CPU use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingSpec>,
}

/// Bounds of autoscaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AutoscalingSpec {
    /// Fewest replicas, at least 1.
    pub min_replicas: u32,
    /// Most replicas, at least `minReplicas`, at most 100.
    pub max_replicas: u32,
    /// CPU use aimed at, in per cent of the request, 10 to 95. Default 70.
    #[serde(default = "seventy")]
    pub target_cpu_percent: u8,
}

/// Kubernetes resource quantities of one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceList {
    /// CPU request. Default `100m`.
    #[serde(default = "cpu")]
    pub cpu_request: String,
    /// Memory request. Default `64Mi`.
    #[serde(default = "memory_request")]
    pub memory_request: String,
    /// Memory limit. Default `256Mi`. There is no CPU limit: throttling would lengthen offers' latency for nothing.
    #[serde(default = "memory_limit")]
    pub memory_limit: String,
}

impl Default for ResourceList {
    fn default() -> Self {
        Self { cpu_request: cpu(), memory_request: memory_request(), memory_limit: memory_limit() }
    }
}

/// Where workers may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchedulingSpec {
    /// Labels a node must have.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// PriorityClass of the Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Spread replicas over zones. Default `true`.
    #[serde(default = "yes")]
    pub spread_over_zones: bool,
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
