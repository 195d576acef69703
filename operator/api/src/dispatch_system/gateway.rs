//! `spec.api`: the public entrance, an API Gateway HTTP API in front of the worker pool.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The public HTTP entrance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiSpec {
    /// The API Gateway in front of the workers.
    #[serde(default)]
    pub gateway: GatewaySpec,
}

/// API Gateway (HTTP API). Needs an `upstream` and a `jwt` when enabled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewaySpec {
    /// Make the API. Default `false`: the workers are then reached through the cluster's own ingress.
    #[serde(default)]
    pub enabled: bool,
    /// Where requests go. Exactly one of its members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamSpec>,
    /// Who may call. Required when enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSpec>,
    /// Request limits of the stage.
    #[serde(default)]
    pub throttle: ThrottleSpec,
}

/// Where the gateway sends requests: exactly one of `url` and `vpcLink`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamSpec {
    /// Public `https://` address of the workers, without a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Private way into the VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_link: Option<VpcLinkSpec>,
}

/// A VPC link the stack makes, to a load balancer that exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VpcLinkSpec {
    /// Subnets of the link, at least one.
    pub subnet_ids: Vec<String>,
    /// Security groups of the link.
    #[serde(default)]
    pub security_group_ids: Vec<String>,
    /// Listener of the internal load balancer in front of the workers.
    pub listener_arn: String,
}

/// The JWT authorizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtSpec {
    /// `https://` address of the token issuer.
    pub issuer: String,
    /// Accepted `aud` values, at least one.
    pub audiences: Vec<String>,
}

/// Request limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThrottleSpec {
    /// Sustained requests per second, 1 to 10000. Default 2000.
    #[serde(default = "rate")]
    pub rate_per_second: u32,
    /// Requests allowed in one burst, 1 to 5000. Default 1000.
    #[serde(default = "burst")]
    pub burst: u32,
}

impl Default for ThrottleSpec {
    fn default() -> Self {
        Self { rate_per_second: rate(), burst: burst() }
    }
}

fn rate() -> u32 {
    2000
}

fn burst() -> u32 {
    1000
}
