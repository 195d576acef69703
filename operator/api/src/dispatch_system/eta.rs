//! `spec.dispatch.eta`: how long a driver needs to the pickup.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HOST_MESSAGE, HOST_RULE};

/// Estimated time from a driver to the pickup. With a router, the nearest drivers are ranked by driving time, in steps
/// of 30 seconds, instead of by distance. If the router does not answer in time, distance decides. Changes reach
/// running workers without a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("(self.provider == 'StraightLine') != has(self.url)")
        .message("url is required with provider OSRM or Valhalla, and not allowed with provider StraightLine")
        .field_path(".url")
        .reason(Reason::FieldValueInvalid),
)]
pub struct EtaSpec {
    /// Source of the times. `StraightLine` (default): estimated from distance, `fare.roadFactorPercent` and
    /// `fare.averageSpeedKmh`, so that drivers are ranked by distance. `OSRM`, `Valhalla`: a router at `url`.
    #[serde(default)]
    pub provider: EtaProvider,
    /// Address of the router, `http://` or `https://`, at most 512 characters, without credentials. A path is prepended
    /// to the paths of the router. Workers send it positions of drivers and pickups. Required with `OSRM` and
    /// `Valhalla`, not allowed with `StraightLine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(
            pattern = r"^https?://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
        )
    )]
    #[x_kube(validation = Rule::new(HOST_RULE).message(HOST_MESSAGE).reason(Reason::FieldValueInvalid))]
    pub url: Option<String>,
    /// Time that a search waits for the router, in milliseconds, 50 to 2000. Default 300.
    #[serde(default = "timeout")]
    #[schemars(range(min = 50, max = 2000))]
    pub timeout_milliseconds: u32,
    /// Number of drivers, the nearest by distance, whose times are requested in one search, 1 to 50. Default 20.
    #[serde(default = "top_k")]
    #[schemars(range(min = 1, max = 50))]
    pub top_k: u8,
}

impl Default for EtaSpec {
    fn default() -> Self {
        Self { provider: EtaProvider::default(), url: None, timeout_milliseconds: timeout(), top_k: top_k() }
    }
}

/// Source of the estimated times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EtaProvider {
    /// An estimate from the straight-line distance.
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
