//! `spec.export`: point-in-time exports of the table to S3 (the seed's section 7.7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Exports of the table. The bucket is made by the stack; no other bucket can be named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportSpec {
    /// Five-field cron expression in the city's time zone, for example `0 4 * * *`, followed by the controller in a
    /// cluster. Times that were missed are made up for once. Default: only on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 128))]
    pub schedule: Option<String>,
    /// `DynamoDbJson` (default, the seed's form) or `Ion`.
    #[serde(default)]
    pub format: ExportFormat,
    /// `Full` (default) or `Incremental` (what changed since the last export). A schedule of incremental exports begins
    /// with a full one and has another one whenever the last has lived for half of `retentionDays`, so that the bucket
    /// always holds a full one with all that follows it.
    #[serde(default, rename = "type")]
    pub export_type: ExportType,
    /// Key prefix in the bucket, 1 to 128 of `A-Z a-z 0-9 _ - /`, not beginning or ending with `/`. Default `exports`.
    #[serde(default = "prefix")]
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z0-9_-]([A-Za-z0-9_/-]*[A-Za-z0-9_-])?$"))]
    pub prefix: String,
    /// Days an export is kept before the bucket's lifecycle removes it, 1 to 3650. Default 365.
    #[serde(default = "retention_days")]
    #[schemars(range(min = 1, max = 3650))]
    pub retention_days: u32,
    /// A Glue table and an Athena workgroup over the exports. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analytics: Option<AnalyticsSpec>,
}

impl Default for ExportSpec {
    fn default() -> Self {
        Self {
            schedule: None,
            format: ExportFormat::default(),
            export_type: ExportType::default(),
            prefix: prefix(),
            retention_days: retention_days(),
            analytics: None,
        }
    }
}

/// File format of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExportFormat {
    /// One JSON object per line with DynamoDB's type descriptors.
    #[default]
    DynamoDbJson,
    /// Amazon Ion text.
    Ion,
}

/// Extent of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExportType {
    /// The whole table.
    #[default]
    Full,
    /// The changes since the last export.
    Incremental,
}

/// Query access to the exports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnalyticsSpec {
    /// Make the Glue database and table and the Athena workgroup. Default `true`.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Bytes one query may scan before Athena stops it, at least 10 MB (10000000). Default 10 GB (10000000000).
    #[serde(default = "bytes_scanned")]
    #[schemars(range(min = 10_000_000))]
    pub bytes_scanned_cutoff_per_query: u64,
}

fn prefix() -> String {
    "exports".to_owned()
}

fn retention_days() -> u32 {
    365
}

fn yes() -> bool {
    true
}

fn bytes_scanned() -> u64 {
    10_000_000_000
}
