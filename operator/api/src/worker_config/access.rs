//! The part of the worker configuration that says who may call the HTTP API, and how much.

use serde::{Deserialize, Serialize};

/// Who may call the HTTP API: whose bearer tokens (JWT) are believed, and what their claims mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthConfig {
    /// `iss` of every token.
    pub issuer: String,
    /// Values of which a token's `aud` must hold one. A token without `aud` must have one as its `client_id`, as Amazon Cognito's
    /// access tokens do and as API Gateway takes it.
    pub audiences: Vec<String>,
    /// Where the issuer's public keys are read (RFC 7517): an `https://` address, or `http://` on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// File of the public keys instead; local runs have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<String>,
    /// What the claims mean.
    #[serde(default)]
    pub claims: ClaimsConfig,
}

/// What the claims of a token mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimsConfig {
    /// Claim that names the user or driver: `user#00001`, or `00001`, which the scopes then make a user or a driver.
    pub id: String,
    /// Claim that lists the scopes: a text with blanks between them (RFC 8693), or a list of texts.
    pub scopes: String,
    /// Scope of users.
    pub user: String,
    /// Scope of drivers.
    pub driver: String,
    /// Scope of the city's own staff and programs.
    pub operations: String,
}

impl Default for ClaimsConfig {
    fn default() -> Self {
        Self {
            id: "sub".to_owned(),
            scopes: "scope".to_owned(),
            user: "user".to_owned(),
            driver: "driver".to_owned(),
            operations: "operations".to_owned(),
        }
    }
}

impl AuthConfig {
    /// The first part that cannot be used.
    pub(super) fn wrong_part(&self) -> Option<&'static str> {
        let claims = &self.claims;
        let names = [&claims.id, &claims.scopes, &claims.user, &claims.driver, &claims.operations];
        let scopes = [&claims.user, &claims.driver, &claims.operations];
        // Two scopes of one name would make every user an operator.
        let distinct = scopes[0] != scopes[1] && scopes[0] != scopes[2] && scopes[1] != scopes[2];
        if self.issuer.trim().is_empty() {
            Some("issuer")
        } else if self.audiences.is_empty() || self.audiences.iter().any(|audience| audience.trim().is_empty()) {
            Some("audiences")
        } else if self.jwks_url.is_some() == self.jwks_file.is_some()
            || self.jwks_url.as_ref().is_some_and(|url| !is_key_address(url))
        {
            Some("jwksUrl")
        } else if !distinct || names.iter().any(|name| name.is_empty()) {
            Some("claims")
        } else {
            None
        }
    }
}

/// An address keys may be read from: over TLS, or on this machine; without credentials in it.
fn is_key_address(url: &str) -> bool {
    let here = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
    let allowed = url.starts_with("https://") || here.iter().any(|start| url.starts_with(start));
    allowed && url.bytes().all(|b| b.is_ascii_graphic()) && !url.contains('@')
}

/// How much one caller may ask of one worker process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Of one subject of tokens.
    pub per_subject: RateConfig,
    /// Of one address, whoever is behind it.
    pub per_address: RateConfig,
    /// Header that holds the client's address, which whoever is in front sets; without it the connection's own address counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address_header: Option<String>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            // A driver's app that pings each second, answers and looks around makes less than a tenth of this.
            per_subject: RateConfig { per_second: 20, burst: 60 },
            // Mobile networks hide thousands of phones behind one address.
            per_address: RateConfig { per_second: 1000, burst: 2000 },
            client_address_header: None,
        }
    }
}

/// A rate: so many each second, and so many at once after a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateConfig {
    /// Requests each second, 1 to 100000.
    pub per_second: u32,
    /// Requests at once, 1 to 100000.
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
        } else {
            None
        }
    }
}

/// What `dispatch-runtime keys` prints for a run on this machine: by what the workers know its tokens, and some tokens. It holds
/// secrets, so it cannot be printed by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalAccess {
    /// By what the workers know the tokens.
    pub auth: AuthConfig,
    /// One token of each kind.
    pub tokens: SampleTokens,
}

/// One token of each kind.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SampleTokens {
    /// Of the user `user#00001`.
    pub user: String,
    /// Of the driver `driver#00001`.
    pub driver: String,
    /// Of an operator.
    pub operations: String,
}
