//! `spec.api`: the public entrance, an API Gateway HTTP API in front of the worker pool.

use kube::KubeSchema;
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!self.enabled || (has(self.upstream) && has(self.jwt))")
        .message("upstream and jwt are required with enabled: true"),
)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.url) != has(self.vpcLink)").message("exactly one of url and vpcLink is allowed"),
    // Not a pattern of the field: the API server repeats a text that breaks a pattern, and this one may hold a
    // password.
    validation = Rule::new(
        "!has(self.url) || \
         self.url.matches(r'^https://([A-Za-z0-9][A-Za-z0-9._-]*|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?$')"
    )
    .message("url must be https://host or https://host:port, without user name, password or path"),
)]
pub struct UpstreamSpec {
    /// Public `https://` address of the workers, without a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,
    /// Private way into the VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_link: Option<VpcLinkSpec>,
}

/// A VPC link the stack makes, to a load balancer that exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VpcLinkSpec {
    /// Subnets of the link, 1 to 20.
    #[schemars(
        length(min = 1, max = 20),
        inner(length(max = 24), regex(pattern = r"^subnet-([0-9a-f]{8}|[0-9a-f]{17})$"))
    )]
    pub subnet_ids: Vec<String>,
    /// Security groups of the link, at most 5. Default: the VPC's own.
    #[serde(default)]
    #[schemars(length(max = 5), inner(length(max = 20), regex(pattern = r"^sg-([0-9a-f]{8}|[0-9a-f]{17})$")))]
    pub security_group_ids: Vec<String>,
    /// ARN of the listener of the internal load balancer in front of the workers, in the city's region.
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^arn:aws(-[a-z-]+)?:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:listener/[!-~]+$")
    )]
    pub listener_arn: String,
}

/// The JWT authorizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtSpec {
    /// `https://` address of the token issuer, as its tokens spell `iss`.
    #[schemars(
        length(max = 512),
        regex(pattern = r"^https://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-~]*)?$")
    )]
    pub issuer: String,
    /// Accepted `aud` values, 1 to 50.
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 256)))]
    pub audiences: Vec<String>,
}

/// Request limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThrottleSpec {
    /// Sustained requests per second, 1 to 10000. Default 2000.
    #[serde(default = "rate")]
    #[schemars(range(min = 1, max = 10_000))]
    pub rate_per_second: u32,
    /// Requests allowed in one burst, 1 to 5000. Default 1000.
    #[serde(default = "burst")]
    #[schemars(range(min = 1, max = 5000))]
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
