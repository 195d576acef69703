//! Log groups.
//!
//! The log agent of the cluster (Fluent Bit in EKS) may send the standard output of the workers to the runtime log
//! group. Nothing reads it: metrics and alerts of the workers come from Prometheus, because agents wrap the lines in
//! formats of their own, which no metric filter knows.

use dispatch_api::validate::ValidatedSystem;
use serde_json::json;

use crate::engine::plan::template::fragment::{Resource, TemplateFragment};

const RUNTIME_LOGS: &str = "RuntimeLogGroup";

/// Retention of logs, days. Logs contain neither phone numbers nor positions; disputes about a ride are settled with
/// the table.
const RETENTION_DAYS: u32 = 90;

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    part.resource(RUNTIME_LOGS, log_group(system, &format!("/{}/runtime", path(system))));
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
