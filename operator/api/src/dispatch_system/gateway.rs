//! `spec.api`: the API Gateway HTTP API in front of the worker pool, and the token issuer and rate limits that the
//! workers enforce.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HOST_MESSAGE, HOST_RULE, HttpRouteSpec, IngressSpec};

/// The HTTP API: gateway, token issuer and rate limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiSpec {
    /// The API Gateway HTTP API in front of the workers.
    #[serde(default)]
    pub gateway: GatewaySpec,
    /// Issuer of the bearer tokens that the workers accept. Default: the issuer of `gateway.jwt`, with the default
    /// claims. If neither is set, no worker that serves the HTTP API starts. A change restarts the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
    /// Rate limits of each worker. A change restarts the workers.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// An `Ingress` that leads clients outside the cluster to the workers. Requires `workers.layout: Combined`.
    /// Default: none. Setting or removing it restarts the workers, see `limits.clientAddressHeader`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// An `HTTPRoute` of the Gateway API that leads clients outside the cluster to the workers. Requires
    /// `workers.layout: Combined`. Default: none. Setting or removing it restarts the workers, see
    /// `limits.clientAddressHeader`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_route: Option<HttpRouteSpec>,
}

/// Issuer of the bearer tokens that the workers accept (JWT signed with RS256, ES256 or `EdDSA`), and the meaning of
/// their claims.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthSpec {
    /// Issuer: an `https://` address without a query, spelled as in the claim `iss` of its tokens, at most 512
    /// characters.
    #[schemars(
        length(max = 512),
        regex(
            pattern = r"^https://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%!$&'()*+,;=:/-]*)?$"
        )
    )]
    #[x_kube(validation = Rule::new(HOST_RULE).message(HOST_MESSAGE).reason(Reason::FieldValueInvalid))]
    pub issuer: String,
    /// Accepted values of the claim `aud`: 1 to 50 entries of 1 to 256 visible ASCII characters, without braces. A
    /// token without `aud` must have one of them as its `client_id`.
    #[schemars(
        length(min = 1, max = 50),
        inner(length(min = 1, max = 256), regex(pattern = r"^[!-z|~]([ -z|~]*[!-z|~])?$"))
    )]
    pub audiences: Vec<String>,
    /// Address of the issuer's public keys (JWKS): an `https://` address without a query, at most 512 characters.
    /// Default: the issuer with the path `/.well-known/jwks.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 512),
        regex(
            pattern = r"^https://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%!$&'()*+,;=:/-]*)?$"
        )
    )]
    #[x_kube(validation = Rule::new(HOST_RULE).message(HOST_MESSAGE).reason(Reason::FieldValueInvalid))]
    pub jwks_url: Option<String>,
    /// Names of the claims and scopes.
    #[serde(default)]
    pub claims: ClaimsSpec,
}

/// Names of the claims and scopes. Each has 1 to 128 visible ASCII characters, without braces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.driver != self.user")
        .message("user, driver, payments and operations must be different scopes")
        .field_path(".driver")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new("self.payments != self.user && self.payments != self.driver")
        .message("user, driver, payments and operations must be different scopes")
        .field_path(".payments")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new(
        "self.operations != self.user && self.operations != self.driver && self.operations != self.payments"
    )
    .message("user, driver, payments and operations must be different scopes")
    .field_path(".operations")
    .reason(Reason::FieldValueInvalid),
)]
pub struct ClaimsSpec {
    /// Claim with the id of the user or driver, `user#00001` or `00001`. Default `sub`.
    #[serde(default = "id_claim")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-z|~]+$"))]
    pub id: String,
    /// Claim with the scopes, a string separated by spaces or a list of strings. Default `scope`.
    #[serde(default = "scopes_claim")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-z|~]+$"))]
    pub scopes: String,
    /// Scope of users. Default `user`.
    #[serde(default = "user_scope")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-z|~]+$"))]
    pub user: String,
    /// Scope of drivers. Default `driver`.
    #[serde(default = "driver_scope")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-z|~]+$"))]
    pub driver: String,
    /// Scope of the programs that report payments. Default `payments`.
    #[serde(default = "payments_scope")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-z|~]+$"))]
    pub payments: String,
    /// Scope of the staff and programs of the city. Default `operations`.
    #[serde(default = "operations_scope")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-z|~]+$"))]
    pub operations: String,
    /// Claim that binds a token of the scope `operations` or `payments` to one city. If a token has it, its value must
    /// be `spec.city`; a token without it is accepted in every city of the issuer and audience. Default `city`.
    #[serde(default = "city_claim")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-z|~]+$"))]
    pub city: String,
}

impl Default for ClaimsSpec {
    fn default() -> Self {
        Self {
            id: id_claim(),
            scopes: scopes_claim(),
            user: user_scope(),
            driver: driver_scope(),
            payments: payments_scope(),
            operations: operations_scope(),
            city: city_claim(),
        }
    }
}

fn id_claim() -> String {
    "sub".to_owned()
}

fn scopes_claim() -> String {
    "scope".to_owned()
}

fn payments_scope() -> String {
    "payments".to_owned()
}

fn city_claim() -> String {
    "city".to_owned()
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

/// Rate limits of each worker. Requests above a limit get status 429.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsSpec {
    /// Limit for each subject of tokens. With the scope `operations` it is ten times as high. Default 20 requests per
    /// second, burst 60.
    #[serde(default = "per_subject")]
    pub per_subject: RateSpec,
    /// Limit for each client address (IPv6: each /64 network). Default 1000 requests per second, burst 2000, because
    /// mobile networks put many phones behind one address.
    #[serde(default = "per_address")]
    pub per_address: RateSpec,
    /// Header in which a proxy passes the address of the client, 1 to 64 letters, digits and dashes. Set it only if the
    /// workers cannot be reached except through that proxy. Default: `x-client-address`, which the API Gateway sets, if
    /// `gateway.enabled` is `true`; `x-forwarded-for` with `ingress` or `httpRoute`; otherwise the address of the
    /// connection counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub client_address_header: Option<String>,
    /// Number of proxies that append an address to this header, 1 to 10. The client is the entry of the first of them,
    /// counted from the end of the list: with `x-forwarded-for` and a content delivery network in front of a load
    /// balancer, the last but one. What clients write into the header themselves is never believed. Default 1.
    #[serde(default = "client_address_hops")]
    #[schemars(range(min = 1, max = 10))]
    pub client_address_hops: u8,
    /// Share of a worker's concurrent requests and event streams that one client address (IPv6: each /64 network) may
    /// hold, in percent, 1 to 100. More gets status 429. Default 50: mobile networks put thousands of phones behind one
    /// address, and the other half stays for everyone else. Set 100 if all clients reach the workers from one address,
    /// through a proxy without `clientAddressHeader`.
    #[serde(default = "address_share_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub address_share_percent: u8,
}

fn client_address_hops() -> u8 {
    1
}

fn address_share_percent() -> u8 {
    50
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            per_subject: per_subject(),
            per_address: per_address(),
            client_address_header: None,
            client_address_hops: client_address_hops(),
            address_share_percent: address_share_percent(),
        }
    }
}

/// A token bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateSpec {
    /// Sustained requests per second, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub rate_per_second: u32,
    /// Requests that may arrive at once after a pause, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub burst: u32,
}

fn per_subject() -> RateSpec {
    RateSpec { rate_per_second: 20, burst: 60 }
}

fn per_address() -> RateSpec {
    RateSpec { rate_per_second: 1000, burst: 2000 }
}

/// The API Gateway HTTP API in front of the workers. Updated in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!self.enabled || has(self.upstream)")
        .message("upstream is required with enabled: true")
        .field_path(".upstream")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!self.enabled || has(self.jwt)")
        .message("jwt is required with enabled: true")
        .field_path(".jwt")
        .reason(Reason::FieldValueRequired),
)]
pub struct GatewaySpec {
    /// Whether the stack contains the API. Default `false`: the workers are reached through the ingress of the cluster.
    /// Disabling it deletes the API; enabling it again creates one with another address.
    #[serde(default)]
    pub enabled: bool,
    /// Address of the workers, exactly one of `url` and `vpcLink`. Required with `enabled: true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamSpec>,
    /// JWT authorizer of all routes. Required with `enabled: true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSpec>,
    /// Request limits of the stage, for all clients together.
    #[serde(default)]
    pub throttle: ThrottleSpec,
}

/// Address of the workers, exactly one of `url` and `vpcLink`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.url) != has(self.vpcLink)")
        .message("exactly one of url and vpcLink is allowed")
        .field_path(".url")
        .reason(Reason::FieldValueInvalid),
    // Not a pattern of the field: the API server repeats a value that does not match a pattern, and this one may
    // contain a password.
    validation = Rule::new(
        "!has(self.url) || \
         self.url.matches(r'^https://([A-Za-z0-9][A-Za-z0-9._-]*|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?$')"
    )
    .message("url must be https://host or https://host:port, without user name, password or path")
    .field_path(".url")
    .reason(Reason::FieldValueInvalid),
)]
pub struct UpstreamSpec {
    /// Public address of the workers, `https://host` or `https://host:port`, at most 512 characters, without path or
    /// credentials. Updated in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(HOST_RULE).message(HOST_MESSAGE).reason(Reason::FieldValueInvalid))]
    pub url: Option<String>,
    /// Private connection to an existing load balancer in a VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_link: Option<VpcLinkSpec>,
}

/// A VPC link, which the stack creates, to an existing load balancer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VpcLinkSpec {
    /// Subnets of the VPC link, 1 to 10 (a quota of API Gateway). A change replaces the VPC link.
    #[schemars(
        length(min = 1, max = 10),
        inner(length(max = 24), regex(pattern = r"^subnet-([0-9a-f]{8}|[0-9a-f]{17})$"))
    )]
    pub subnet_ids: Vec<String>,
    /// Security groups of the VPC link, at most 5. Default: the default security group of the VPC. A change replaces
    /// the VPC link.
    #[serde(default)]
    #[schemars(length(max = 5), inner(length(max = 20), regex(pattern = r"^sg-([0-9a-f]{8}|[0-9a-f]{17})$")))]
    pub security_group_ids: Vec<String>,
    /// ARN of the listener, in `spec.region` and in the account of the city, of the internal load balancer in front of
    /// the workers. Updated in place.
    #[schemars(
        length(max = 2048),
        regex(
            pattern = r"^arn:aws(-[a-z-]+)?:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:listener/[A-Za-z0-9_+=,.@:/-]+$"
        )
    )]
    pub listener_arn: String,
}

/// JWT authorizer of the gateway. API Gateway accepts tokens with an RSA signature (RS256) and a `kid` only, and reads
/// the issuer's `/.well-known/openid-configuration` when the stack is created: the issuer must answer it within 1.5 s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtSpec {
    /// Issuer: an `https://` address without a query, spelled as in the claim `iss` of its tokens, at most 512
    /// characters.
    #[schemars(
        length(max = 512),
        regex(
            pattern = r"^https://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%!$&'()*+,;=:/-]*)?$"
        )
    )]
    #[x_kube(validation = Rule::new(HOST_RULE).message(HOST_MESSAGE).reason(Reason::FieldValueInvalid))]
    pub issuer: String,
    /// Accepted values of the claim `aud`: 1 to 50 entries of 1 to 256 visible ASCII characters, without braces.
    #[schemars(
        length(min = 1, max = 50),
        inner(length(min = 1, max = 256), regex(pattern = r"^[!-z|~]([ -z|~]*[!-z|~])?$"))
    )]
    pub audiences: Vec<String>,
}

/// Request limits of the stage, for all clients together. Requests above a limit get status 429.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThrottleSpec {
    /// Sustained requests per second, 1 to 10000. Default 2000.
    #[serde(default = "rate")]
    #[schemars(range(min = 1, max = 10_000))]
    pub rate_per_second: u32,
    /// Requests that may arrive at once, 1 to 5000. Default 1000.
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
