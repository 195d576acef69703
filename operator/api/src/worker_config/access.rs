//! The part of the worker configuration that determines who may call the HTTP API, and at what rate.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Callers of the HTTP API: the issuer of accepted bearer tokens (JWT), and the meaning of their claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthConfig {
    /// Claim `iss` of every token.
    pub issuer: String,
    /// Accepted values of the claim `aud`. A token without `aud` must have one of them as its `client_id`, as in access
    /// tokens of Amazon Cognito and as API Gateway accepts it.
    pub audiences: Vec<String>,
    /// Address of the issuer's public keys (RFC 7517): `https://`, or `http://` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// File with the public keys, instead of an address; only local runs set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<String>,
    /// Names of the claims and scopes.
    #[serde(default)]
    pub claims: ClaimsConfig,
}

/// Names of the claims and scopes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimsConfig {
    /// Claim with the id of the user or driver: `user#00001`, or `00001` if the scopes determine which it is.
    pub id: String,
    /// Claim with the scopes: a string separated by spaces (RFC 8693) or a list of strings.
    pub scopes: String,
    /// Scope of users.
    pub user: String,
    /// Scope of drivers.
    pub driver: String,
    /// Scope of the programs that report payments.
    pub payments: String,
    /// Scope of the staff and programs of the city.
    pub operations: String,
    /// Claim that binds a token of the scope `operations` or `payments` to one city.
    pub city: String,
}

impl Default for ClaimsConfig {
    fn default() -> Self {
        Self {
            id: "sub".to_owned(),
            scopes: "scope".to_owned(),
            user: "user".to_owned(),
            driver: "driver".to_owned(),
            payments: "payments".to_owned(),
            operations: "operations".to_owned(),
            city: "city".to_owned(),
        }
    }
}

impl AuthConfig {
    /// The first invalid field.
    pub(super) fn wrong_part(&self) -> Option<&'static str> {
        let claims = &self.claims;
        let scopes = [&claims.user, &claims.driver, &claims.payments, &claims.operations];
        let names = [&claims.id, &claims.scopes, &claims.city].into_iter().chain(scopes);
        // With equal names, every user would have the scope of operators.
        let distinct = scopes.iter().collect::<BTreeSet<_>>().len() == scopes.len();
        if self.issuer.trim().is_empty() {
            Some("issuer")
        } else if self.audiences.is_empty() || self.audiences.iter().any(|audience| audience.trim().is_empty()) {
            Some("audiences")
        } else if self.jwks_url.is_some() == self.jwks_file.is_some()
            || self.jwks_url.as_ref().is_some_and(|url| !is_key_address(url))
        {
            Some("jwksUrl")
        } else if !distinct || names.into_iter().any(String::is_empty) {
            Some("claims")
        } else {
            None
        }
    }
}

/// Whether keys may be read from this address: over TLS or on this machine, and without credentials in it.
fn is_key_address(url: &str) -> bool {
    let here = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
    let allowed = url.starts_with("https://") || here.iter().any(|start| url.starts_with(start));
    allowed && url.bytes().all(|b| b.is_ascii_graphic()) && !url.contains('@')
}

/// Rate limits of one worker process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Limit for each subject of tokens.
    pub per_subject: RateConfig,
    /// Limit for each client address.
    pub per_address: RateConfig,
    /// Header with the address of the client, set by a proxy. Without it, the address of the connection counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address_header: Option<String>,
    /// Number of proxies that add an entry to the header, 1 to 10. The client's address is that entry from the right.
    #[serde(default = "one_hop", skip_serializing_if = "is_one_hop")]
    pub client_address_hops: u8,
    /// Share of the concurrent requests and of the event streams that one client address may hold, percent, 1 to 100.
    #[serde(default = "half")]
    pub address_share_percent: u8,
}

fn half() -> u8 {
    50
}

fn one_hop() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one_hop(hops: &u8) -> bool {
    *hops == one_hop()
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            // A driver app that pings every second, answers offers and reads lists needs less than a tenth of this.
            per_subject: RateConfig { per_second: 20, burst: 60 },
            // Mobile networks put thousands of phones behind one address.
            per_address: RateConfig { per_second: 1000, burst: 2000 },
            client_address_header: None,
            client_address_hops: one_hop(),
            // Mobile networks put thousands of phones behind one address; the other half is for everyone else.
            address_share_percent: half(),
        }
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateConfig {
    /// Sustained requests per second, 1 to 100000.
    pub per_second: u32,
    /// Requests that may arrive at once, 1 to 100000.
    pub burst: u32,
}

impl LimitsConfig {
    pub(super) fn wrong_part(&self) -> Option<&'static str> {
        let rates =
            [self.per_subject.per_second, self.per_subject.burst, self.per_address.per_second, self.per_address.burst];
        let token = |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if rates.iter().any(|rate| !(1..=100_000).contains(rate)) {
            Some("perSubject and perAddress")
        } else if self.client_address_header.as_ref().is_some_and(|name| !token(name)) {
            Some("clientAddressHeader")
        } else if !(1..=10).contains(&self.client_address_hops) {
            Some("clientAddressHops")
        } else if !(1..=100).contains(&self.address_share_percent) {
            Some("addressSharePercent")
        } else {
            None
        }
    }
}

/// Output of `dispatch-runtime keys` for a local run: the settings that accept its tokens, and sample tokens. It
/// contains secrets and therefore has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalAccess {
    /// Settings with which the workers accept the tokens.
    pub auth: AuthConfig,
    /// One token of each scope.
    pub tokens: SampleTokens,
}

/// One token of each scope.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SampleTokens {
    /// Token of the user `user#00001`.
    pub user: String,
    /// Token of the driver `driver#00001`.
    pub driver: String,
    /// Token with the scope of payments.
    pub payments: String,
    /// Token with the scope of operations.
    pub operations: String,
}
