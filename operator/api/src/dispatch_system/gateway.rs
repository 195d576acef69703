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
    /// Whose tokens the workers believe. Default: those of `gateway.jwt`. Workers let nobody in without either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
    /// How much one caller may ask of one worker.
    #[serde(default)]
    pub limits: LimitsSpec,
}

/// Whose bearer tokens (JWT signed with RS256, ES256 or `EdDSA`) the workers believe, and what their claims mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthSpec {
    /// `https://` address of the token issuer, as its tokens spell `iss`.
    #[schemars(
        length(max = 512),
        regex(pattern = r"^https://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-~]*)?$")
    )]
    pub issuer: String,
    /// Accepted `aud` values, 1 to 50; a token without `aud` must have one as its `client_id`.
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 256)))]
    pub audiences: Vec<String>,
    /// Where the issuer publishes its keys. Default: `/.well-known/jwks.json` behind the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(pattern = r"^https://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-~]*)?$")
    )]
    pub jwks_url: Option<String>,
    /// What the claims mean.
    #[serde(default)]
    pub claims: ClaimsSpec,
}

/// What the claims of a token mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.user != self.driver && self.user != self.operations && self.driver != self.operations")
        .message("user, driver and operations must be three different scopes"),
)]
pub struct ClaimsSpec {
    /// Claim that names the user or driver: `user#00001`, or `00001`. Default `sub`.
    #[serde(default = "id_claim")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-~]+$"))]
    pub id: String,
    /// Claim that lists the scopes, as a text with blanks between them or as a list. Default `scope`.
    #[serde(default = "scopes_claim")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-~]+$"))]
    pub scopes: String,
    /// Scope of users. Default `user`.
    #[serde(default = "user_scope")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-~]+$"))]
    pub user: String,
    /// Scope of drivers. Default `driver`.
    #[serde(default = "driver_scope")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-~]+$"))]
    pub driver: String,
    /// Scope of the city's own staff and programs. Default `operations`.
    #[serde(default = "operations_scope")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-~]+$"))]
    pub operations: String,
}

impl Default for ClaimsSpec {
    fn default() -> Self {
        Self {
            id: id_claim(),
            scopes: scopes_claim(),
            user: user_scope(),
            driver: driver_scope(),
            operations: operations_scope(),
        }
    }
}

fn id_claim() -> String {
    "sub".to_owned()
}

fn scopes_claim() -> String {
    "scope".to_owned()
}

fn user_scope() -> String {
    "user".to_owned()
}

fn driver_scope() -> String {
    "driver".to_owned()
}

fn operations_scope() -> String {
    "operations".to_owned()
}

/// How much one caller may ask of one worker; more is answered 429.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsSpec {
    /// Of one subject of tokens. Operators may ask ten times as much. Default 20 a second, 60 at once.
    #[serde(default = "per_subject")]
    pub per_subject: RateSpec,
    /// Of one client address. Default 1000 a second, 2000 at once: mobile networks hide many phones behind one address.
    #[serde(default = "per_address")]
    pub per_address: RateSpec,
    /// Header in which a proxy in front of the workers hands on the client's address. Only for workers that nobody reaches past
    /// that proxy. The API Gateway of this system sets `x-client-address`, which is then the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub client_address_header: Option<String>,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self { per_subject: per_subject(), per_address: per_address(), client_address_header: None }
    }
}

/// A rate of requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateSpec {
    /// Requests each second, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub rate_per_second: u32,
    /// Requests at once after a rest, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub burst: u32,
}

fn per_subject() -> RateSpec {
    RateSpec { rate_per_second: 20, burst: 60 }
}

fn per_address() -> RateSpec {
    RateSpec { rate_per_second: 1000, burst: 2000 }
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
