//! Disruption budgets, autoscalers, and the hand-over of replicas to an autoscaler.
//!
//! The operator sets the replicas of a role with a fixed number and not those of an autoscaled role. When the only
//! manager of a field applies an object without it, the API server removes the field, and defaults the replicas to one.
//! So before the operator gives the field up, another manager takes it over, as the Kubernetes guide to server-side
//! apply describes. The autoscaler takes it from that manager with its first change.

use dispatch_api::dispatch_system::AutoscalingSpec;
use dispatch_api::validate::ValidatedSystem;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget, ResourceMetricSource,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use serde_json::Value;

use crate::engine::plan::workers::{Child, ChildKind, FIELD_MANAGER, Role, layout, metadata, role_name, selector};

/// At most one worker of a role is unavailable while nodes are drained.
pub(super) fn disruption_budget(system: &ValidatedSystem, role: Role) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(system, role_name(system, role), Some(role.name)),
        spec: Some(PodDisruptionBudgetSpec {
            selector: Some(selector(system, Some(role.name))),
            max_unavailable: Some(IntOrString::Int(1)),
            // A worker that is not ready serves no one, so it does not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

pub(super) fn autoscaler(system: &ValidatedSystem, role: Role, bounds: &AutoscalingSpec) -> HorizontalPodAutoscaler {
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    HorizontalPodAutoscaler {
        metadata: metadata(system, role_name(system, role), Some(role.name)),
        spec: Some(HorizontalPodAutoscalerSpec {
            min_replicas: Some(count(bounds.min_replicas)),
            max_replicas: count(bounds.max_replicas),
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: role_name(system, role),
            },
            metrics: Some(vec![MetricSpec {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricSource {
                    name: "cpu".to_owned(),
                    target: MetricTarget {
                        type_: "Utilization".to_owned(),
                        average_utilization: Some(bounds.target_cpu_percent.into()),
                        ..MetricTarget::default()
                    },
                }),
                ..MetricSpec::default()
            }]),
            behavior: Some(behavior()),
        }),
        ..HorizontalPodAutoscaler::default()
    }
}

/// Replicas are added at once, because offers cannot wait, and removed one by one a minute, after five minutes
/// without need: positions and event streams of a stopped worker move to the others.
fn behavior() -> HorizontalPodAutoscalerBehavior {
    let rules = |stabilization_s, policy: HPAScalingPolicy| HPAScalingRules {
        stabilization_window_seconds: Some(stabilization_s),
        policies: Some(vec![policy]),
        ..HPAScalingRules::default()
    };
    let policy =
        |type_: &str, value, period_seconds| HPAScalingPolicy { type_: type_.to_owned(), value, period_seconds };
    HorizontalPodAutoscalerBehavior {
        scale_up: Some(rules(0, policy("Percent", 100, 15))),
        scale_down: Some(rules(300, policy("Pods", 1, 60))),
    }
}

/// How a Deployment whose replicas belong to an autoscaler is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// It does not exist: it starts with this number of replicas, which is then handed over.
    Create(u32),
    /// The operator still sets its replicas: this number is handed over.
    Replicas(u32),
}

/// The hand-over that has to precede the apply of `child`; `None` if there is none.
///
/// What runs continues to run, within the bounds of the autoscaler. A role that runs nothing, because it is new or the
/// system was suspended, starts with the lower bound: an autoscaler does nothing while there are no replicas.
pub fn hand_over(system: &ValidatedSystem, child: &Child, live: Option<&Value>) -> Option<HandOver> {
    if child.kind != ChildKind::Deployment || system.spec.suspend {
        return None;
    }
    let former = layout::roles_of(system, layout::other(system.spec.workers.layout));
    let mut all = layout::roles(system).into_iter().chain(former);
    let (_, scaling) = all.find(|(role, _)| role_name(system, *role) == child.name)?;
    let bounds = scaling.autoscaling.as_ref()?;
    let Some(live) = live else { return Some(HandOver::Create(bounds.min_replicas)) };
    if !sets_replicas(live) {
        return None;
    }
    let runs = live["spec"]["replicas"].as_u64().and_then(|runs| u32::try_from(runs).ok()).unwrap_or(0);
    // The upper bound may be below the lower one only in a spec that was refused.
    Some(HandOver::Replicas(runs.min(bounds.max_replicas).max(bounds.min_replicas)))
}

/// Whether the operator set the replicas: with its last apply, or to stop the workers of a deleted system of this name.
fn sets_replicas(live: &Value) -> bool {
    let entries = live["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut ours = entries.filter(|entry| entry["manager"] == FIELD_MANAGER);
    ours.any(|entry| entry["fieldsV1"]["f:spec"]["f:replicas"].is_object())
}
