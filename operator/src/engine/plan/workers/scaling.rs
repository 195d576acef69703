//! Disruption budgets and autoscalers.

use dispatch_api::dispatch_system::AutoscalingSpec;
use dispatch_api::validate::ValidatedSystem;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
    ResourceMetricSource,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::engine::plan::workers::{Role, metadata, role_name, selector};

/// At most one worker of a role is unavailable while nodes are drained.
pub(super) fn disruption_budget(system: &ValidatedSystem, role: Role) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(system, role_name(system, role), Some(role.name)),
        spec: Some(PodDisruptionBudgetSpec {
            selector: Some(selector(system, Some(role.name))),
            max_unavailable: Some(IntOrString::Int(1)),
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
            ..HorizontalPodAutoscalerSpec::default()
        }),
        ..HorizontalPodAutoscaler::default()
    }
}
