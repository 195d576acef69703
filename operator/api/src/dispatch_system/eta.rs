//! `spec.dispatch.eta`: how long a driver needs to the pickup.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What says how long drivers need to a pickup. With a router, the nearest drivers are ranked by their time in buckets of 30
/// seconds instead of by their distance; without an answer in time, by distance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("(self.provider == 'StraightLine') != has(self.url)")
        .message("url is required with a router, and not allowed with StraightLine"),
)]
pub struct EtaSpec {
    /// What is asked: nobody (`StraightLine`: the fare table's road factor and average speed, whose order is that of
    /// distance), or a router that runs somewhere (`OSRM`, `Valhalla`). Default `StraightLine`.
    #[serde(default)]
    pub provider: EtaProvider,
    /// Address of the router, `http://` or `https://`, without credentials; a path is put before the router's own. Workers send
    /// it positions of drivers and pickups. Required with a router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(
            pattern = r"^https?://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
        )
    )]
    pub url: Option<String>,
    /// Milliseconds a search waits for the router, 50 to 2000. Default 300.
    #[serde(default = "timeout")]
    #[schemars(range(min = 50, max = 2000))]
    pub timeout_milliseconds: u32,
    /// Drivers the router is asked about in one search, the nearest by distance, 1 to 50. Default 20.
    #[serde(default = "top_k")]
    #[schemars(range(min = 1, max = 50))]
    pub top_k: u8,
}

impl Default for EtaSpec {
    fn default() -> Self {
        Self { provider: EtaProvider::default(), url: None, timeout_milliseconds: timeout(), top_k: top_k() }
    }
}

/// Who says how long drivers need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EtaProvider {
    /// The straight line.
    #[default]
    StraightLine,
    /// The table service of an OSRM server.
    #[serde(rename = "OSRM")]
    Osrm,
    /// The time-distance matrix service of a Valhalla server.
    Valhalla,
}

fn timeout() -> u32 {
    300
}

fn top_k() -> u8 {
    20
}
