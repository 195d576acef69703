//! `spec.table`: the DynamoDB single table (spec §6).

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The DynamoDB table that stores users, drivers and dispatches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableSpec {
    /// Name of the table, 3 to 248 of `A-Z a-z 0-9 _ . -`. The table of stream leases is named `<name>-leases`.
    /// Default: the name of the stack, `coactus-<namespace>-<name>`, followed by the length of the namespace if either
    /// contains a dash. In a cluster, a name that does not begin with that of the stack, followed by `.` or `_`, must
    /// be allowed by the namespace. Immutable once the stack exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 248), regex(pattern = r"^[A-Za-z0-9_.-]+$"))]
    pub name: Option<String>,
    /// Capacity mode of the table and its indexes. Updated in place.
    #[serde(default)]
    pub billing: Billing,
    /// Whether DynamoDB refuses to delete the table. Default `true`. With `deletionPolicy: Delete` the operator
    /// disables it when the system is deleted. Updated in place.
    #[serde(default = "yes")]
    pub deletion_protection: bool,
    /// Whether continuous backups (35 days) are enabled. Default `true`. Required by `export.schedule` and
    /// `export.analytics`. Updated in place; disabling it discards the backups.
    #[serde(default = "yes")]
    pub point_in_time_recovery: bool,
    /// Number of partition keys of index GSI1 over which drivers, users and dispatches of one status are spread, 1 to
    /// 64. Default 1: the keys have no suffix, for example `DRIVER#ACTIVE`; otherwise they have a suffix `#<shard>`.
    /// One key takes about 1,000 writes per second. A change restarts the workers. Raise it at any time; after lowering
    /// it, items under the removed keys are missing from GSI1 queries until they are next written.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub gsi1_shards: u16,
}

impl Default for TableSpec {
    fn default() -> Self {
        Self {
            name: None,
            billing: Billing::default(),
            deletion_protection: true,
            point_in_time_recovery: true,
            gsi1_shards: 1,
        }
    }
}

/// Capacity mode of the table and its indexes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "self.mode == 'Provisioned' ? has(self.read) && has(self.write) : !has(self.read) && !has(self.write)"
    )
    .message("read and write are required with mode Provisioned and not allowed with OnDemand")
    .field_path(".mode")
    .reason(Reason::FieldValueInvalid),
)]
pub struct Billing {
    /// `OnDemand` (default): pay per request. `Provisioned`: pay for capacity that scales between bounds. Updated in
    /// place; AWS limits how often per day a table can change its mode.
    #[serde(default)]
    pub mode: BillingMode,
    /// Read capacity of the table and of each index. Required with mode `Provisioned`, not allowed with `OnDemand`.
    /// Updated in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<CapacitySpec>,
    /// Write capacity of the table and of each index. Required with mode `Provisioned`, not allowed with `OnDemand`.
    /// Updated in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<CapacitySpec>,
}

/// Capacity mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BillingMode {
    /// Pay per request.
    #[default]
    OnDemand,
    /// Pay per provisioned unit; auto scaling between two bounds.
    Provisioned,
}

/// Bounds of a provisioned capacity, in capacity units per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.min <= self.max")
        .message("max must be at least min")
        .field_path(".max")
        .reason(Reason::FieldValueInvalid),
)]
pub struct CapacitySpec {
    /// Initial and smallest capacity, in units per second, 1 to 40000.
    #[schemars(range(min = 1, max = 40000))]
    pub min: u32,
    /// Largest capacity, in units per second, `min` to 40000. A value equal to `min` disables auto scaling.
    #[schemars(range(min = 1, max = 40000))]
    pub max: u32,
    /// Utilization that auto scaling maintains, in percent of the capacity, 20 to 90. Default 70.
    #[serde(default = "seventy")]
    #[schemars(range(min = 20, max = 90))]
    pub target_utilization_percent: u8,
}

fn yes() -> bool {
    true
}

fn one() -> u16 {
    1
}

fn seventy() -> u8 {
    70
}
