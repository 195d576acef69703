//! `spec.table`: the DynamoDB single table of the seed's section 6.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The DynamoDB single table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)")
        .message("name is immutable: another name is another table, without the data"),
)]
pub struct TableSpec {
    /// Table name, 3 to 248 of `A-Z a-z 0-9 _ . -` (the leases' table is `<name>-leases`, and 255 is AWS's limit).
    /// Default `coactus-<namespace>-<name>`. Immutable: another name is another table, without the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 248), regex(pattern = r"^[A-Za-z0-9_.-]+$"))]
    pub name: Option<String>,
    /// How reads and writes are paid for.
    #[serde(default)]
    pub billing: Billing,
    /// Refuse deletion of the table at AWS. Default `true`.
    #[serde(default = "yes")]
    pub deletion_protection: bool,
    /// Continuous backups, needed for exports. Default `true`.
    #[serde(default = "yes")]
    pub point_in_time_recovery: bool,
    /// Number of GSI1 partition keys the active drivers and open dispatches are spread over. 1 (default) is the seed's
    /// literal `DRIVER#ACTIVE`; above 1 the key gets a `#<shard>` suffix. 1 to 64.
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

/// How the table is paid for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "self.mode == 'Provisioned' ? has(self.read) && has(self.write) : !has(self.read) && !has(self.write)"
    )
    .message("read and write are required with mode Provisioned and not allowed with OnDemand"),
)]
pub struct Billing {
    /// `OnDemand` (default) or `Provisioned`.
    #[serde(default)]
    pub mode: BillingMode,
    /// Read capacity of the table and of each index. Required with `Provisioned`, refused with `OnDemand`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<CapacitySpec>,
    /// Write capacity of the table and of each index. Required with `Provisioned`, refused with `OnDemand`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<CapacitySpec>,
}

/// The two billing modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BillingMode {
    /// Pay per request.
    #[default]
    OnDemand,
    /// Pay per provisioned unit, with autoscaling between two bounds.
    Provisioned,
}

/// Bounds of one provisioned capacity, in units per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.min <= self.max").message("max must be at least min"),
)]
pub struct CapacitySpec {
    /// Units to start with and never to go below, 1 to 40000.
    #[schemars(range(min = 1, max = 40000))]
    pub min: u32,
    /// Units never to exceed, `min` to 40000. Equal to `min` switches autoscaling off.
    #[schemars(range(min = 1, max = 40000))]
    pub max: u32,
    /// Share of the capacity in use that autoscaling aims at, in per cent, 20 to 90. Default 70.
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
