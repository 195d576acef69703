//! Who calls: bearer tokens (JWT, RFC 7519) of one issuer, checked by its public keys.
//!
//! | module | holds |
//! | --- | --- |
//! | `token` | taking a token apart and judging it: pure, `now` is given |
//! | `keys` | the issuer's public keys (RFC 7517) and where they come from |
//! | [`Principal`] | what a caller may do, from the claims |
//!
//! What RFC 8725 warns of is not there to be got wrong: three signature algorithms exist here and each key has exactly one of
//! them; keys come from the configured place only, and a token that names another place is refused. The API Gateway's
//! authorizer checks the same in front; a worker believes nobody all the same.
//!
//! Signatures are aws-lc-rs's, the library under rustls. What is our own is the frame around them, three parts between points.

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

/// Why a caller is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AuthError {
    /// The token is not believed. The reason is for logs; a client learns that it is not valid.
    #[error("the token is refused: {0}")]
    Refused(&'static str),
    /// The issuer's keys have not been read yet, so there is no telling.
    #[error("the issuer's keys cannot be read")]
    NoKeys,
}

/// Knows callers by their tokens.
pub struct Authenticator {
    config: AuthConfig,
    keys: Keys,
}

impl Authenticator {
    /// By the configured rules and keys. A file of keys is read now; an address is asked for them with the first token, so that a
    /// process starts while its issuer is away.
    pub fn new(config: &AuthConfig) -> Result<Self, KeysError> {
        Ok(Self::with_keys(config, KeySource::of(config)?))
    }

    /// By the configured rules and keys from elsewhere.
    pub fn with_keys(config: &AuthConfig, source: KeySource) -> Self {
        Self { config: config.clone(), keys: Keys::from(source) }
    }

    /// Who sent this token.
    pub async fn authenticate(&self, token: &str, now: EpochMs) -> Result<Principal, AuthError> {
        let token = Token::read(token).map_err(AuthError::Refused)?;
        let known = self.keys.find(token.key_id()).await.map_err(|_| AuthError::NoKeys)?;
        let key = known.ok_or(AuthError::Refused("its key is unknown"))?;
        let claims = token.verified_by(&key).map_err(AuthError::Refused)?;
        let good_until = token::judge(&claims, &self.config, now).map_err(AuthError::Refused)?;
        Principal::of(&claims, &self.config.claims, good_until).map_err(AuthError::Refused)
    }
}
