//! Authentication of callers: bearer tokens (JWT, RFC 7519) of one issuer, verified with its public keys.
//!
//! | module | holds |
//! | --- | --- |
//! | `token` | parses and validates a token: pure, `now` is an argument |
//! | `keys` | fetches and caches the issuer's public keys (RFC 7517) |
//! | [`Principal`] | what the caller may do, according to the claims |
//!
//! The attacks that RFC 8725 describes are ruled out by construction: there are three signature algorithms, and each
//! key has exactly one of them; keys come only from the configured source, and a token that names another source is
//! rejected. A worker verifies tokens even behind an API Gateway, whose authorizer makes the same checks.
//!
//! Signatures are verified by aws-lc-rs, the library that rustls uses. Only the parsing of the token is implemented
//! here.

mod keys;
mod principal;
#[cfg(test)]
mod tests;
mod token;

use dispatch_api::worker_config::AuthConfig;
use dispatch_core::time::EpochMs;
use thiserror::Error;

pub use keys::{KeySource, KeysError};
pub use principal::Principal;

use keys::Keys;
use token::Token;

/// Why a caller is not authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AuthError {
    /// The token is rejected. The reason is only logged; the client learns that the token is not valid.
    #[error("the token is rejected: {0}")]
    Refused(&'static str),
    /// The issuer's keys could not be read yet, so no token can be verified.
    #[error("the issuer's keys are not available yet")]
    NoKeys,
}

/// A token that was parsed.
pub struct UnverifiedToken<'a>(Token<'a>);

/// Authenticates callers by their tokens.
pub struct Authenticator {
    config: AuthConfig,
    keys: Keys,
}

impl Authenticator {
    /// Uses the configured rules and key source. A key file is read immediately. Keys from a URL are fetched with the
    /// first token, so that a process can start while the issuer is unavailable.
    pub fn new(config: &AuthConfig) -> Result<Self, KeysError> {
        Ok(Self::with_keys(config, KeySource::from_config(config)?))
    }

    /// Uses the configured rules with another key source.
    pub fn with_keys(config: &AuthConfig, source: KeySource) -> Self {
        Self { config: config.clone(), keys: Keys::from(source) }
    }

    /// Verifies a token and returns its caller. Fetches the keys first if the token names an unknown one.
    pub async fn authenticate(&self, token: &str, now: EpochMs) -> Result<Principal, AuthError> {
        let token = Self::read(token)?;
        if !self.has_key_of(&token) {
            self.fetch_keys().await;
        }
        self.verify(&token, now)
    }

    /// Parses a token.
    pub fn read(token: &str) -> Result<UnverifiedToken<'_>, AuthError> {
        Token::read(token).map(UnverifiedToken).map_err(AuthError::Refused)
    }

    /// Whether the key of a token is known.
    pub fn has_key_of(&self, token: &UnverifiedToken<'_>) -> bool {
        self.keys.has(token.0.key_id())
    }

    /// Fetches the issuer's keys, unless that was tried a moment ago. Takes up to three seconds.
    pub async fn fetch_keys(&self) {
        self.keys.fetch().await;
    }

    /// Fetches the issuer's keys unless they are known, whenever that was tried last. For the start of a process, which
    /// serves no one yet.
    pub async fn reach_keys(&self) -> Result<(), KeysError> {
        self.keys.reach().await
    }

    /// Verifies a token by the keys that are known, and returns its caller.
    pub fn verify(&self, UnverifiedToken(token): &UnverifiedToken<'_>, now: EpochMs) -> Result<Principal, AuthError> {
        let known = self.keys.find(token.key_id()).map_err(|_| AuthError::NoKeys)?;
        let key = known.ok_or(AuthError::Refused("the key is unknown"))?;
        let claims = token.verified_by(&key).map_err(AuthError::Refused)?;
        let good_until = token::judge(&claims, &self.config, now).map_err(AuthError::Refused)?;
        Principal::from_claims(&claims, &self.config.claims, good_until).map_err(AuthError::Refused)
    }
}
