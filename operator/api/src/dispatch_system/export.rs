//! `spec.export`: point-in-time exports of the table to S3 (spec §7.7).

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Exports of the table to the bucket that the stack creates; another bucket cannot be used. All fields are updated in
/// place and apply to the next export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(r"self.type != 'Full' || !has(self.schedule) || self.schedule.matches('^[ \t]*[0-9]+[ \t]')")
        .message("with type: Full, the minute of schedule must be one number: at most one export an hour")
        .field_path(".schedule")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new("self.prefix != 'athena-results' && !self.prefix.startsWith('athena-results/')")
        .message("prefix must not be athena-results: query results expire there after 7 days")
        .field_path(".prefix")
        .reason(Reason::FieldValueInvalid),
)]
pub struct ExportSpec {
    /// Cron expression with five fields (minute, hour, day, month, weekday) in `spec.timezone`, for example
    /// `0 4 * * *`. With type `Full`, the minute is one number: at most one export an hour, because each reads and
    /// stores the whole table. The operator in the cluster starts the exports; of several missed times, only the last
    /// is caught up. Requires `table.pointInTimeRecovery: true`. Default: none; exports are started with
    /// `dispatch-operator export`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 9, max = 128),
        regex(pattern = "^[ \\t]*(\\*|[0-5]?[0-9])([-,/](\\*|[0-5]?[0-9]))*[ \\t]+\
                       (\\*|[01]?[0-9]|2[0-3])([-,/](\\*|[01]?[0-9]|2[0-3]))*[ \\t]+\
                       (\\*|\\?|LW?|(0?[1-9]|[12][0-9]|3[01])W?)([-,/](\\*|LW?|(0?[1-9]|[12][0-9]|3[01])W?))*[ \\t]+\
                       (\\*|0?[1-9]|1[0-2]|[A-Za-z]{3})([-,/](\\*|0?[1-9]|1[0-2]|[A-Za-z]{3}))*[ \\t]+\
                       (\\*|\\?|L|([0-7]|[A-Za-z]{3})(#[1-5]|L)?)([-,/](\\*|([0-7]|[A-Za-z]{3})(#[1-5]|L)?))*[ \\t]*$")
    )]
    pub schedule: Option<String>,
    /// `DynamoDbJson` (default) or `Ion`.
    #[serde(default)]
    pub format: ExportFormat,
    /// `Full` (default): the whole table. `Incremental`: the changes since the last export. A schedule of incremental
    /// exports starts with a full export and repeats it when the last one is older than half of `retentionDays`, so
    /// that the bucket always contains a full export and all changes after it.
    #[serde(default, rename = "type")]
    pub export_type: ExportType,
    /// Key prefix in the bucket, 1 to 128 of `A-Z a-z 0-9 _ - /`, without a leading or trailing `/`, and not below
    /// `athena-results`, where query results expire. Default `exports`.
    /// After a change, `retentionDays` no longer applies to exports under the previous prefix.
    #[serde(default = "prefix")]
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z0-9_-]([A-Za-z0-9_/-]*[A-Za-z0-9_-])?$"))]
    pub prefix: String,
    /// Days after which the lifecycle rule of the bucket deletes an export, 1 to 3650. Default 365.
    #[serde(default = "retention_days")]
    #[schemars(range(min = 1, max = 3650))]
    pub retention_days: u32,
    /// Query access to the exports with AWS Glue and Amazon Athena. Requires `table.pointInTimeRecovery: true`.
    /// Default: none.
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

/// Key prefix of query results in the bucket, where no export may be.
pub const QUERY_RESULTS_PREFIX: &str = "athena-results";

/// File format of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExportFormat {
    /// One JSON object per line, with DynamoDB type descriptors.
    #[default]
    DynamoDbJson,
    /// Amazon Ion text.
    Ion,
}

/// Extent of an export: `Full` (the whole table) or `Incremental` (the changes of a period).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExportType {
    /// The whole table.
    #[default]
    Full,
    /// The changes since the last export.
    Incremental,
}

/// Query access to the exports with AWS Glue and Amazon Athena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnalyticsSpec {
    /// Whether the stack contains a Glue database, a Glue table and an Athena workgroup. Default `true`. `false`
    /// removes them; the exports stay.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Bytes that one query may scan before Athena cancels it, at least 10000000 (10 MB). Default 10000000000 (10 GB).
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
