//! The condition `AutoscalingActive`: whether the autoscalers of the workers can scale. Pure.

use dispatch_api::conditions::{ConditionStatus, Reason};
use serde_json::Value;

use crate::engine::status::cluster::{Finding, condition};
use crate::sanitize::shown;

/// Reason of an autoscaler whose Deployment has no replicas, which is the case while the system is suspended.
const DISABLED: &str = "ScalingDisabled";

/// What the autoscalers report of themselves; `None` without any that has reported. Kubernetes calls it
/// `ScalingActive`, and it is false while the metrics of a new Pod are missing or the cluster has no metrics server.
pub fn finding(autoscalers: &[Value]) -> Option<Finding> {
    let mut reported = false;
    let mut inactive = Vec::new();
    for autoscaler in autoscalers {
        let Some(active) = condition(&autoscaler["status"], "ScalingActive") else { continue };
        reported = true;
        if active["status"] == "False" && active["reason"] != DISABLED {
            let text = |value: &Value| shown(value.as_str().unwrap_or_default());
            let (name, reason) = (text(&autoscaler["metadata"]["name"]), text(&active["reason"]));
            inactive.push(format!("{name}: {reason}: {}", text(&active["message"])));
        }
    }
    match (reported, inactive.is_empty()) {
        (false, _) => None,
        (true, true) => {
            Some((ConditionStatus::True, Reason::AutoscalingActive, "every autoscaler reads its metric".to_owned()))
        }
        (true, false) => {
            let message = format!(
                "the number of workers stays as it is: {}; action required, if that lasts: check the metrics server \
                 (kubectl top pods)",
                inactive.join("; ")
            );
            Some((ConditionStatus::False, Reason::AutoscalingInactive, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn autoscaler(status: &str, reason: &str) -> Value {
        let active = json!({ "type": "ScalingActive", "status": status, "reason": reason, "message": "no metrics" });
        json!({ "metadata": { "name": "seoul-workers" }, "status": { "conditions": [active] } })
    }

    #[test]
    fn an_autoscaler_without_metrics_is_named_with_its_reason() {
        assert_eq!(finding(&[]), None);
        assert_eq!(finding(&[json!({ "metadata": { "name": "new" } })]), None, "it has not reported yet");
        let reason = |found: &[Value]| finding(found).map(|(status, reason, _)| (status, reason));
        let (active, failed) = (autoscaler("True", "ValidMetricFound"), autoscaler("False", "FailedGetResourceMetric"));
        assert_eq!(reason(std::slice::from_ref(&active)), Some((ConditionStatus::True, Reason::AutoscalingActive)));
        let suspended = autoscaler("False", "ScalingDisabled");
        assert_eq!(reason(&[suspended]), Some((ConditionStatus::True, Reason::AutoscalingActive)));
        let (status, reason, message) = finding(&[active, failed]).unwrap();
        assert_eq!((status, reason), (ConditionStatus::False, Reason::AutoscalingInactive));
        assert!(message.contains("seoul-workers: FailedGetResourceMetric: no metrics"), "{message}");
    }
}
