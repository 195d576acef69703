//! `spec.workers.scheduling`: on which nodes the workers run.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OBJECT_NAME;

/// Pattern of the key of a label or a taint: a name, or a domain and a name.
const QUALIFIED_NAME: &str = r"^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";
/// Pattern of the value of a label or a taint.
const LABEL_VALUE: &str = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";

/// Constraints on the nodes of the workers. A change starts a rolling update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchedulingSpec {
    /// Labels that a node must have, at most 32. Default: none.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Conditions on the labels of nodes, beyond `nodeSelector`.
    #[serde(default)]
    pub node_affinity: NodeAffinitySpec,
    /// Name of the `PriorityClass` of the Pods. An administrator can limit it, with the annotation
    /// `dispatch.coactus.io/allowed-priority-classes` of the namespace or an option of the operator. Default: the
    /// default of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = OBJECT_NAME)
    )]
    pub priority_class_name: Option<String>,
    /// Taints of nodes that the workers tolerate, at most 16. Default: none.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<TolerationSpec>,
    /// Name of the `RuntimeClass` of the Pods. Default: that of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = OBJECT_NAME)
    )]
    pub runtime_class_name: Option<String>,
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
            node_affinity: NodeAffinitySpec::default(),
            priority_class_name: None,
            tolerations: Vec::new(),
            runtime_class_name: None,
            spread_over_zones: yes(),
            lost_node_seconds: lost_node(),
        }
    }
}

/// Conditions on the labels of nodes, as in the node affinity of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeAffinitySpec {
    /// Conditions that a node must meet, all of them, at most 16. Default: none.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub required: Vec<NodeRequirement>,
    /// Conditions that make a node preferred, at most 16. Default: none.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub preferred: Vec<NodePreference>,
}

/// A condition on one label of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.operator in ['In', 'NotIn'] ? self.values.size() > 0 : \
        self.operator in ['Gt', 'Lt'] ? self.values.size() == 1 && self.values[0].matches('^-?[0-9]{1,18}$') : \
        self.values.size() == 0")
        .message("In and NotIn require values, Gt and Lt require one integer, Exists and DoesNotExist take no values")
        .field_path(".values")
        .reason(Reason::FieldValueInvalid),
)]
pub struct NodeRequirement {
    /// Key of the label.
    #[schemars(length(max = 317), regex(pattern = QUALIFIED_NAME))]
    pub key: String,
    /// How the value of the label is compared with `values`.
    pub operator: NodeOperator,
    /// Values of the label: at least one for `In` and `NotIn`, one integer for `Gt` and `Lt`, none for the others. At
    /// most 32.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(max = 63), regex(pattern = LABEL_VALUE)))]
    pub values: Vec<String>,
}

/// A preferred node: one that meets all of `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePreference {
    /// Weight against other preferences, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub weight: u8,
    /// Conditions on the labels of the node, 1 to 16.
    #[schemars(length(min = 1, max = 16))]
    pub match_expressions: Vec<NodeRequirement>,
}

/// How the label of a node is compared with values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeOperator {
    /// The label has one of the values.
    In,
    /// The label has none of the values, or the node does not have the label.
    NotIn,
    /// The node has the label.
    Exists,
    /// The node does not have the label.
    DoesNotExist,
    /// The label is an integer greater than the value.
    Gt,
    /// The label is an integer less than the value.
    Lt,
}

/// A taint that the workers tolerate: that with this key and value, or, without a value, every one with this key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TolerationSpec {
    /// Key of the taint.
    #[schemars(length(max = 317), regex(pattern = QUALIFIED_NAME))]
    pub key: String,
    /// Value of the taint. Default: any value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = LABEL_VALUE))]
    pub value: Option<String>,
    /// Effect of the taint. Default: all effects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// Effect of a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// New Pods are not scheduled on the node.
    NoSchedule,
    /// New Pods are scheduled on other nodes if possible.
    PreferNoSchedule,
    /// Pods that run on the node are removed.
    NoExecute,
}

fn yes() -> bool {
    true
}

fn lost_node() -> u32 {
    60
}
