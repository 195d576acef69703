//! `spec.queues`: the SQS queues.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The three SQS queues. Each has a dead-letter queue, which keeps messages for 14 days. Updated in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueuesSpec {
    /// Offer timers: one delayed message for each offer.
    #[serde(default)]
    pub offers: QueueSpec,
    /// Outcomes of offers, to be reported to user app and driver app.
    #[serde(default)]
    pub responses: QueueSpec,
    /// Notifications from the SNS topic, to be delivered to devices and event streams.
    #[serde(default)]
    pub notifications: QueueSpec,
}

/// Settings of one queue. Updated in place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.visibilityTimeoutSeconds < self.retentionSeconds")
        .message("visibilityTimeoutSeconds must be less than retentionSeconds")
        .field_path(".visibilityTimeoutSeconds")
        .reason(Reason::FieldValueInvalid),
)]
pub struct QueueSpec {
    /// How long SQS keeps a message that is not deleted, in seconds, 60 to 1209600 (14 days). Default 345600 (4 days).
    /// Must be greater than `visibilityTimeoutSeconds`, and in `offers` greater than `dispatch.offerTimeoutSeconds`. A
    /// change also applies to stored messages.
    #[serde(default = "retention")]
    #[schemars(range(min = 60, max = 1_209_600))]
    pub retention_seconds: u32,
    /// How long a received message is hidden from other workers, in seconds, 0 to 43200 (12 hours). Default 30. A
    /// message that is not processed in time is delivered again.
    #[serde(default = "visibility")]
    #[schemars(range(min = 0, max = 43_200))]
    pub visibility_timeout_seconds: u32,
    /// Number of deliveries after which an unprocessed message moves to the dead-letter queue, 1 to 1000. Default 5.
    #[serde(default = "receives")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_receive_count: u32,
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self { retention_seconds: retention(), visibility_timeout_seconds: visibility(), max_receive_count: receives() }
    }
}

fn retention() -> u32 {
    345_600
}

fn visibility() -> u32 {
    30
}

fn receives() -> u32 {
    5
}
