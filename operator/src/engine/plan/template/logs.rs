//! Log groups, and the one metric that is read out of the workers' logs.
//!
//! DynamoDB Streams publishes no iterator age: the metric of that name belongs to Lambda, which reads the stream for its
//! functions. Long-lived consumers know the age of what they read, so the `dispatch-algorithm` workers log it as the JSON
//! field [`STREAM_ITERATOR_AGE_FIELD`] and a metric filter turns it into a metric. The cluster's log agent
//! (Fluent Bit in EKS) ships the workers' standard output into the runtime log group.

use dispatch_api::validate::ValidatedSystem;
use serde_json::json;

use crate::engine::plan::template::fragment::{Resource, TemplateFragment, reference};
use crate::engine::plan::template::gateway;

pub(super) const API_LOGS: &str = "ApiLogGroup";
const RUNTIME_LOGS: &str = "RuntimeLogGroup";

/// Namespace of the metrics that come out of logs.
pub(super) const METRIC_NAMESPACE: &str = "CoactusDispatch";

/// Where a worker's JSON log line carries the age of the oldest stream record that is not done, in ms: workers write an event's
/// fields beside its time and level.
const STREAM_ITERATOR_AGE_FIELD: &str = "$.stream_iterator_age_ms";

/// Days logs are kept. Logs hold neither phone numbers nor positions, and disputes about a ride are settled from the table.
const RETENTION_DAYS: u32 = 90;

/// Name of the metric of this system's stream lag. It carries the system's name, because a metric filter can take dimensions
/// only from log fields.
pub(super) fn iterator_age_metric(system: &ValidatedSystem) -> String {
    format!("StreamIteratorAgeMs-{}-{}", system.namespace, system.name)
}

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    let path = format!("coactus/{}/{}", system.namespace, system.name);
    part.resource(RUNTIME_LOGS, log_group(system, &format!("/{path}/runtime")));
    part.resource(
        "StreamIteratorAgeFilter",
        Resource::new(
            "AWS::Logs::MetricFilter",
            json!({
                "LogGroupName": reference(RUNTIME_LOGS),
                "FilterPattern": format!("{{ {STREAM_ITERATOR_AGE_FIELD} >= 0 }}"),
                "MetricTransformations": [{
                    "MetricNamespace": METRIC_NAMESPACE,
                    "MetricName": iterator_age_metric(system),
                    "MetricValue": STREAM_ITERATOR_AGE_FIELD,
                    "Unit": "Milliseconds",
                }],
            }),
        ),
    );
    if gateway::is_enabled(system) {
        // Under this prefix the deliveries of all APIs share one statement of the account's log resource policy, whose size
        // is limited ("Enable logging from AWS services").
        part.resource(API_LOGS, log_group(system, &format!("/aws/vendedlogs/{path}/api")));
    }
    part
}

fn log_group(system: &ValidatedSystem, name: &str) -> Resource {
    Resource::new(
        "AWS::Logs::LogGroup",
        json!({ "LogGroupName": name, "RetentionInDays": RETENTION_DAYS, "KmsKeyId": system.spec.aws.kms_key_arn }),
    )
}
