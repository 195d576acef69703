//! Log groups, and the metric that is extracted from the logs of the workers.
//!
//! DynamoDB Streams publishes no iterator age; the metric of that name belongs to Lambda. Workers with the role
//! `dispatch-algorithm` log the age of the records that they read as the JSON field [`STREAM_ITERATOR_AGE_FIELD`], and
//! a metric filter converts it to a metric. The log agent of the cluster (Fluent Bit in EKS) sends the standard output
//! of the workers to the runtime log group.

use dispatch_api::validate::ValidatedSystem;
use serde_json::json;

use crate::engine::plan::template::fragment::{Resource, TemplateFragment, reference};

const RUNTIME_LOGS: &str = "RuntimeLogGroup";

/// Namespace of the metrics that are extracted from logs.
pub(super) const METRIC_NAMESPACE: &str = "CoactusDispatch";

/// Field of a log entry with the age of the oldest unprocessed stream record, ms. Workers write the fields of an event
/// at the top level.
const STREAM_ITERATOR_AGE_FIELD: &str = "$.stream_iterator_age_ms";

/// Retention of logs, days. Logs contain neither phone numbers nor positions; disputes about a ride are settled with
/// the table.
const RETENTION_DAYS: u32 = 90;

/// Name of the metric of the stream lag. It contains the name of the system, because a metric filter takes dimensions
/// only from log fields.
pub(super) fn iterator_age_metric(system: &ValidatedSystem) -> String {
    let prefix = &system.names.prefix;
    format!("StreamIteratorAgeMs-{}", prefix.strip_prefix("coactus-").unwrap_or(prefix))
}

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    part.resource(RUNTIME_LOGS, log_group(system, &format!("/{}/runtime", path(system))));
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
    part
}

/// Path of a system's log groups, without a leading slash.
pub(super) fn path(system: &ValidatedSystem) -> String {
    format!("coactus/{}/{}", system.namespace, system.name)
}

pub(super) fn log_group(system: &ValidatedSystem, name: &str) -> Resource {
    Resource::new(
        "AWS::Logs::LogGroup",
        json!({ "LogGroupName": name, "RetentionInDays": RETENTION_DAYS, "KmsKeyId": system.spec.aws.kms_key_arn }),
    )
}
